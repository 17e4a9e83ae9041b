"""Late events by hand: a log whose dropped events are known in advance, and the wrong rule as a negative control."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import functions as F

from tests.integration.conftest import World, click
from twinrun.explain import used

# One partition, four records per micro-batch. Watermark = newest event so far - 10 s, used from the next one on.
LOG = [
    # micro-batch 0, dropped by 0: nothing
    *[click(s, name=f"m0-{s}") for s in (5, 20, 35, 50)],
    # micro-batch 1, dropped by 0 (nothing is known before the first): the jump to 130 s closes minutes 0 and 1
    click(130, name="m1-jump"),
    click(10, name="m1-behind-but-kept"),
    click(131, name="m1-131"),
    click(132, name="m1-132"),
    # micro-batch 2, dropped by 40 s (m0's newest 50 - 10): minute 0 ends at 60 s, so 12 s is still in time
    click(12, name="m2-kept-by-the-previous-watermark"),
    click(133, name="m2-133"),
    click(134, name="m2-134"),
    click(135, name="m2-135"),
    # micro-batch 3, dropped by 122 s: minutes 0 and 1 are over, minute 2 (ends 180 s) is open
    click(15, name="m3-dropped-minute-0"),
    click(119, name="m3-dropped-minute-1"),
    click(121, name="m3-kept-minute-2"),
    click(250, name="m3-jump"),
    # micro-batch 4: closes minutes 2 and 3
    *[click(s, name=f"m4-{s}") for s in (251, 252, 253, 254)],
]
DROPPED = {"m3-dropped-minute-0", "m3-dropped-minute-1"}


@pytest.fixture(scope="module")
def world(make_world: Any) -> World:
    return make_world()


@pytest.fixture(scope="module")
def verdict(world: World) -> Any:
    return world.run_all(LOG)


def test_every_difference_is_proven_and_exactly_the_dropped_events_are_named(world: World, verdict: Any) -> None:
    assert verdict.outcome == "explained"
    assert verdict.exit_code == 0
    assert verdict.rows_unexplained == 0
    assert {event.id["id"] for event in verdict.late_events} == DROPPED
    assert [(cause.cause, cause.rows, cause.events) for cause in verdict.causes] == [("late_dropped", 2, 2)]


def test_evidence_of_a_late_event_has_watermark_and_micro_batch(verdict: Any) -> None:
    first = next(event for event in verdict.late_events if event.id["id"] == "m3-dropped-minute-0")
    assert (first.micro_batch, first.partition, first.offset) == (3, 0, 12)
    assert first.watermark_ms - first.window_start_ms == 122_000
    assert first.late_ms == 62_000


def test_strict_makes_a_proven_difference_fail(world: World, verdict: Any) -> None:
    assert world.verify(strict=True).exit_code == 1


def test_the_current_micro_batchs_watermark_would_be_the_wrong_rule(
    world: World, verdict: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(used, "dropping_watermark", lambda _order: F.col("watermark_ms"))
    monkeypatch.setitem(world.overrides, "verify.max_replay_micro_batches", 0)  # a replay needs no such rule
    wrong = world.verify()
    assert wrong.outcome == "differ"
    assert wrong.rows_unexplained > 0
