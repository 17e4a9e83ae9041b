"""A difference by the order of events beside lateness, sessions or waiting rows that have no part in it: no cause is
claimed that does not change the row by itself, and what fails stays a failure."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.integration.conftest import World, click
from twinrun.results.verdict import Verdict
from twinrun.tables.delta import replace_rows


def causes(verdict: Verdict) -> dict[str, int]:
    return {each.cause: each.rows for each in verdict.causes}


def far(from_s: int, page: str = "z", count: int = 8) -> list[Any]:
    """Clicks on another page that let everything before them close."""
    return [click(from_s + n, page, name=f"{page}{from_s + n}") for n in range(count)]


@pytest.mark.parametrize("job", ["session_last", "session_weights"])
def test_a_session_that_nobody_split_differs_by_order(make_world: Any, job: str) -> None:
    """0 and 20 s come first, then what lies between, in time: one session in both modes, and nothing is late."""
    world: World = make_world()
    log = [
        *(click(0, amount=1, weight=0.1), click(20, amount=2, weight=0.2), click(1, "b"), click(2, "b")),
        *(click(10, amount=3, weight=0.3), click(5, amount=4, weight=0.4), click(15, amount=5, weight=1e16)),
        *(click(3, "b"), click(12, amount=6, weight=-1e16), click(6, "b"), click(6, "b"), click(6, "b")),
        *far(200),
    ]
    verdict = world.run_all(log, job)
    found = causes(verdict)
    found.pop("pending", None)
    assert found == {"arrival_order": 1}
    assert verdict.exit_code == 1


def test_a_copy_that_the_two_modes_choose_differently_is_no_split_and_does_not_wait(make_world: Any) -> None:
    """Two records of one id whose times in Kafka contradict their offsets: each mode keeps another one."""
    world: World = make_world()
    log = [
        *(click(0, "b"), click(5, "b"), click(10, "b"), click(12, "b")),
        *(click(200, name="x", amount=1, known=300), click(200, name="x", amount=2, known=250)),
        *(click(205), click(206), click(207, "c"), click(208, "c"), click(209, "c"), click(210, "c")),
    ]
    waiting = world.run_all(log, "session_once")
    assert waiting.exit_code == 1
    assert "late_split" not in causes(waiting)
    # What waits is not the row that the batch has: it will not come out as that.
    assert causes(waiting).get("pending", 0) <= 1

    world.produce(far(600, "d"))
    for step in (world.ingest, world.stream, world.batch):
        step("session_once")
    closed = world.verify("session_once")
    assert closed.exit_code == 1
    assert "late_split" not in causes(closed)


def test_order_in_a_sliding_window_is_not_put_down_to_a_late_event_that_changes_nothing(make_world: Any) -> None:
    world: World = make_world()
    job = "sliding_last"
    world.produce([click(50, name="e1", amount=1), click(41, "b"), click(42, "b"), click(43, "b")])
    world.ingest(job)
    world.batch(job)
    # In a larger file, which a batch reads first.
    pad = os.urandom(40_000).hex()
    late = click(20, name="late-without-effect", amount=None)
    more = [click(45, name="e2", amount=2, pad=pad), click(44, "b", pad=pad), click(51, "b"), click(52, "b")]
    world.produce([*more, *far(200, "c"), late, *far(260, "d", 7)])
    for step in (world.ingest, world.stream):
        step(job)
    world.batch(job, "earliest")
    verdict = world.verify(job)
    found = causes(verdict)
    found.pop("pending", None)
    assert found == {"arrival_order": 2}
    assert verdict.exit_code == 1


def test_a_late_event_without_effect_does_not_ride_along_with_a_newer_price(make_world: Any) -> None:
    world: World = make_world()
    job, prices = "priced_minutes", str(world.root / "prices")
    world.overrides["tables.prices.path"] = prices
    replace_rows(world.spark.createDataFrame([("a", 2)], "page STRING, price INT"), prices)
    late = click(20, name="late-without-effect", amount=None)
    seconds = (0, 5, 10, 50, 130, 131, 132, 133, 134, 135, 136, 137)
    log = [*(click(s) for s in seconds), late, *(click(s) for s in (250, 251, 252, 253, 254, 255, 256))]
    world.produce(log)
    world.ingest(job)
    world.stream(job)
    replace_rows(world.spark.createDataFrame([("a", 3)], "page STRING, price INT"), prices)
    world.batch(job)
    verdict = world.verify(job)
    found = causes(verdict)
    found.pop("pending", None)
    assert set(found) == {"static_version"}


def test_of_events_that_only_the_batch_has_those_without_effect_are_not_blamed(make_world: Any) -> None:
    """One from before the stream's start, within a session and without an amount; one that it has not read yet."""
    world: World = make_world()
    job = "sessions_by_amount"
    world.produce([click(10, name="before-the-start", amount=None)])
    world.stream(job, "latest")
    world.produce([click(5, amount=1), click(15, amount=2), click(16, "b"), click(17, "b"), *far(200)])
    world.stream(job)
    world.produce([click(12, name="not-read-yet", amount=4)])
    world.ingest(job)
    world.batch(job)
    verdict = world.verify(job, wait_s=0)
    found = causes(verdict)
    found.pop("pending", None)
    assert found == {"beyond_cut": 1}
