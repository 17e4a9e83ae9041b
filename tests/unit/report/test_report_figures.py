"""The counts that lead a report add up, and say rows where windows cannot be told apart."""

from __future__ import annotations

from dataclasses import replace

from factory import agree, differ, empty, explained, stale
from factory_parts import START_MS

from twinrun.report.figures import causes, figures
from twinrun.report.terminal import render_summary
from twinrun.results.verdict import CauseCount, WindowPoint


def test_figures_add_up() -> None:
    for verdict in (explained(), agree(), differ(), stale(), empty()):
        counts = figures(verdict)
        assert counts.compared == counts.equal + counts.explained + counts.unexplained


def test_demo_counts_windows() -> None:
    counts = figures(explained())
    assert (counts.unit, counts.compared, counts.equal) == ("window", 368, 272)
    assert (counts.explained, counts.unexplained, counts.pending) == (96, 0, 5)
    assert (counts.events_batch, counts.events_stream) == (6118, 6118)


def test_one_row_per_window_tells_the_unexplained_windows() -> None:
    counts = figures(differ())
    assert (counts.unit, counts.explained, counts.unexplained) == ("window", 92, 4)


def test_several_rows_per_window_are_told_by_the_timeline() -> None:
    timeline = (WindowPoint(START_MS, 1, 1, 1, 0), WindowPoint(START_MS + 1, 0, 3, 0, 0))
    verdict = replace(
        differ(), windows_compared=100, windows_equal=98, windows_different=2, timeline=timeline, rows_unexplained=1
    )
    counts = figures(verdict)
    assert (counts.unit, counts.explained, counts.unexplained) == ("window", 1, 1)


def test_a_cause_named_unexplained_is_believed() -> None:
    verdict = replace(differ(), causes=(*differ().causes, CauseCount("unexplained", 4, 3, None, "")))
    assert figures(verdict).unexplained == 3
    assert "unexplained" not in [cause.cause for cause in causes(verdict)]


def test_rows_where_windows_cannot_be_told() -> None:
    verdict = replace(differ(), windows_compared=100, windows_equal=60, windows_different=40)
    counts = figures(verdict)
    assert (counts.unit, counts.compared, counts.unexplained) == ("row", 368, 4)
    assert "  rows compared            368" in render_summary(verdict, path=None)


def test_jobs_without_windows_count_rows() -> None:
    verdict = replace(explained(), windows_compared=0, windows_pending=0, windows_equal=0, windows_different=0)
    assert figures(verdict).unit == "row"


def test_summary_shows_rows_beside_windows_that_hold_several() -> None:
    verdict = replace(explained(), rows_compared=1104, rows_equal=1008)
    assert "  windows compared         368   1,104 rows" in render_summary(verdict, path=None)


def test_summary_stays_within_15_lines_whatever_comes() -> None:
    many = tuple(CauseCount(f"cause_{place}" * 20, 1, 1, None, "") for place in range(50))
    verdict = replace(differ(), problems=tuple("a problem" * 50 for _ in range(50)), causes=many)
    lines = render_summary(verdict, path="p" * 500)
    assert len(lines) <= 15
    assert lines[-1].endswith("p" * 500)
    assert "48 more problems" in "\n".join(lines)
    assert "47 more causes" in "\n".join(lines) or "…" in "\n".join(lines)
