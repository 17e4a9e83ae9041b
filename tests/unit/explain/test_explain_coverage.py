"""Which source is said to hold the watermark back: the slowest, and none where the recorded watermark is another."""

from __future__ import annotations

import pytest

from twinrun.explain.coverage import SourceProgress, held_back, sentence

CLICKS, ORDERS = SourceProgress("clicks", 190_000, 10_000), SourceProgress("orders", 75_000, 20_000)
SILENT = SourceProgress("orders", None, 20_000)


def test_the_source_that_is_furthest_behind_holds_the_others_back() -> None:
    assert held_back([CLICKS, ORDERS], 55_000) == ([ORDERS], 180_000)


def test_a_source_without_events_holds_the_watermark_at_nothing() -> None:
    assert held_back([CLICKS, SILENT], 0) == ([SILENT], 180_000)
    assert held_back([CLICKS, SILENT], None) == ([SILENT], 180_000)


@pytest.mark.parametrize("recorded", [54_999, 55_001, 180_000, 0, None])
def test_nothing_is_said_where_the_recorded_watermark_is_not_the_slowest_ones(recorded: int | None) -> None:
    assert held_back([CLICKS, ORDERS], recorded) is None


def test_nothing_is_said_where_no_source_is_behind() -> None:
    assert held_back([CLICKS, SourceProgress("orders", 200_000, 20_000)], 180_000) is None


def test_of_three_sources_both_slow_ones_are_named_and_the_next_one_counts() -> None:
    third = SourceProgress("views", 65_000, 10_000)
    found = held_back([CLICKS, ORDERS, third], 55_000)
    assert found == ([ORDERS, third], 180_000)
    assert held_back([CLICKS, ORDERS, SourceProgress("views", 95_000, 10_000)], 55_000) == ([ORDERS], 85_000)


def test_the_sentence_names_the_source_its_newest_event_and_what_waits() -> None:
    assert sentence([ORDERS], [CLICKS], 180_000, 3) == (
        "The watermark of all sources waits for the slowest: the newest event of orders is of 1970-01-01 00:01:15 UTC, "
        "which with a lateness of 20 s holds it at 1970-01-01 00:00:55 UTC. By the events of clicks alone the "
        "watermark would be 1970-01-01 00:03:00 UTC; 3 waiting rows belong to windows that are over by then."
    )
    assert "; 1 waiting row belongs to a window that is over by then." in sentence([ORDERS], [CLICKS], 180_000, 1)
    assert "orders has no event yet. By the events of clicks alone" in sentence([SILENT], [CLICKS], 180_000, None)
