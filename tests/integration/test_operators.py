"""Operators without a closed form, end to end: what was planted is named, with its count, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from delta.tables import DeltaTable

from tests.integration.conftest import T0_MS, World, click
from twinrun.results.verdict import Verdict

# One partition, four records per micro-batch; lateness 10 s (sessions: 20 s).
CHAIN = [
    *[click(s, name=f"c0-{s}") for s in (5, 20, 35, 50)],
    *[click(s, name=f"c1-{s}") for s in (70, 71, 72, 73)],
    # Dropped by 40 s (50 - 10): 30 s is late for an operator that goes by event time, though its minute is open.
    click(30, name="c2-late-for-distinct"),
    click(72, name="c1-72"),
    click(74, name="c2-74"),
    click(130, name="c2-jump"),
    *[click(s, name=f"c3-{s}") for s in (131, 132, 133, 250)],
    *[click(s, name=f"c4-{s}") for s in (251, 252, 253, 254)],
]


def counts(verdict: Verdict) -> dict[str, tuple[int, int | None]]:
    return {cause.cause: (cause.rows, cause.events) for cause in verdict.causes}


@pytest.mark.slow
def test_a_chain_is_explained_by_the_rule_of_its_first_operator(make_world: Any) -> None:
    world = make_world()
    verdict = world.run_all(CHAIN, "once_per_minute")
    assert verdict.rows_unexplained == 0
    assert counts(verdict) == {"late_dropped": (1, 1)}
    assert [event.id["id"] for event in verdict.late_events] == ["c2-late-for-distinct"]
    assert verdict.exit_code == 0


@pytest.mark.slow
def test_a_window_over_windows_goes_by_the_inner_window(make_world: Any) -> None:
    world = make_world()
    verdict = world.run_all(CHAIN, "peak_minutes")
    assert verdict.rows_unexplained == 0
    assert counts(verdict) == {"late_dropped": (1, 1)}
    assert [event.id["id"] for event in verdict.late_events] == ["c2-late-for-distinct"]


SESSIONS = [
    # Micro-batch 0: a visit of page a at 0 to 5 s, one of page b, and time goes on.
    click(0, "a", name="a0"),
    click(5, "a", name="a5"),
    click(0, "b", name="b0"),
    click(40, "z", name="z40"),
    # Micro-batch 1, dropped by 0, emits by 20 s: a's and b's visits (ends 15 and 10) come out.
    click(20, "a", name="a20"),
    click(41, "z", name="z41"),
    click(42, "z", name="z42"),
    click(43, "z", name="z43"),
    # Micro-batch 2, dropped by 20 s: a@12 ends at 22 s, so it is kept, but the visit that it belongs to is gone.
    click(12, "a", name="a12-after-its-visit"),
    # b@1 ends at 11 s: dropped.
    click(1, "b", name="b1-dropped"),
    click(44, "z", name="z44"),
    click(200, "z", name="z200"),
    *[click(s, "z", name=f"z{s}") for s in (201, 202, 203, 300)],
    *[click(s, "z", name=f"z{s}") for s in (301, 302, 303, 304)],
]


@pytest.mark.slow
def test_a_session_that_was_emitted_too_early_is_a_split_and_a_dropped_event_is_not(make_world: Any) -> None:
    world = make_world()
    verdict = world.run_all(SESSIONS, "sessions_by_page")
    assert verdict.rows_unexplained == 0
    found = counts(verdict)
    assert found["late_dropped"] == (1, 1)
    assert [event.id["id"] for event in verdict.late_events] == ["b1-dropped"]
    # The batch has one visit of a (0 to 30 s); the stream has two, under the starts 0 and 12 s.
    assert found["late_split"][0] == 2
    assert set(found) == {"late_dropped", "late_split", "pending"}
    (blamed,) = [event for sample in verdict.samples for event in sample.events]
    assert (blamed.id["id"], blamed.cause, blamed.end_ms, blamed.late_ms) == (
        "b1-dropped",
        "late_dropped",
        T0_MS + 11_000,
        verdict.late_events[0].late_ms,
    )
    assert verdict.exit_code == 0


def test_a_function_applied_per_micro_batch_is_named_so_and_never_lateness(make_world: Any) -> None:
    world: World = make_world()
    world.produce(CHAIN)
    world.ingest()
    world.stream("first_of_page")
    world.batch("first_of_page")
    said: list[str] = []
    verdict = world.verify("first_of_page", on_step=said.append)
    assert verdict.exit_code == 1
    assert set(counts(verdict)) == {"mode_dependent_logic"}
    assert verdict.rows_unexplained == 0
    # Meanwhile it says which micro-batch of how many is run again.
    count = verdict.cut.micro_batch + 1
    recorded = [f"replaying as recorded: micro-batch {number} of {count}" for number in range(1, count + 1)]
    assert [each for each in said if "as recorded: micro-batch" in each] == recorded
    first, *_, last = [each for each in said if "in order of event time: micro-batch" in each]
    assert (first.split(": ")[1].split(" of ")[0], last.split(": ")[1]) == ("micro-batch 1", "micro-batch 5 of 5")


@pytest.mark.parametrize(
    ("change", "cause"),
    [("DELETE", "sink_missing"), ("UPDATE", "sink_changed")],
    ids=["a row deleted", "a value changed"],
)
@pytest.mark.slow
def test_a_fault_of_the_sink_is_told_from_lateness(make_world: Any, change: str, cause: str) -> None:
    world: World = make_world()
    world.run_all(CHAIN, "once_per_minute")
    table = DeltaTable.forPath(world.spark, str(world.table("stream", "once_per_minute")))
    if change == "DELETE":
        table.delete("window_start = '2013-01-06 10:01:00'")
    else:
        table.update("window_start = '2013-01-06 10:01:00'", {"clicks": "clicks + 1"})
    verdict = world.verify("once_per_minute")
    assert verdict.exit_code == 1
    found = counts(verdict)
    assert found.pop("late_dropped") == (1, 1)
    assert list(found) == [cause]
    assert verdict.rows_unexplained == 0


COPIES = [
    *[click(s, name=f"d0-{s}") for s in (5, 20, 35, 50)],
    # A copy in time: both modes drop it.
    click(20, name="d0-20"),
    *[click(s, name=f"d1-{s}") for s in (61, 62, 63)],
    # Watermark 53 s: the id d0-5 (5 s + 10 s) is forgotten. Its copy says another time, in an open minute: it counts.
    click(64, name="d0-5"),
    click(65, name="d2-65"),
    click(66, name="d2-66"),
    click(200, name="d2-jump"),
    *[click(s, name=f"d3-{s}") for s in (201, 202, 203, 300)],
    *[click(s, name=f"d4-{s}") for s in (301, 302, 303, 304)],
]


@pytest.mark.slow
def test_a_copy_that_the_stream_had_forgotten_is_a_duplicate_event(make_world: Any) -> None:
    world = make_world()
    verdict = world.run_all(COPIES, "distinct_clicks")
    assert verdict.rows_unexplained == 0
    assert counts(verdict) == {"duplicate_event": (1, 1)}
    # The copy at offset 8, not the first of that name.
    (blamed,) = verdict.samples[0].events
    assert (blamed.id["id"], blamed.offset, blamed.late_ms) == ("d0-5", 8, None)
    assert verdict.exit_code == 1  # proven, and not to be expected of a correct pair


@pytest.mark.slow
def test_a_join_of_two_streams_names_what_each_side_dropped_and_what_waits(make_world: Any) -> None:
    world: World = make_world()
    world.add_topic("orders")
    clicks = [
        *[click(s, f"p{s}", name=f"k{s}") for s in (0, 10, 20, 60)],
        *[click(s, f"p{s}", name=f"k{s}") for s in (61, 62, 63, 64)],
        click(30, "p30", name="k30-dropped"),
        *[click(s, f"p{s}", name=f"k{s}") for s in (65, 66, 300)],
        *[click(s, f"p{s}", name=f"k{s}") for s in (301, 302, 303, 304)],
    ]
    orders = [
        *[click(s, f"q{s}", name=f"o{s}") for s in (1, 2)],
        click(15, "p10", name="o-of-p10"),
        click(60, "q60", name="o60"),
        *[click(s, f"q{s}", name=f"o{s}") for s in (61, 62, 63, 64)],
        # In time for its click (20 s), and dropped by 50 s: the click's row stays without an order.
        click(25, "p20", name="o-of-p20-dropped"),
        *[click(s, f"q{s}", name=f"o{s}") for s in (65, 66, 300)],
        *[click(s, f"q{s}", name=f"o{s}") for s in (301, 302, 303, 304)],
    ]
    world.produce(clicks)
    world.produce(orders, "orders")
    world.ingest("answered")
    world.stream("answered")
    world.batch("answered")
    verdict = world.verify("answered")
    assert verdict.rows_unexplained == 0
    assert {event.id["id"] for event in verdict.late_events} == {"k30-dropped", "o-of-p20-dropped"}
    found = counts(verdict)
    assert found["late_dropped"] == (2, 2)
    assert found["pending"][0] >= 1
    assert set(found) == {"late_dropped", "pending"}
    assert verdict.exit_code == 0
