"""Jobs of two sources, end to end: the slower one's watermark judges both, and an idle one holds everything back."""

from __future__ import annotations

from typing import Any

import pytest
from delta.tables import DeltaTable

from tests.integration.conftest import World, click
from tests.integration.shapes import result_of, second_of
from tests.integration.test_operators import counts
from twinrun.results.verdict import Verdict

# One partition per topic, four records of each per micro-batch; lateness 10 s.
CLICKS = [
    *[click(s, name=f"k{s}") for s in (5, 20, 35, 80)],
    *[click(s, name=f"k{s}") for s in (200, 201, 202, 203)],
    # The slower source is at 70 s by then, less 10 s: minute 0 ends at 60 s. By the clicks' own watermark, 190 s,
    # minute 1 would be over too.
    click(40, name="k40-dropped"),
    click(65, name="k65-in-time"),
    *[click(s, name=f"k{s}") for s in (300, 301)],
    *[click(s, name=f"k{s}") for s in (302, 303, 304, 305)],
]
ORDERS = [
    *[click(s, name=f"o{s}") for s in (2, 30, 45, 70)],
    *[click(s, name=f"o{s}") for s in (66, 67, 68, 69)],
    *[click(s, name=f"o{s}") for s in (71, 72, 73, 250)],
    *[click(s, name=f"o{s}") for s in (251, 252, 253, 254)],
]


def run(make_world: Any, job: str, clicks: list[Any], orders: list[Any]) -> tuple[World, Verdict]:
    world: World = make_world(**{"stream.max_offsets_per_trigger": 4})
    world.add_topic("orders")
    world.produce(clicks)
    world.produce(orders, "orders")
    world.ingest(job)
    world.stream(job)
    world.batch(job)
    return world, world.verify(job)


def rows_of(world: World, kind: str, job: str) -> list[dict[str, Any]]:
    return result_of(world, kind, job).to_dicts()


@pytest.mark.slow
def test_the_slower_source_judges_the_events_of_both(make_world: Any) -> None:
    _, verdict = run(make_world, "both_feeds", CLICKS, ORDERS)
    assert [event.id["id"] for event in verdict.late_events] == ["k40-dropped"]
    assert counts(verdict) == {"late_dropped": (1, 1)}
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("explained", 0, 0)
    # Rows wait, but none of them for one source alone.
    assert verdict.rows_pending > 0
    assert not any("slowest" in note for note in verdict.notes)


# Judged by the clicks' 70 s, then by their 193 s, where any watermark judges them.
TIMELESS = [
    *[click(s, name=f"o{s}") for s in (2, 30, 45, 70, 66, 67, 68, 69)],
    click(50, name="o50-dropped"),
    *[click(s, name=f"o{s}") for s in (72, 73, 250)],
    click(100, name="o100-dropped"),
    *[click(s, name=f"o{s}") for s in (252, 253, 254)],
]


@pytest.mark.slow
def test_a_source_without_lateness_loses_events_to_the_watermark_of_the_other(make_world: Any) -> None:
    """Once called arrival_order: the union hands the first source's watermark to the rows of both."""
    world, verdict = run(make_world, "both_so_far", CLICKS, TIMELESS)
    minutes = {second_of(row["window_start"]): row["n"] for row in rows_of(world, "batch", "both_so_far")}
    seen = {second_of(row["window_start"]): row["n"] for row in rows_of(world, "stream", "both_so_far")}
    assert {minute: (minutes[minute], seen[minute]) for minute in (0, 60)} == {0: (8, 6), 60: (10, 9)}
    assert {event.id["id"] for event in verdict.late_events} == {"k40-dropped", "o50-dropped", "o100-dropped"}
    assert counts(verdict) == {"late_dropped": (2, 3)}
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("explained", 0, 0)


@pytest.mark.slow
def test_with_the_source_without_lateness_first_no_event_of_either_is_dropped(make_world: Any) -> None:
    """The same events: the union has the watermark of its first frame alone, and that has none."""
    world, verdict = run(make_world, "so_far_of_both", CLICKS, TIMELESS)
    seen = {second_of(row["window_start"]): row["n"] for row in rows_of(world, "stream", "so_far_of_both")}
    assert {minute: seen[minute] for minute in (0, 60)} == {0: 8, 60: 10}
    assert (verdict.outcome, verdict.exit_code, verdict.rows_equal) == ("agree", 0, verdict.rows_compared)
    assert (verdict.late_events, verdict.causes) == ((), ())
    told = " ".join(verdict.notes)
    assert "late" not in told, told


@pytest.mark.slow
def test_a_left_join_with_a_condition_on_the_left_alone_says_which_rows_spark_never_emits(make_world: Any) -> None:
    clicks = [
        click(0, "p0", name="k-cheap-alone", amount=1),
        click(1, "p1", name="k-costly-alone", amount=9),
        click(2, "p2", name="k-costly-answered", amount=9),
        click(3, "p3", name="k-cheap-with-an-order", amount=1),
        *[click(s, f"p{s}", name=f"k{s}", amount=1) for s in (100, 101, 102, 103, 200, 201, 202, 203)],
    ]
    orders = [
        *[click(s, page, name=f"o-{page}") for s, page in ((4, "p2"), (5, "p3"), (6, "x"), (7, "y"))],
        *[click(s, f"q{s}", name=f"o{s}") for s in (100, 101, 102, 103, 200, 201, 202, 203)],
    ]
    world, verdict = run(make_world, "answered_if_costly", clicks, orders)
    batch = {row["click"]: row["answer"] for row in rows_of(world, "batch", "answered_if_costly")}
    seen = {row["click"]: row["answer"] for row in rows_of(world, "stream", "answered_if_costly")}
    assert batch["k-costly-answered"] == seen["k-costly-answered"] == "o-p2"
    # Null at once, also of a click that has an order, in both modes.
    assert batch["k-cheap-with-an-order"] is seen["k-cheap-with-an-order"] is seen["k-cheap-alone"] is None
    assert set(batch) - set(seen) == {"k-costly-alone"}, "the watermark is 190 s by then"
    assert counts(verdict) == {"mode_dependent_logic": (1, None)}
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("differ", 1, 0)
    assert any("outer join looks at the left side alone" in note and "never emits" in note for note in verdict.notes)


