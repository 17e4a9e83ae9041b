"""Ten verifies while events arrive and ingest, stream and batch all run: no verdict may be wrong at any moment."""

from __future__ import annotations

import importlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import polars as pl
import pytest
from delta.tables import DeltaTable
from deltalake import DeltaTable as Lake

from tests.integration.conftest import T0_MS, World, click
from twinrun.results.verdict import Verdict

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
RUNNING = {"stream.trigger": "processing-time", "stream.interval_ms": 5000, "verify.max_lag_events": 100_000}
VERIFIES = 10


@contextmanager
def going(*works: Callable[[threading.Event], Any]) -> Iterator[None]:
    """Run each in a thread of its own until the block ends; the first failure is raised there."""
    stop, failures = threading.Event(), []

    def guarded(work: Callable[[threading.Event], Any]) -> None:
        try:
            work(stop)
        except BaseException as error:
            failures.append(error)
            stop.set()

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=120)
    if failures:
        raise failures[0]


def arrivals(world: World) -> Callable[[threading.Event], None]:
    """Six clicks per tick, a tick of event time being 12 s; each seventh click comes up to four minutes late."""
    chance = random.Random(20_130_106)

    def produce(stop: threading.Event) -> None:
        tick = 20
        while not stop.is_set():
            late_s = [chance.uniform(20, 240) if chance.random() < 1 / 7 else chance.uniform(0, 8) for _ in range(6)]
            world.produce([click(tick * 12 - late, chance.choice("ab"), known=tick * 12) for late in late_s])
            tick += 1
            time.sleep(1)

    return produce


def ingest(world: World) -> Callable[[threading.Event], Any]:
    run = importlib.import_module("twinrun.streaming.ingest").run
    return lambda stop: run(world.spark, world.cfg(), world.job().sources[0], stop)


def stream(world: World) -> Callable[[threading.Event], Any]:
    run = importlib.import_module("twinrun.streaming.runner").run
    return lambda stop: run(world.spark, world.cfg(), world.job(), None, stop)


def batches(world: World, ended: threading.Event) -> Callable[[threading.Event], None]:
    """A batch run every ten seconds; ``ended`` is set by the first: its table is there before its run is recorded."""

    def repeat(stop: threading.Event) -> None:
        while not stop.is_set():
            if list((world.root / "wh/bronze").rglob("_delta_log/*0.json")):
                world.batch()
                ended.set()
            time.sleep(10)

    return repeat


def dropped(world: World) -> set[str]:
    """The events that the stream dropped, worked out by polars from the recorded offsets and watermarks."""
    log = pl.from_arrow(Lake(str(world.root / "wh/twinrun/micro_batches")).to_pyarrow_table())
    assert isinstance(log, pl.DataFrame)
    ends = log.sort("micro_batch").select(
        pl.col("end_offsets").list.eval(pl.element().struct.field("offset")).list.sum().alias("end"),
        pl.col("watermark_ms").shift(1).fill_null(0).alias("dropping_ms"),
    )
    events = pl.from_arrow(Lake(str(world.root / "wh/events/clicks")).to_pyarrow_table())
    assert isinstance(events, pl.DataFrame)
    read = events.sort("_offset").with_columns((pl.col("_offset") + 1).alias("end"))
    placed = read.join_asof(ends, on="end", strategy="forward").with_columns(
        ((pl.col("at").dt.epoch("ms") // 60_000 + 1) * 60_000).alias("window_end_ms")
    )
    return set(placed.filter(pl.col("window_end_ms") <= pl.col("dropping_ms"))["id"])


def named(world: World) -> set[str]:
    late = pl.from_arrow(Lake(str(world.root / "wh/twinrun/late_events")).to_pyarrow_table())
    events = pl.from_arrow(Lake(str(world.root / "wh/events/clicks")).to_pyarrow_table())
    assert isinstance(late, pl.DataFrame)
    assert isinstance(events, pl.DataFrame)
    keys = {"_partition": "partition", "_offset": "offset"}
    where = late.select(["partition", "offset"]).unique()
    return set(events.rename(keys).join(where, on=["partition", "offset"])["id"])


def test_no_verdict_is_wrong_while_everything_runs(make_world: Any) -> None:
    world: World = make_world(**{**RUNNING, "stream.max_offsets_per_trigger": 40})
    seen, ended = [], threading.Event()
    with going(arrivals(world), ingest(world), stream(world), batches(world, ended)):
        wait_for(lambda: ended.is_set() and rows_of(world) > 4)
        for _ in range(VERIFIES):
            verdict = world.verify(wait_s=120)
            print(verdict.outcome, verdict.exit_code, verdict.rows_compared, verdict.rows_explained, verdict.causes)
            seen.append(verdict)
        assert {v.outcome for v in seen} <= {"agree", "explained"}
        assert [v.rows_unexplained for v in seen] == [0] * VERIFIES
        assert [v.exit_code for v in seen] == [0] * VERIFIES
        # It went on all the time: each saw more than the one before, and late events were among it.
        compared = [v.rows_compared for v in seen]
        assert compared == sorted(set(compared))
        assert seen[-1].rows_explained > 0
        # The negative control, while it all goes on: one row that no set of events gives.
        DeltaTable.forPath(world.spark, str(world.table("stream"))).update(
            f"window_start = timestamp_millis({T0_MS + 240_000}) AND page = 'a'", {"clicks": "clicks + 1000"}
        )
        wrong = world.verify(wait_s=120)
        assert (wrong.outcome, wrong.exit_code, changed(wrong)) == ("differ", 1, 1)
    calm = {"stream.trigger": "available-now"}
    world.overrides.update(calm)
    world.ingest()
    world.stream()
    world.batch()
    last = world.verify()
    assert (last.outcome, last.exit_code, changed(last)) == ("differ", 1, 1)
    assert last.rows_explained >= seen[-1].rows_explained
    assert named(world) == dropped(world)


def changed(verdict: Verdict) -> int:
    """Rows that somebody else is proven to have changed; nothing else may differ without a reason."""
    assert verdict.rows_unexplained == 0
    return sum(cause.rows for cause in verdict.causes if cause.cause == "sink_changed")


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(1)


def rows_of(world: World) -> int:
    return world.spark.read.format("delta").load(str(world.table("stream"))).count()
