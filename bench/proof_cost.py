"""What a proof costs: CPU of explaining 1 % of 5,000 windows, beside the batch run of those windows and one scan.

``python -m bench.proof_cost`` sends clicks through a real broker, one in a hundred minutes with a click that comes too
late, runs the job in both modes and verifies several times in one process, so that Java is warm. Per verify it takes
the CPU of the process tree for the step that explains and for the one that names late events; then that of the batch
over the differing windows alone (read, compute, replace in Delta) and of one scan of the events that lie between the
first and the last of them. Writes bench/results/proof_cost.json.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from pyspark.sql import DataFrame, SparkSession

from bench.machine import commit, cpu_s, machine
from tests.integration.conftest import T0_MS, World
from twinrun.broker.process import start_broker, stop_broker
from twinrun.broker.topics import create_topic
from twinrun.explain.verify import verify
from twinrun.job.job import Job
from twinrun.produce.records import Record
from twinrun.results.cut import TimeRange, events_in, in_ranges, ranges_sql
from twinrun.results.state import batch_state, read_events
from twinrun.session.spark import build_session, stop_session
from twinrun.tables.delta import read_table, replace_rows

RESULTS = Path(__file__).parent / "results" / "proof_cost.json"
JOB, PAGES, MINUTE_MS = "per_minute", 4, 60_000
LATE_BY_WINDOWS = 150
ALLOWED = 3.0
_SESSION = {
    "spark.driver.memory": "3g",
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:ReservedCodeCacheSize=256m",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; 1 where a proof costs more than allowed."""
    parser = argparse.ArgumentParser(description="CPU of a proof beside the batch run of the windows that differ.")
    parser.add_argument("--windows", type=int, default=5_000)
    parser.add_argument("--per-window", type=int, default=400, help="events per window")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="twinrun-proof-") as folder:
        root = Path(folder)
        spark = build_session("twinrun-proof", {**_SESSION, "spark.sql.warehouse.dir": str(root / "spark")})
        try:
            world = _world(spark, root, asked)
            rounds = [_round(world) for _ in range(asked.rounds)]
        finally:
            stop_broker(root / "broker")
            stop_session(spark)
    result = _result(asked, rounds)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print("\n".join(_table(result)))
    return 0 if result["within"] else 1


