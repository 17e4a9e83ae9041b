"""Run the arms: each on a topic and tables of its own, under the same load, and verified before it has any figure."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from pyspark import InheritableThread
from pyspark.sql import functions as F

from twinrun.errors import InputError
from twinrun.explain.used import with_micro_batch
from twinrun.explain.verify import verify
from twinrun.measure.arms import OVER_BRONZE, REAL_TIME, Arm
from twinrun.measure.bench import ArmTables, Bench, Did, run_of
from twinrun.measure.freshness import BatchRun, Freshness, batch_freshness, commit_ms, stream_freshness
from twinrun.measure.lateness import lateness_of
from twinrun.measure.load import Load
from twinrun.measure.real_time import run_real_time, verify_topic
from twinrun.measure.results import MicroBatches, Result, Unit, proven
from twinrun.measure.usage import Cpu, Peak, cpu, folder_size, others_share, peak_memory
from twinrun.produce.producer import produce
from twinrun.results.records import Progress, Say
from twinrun.results.state import read_events
from twinrun.results.verdict import Verdict
from twinrun.tables.bronze import BRONZE, TOPIC

_LOOK_S = 4.0
_WARM_UP, _WARM_UPS, _LESS = 500, 8, 0.9
"""Records of a round before the first arm, the most rounds, and the share of the last one's CPU that is as much."""


def warm_up(bench: Bench, arms: Iterable[Arm] = ()) -> None:
    """Run both modes over a few records until that takes no less CPU: what Java learns first, no arm pays."""
    of_arm = bench.tables_of("warm-up")
    before_s = float("inf")
    for number in range(_WARM_UPS):
        records = [each.record for each in bench.dues[number * _WARM_UP : (number + 1) * _WARM_UP]]
        if not records or bench.stop.is_set():
            break
        began = cpu(bench.broker.pid)
        produce(records, of_arm.topic, {"bootstrap.servers": bench.broker.bootstrap_servers})
        of_arm.drain()
        of_arm.ingest()
        of_arm.batch()
        used_s = cpu(bench.broker.pid).since(began).jvm_s
        if used_s > before_s * _LESS:
            break
        before_s = used_s
    with suppress(InputError):
        verify(bench.spark, of_arm.cfg(), bench.job)
    if any(arm.mode == OVER_BRONZE for arm in arms) and not bench.stop.is_set():
        over = of_arm.cfg(reads=BRONZE)
        run_of("streaming.runner")(bench.spark, over, bench.job, "earliest", bench.stop)
    shutil.rmtree(of_arm.folder)


def run_arm(bench: Bench, arm: Arm, repeat: int, say: Say, with_lateness: bool = False) -> Result:
    """Run one arm under the load, then the other mode, then verify both; figures are worked out last.

    Parameters
    ----------
    with_lateness : bool
        Ask besides what other latenesses would have lost: a dozen Spark jobs.

    Returns
    -------
    Result
        With figures only where the verify agreed; see `Result.agreed`.
    """
    of_arm = bench.tables_of(f"{arm.name.replace(' ', '-')}-{repeat}")
    say(f"{arm.name}: under load")
    if arm.mode == REAL_TIME:
        did = run_real_time(of_arm, arm)
    else:
        with peak_memory(bench.broker.pid) as peak:
            did = _stream(of_arm, arm, peak) if arm.stays_up else _again_and_again(of_arm, arm, peak)
    if bench.stop.is_set():
        raise KeyboardInterrupt
    sizes = _sizes(of_arm, arm, did)
    say(f"{arm.name}: verifying")
    if arm.mode == "batch":
        of_arm.drain()
    else:
        of_arm.ingest()
        of_arm.batch()
    verdict = verify_topic(of_arm) if arm.mode == REAL_TIME else verify(bench.spark, of_arm.cfg(), bench.job)
    result = _result(bench, of_arm, arm, repeat, did, verdict, sizes)
    if result.agreed and with_lateness:
        lateness = lateness_of(bench.spark, of_arm.cfg(), bench.job, of_arm.batch_state(), arm)
        result = replace(result, lateness=lateness)
    shutil.rmtree(of_arm.folder, ignore_errors=True)
    return result


def _result(
    bench: Bench, of_arm: ArmTables, arm: Arm, repeat: int, did: Did, verdict: Verdict, sizes: dict[str, int]
) -> Result:
    agreed = proven(verdict.outcome, verdict.exit_code) and did.kept_up
    return Result(
        arm=arm,
        repeat=repeat,
        outcome=verdict.outcome,
        exit_code=verdict.exit_code,
        problems=verdict.problems,
        rate_per_s=did.sent.sent / max(did.sent.seconds, 1e-9),
        sent=did.sent.sent,
        end_late_s=did.sent.end_late_s,
        kept_up=did.kept_up,
        freshness=did.fresh() if agreed else None,
        cpu_s={
            "jvm": did.used.jvm_s,
            "python": did.used.python_s,
            "broker": did.used.broker_s,
            "producer": did.sent.cpu_s,
        },
        seconds=did.used.at_s,
        peak_memory_bytes=did.peak.memory_bytes,
        others_share=others_share(did.used, did.sent.cpu_s, bench.cores),
        units=tuple(did.units),
        micro_batches=_micro_batches(of_arm, did) if agreed and did.phases is not None else None,
        overran=did.overran,
        sizes=sizes,
    )


