"""The counts that lead a report add up, and say rows where windows cannot be told apart."""

from __future__ import annotations

from dataclasses import replace

from factory import agree, differ, empty, explained, stale
from factory_parts import START_MS

from twinrun.report.figures import causes, figures
from twinrun.report.terminal import render_summary
from twinrun.report.words import headline, next_steps
from twinrun.results.verdict import CauseCount, QuarantineCount, WindowPoint


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


def test_summary_stays_bounded_whatever_comes() -> None:
    many = tuple(CauseCount(f"cause_{place}" * 20, 1, 1, None, "") for place in range(50))
    verdict = replace(differ(), problems=tuple("a problem" * 50 for _ in range(50)), causes=many)
    lines = render_summary(verdict, path="p" * 500)
    assert len(lines) <= 60
    assert lines[-1].endswith("p" * 500)
    assert "  ! 30 more problems; see the report" in lines
    assert any(line.endswith("30 more causes") for line in lines)


def test_summary_hides_no_problem_and_no_cause() -> None:
    problems = tuple(f"problem {place}" for place in range(6))
    causes = (
        CauseCount("late_dropped", 80, 80, 300, ""),
        CauseCount("before_start", 9, 9, 9, ""),
        CauseCount("quarantined", 4, 4, 4, ""),
        CauseCount("beyond_cut", 2, 2, 2, ""),
        CauseCount("sink_missing", 1, 1, None, ""),
    )
    text = "\n".join(render_summary(replace(differ(), problems=problems, causes=causes), path=None))
    assert all(problem in text for problem in problems)
    assert all(cause.cause in text for cause in causes)
    # What nobody should have to expect stands first, however few rows it has.
    assert text.index("sink_missing") < text.index("late_dropped")


def test_the_headline_tells_the_deleted_row_beside_eighty_late_ones() -> None:
    causes = (
        CauseCount("late_dropped", 80, 80, 300, ""),
        CauseCount("quarantined", 4, 4, 4, ""),
        CauseCount("sink_missing", 1, 1, None, ""),
    )
    verdict = replace(differ(), causes=causes)
    assert "lacks rows that its micro-batches emitted" in headline(verdict, figures(verdict)).lead


def test_agree_says_what_was_refused() -> None:
    refused = (
        QuarantineCount("flights", "not_json", 6, "flights-1@772", ""),
        QuarantineCount("flights", "wrong_type", 1, "flights-1@773", ""),
    )
    verdict = replace(agree(), quarantine=refused)
    assert (
        "7 records were refused and are in no result (not_json 6, wrong_type 1)."
        in headline(verdict, figures(verdict)).lead
    )
    assert "  refused                    7   records, in no result: not_json 6; wrong_type 1" in render_summary(
        verdict, path=None
    )


def test_stale_and_input_behind_name_the_next_commands() -> None:
    assert next_steps(stale()) == ("twinrun stream departures_per_hour", "twinrun verify departures_per_hour")
    (source,) = stale().cut.sources
    short = {**source.batch_end, 0: 10}
    behind = replace(
        stale(), outcome="input_behind", cut=replace(stale().cut, sources=(replace(source, batch_end=short),))
    )
    only_batch = ("twinrun batch departures_per_hour", "twinrun verify departures_per_hour")
    assert next_steps(behind) == only_batch
    lacking = replace(source, batch_end=short, bronze_end=short)
    behind = replace(behind, cut=replace(behind.cut, sources=(lacking,)))
    assert next_steps(behind) == ("twinrun ingest flights", *only_batch)
    assert next_steps(explained()) == ()


def test_a_silent_kafka_is_said_before_all_else() -> None:
    base = agree()
    silent = replace(base, cut=replace(base.cut, sources=tuple(replace(s, broker_end=None) for s in base.cut.sources)))
    assert render_summary(silent, path=None)[2] == "  ! Kafka did not answer: lag and staleness are unknown"
    assert headline(silent, figures(silent)).lead.startswith("Kafka did not answer")
    assert "Kafka did not answer" not in headline(base, figures(base)).lead