def clicks(windows: int, per_window: int) -> Iterator[Record]:
    """Clicks in order of time; of each window in a hundred one comes 150 windows late."""
    late = set(range(20, windows - LATE_BY_WINDOWS - 10, max(1, (windows - LATE_BY_WINDOWS - 30) // (windows // 100))))
    step_ms = MINUTE_MS / per_window
    for window in range(windows):
        for place in range(per_window):
            yield _click(window, place, T0_MS + window * MINUTE_MS + int(place * step_ms), 0)
        if window - LATE_BY_WINDOWS in late:
            at_ms = T0_MS + (window - LATE_BY_WINDOWS) * MINUTE_MS + 500
            yield _click(window, per_window, at_ms, LATE_BY_WINDOWS * MINUTE_MS)


def _click(window: int, place: int, at_ms: int, known_after_ms: int) -> Record:
    page, cents = (window + place) % PAGES, (window * 31 + place * 17) % 1000
    value = (
        f'{{"id":"{window}-{place}","at":{at_ms},"page":"p{page}","amount":{cents / 100:.2f},"weight":{cents / 7:.6f}}}'
    )
    return Record(f"p{page}".encode(), value.encode(), at_ms + known_after_ms)


def _world(spark: SparkSession, root: Path, asked: argparse.Namespace) -> World:
    broker = start_broker(root / "broker")
    options = {"stream.max_offsets_per_trigger": 50 * asked.per_window}
    world = World(spark, root, "clicks", broker.bootstrap_servers, options, partitions=3)
    create_topic(broker.bootstrap_servers, "clicks", 3)
    world.produce(clicks(asked.windows, asked.per_window))
    world.ingest(JOB)
    world.stream(JOB)
    world.batch(JOB)
    return world


def _round(world: World) -> dict[str, Any]:
    """One verify and what it is held against; CPU seconds."""
    marks: list[tuple[str, float]] = []

    def mark(step: str) -> None:
        if not step.startswith("replaying"):  # a part of the explaining
            marks.append((step, cpu_s()))

    verdict = verify(world.spark, world.cfg(), world.job(JOB), on_step=mark)
    marks.append(("end", cpu_s()))
    spent = {name.split()[0]: after - at for (name, at), (_, after) in itertools.pairwise(marks)}
    job, ranges = world.job(JOB), _differing(world)
    events, results = _inputs(world, job)
    of_windows = events_in(events, job, ranges)
    copy = str(world.root / "copy")
    if not Path(copy).exists():
        replace_rows(results, copy)

    def batch() -> None:
        rows = job.apply({"clicks": of_windows.select("id", "at", "page", "amount", "weight")})
        replace_rows(rows.filter(in_ranges("window_start", ranges)), copy, where=ranges_sql("window_start", ranges))

    whole = [TimeRange(ranges[0].low_ms, ranges[-1].high_ms)]
    scan = events_in(events, job, whole)
    return {
        "outcome": verdict.outcome,
        "windows_compared": verdict.windows_compared,
        "windows_different": verdict.windows_different,
        "rows_unexplained": verdict.rows_unexplained,
        "explain_cpu_s": spent["explaining"],
        "late_events_cpu_s": spent["naming"],
        "verify_cpu_s": marks[-1][1] - marks[0][1],
        "batch_cpu_s": _cost(batch),
        "scan_cpu_s": _cost(lambda: scan.write.format("noop").mode("overwrite").save()),
    }


def _differing(world: World) -> list[TimeRange]:
    """The windows that differ, read without Spark."""
    rows = pl.read_delta(world.cfg().table("differences")).select(pl.col("window_start").dt.epoch("ms")).unique()
    return [TimeRange(start, start) for start in sorted(rows["window_start"].to_list())]


def _inputs(world: World, job: Job) -> tuple[DataFrame, DataFrame]:
    state = batch_state(world.spark, world.cfg(), job.job_name)
    assert state is not None
    results = importlib.import_module("twinrun.results.records").without_lineage(read_table(world.spark, state.table))
    return read_events(world.spark, world.cfg(), "clicks", state), results


def _cost(work: Callable[[], None]) -> float:
    before = cpu_s()
    work()
    return cpu_s() - before


def _result(asked: argparse.Namespace, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of the rounds after the first, in which Java still compiles."""
    warm = rounds[1:] or rounds
    names = [name for name in rounds[0] if name.endswith("_cpu_s")]
    middle = {name: round(statistics.median(each[name] for each in warm), 2) for name in names}
    allowed = ALLOWED * middle["batch_cpu_s"] + middle["scan_cpu_s"]
    return {
        "windows": asked.windows,
        "events": asked.windows * asked.per_window,
        **{name: rounds[-1][name] for name in ("windows_compared", "windows_different", "rows_unexplained", "outcome")},
        "median": middle,
        "allowed_cpu_s": round(allowed, 2),
        "within": middle["explain_cpu_s"] <= allowed and rounds[-1]["rows_unexplained"] == 0,
        "rounds": [{k: round(v, 2) if isinstance(v, float) else v for k, v in each.items()} for each in rounds],
        "commit": commit(),
        "machine": machine(),
    }


def _table(result: dict[str, Any]) -> list[str]:
    middle = result["median"]
    different = f"{result['windows_different']:,} of {result['windows_compared']:,} windows differ"
    return [
        f"{result['events']:,} events, {different}, {result['rows_unexplained']} rows unexplained. CPU s, median:",
        f"  explain             {middle['explain_cpu_s']:8.2f}",
        f"  batch of them       {middle['batch_cpu_s']:8.2f}",
        f"  scan of the range   {middle['scan_cpu_s']:8.2f}",
        f"  allowed             {result['allowed_cpu_s']:8.2f}   (3 x batch + scan)",
        f"  name late events    {middle['late_events_cpu_s']:8.2f}   whole verify {middle['verify_cpu_s']:.2f}",
    ]


if __name__ == "__main__":
    sys.exit(main())