@dataclass
class _Watch:
    """Follows a stream that stays up: starts the load when it runs, and ends it when all was read."""

    of_arm: ArmTables
    arm: Arm
    stop: threading.Event
    load: Load | None = None
    start_s: float = 0.0
    began: Cpu | None = None
    ended: Cpu | None = None
    kept_up: bool = False
    idle_since: float = 0.0
    looked_at: float = 0.0
    last: tuple[int, str | None] = (-1, None)
    phases: dict[int, dict[str, int]] = field(default_factory=dict)
    state: dict[str, int] = field(default_factory=dict)

    def __call__(self, so_far: Progress) -> None:
        """Called twice a second by the run."""
        now, bench = time.monotonic(), self.of_arm.bench
        if self.load is None:
            self.load, self.start_s = self.of_arm.load()
            return
        if self.began is None and time.time() >= self.start_s:
            self.began = cpu(bench.broker.pid)
        if now - self.looked_at > _LOOK_S:
            self.looked_at = now
            self._look()
        if bench.stop.is_set():
            self.stop.set()
        if not self.load.over:
            return
        read_all = so_far.events >= len(bench.dues) + len(bench.primer)
        where = (so_far.micro_batch, so_far.watermark)
        if where != self.last or not read_all:
            self.last, self.idle_since, self.ended = where, now, cpu(bench.broker.pid)
        over_s = time.time() - self.start_s - bench.dues[-1].due_s
        quiet_s = now - self.idle_since
        if read_all and quiet_s > self.arm.every_ms / 1000 + 2.0:
            self.kept_up = True
            self.stop.set()
        elif over_s > bench.settle_s + 2 * self.arm.every_ms / 1000:
            self.stop.set()

    def _look(self) -> None:
        """What Spark still says of its recent micro-batches: how long each phase took, and the state's size."""
        with suppress(Exception):  # the query may end meanwhile
            for query in self.of_arm.bench.spark.streams.active:
                if query.name != self.of_arm.bench.job.job_name:
                    continue
                for entry in query.recentProgress:
                    begun_s = datetime.fromisoformat(entry.timestamp).timestamp()
                    if entry.numInputRows and begun_s >= self.start_s > 0:
                        self.phases[entry.batchId] = dict(entry.durationMs)
                    rows = sum(each.numRowsTotal for each in entry.stateOperators)
                    held = sum(each.memoryUsedBytes for each in entry.stateOperators)
                    self.state["state_rows"] = max(self.state.get("state_rows", 0), rows)
                    self.state["state_bytes"] = max(self.state.get("state_bytes", 0), held)


def _stream(of_arm: ArmTables, arm: Arm, peak: Peak) -> Did:
    """A stream that stays up, from the first record until all is read and nothing more comes out."""
    bench, stop = of_arm.bench, threading.Event()
    watch = _Watch(of_arm, arm, stop)
    over_bronze = arm.mode == OVER_BRONZE
    cfg = of_arm.cfg("processing-time", arm.every_ms, BRONZE if over_bronze else TOPIC)
    try:
        with _landing(of_arm, arm) if over_bronze else nullcontext():
            run_of("streaming.runner")(bench.spark, cfg, bench.job, None, stop, watch)
        ended = watch.ended or cpu(bench.broker.pid)
        if watch.load is None or watch.began is None:
            raise KeyboardInterrupt
        sent = watch.load.result()
    finally:
        if watch.load is not None:
            watch.load.stop()

    def fresh() -> Freshness:
        return stream_freshness(bench.spark, of_arm.cfg(), bench.job, of_arm.cut(), of_arm.batch_state(), watch.start_s)

    kept_up = watch.kept_up and sent.kept_pace
    used = ended.since(watch.began)
    return Did(watch.start_s, sent, used, peak, kept_up, fresh, phases=watch.phases, state=watch.state)