@pytest.mark.slow
def test_a_source_that_stops_halfway_is_named_by_the_rows_that_wait_for_it(make_world: Any) -> None:
    _, verdict = run(make_world, "both_feeds", CLICKS, ORDERS[:8])
    assert counts(verdict) == {"late_dropped": (1, 1)}
    assert (verdict.outcome, verdict.exit_code, verdict.rows_compared) == ("explained", 0, 1)
    assert verdict.rows_pending == 3
    (note,) = [note for note in verdict.notes if "slowest" in note]
    assert "newest event of orders is of 2013-01-06 10:01:10 UTC" in note
    assert "holds it at 2013-01-06 10:01:00 UTC. By the events of clicks alone" in note
    # Minutes 1 and 3; minute 5 would be open by the clicks' watermark too.
    assert "; 2 waiting rows" in note


@pytest.mark.slow
def test_a_source_without_events_holds_all_back_and_nothing_agrees(make_world: Any) -> None:
    _, verdict = run(make_world, "both_feeds", CLICKS, [])
    assert (verdict.outcome, verdict.exit_code) == ("nothing_compared", 1)
    assert verdict.rows_stream == 0
    assert verdict.rows_pending > 0
    assert (verdict.late_events, verdict.causes) == ((), ())
    assert any("slowest: orders has no event yet" in note for note in verdict.notes)


@pytest.mark.slow
def test_an_inner_join_lacks_the_pairs_of_a_dropped_order_and_a_deleted_pair_is_the_sinks(make_world: Any) -> None:
    clicks = [click(s, f"p{s}", name=f"k{s}") for s in (0, 10, 20, 60, 61, 62, 63, 64, 65, 66, 67, 300)]
    orders = [
        *[click(s, page, name=name) for s, page, name in ((5, "p0", "o5"), (15, "p10", "o15"), (59, "x", "o59"))],
        click(60, "y", name="o60"),
        *[click(s, f"p{s}", name=f"o{s}") for s in (61, 62, 63, 64)],
        # In time for its click (20 s), and dropped by 50 s.
        click(25, "p20", name="o25-dropped"),
        *[click(s, f"p{s}", name=f"o{s}") for s in (65, 66, 300)],
    ]
    world, verdict = run(make_world, "followed", clicks, orders)
    assert [event.id["id"] for event in verdict.late_events] == ["o25-dropped"]
    assert counts(verdict) == {"late_dropped": (1, 1)}
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("explained", 0, 0)
    DeltaTable.forPath(world.spark, str(world.table("stream", "followed"))).delete("click = 'k10'")
    again = world.verify("followed")
    assert (again.exit_code, again.rows_unexplained) == (1, 0)
    assert counts(again) == {"late_dropped": (1, 1), "sink_missing": (1, None)}


@pytest.mark.slow
def test_a_window_over_a_join_lacks_the_pair_of_a_dropped_order_and_a_deleted_minute_is_the_sinks(
    make_world: Any,
) -> None:
    clicks = [
        click(s, f"p{s}", name=f"k{s}")
        for s in (0, 10, 20, 60, 61, 62, 63, 64, 65, 66, 70, 130, 131, 132, 133, 300, 301, 302, 303, 304)
    ]
    orders = [
        *[click(s, page, name=f"o{s}") for s, page in ((5, "p0"), (15, "p10"), (59, "x"), (60, "y"))],
        *[click(s, f"p{s}", name=f"o{s}") for s in (61, 62, 63, 64)],
        # In time for its click (20 s), and dropped by 50 s.
        click(25, "p20", name="o25-dropped"),
        *[click(s, page, name=f"o{s}") for s, page in ((65, "p65"), (66, "p66"), (130, "x"))],
        *[click(s, "x", name=f"o{s}") for s in (131, 132, 133, 300)],
        *[click(s, f"p{s}", name=f"o{s}") for s in (301, 302, 303, 304)],
    ]
    world, verdict = run(make_world, "followed_minutes", clicks, orders)
    minutes = {second_of(row["window_start"]): row["pairs"] for row in rows_of(world, "batch", "followed_minutes")}
    assert minutes == {0: 3, 60: 6, 300: 4}
    minutes = {second_of(row["window_start"]): row["pairs"] for row in rows_of(world, "stream", "followed_minutes")}
    assert minutes == {0: 2, 60: 6}
    assert [event.id["id"] for event in verdict.late_events] == ["o25-dropped"]
    assert counts(verdict) == {"late_dropped": (1, 1)}
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("explained", 0, 0)
    table = DeltaTable.forPath(world.spark, str(world.table("stream", "followed_minutes")))
    table.delete("window_start = '2013-01-06 10:01:00'")
    again = world.verify("followed_minutes")
    assert (again.exit_code, again.rows_unexplained) == (1, 0)
    assert counts(again) == {"late_dropped": (1, 1), "sink_missing": (1, None)}
