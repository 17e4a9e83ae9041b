"""The counts that lead a report add up, and say rows where windows cannot be told apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from factory import agree, differ, empty, explained, stale
from factory_parts import START_MS

from twinrun.report.figures import causes, figures
from twinrun.report.markdown import render_markdown
from twinrun.report.terminal import render_summary
from twinrun.report.words import arrivals, headline, next_steps, story
from twinrun.results.verdict import Arrival, CauseCount, QuarantineCount, Verdict, WindowPoint


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


def rows_only(compared: int, **changes: Any) -> Verdict:
    """A job without windows, of which so many rows were compared and all are equal."""
    none = {"windows_compared": 0, "windows_pending": 0, "windows_equal": 0, "windows_different": 0}
    base = replace(agree(), window_ms=None, shape="latest", rows_compared=compared, rows_equal=compared, **none)  # type: ignore[arg-type]
    return replace(base, causes=(), rows_pending=0, **changes)


def test_one_row_is_no_window_and_not_one_of_many() -> None:
    same = rows_only(1)
    assert headline(same, figures(same)).title == "Batch and stream agree in the only row compared."
    other = replace(same, outcome="differ", exit_code=1, rows_equal=0, rows_unexplained=1)
    assert headline(other, figures(other)).title == (
        "Batch and stream differ in the only row compared, without a proven cause."
    )
    late = replace(stale(), windows_compared=1, windows_equal=1, windows_different=0, rows_explained=0)
    assert "Of the finished part, 1 of 1 window is equal." in headline(late, figures(late)).lead
    refused = replace(agree(), quarantine=(QuarantineCount("flights", "not_json", 1, "flights-1@772", ""),))
    assert "  refused                    1   record, in no result: not_json 1" in render_summary(refused, path=None)


def test_a_title_says_of_the_causes_only_what_is_so() -> None:
    """What fails may be a limit or an audit, where each difference is proven and expected."""
    limit = replace(explained(), outcome="differ", exit_code=1, problems=("late events are 5.51% of the events",))
    assert headline(limit, figures(limit)).title.endswith("; each is proven and expected, but something else fails.")
    found = (*explained().causes[1:], CauseCount("sink_missing", 96, 96, None, ""))
    sink = replace(limit, causes=found)
    assert headline(sink, figures(sink)).title.endswith("; each is proven, but not every cause is expected.")
    # Not cut on a terminal, with windows by the ten thousand.
    for title in (limit, sink):
        many = replace(title, windows_compared=87_600, windows_different=12_345)
        assert render_summary(many, path=None)[1].endswith(".")
    assert headline(differ(), figures(differ())).title.endswith(", and 4 of them without a proven cause.")


def test_both_modes_are_said_to_have_seen_the_same_events_only_where_they_have() -> None:
    base = agree()
    (source,) = base.cut.sources
    assert "over the same 6\u202f118 events" in story(base, figures(base))
    more = replace(source, events_batch=source.events_batch + 3)
    ahead = replace(base, cut=replace(base.cut, sources=(more,)))
    assert "over events, 6\u202f121 in batch and 6\u202f118 in stream" in story(ahead, figures(ahead))
    # As many, and others: each mode lacks one that the other has.
    short = replace(source, batch_end={**source.batch_end, 0: source.end[0] - 1})
    apart = replace(base, cut=replace(base.cut, sources=(short,)))
    assert "over the same" not in story(apart, figures(apart))
    for verdict in (base, ahead, apart):
        # Also of a table that a heal or another commit has made equal.
        assert headline(verdict, figures(verdict)).lead == (
            "As far as the two results can be compared, they hold the same rows."
        )


def test_of_late_events_it_is_said_what_is_not_known_of_them() -> None:
    one, several = (replace(explained(), arrival=Arrival(0, 0, count)) for count in (1, 3))
    assert arrivals(one) == "Of 1 event it is not known whether it arrived late or was read late."
    assert arrivals(several) == "Of 3 events it is not known whether they arrived late or were read late."


def test_sections_agree_with_their_counts_and_with_the_job() -> None:
    base = explained()
    one = replace(base, late_events=base.late_events[:1], expectations=base.expectations[:1])
    text = render_markdown(one)
    assert "The cross is 1 dropped event, at the event time that it carries." in text
    assert "Of 1 expectation, 0 failed." in text
    # An event that is late for two windows is one event.
    twice = replace(base, late_events=(base.late_events[0], replace(base.late_events[0], window_start_ms=START_MS)))
    assert "The cross is 1 dropped event" in render_markdown(twice)
    assert "had passed the end of its window" in text
    once = replace(base.late_events[0], window_start_ms=None)
    assert "had passed the end of what it belongs to (" in render_markdown(replace(base, late_events=(once,)))
    assert "has no watermark" not in text
    timeless = render_markdown(replace(base, lateness_ms=None, window_ms=None, shape="latest"))
    assert "No source of this job has a lateness, so the stream has no watermark" in timeless


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
