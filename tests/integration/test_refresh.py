"""A running stream takes a newer version of a static table by itself, and verify knows that versions were mixed."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from deltalake import write_deltalake

from tests.integration.conftest import World, click


@pytest.mark.slow
def test_a_running_stream_restarts_on_a_newer_version_of_its_static_table(make_world: Any) -> None:
    world: World = make_world(
        **{"stream.trigger": "processing-time", "stream.interval_ms": 100, "tables.prices.format": "delta"}
    )
    prices = str(world.root / "prices")
    world.overrides["tables.prices.path"] = prices
    write_deltalake(prices, pl.DataFrame({"page": ["a"], "price": [1]}).to_arrow())
    asked, runs = threading.Event(), []
    run = importlib.import_module("twinrun.streaming.runner").run

    def stream() -> None:
        runs.append(run(world.spark, world.cfg(), world.job("priced"), None, asked))

    thread = threading.Thread(target=stream)
    thread.start()
    try:
        world.produce([click(1, name="before")])
        until(world, {"before": 1})
        write_deltalake(prices, pl.DataFrame({"page": ["a"], "price": [2]}).to_arrow(), mode="overwrite")
        # A click that comes before the restart still gets the old price.
        wait_for(lambda: any('"prices": 1' in state for state in states(world)))
        world.produce([click(2, name="after")])
        until(world, {"before": 1, "after": 2})
    finally:
        asked.set()
        thread.join(timeout=60)
    assert [(each.events, each.stopped_by) for each in runs] == [(2, "request")]
    log = pl.read_delta(world.cfg().table("micro_batches"))
    assert {dict(row)["prices"] for row in log["static_versions"].to_list()} == {0, 1}
    world.overrides["stream.trigger"] = "available-now"
    world.ingest()
    world.batch("priced")
    verdict = world.verify("priced")
    # The batch has one price for both; run again with the versions that the micro-batches saw, the stream's come out.
    assert (verdict.outcome, verdict.exit_code, verdict.rows_equal, verdict.rows_unexplained) == ("differ", 1, 1, 0)
    assert [(each.cause, each.rows) for each in verdict.causes] == [("static_version", 1)]
    assert any("prices" in note or "static" in note for note in verdict.notes)


def until(world: World, expected: dict[str, int]) -> None:
    """Wait for the stream's rows."""
    table = world.table("stream", "priced")
    first = table / "_delta_log" / f"{0:020d}.json"
    wait_for(lambda: first.exists() and dict(pl.read_delta(str(table)).select("id", "price").rows()) == expected)


def states(world: World) -> list[str]:
    """What the stream's starts wrote into the control table."""
    control = pl.read_delta(world.cfg().table("control"))
    return control.filter(pl.col("kind") == "stream")["payload"].to_list()


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.5)