@contextmanager
def _landing(of_arm: ArmTables, arm: Arm) -> Iterator[None]:
    """Meanwhile an ingest with the same trigger; what was there before is landed first, so that there is a table."""
    bench, stop = of_arm.bench, threading.Event()
    of_arm.ingest()
    failed: list[BaseException] = []

    def land() -> None:
        try:
            cfg = of_arm.cfg("processing-time", arm.every_ms)
            run_of("streaming.ingest")(bench.spark, cfg, bench.job.sources[0], stop)
        except BaseException as error:  # told in the thread that waits for it
            failed.append(error)

    thread = InheritableThread(target=land, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failed:
        raise failed[0]


def _again_and_again(of_arm: ArmTables, arm: Arm, peak: Peak) -> Did:
    """Runs that end, each begun on time or, where the one before was not over, late; the last one after the load."""
    bench, every_s = of_arm.bench, arm.every_ms / 1000
    if bench.primer:
        _once(of_arm, arm)
    load, start_s = of_arm.load()
    units: list[Unit] = []
    runs: list[BatchRun] = []
    number = overran = 0
    try:
        _sleep_until(start_s, bench.stop)
        began = cpu(bench.broker.pid)
        while not bench.stop.is_set():
            number += 1
            _sleep_until(start_s + number * every_s, bench.stop)
            behind = int((time.time() - start_s) / every_s) - number
            overran, number = overran + (behind > 0), number + max(behind, 0)
            last = load.over
            at_s, before = time.time(), cpu(bench.broker.pid)
            done = _once(of_arm, arm)
            used = cpu(bench.broker.pid).since(before)
            units.append(Unit(done.events, done.rows or 0, time.time() - at_s, used.jvm_s + used.python_s))
            if arm.mode == "batch":
                ends = of_arm.batch_state().ends[bench.job.sources[0].name]
                runs.append(BatchRun(int(at_s * 1000), ends, commit_ms(bench.spark, done.table, done.version)))
            if last:
                break
        used = cpu(bench.broker.pid).since(began)
        sent = load.result()
    finally:
        load.stop()

    def fresh() -> Freshness:
        if arm.mode == "batch":
            return batch_freshness(bench.spark, of_arm.cfg(), bench.job, runs, of_arm.batch_state(), start_s)
        return stream_freshness(bench.spark, of_arm.cfg(), bench.job, of_arm.cut(), of_arm.batch_state(), start_s)

    return Did(start_s, sent, used, peak, sent.kept_pace, fresh, units, overran)


def _once(of_arm: ArmTables, arm: Arm) -> Any:
    if arm.mode == "available-now":
        return of_arm.drain()
    of_arm.ingest()
    return of_arm.batch()


def _sleep_until(at_s: float, stop: threading.Event) -> None:
    while (left := at_s - time.time()) > 0 and not stop.is_set():
        stop.wait(min(left, 0.5))


def _micro_batches(of_arm: ArmTables, did: Did) -> MicroBatches:
    """A line through the durations of all micro-batches with data over their events. One Spark job.

    Those before the load, of the primer, are left out: their CPU is in no figure either.
    """
    bench, phases_of = of_arm.bench, did.phases or {}
    cut, source = of_arm.cut(), bench.job.sources[0].name
    events = read_events(bench.spark, of_arm.cfg(), source, of_arm.batch_state())
    read = with_micro_batch(events, cut, of_arm.topic, cut.start[source]).groupBy("_micro_batch").count()
    under_load = F.col("started_at_ms") >= F.lit(int(did.start_s * 1000))
    log = cut.micro_batches.filter(under_load).select(F.col("micro_batch").alias("_micro_batch"), "duration_ms")
    held = log.filter(F.col("duration_ms") > 0).join(read, "_micro_batch")
    row = held.agg(
        F.count(F.lit(1)).alias("number"),
        F.regr_slope("duration_ms", "count").alias("slope"),
        F.avg("duration_ms").alias("mean_ms"),
        F.avg("count").alias("mean"),
    ).collect()[0]
    # More events never take less time: what says so is noise.
    slope = max(row["slope"] or 0.0, 0.0) if row["number"] else 0.0
    fixed_ms = max((row["mean_ms"] or 0.0) - slope * (row["mean"] or 0.0), 0.0)
    names = sorted({name for each in phases_of.values() for name in each})
    seen = max(len(phases_of), 1)
    phases = {name: sum(each.get(name, 0) for each in phases_of.values()) / seen for name in names}
    return MicroBatches(row["number"], fixed_ms / 1000, slope / 1000, phases, len(phases_of))


def _sizes(of_arm: ArmTables, arm: Arm, did: Did) -> dict[str, int]:
    """Files and bytes that the arm alone has left, before the other mode runs."""
    root = of_arm.folder
    table = root / "warehouse" / "results" / of_arm.bench.job.job_name
    found: dict[str, int] = {}
    for name, folder in (("table", table), ("checkpoint", root / "checkpoints"), ("all", root / "warehouse")):
        files, size = folder_size(folder)
        found |= {f"{name}_files": files, f"{name}_bytes": size}
    return {**found, **did.state}
