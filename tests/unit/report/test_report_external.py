"""A stream side that another engine wrote: every report says so, and which causes were out of reach."""

from __future__ import annotations

from dataclasses import replace
from html import unescape
from typing import Any

import pytest
from factory import differ
from test_report_snapshots import check, small

from twinrun.cli.reread import read_verdict
from twinrun.external.rules import RULES
from twinrun.report.html import render_html
from twinrun.report.json_ import render_json
from twinrun.report.markdown import render_markdown
from twinrun.report.terminal import render_summary
from twinrun.results.verdict import ExternalSide, QuarantineCount, Verdict


def external(place: str = "topic departures") -> Verdict:
    """The verdict of a result topic with malformed records and nothing declared but a lateness."""
    base = small(differ())
    side = ExternalSide(
        place=place,
        declared=("rows: each record is a row", "lateness: 1 hour"),
        offsets_declared=False,
        rows=371,
        early_rows=3,
        records=371,
        superseded=0,
        tombstones=0,
        malformed=(QuarantineCount("departures", "not_json", 2, "departures partition 0 offset 7", "not JSON: {"),),
        out_of_reach=(
            ("late_dropped", "no late_rule is declared, and another engine records no watermark per event"),
            ("sink_missing", "it takes the stream's micro-batches, run again, and another engine leaves none"),
        ),
    )
    late = tuple(replace(event, micro_batch=-1) for event in base.late_events)
    cut = replace(base.cut, micro_batch=-1, query_id="", stream_version=-1, stream_static={}, stream_table="departures")
    nothing: dict[str, object] = {
        "micro_batches": (),
        "stream_lag_events": None,
        "stream_age_ms": None,
        "history": None,
    }
    nothing["samples"] = tuple(
        replace(sample, events=tuple(replace(event, micro_batch=None) for event in sample.events))
        for sample in base.samples
    )
    return replace(base, external=side, cut=cut, late_events=late, **nothing)  # type: ignore[arg-type]


def test_summary_and_markdown() -> None:
    check("external.txt", "\n".join(render_summary(external(), path="report/report.html")) + "\n")
    check("external.md", render_markdown(external()))


def test_the_page_has_no_chart_of_micro_batches_and_says_why() -> None:
    page = render_html(external())
    assert "The result of the other engine" in page
    assert "there is no chart of its progress" in page
    assert "Causes that were out of reach" in page
    assert "newest event time</li>" not in page
    assert "newest event time</li>" in render_html(small(differ()))


def test_no_story_speaks_of_replays_or_of_what_only_a_stream_of_twinrun_has() -> None:
    page = render_html(external())
    assert "By the declared rule" in page
    assert "run again" not in page.split("Row by row")[1].split("The events that the other engine dropped")[0]
    assert "twinrun heal" not in page
    assert "twinrun heal" in render_html(small(differ()))


def test_a_story_names_the_late_event_and_what_the_declared_rule_judged_it_by() -> None:
    story = render_html(external()).split("Row by row")[1].split("By the declared rule")[1].split("</p>")[0]
    assert "The latest is" in story
    assert "when the newest event time of its partition, less the lateness, was" in story
    assert "after the window&#39;s end" in story


def by(rule: str, verdict: Verdict) -> Verdict:
    assert verdict.external is not None
    return replace(verdict, external=replace(verdict.external, late_rule=rule))


@pytest.mark.parametrize("rule", RULES)
def test_a_story_says_by_whose_clock_the_event_was_late_and_what_would_have_kept_it(rule: str) -> None:
    story = unescape(render_html(by(rule, external()))).split("Row by row")[1].split("By the declared rule")[1]
    assert f"when {RULES[rule].whose}, was" in story
    assert f"after {RULES[rule].edge}" in story
    assert RULES[rule].kept in story


def test_rows_that_wait_or_were_written_again_are_told_by_rule_and_position() -> None:
    base = by("quix-key", external())
    told = replace(base.samples[0], verdict="explained", events=())
    samples = [replace(told, stream=None, kind="only_batch", causes={"pending": 0})]
    samples += [replace(told, causes={"emitted_again": 0})]
    stories = unescape(render_html(replace(base, samples=tuple(samples)))).split("Row by row")[1]
    assert "quixstreams (closing strategy key) writes a window with a later event of the same key" in stories
    (source,) = base.cut.sources
    partition, offset = min(source.end.items())
    assert f"partition {partition} before offset {offset}" in stories
    assert "a declared restart set it back" in stories
    assert "run again" not in stories.split("The events that the other engine dropped")[0]


@pytest.mark.parametrize("outcome", ["agree", "explained", "nothing_compared"])
def test_rows_of_records_that_the_job_leaves_out_are_not_judged_and_nobody_waits(outcome: Any) -> None:
    base = external()
    sample = replace(base.samples[0], verdict="input_behind", causes={}, events=())
    counts: dict[str, Any] = {"rows_behind": 2, "windows_behind": 2, "rows_unexplained": 0, "rows_explained": 0}
    if outcome != "explained":
        counts |= {"windows_different": 0, "causes": ()}
    if outcome == "nothing_compared":
        counts |= {"windows_compared": 0, "rows_compared": 0, "rows_equal": 0, "windows_equal": 0}
    plain = replace(base, outcome=outcome, exit_code=0, problems=(), notes=(), samples=(sample,), **counts)
    text = "\n".join([render_markdown(plain), *render_summary(plain, path=None)])
    assert "2 windows are not judged: the job leaves a record out that may belong there." in text
    assert "2   the batch lacks events of them" in text
    assert "the job leaves out a record that may belong to this row" in text
    assert "hold the same rows" not in text
    assert "catch up" not in text
    assert ("windows that are judged" in text) == (outcome == "agree")
    assert ("every judged difference is proven" in text) == (outcome == "explained")


def test_texts_of_the_external_side_are_harmless() -> None:
    nasty = external(place="topic \x1b[2J<script>alert(1)</script>")
    assert "<script>" not in render_html(nasty)
    assert "\x1b" not in render_html(nasty) + render_markdown(nasty)


def test_an_external_verdict_survives_its_json_and_older_reports_are_still_read(tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "report.json"
    file.write_text(render_json(external()), encoding="utf-8")
    assert read_verdict(file) == external()

    older = render_json(small(differ())).replace(',\n  "external": null', "")
    assert "external" not in older
    file.write_text(older, encoding="utf-8")
    assert read_verdict(file) == small(differ())


def test_no_report_calls_the_other_engine_a_stream() -> None:
    """But for texts of the verdict itself, which are made up here, and the sentence that says whose the stream is."""
    base = external()
    plain = replace(
        base,
        problems=(),
        notes=(),
        expectations=(),
        causes=tuple(replace(cause, proof="") for cause in base.causes),
        external=base.external and replace(base.external, out_of_reach=()),
    )
    text = "\n".join([render_markdown(plain), *render_summary(plain, path=None)])
    left = [line for line in text.splitlines() if "stream" in line.lower()]
    assert [line for line in left if not line.startswith("The job ran as a batch")] == []
    assert "Batch and the other engine differ in 96 of 368 windows" in text
