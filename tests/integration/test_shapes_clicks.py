"""Sliding windows, stateless jobs and `updates` over one hand-built log whose dropped events are known in advance."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.conftest import T0_MS, World, click
from tests.integration.shapes import (
    changed,
    counted,
    deleted,
    doubled,
    ensure_run,
    expected_counts,
    named_pairs,
    result_of,
    verify_with,
)

SLIDING, STATELESS, TOTALS, MINUTES = "sliding_clicks", "cents_of_a", "page_totals", "minutes_so_far"
TOTALS_WATERMARK = "page_totals_watermark"
# One partition, four records per micro-batch; watermark = newest event so far - 10 s, used from the next one on.
LOG = [
    click(second, page, name=f"m{micro_batch}-{second}")
    for micro_batch, clicks in enumerate(
        [
            # nothing is dropped before the first watermark
            [(5, "a"), (25, "b"), (45, "a"), (65, "a")],
            # nothing is dropped: 10 is far behind 130, but nothing was known before this micro-batch
            [(130, "a"), (10, "a"), (85, "c"), (131, "a")],
            # dropped by 55 s: 30 is late for the window that ended at 40 s, not for those that end at 60 and 80 s
            [(30, "a"), (132, "b"), (133, "a"), (134, "a")],
            # dropped by 121 s: all windows of 70 have ended (80, 100, 120), two of those of 90 (100, 120, not 140)
            [(70, "a"), (90, "a"), (125, "a"), (250, "a")],
            # dropped by 124 s; what ends until 240 s comes out
            [(65.5, "a"), (126, "b"), (251, "a"), (252, "b")],
            # dropped by 240 s: all four are late for every window, so that this micro-batch changes no window at all
            [(66, "a"), (67, "a"), (68, "b"), (69, "b")],
        ]
    )
    for second, page in clicks
]
ALL_LATE = ("m5-66", "m5-67", "m5-68", "m5-69")
DROPPED = {
    SLIDING: {
        "m2-30": [-20],
        "m3-70": [20, 40, 60],
        "m3-90": [40, 60],
        "m4-65.5": [20, 40, 60],
        **{key: [20, 40, 60] for key in ALL_LATE},
    },
    MINUTES: {key: [60] for key in ("m3-70", "m3-90", "m4-65.5", *ALL_LATE)},
}
PAIRS = {job: {(name, start) for name, starts in late.items() for start in starts} for job, late in DROPPED.items()}
# What comes after everything above: one event in time on a new page, one in time, and one that minutes_so_far drops.
EXTRA = [click(260, "a", name="x-260"), click(261, "d", name="x-261"), click(61, "b", name="x-61")]


@pytest.fixture(scope="module")
def world(make_world: Any) -> World:
    """The log, landed once; jobs run when a test asks for them."""
    world = make_world()
    world.produce(LOG)
    assert world.ingest().events == len(LOG)
    return world


@pytest.mark.slow
def test_a_sliding_event_is_late_for_some_of_its_windows_only(world: World) -> None:
    ensure_run(world, SLIDING)
    everything = expected_counts(LOG, 60, 20, {})
    used = expected_counts(LOG, 60, 20, DROPPED[SLIDING])
    assert counted(world, "batch", SLIDING) == everything
    assert counted(world, "stream", SLIDING) == {key: n for key, n in used.items() if key[1] + 60 <= 240}
    verdict = world.verify(SLIDING)
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("explained", 0, 0)
    # Windows -20 (30 alone), 20, 40 and 60 of page a; of page b the last three. An event counts once, not per window.
    assert [(c.cause, c.rows, c.windows, c.events) for c in verdict.causes] == [("late_dropped", 7, 4, 8)]
    assert (verdict.rows_explained, verdict.windows_different) == (7, 4)
    assert verdict.windows_pending == len({start for _, start in everything if start + 60 > 240})
    assert named_pairs(world, SLIDING) == PAIRS[SLIDING]
    partly = next(event for event in verdict.late_events if event.id["id"] == "m2-30")
    assert (partly.micro_batch, partly.offset, partly.watermark_ms) == (2, 8, T0_MS + 55_000)
    assert (partly.window_start_ms, partly.late_ms) == (T0_MS - 20_000, 15_000)


@pytest.mark.slow
def test_updates_of_windows_drop_late_events_and_show_open_windows(world: World) -> None:
    ensure_run(world, MINUTES)
    assert counted(world, "batch", MINUTES) == expected_counts(LOG, 60, 60, {})
    assert counted(world, "stream", MINUTES) == expected_counts(LOG, 60, 60, DROPPED[MINUTES])
    verdict = world.verify(MINUTES)
    # The last micro-batch changed no row, and still belongs to the cut: its events were read, and dropped.
    assert (verdict.cut.micro_batch, verdict.stream_lag_events) == (5, 0)
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("explained", 0, 0)
    assert [(c.cause, c.rows, c.windows, c.events) for c in verdict.causes] == [("late_dropped", 2, 1, 7)]
    assert (verdict.windows_compared, verdict.windows_pending) == (4, 0)
    assert named_pairs(world, MINUTES) == PAIRS[MINUTES]


@pytest.mark.slow
def test_a_stateless_job_drops_nothing_also_under_a_watermark(world: World) -> None:
    ensure_run(world, STATELESS)
    for kind in ("batch", "stream"):
        rows = result_of(world, kind, STATELESS).select("id", "cents").rows()
        assert sorted(rows) == sorted((r.key.decode(), 125) for r in LOG if b'"page": "a"' in r.value)
    verdict = world.verify(STATELESS)
    assert (verdict.outcome, verdict.exit_code, verdict.causes, verdict.late_events) == ("agree", 0, (), ())
    assert (verdict.rows_compared, verdict.rows_equal) == (17, 17)


@pytest.mark.slow
@pytest.mark.parametrize("job", [TOTALS, TOTALS_WATERMARK])
def test_running_totals_agree_with_and_without_a_watermark(world: World, job: str) -> None:
    ensure_run(world, job)
    per_page = {"a": (17, Decimal("21.25"), 251), "b": (6, Decimal("7.50"), 252), "c": (1, Decimal("1.25"), 85)}
    for kind in ("batch", "stream"):
        rows = {row["page"]: row for row in result_of(world, kind, job).iter_rows(named=True)}
        assert {page: row["clicks"] for page, row in rows.items()} == {page: n for page, (n, *_) in per_page.items()}
        if job == TOTALS:
            newest = {page: (row["amount"], row["newest"].timestamp() * 1000) for page, row in rows.items()}
            assert newest == {page: (cents, T0_MS + second * 1000) for page, (_, cents, second) in per_page.items()}
    verdict = world.verify(job)
    assert (verdict.outcome, verdict.exit_code, verdict.causes, verdict.late_events) == ("agree", 0, (), ())
    assert (verdict.rows_compared, verdict.rows_equal, verdict.stream_lag_events) == (3, 3, 0)


def at(second: int, page: str) -> str:
    return f"unix_millis(window_start) = {T0_MS + second * 1000} AND page = '{page}'"


# Per shape: a row whose value changes, one that goes, one that comes twice; where rows differ anyway, one of those.
FAULTS = {
    SLIDING: [
        changed("clicks", at(0, "a")),
        deleted(at(80, "a")),
        doubled(at(100, "b")),
        changed("clicks", at(60, "a")),
    ],
    MINUTES: [
        changed("clicks", at(0, "b")),
        deleted(at(120, "a")),
        doubled(at(0, "a")),
        changed("clicks", at(60, "a")),
    ],
    STATELESS: [changed("cents", "id = 'm0-5'"), deleted("id = 'm0-45'"), doubled("id = 'm3-70'")],
    TOTALS: [changed("clicks", "page = 'a'"), deleted("page = 'b'"), doubled("page = 'c'")],
}
KINDS = ["changed", "only_batch", "duplicate_in_stream", "changed"]
# What is proven of each: somebody else's commit, or by replay a fault of the sink.
NAMED = ["sink_changed", "sink_missing", "sink_duplicate", "sink_changed"]
STILL_EXPLAINED = {SLIDING: 6, MINUTES: 1, STATELESS: 0, TOTALS: 0}


# Several faults at once in rows of windows are in test_planted_faults.py, outside the slow lane.
@pytest.mark.slow
@pytest.mark.parametrize("job", FAULTS)
def test_every_one_of_several_faults_is_found_and_none_is_called_late(world: World, job: str) -> None:
    ensure_run(world, job)

    def all_of_them(rows: Any) -> Any:
        for fault in FAULTS[job]:
            rows = fault(rows)
        return rows

    verdict = verify_with(world, job, all_of_them)
    assert (verdict.outcome, verdict.exit_code) == ("differ", 1)
    assert verdict.rows_unexplained == 0
    sinks = {cause.cause: cause.rows for cause in verdict.causes if cause.cause.startswith("sink_")}
    assert sinks == Counter(NAMED[: len(FAULTS[job])])
    assert verdict.rows_explained == STILL_EXPLAINED[job] + sum(sinks.values())
    assert any("keys are not unique" in problem for problem in verdict.problems)


@pytest.mark.slow
@pytest.mark.parametrize(("job", "number"), [(job, n) for job, faults in FAULTS.items() for n in range(len(faults))])
def test_a_fault_alone_is_found(world: World, job: str, number: int) -> None:
    ensure_run(world, job)
    verdict = verify_with(world, job, FAULTS[job][number])
    cause = NAMED[number]
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("differ", 1, 0)
    assert [s.kind for s in verdict.samples if cause in s.causes] == [KINDS[number]]
    assert [c.rows for c in verdict.causes if c.cause == cause] == [1]


@pytest.fixture(scope="module")
def extra(world: World) -> World:
    """Three more clicks in bronze, after every job has read the log."""
    for job in (STATELESS, TOTALS, MINUTES):
        ensure_run(world, job)
    world.produce(EXTRA)
    world.ingest()
    return world


@pytest.mark.slow
def test_late_events_are_named_also_when_a_verify_came_before_the_batch(extra: World) -> None:
    extra.stream(MINUTES)
    early = extra.verify(MINUTES)
    assert (early.outcome, early.exit_code) == ("input_behind", 1)
    extra.batch(MINUTES)
    verdict = extra.verify(MINUTES)
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("explained", 0, 0)
    assert [(c.cause, c.rows, c.events) for c in verdict.causes] == [("late_dropped", 2, 8)]
    assert named_pairs(extra, MINUTES) == {*PAIRS[MINUTES], ("x-61", 60)}


@pytest.mark.slow
def test_what_the_stream_has_not_read_yet_is_beyond_the_cut(extra: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world = extra
    monkeypatch.setitem(world.overrides, "verify.max_lag_events", len(EXTRA))
    for job, rows, events in ((STATELESS, 1, 1), (TOTALS, 3, 3)):
        world.batch(job)
        verdict = world.verify(job)
        assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("explained", 0, 0)
        assert [(c.cause, c.rows, c.events) for c in verdict.causes] == [("beyond_cut", rows, events)]
        assert (verdict.rows_explained, verdict.stream_lag_events) == (rows, len(EXTRA))
