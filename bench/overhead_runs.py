"""Parts a to d of bench/overhead.py: streams, batch runs and verifies of one job, through a real broker."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from bench import overhead_by_hand as by_hand
from bench.overhead import ROOT, Case, Goal, Work
from bench.proof_cost import MINUTE_MS, PAGES, clicks
from tests.integration.conftest import JOBS, T0_MS, World
from twinrun.broker.process import start_broker, stop_broker
from twinrun.broker.topics import create_topic
from twinrun.explain.verify import verify
from twinrun.produce.records import Record
from twinrun.results.state import batch_state, read_events
from twinrun.results.verdict import Verdict
from twinrun.session.settings import MOST_RECORDS, Size, by_size
from twinrun.session.spark import build_session, stop_session
from twinrun.tables.delta import read_table, replace_rows

JOB, PARTITIONS = "per_minute", 3
_ANEW = "measured"


@dataclass
class Place:
    """A session with the settings of its size, a broker, a topic that was filled, and a folder."""

    spark: SparkSession
    folder: Path
    servers: str
    topic: str
    per_micro_batch: int

    def world(self, name: str) -> World:
        """A fresh place for tables over the same topic, or the same place again."""
        root = self.folder / name
        root.mkdir(exist_ok=True)
        options = {"stream.max_offsets_per_trigger": self.per_micro_batch}
        return World(self.spark, root, self.topic, self.servers, options, partitions=PARTITIONS)


def streams(asked: argparse.Namespace) -> Iterator[Case]:
    """Part a: the job's stream beside the same query by hand, small and large micro-batches."""
    for events, size in ((asked.small, asked.small_batch), (asked.large, asked.large_batch)):
        with _place(asked, events, size, even(events, asked.per_window)) as place:
            yield _streams(place, f"stream, {events // size} micro-batches of {size:,} events")


def _streams(place: Place, title: str) -> Case:
    def ours(number: int) -> None:
        place.world(f"ours{number}").stream(JOB)

    def hand(number: int) -> None:
        folder = place.folder / f"hand{number}"
        by_hand.stream(place.spark, place.servers, place.topic, place.per_micro_batch, folder)

    def facts() -> dict[str, Any]:
        tables = [place.world("ours0").table("stream"), place.folder / "hand0" / "results"]
        return {"rows": [_sizes(place.spark, table) for table in tables]}

    return Case(
        "a", title, [Work("twinrun", ours), Work("by hand", hand)], [Goal("twinrun", "by hand", 1.05)], 1, facts
    )


def batches(asked: argparse.Namespace) -> Iterator[Case]:
    """Part b: a batch run over all that was landed beside the same by hand."""
    for events in (asked.small, asked.large):
        with _place(asked, events, events, even(events, asked.per_window)) as place:
            world = place.world("batch")
            world.ingest(JOB)
            world.batch(JOB)
            yield _batches(place, world, f"batch, {events:,} events")


def _batches(place: Place, world: World, title: str) -> Case:
    bronze = world.cfg().table("bronze", topic=place.topic)

    def ours(_: int) -> None:
        world.batch(JOB, fresh=_ANEW)

    def hand(keep: bool) -> Callable[[int], None]:
        folder = place.folder / f"hand_{keep}"
        return lambda _: by_hand.batch(place.spark, bronze, folder, keep_events=keep)

    def facts() -> dict[str, Any]:
        tables = [world.table("batch"), place.folder / "hand_False" / "results"]
        return {"rows": [_sizes(place.spark, table) for table in tables]}

    works = [
        Work("twinrun batch --full", ours),
        Work("by hand", hand(False)),
        Work("by hand, events in a table too", hand(True)),
    ]
    return Case("b", title, works, [Goal("twinrun batch --full", "by hand", 1.10)], 1, facts)


def small_verify(asked: argparse.Namespace) -> Iterator[Case]:
    """Part c: a verify of small tables in a process of its own, and again in one session, beside a join by hand."""
    windows = max(asked.small // asked.small_batch, 1)
    with _place(asked, asked.small, asked.small_batch, _some_late(windows, asked.small_batch)) as place:
        world = place.world("small")
        world.ingest(JOB)
        world.stream(JOB)
        world.batch(JOB)
        yield _cold(world)
        yield _warm(place, world)


def _cold(world: World) -> Case:
    cfg = world.cfg()
    report = world.root / "reports" / JOB / "report.json"
    sets = [f"{key}={value}" for key, value in {**world.overrides, "spark.master": "local[2]"}.items()]
    options = ["--conf", str(world.root / "conf" / "test.yaml"), *(part for each in sets for part in ("--set", each))]
    command = [str(Path(sys.executable).parent / "twinrun"), "verify", str(JOBS / f"{JOB}.py"), *options]
    tables = [cfg.table(f"{mode}_results", job=JOB, version=1) for mode in ("batch", "stream")]
    said: dict[str, str] = {}

    def ours(_: int) -> None:
        said["twinrun"] = _process(command, allowed=(0, 1))

    def hand(_: int) -> None:
        said["by hand"] = _process([sys.executable, "-m", "bench.overhead_by_hand", *tables])

    works = [
        # Without the report of the last verify everything is looked at.
        Work("twinrun verify", ours, before=lambda _: report.unlink(missing_ok=True)),
        Work("by hand", hand),
        Work("twinrun verify, nothing has moved", ours, before=lambda _: _need(report)),
    ]
    title = "verify of small tables, in a process of its own"
    return Case("c", title, works, [Goal("twinrun verify", "by hand", 2.0)], 0, lambda: said)


def _need(report: Path) -> None:
    if not report.exists():
        raise FileNotFoundError(f"the verify before has left no {report.name}")


def _process(command: list[str], allowed: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode not in allowed:
        raise RuntimeError(f"exit code {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout.strip()[-600:]


def _warm(place: Place, world: World) -> Case:
    cfg = world.cfg()
    tables = [cfg.table(f"{mode}_results", job=JOB, version=1) for mode in ("batch", "stream")]
    verdicts: list[Verdict] = []

    def ours(_: int) -> None:
        verdicts.append(verify(place.spark, cfg, world.job(JOB)))

    def hand(_: int) -> None:
        by_hand.compare_results(place.spark, tables[0], tables[1])

    works = [Work("twinrun verify", ours), Work("by hand", hand)]
    title = "verify of small tables, after the first in one session"
    return Case("c", title, works, [Goal("twinrun verify", "by hand", 1.5)], 1, lambda: _told(verdicts[-1]))


def large_verify(asked: argparse.Namespace) -> Iterator[Case]:
    """Part d: a verify beside the batch run that it checks; nothing late, and one window in a hundred."""
    windows = asked.large // asked.per_window
    for name, records, most in (
        ("all equal", even(asked.large, asked.per_window), 1.0),
        ("1 % of windows late", clicks(windows, asked.per_window), 2.5),
    ):
        with _place(asked, asked.large, 50 * asked.per_window, records) as place:
            world = place.world("large")
            world.ingest(JOB)
            world.stream(JOB)
            world.batch(JOB)
            yield _large_verify(place, world, f"verify, {asked.large:,} events, {windows:,} windows: {name}", most)


def _large_verify(place: Place, world: World, title: str, most: float) -> Case:
    verdicts: list[Verdict] = []
    copy = str(place.folder / "copy")
    job = world.job(JOB)

    def check(_: int) -> None:
        verdicts.append(verify(place.spark, world.cfg(), job))

    def whole(_: int) -> None:
        world.batch(JOB, fresh=_ANEW)

    def results_alone(_: int) -> None:
        state = batch_state(place.spark, world.cfg(), job.job_name)
        assert state is not None
        events = read_events(place.spark, world.cfg(), "clicks", state)
        replace_rows(job.apply({"clicks": events.select("id", "at", "page", "amount", "weight")}), copy)

    works = [
        Work("twinrun batch --full", whole),
        Work("the function over decoded events", results_alone),
        Work("twinrun verify", check),
    ]
    return Case(
        "d", title, works, [Goal("twinrun verify", "twinrun batch --full", most)], 1, lambda: _told(verdicts[-1])
    )


def even(events: int, per_window: int) -> Iterator[Record]:
    """Clicks in order of time, none late."""
    step_ms = MINUTE_MS / per_window
    for number in range(events):
        page, cents = number % PAGES, (number * 31) % 1000
        at_ms = T0_MS + int(number * step_ms)
        text = f'{{"id":"{number}","at":{at_ms},"page":"p{page}","amount":{cents / 100:.2f},"weight":{cents / 7:.6f}}}'
        yield Record(f"p{page}".encode(), text.encode(), at_ms)


def _some_late(windows: int, per_window: int) -> Iterator[Record]:
    """The same, and in every tenth window one that comes five windows late."""
    for number, record in enumerate(even(windows * per_window, per_window)):
        yield record
        window = number // per_window
        if number % per_window == per_window - 1 and window % 10 == 9:
            at_ms = T0_MS + (window - 5) * MINUTE_MS + 500
            text = f'{{"id":"late-{window}","at":{at_ms},"page":"p0","amount":1.00,"weight":0.5}}'
            yield Record(b"p0", text.encode(), record.timestamp_ms)


@contextmanager
def _place(asked: argparse.Namespace, events: int, per_micro_batch: int, records: Iterator[Record]) -> Iterator[Place]:
    """A session as the commands would start it for so many events, a broker, and a topic with the records."""
    with tempfile.TemporaryDirectory(prefix="twinrun-overhead-") as name:
        folder = Path(name)
        conf = {"spark.driver.memory": asked.driver_memory, "spark.sql.warehouse.dir": str(folder / "spark")}
        # Tables of so few events are little data too.
        size = Size(0 if events <= MOST_RECORDS else None, per_micro_batch)
        spark = build_session("twinrun-overhead", by_size(conf, size, master="local[2]"))
        try:
            broker = start_broker(folder / "broker")
            place = Place(spark, folder, broker.bootstrap_servers, "clicks", per_micro_batch)
            create_topic(place.servers, place.topic, PARTITIONS)
            place.world("producer").produce(records)
            yield place
        finally:
            stop_broker(folder / "broker")
            stop_session(spark)


def _sizes(spark: SparkSession, table: Path) -> list[int]:
    """Rows of a table of results, and clicks in them: the same on both sides."""
    rows = importlib.import_module("twinrun.results.records").without_lineage(read_table(spark, str(table)))
    return list(rows.agg(F.count(F.lit(1)), F.sum("clicks")).collect()[0])


def _told(verdict: Verdict) -> dict[str, Any]:
    return {
        "outcome": verdict.outcome,
        "windows_compared": verdict.windows_compared,
        "windows_different": verdict.windows_different,
        "rows_unexplained": verdict.rows_unexplained,
    }
