"""Verdicts as the flights demo gives them, and the other outcomes; made by arithmetic, always the same."""

from __future__ import annotations

import random
from dataclasses import fields, replace
from typing import Any

from factory_parts import (
    HOUR,
    START_MS,
    make_cut,
    make_late,
    make_micro_batches,
    make_sample,
    make_timeline,
    with_explained,
)
from factory_past import make_blamed, make_history

from twinrun.results.verdict import (
    Audit,
    CauseCount,
    ExpectationResult,
    QuarantineCount,
    RowSample,
    Verdict,
    WindowPoint,
)

PROOF = (
    "The batch, recomputed without these 337 events, gives exactly the stream's rows: 96 rows of 96 windows are equal."
)


def explained() -> Verdict:
    """The demo: 6,118 events, 368 closed windows, 96 of them explained by 337 dropped events."""
    dice = random.Random(20130106)
    timeline = make_timeline(dice)
    return Verdict(
        job="departures_per_hour",
        outcome="explained",
        exit_code=0,
        problems=(),
        notes=(
            "With a day of flights per micro-batch the stream drops none: small micro-batches move the watermark on.",
        ),
        cut=make_cut(),
        keys=("origin", "window_start"),
        shape="tumbling",
        window_ms=HOUR,
        lateness_ms=HOUR,
        rows_batch=373,
        rows_stream=368,
        rows_compared=368,
        rows_equal=272,
        rows_explained=96,
        rows_unexplained=0,
        windows_compared=368,
        windows_equal=272,
        windows_different=96,
        windows_pending=5,
        rows_pending=5,
        schema_differences=(),
        causes=(
            CauseCount("late_dropped", 96, 96, 337, PROOF),
            CauseCount("pending", 5, 5, None, "Their windows end after the watermark 2013-01-13 02:59 at the cut."),
        ),
        late_events=tuple(make_late(place, dice) for place in range(100)),
        samples=tuple(named(make_sample(place)) for place in range(12)),
        timeline=timeline,
        micro_batches=make_micro_batches(dice),
        quarantine=(),
        audits=(Audit("flights", 6118, 6118, 0, 0, 0, False, True, ""),),
        expectations=(
            ExpectationResult("batch", "expect_column_values_to_not_be_null(origin)", True, "0 of 373 are null"),
            ExpectationResult("stream", "expect_column_values_to_not_be_null(origin)", True, "0 of 368 are null"),
        ),
        stream_lag_events=0,
        stream_age_ms=41_000,
        duration_ms=8_412,
        history=make_history(12),
    )


def named(sample: RowSample) -> RowSample:
    """The row with the events that it blames."""
    return replace(sample, events=make_blamed(sample, sample.causes["late_dropped"]))


def agree() -> Verdict:
    """Everything is equal."""
    base = explained()
    timeline = tuple(replace(point, equal=point.equal + point.explained, explained=0) for point in base.timeline)
    return replace(
        base,
        outcome="agree",
        rows_equal=368,
        rows_explained=0,
        windows_equal=368,
        windows_different=0,
        causes=base.causes[1:],
        late_events=(),
        samples=(),
        timeline=timeline,
        notes=(),
        history=make_history(1),
    )


def differ() -> Verdict:
    """Four rows have no proven cause, events are in quarantine, an expectation failed."""
    base = explained()
    timeline = tuple(
        replace(point, explained=point.explained - 1, unexplained=1) if place in with_explained(base)[:4] else point
        for place, point in enumerate(base.timeline)
    )
    wrong = replace(base.samples[0], verdict="unexplained", causes={}, events=())
    missing = replace(
        base.samples[1], stream=None, kind="only_batch", columns=(), verdict="unexplained", causes={}, events=()
    )
    both = base.samples[2]
    both = replace(
        both,
        causes={"late_dropped": 7, "quarantined": 1},
        events=(*make_blamed(both, 5), *make_blamed(both, 1, "quarantined")),
    )
    return replace(
        base,
        outcome="differ",
        exit_code=1,
        problems=(
            "4 rows differ without a proven cause (limit: 0).",
            "1 expectation failed on the stream's table: expect_column_values_to_be_between(flights).",
        ),
        rows_explained=92,
        rows_unexplained=4,
        causes=(
            CauseCount(
                "late_dropped", 88, 88, 301, "The batch without these events gives the stream's rows in 88 windows."
            ),
            CauseCount(
                "quarantined", 4, 4, 9, "The batch without the coordinates in quarantine gives the stream's rows."
            ),
            base.causes[1],
        ),
        samples=(wrong, both, missing, *base.samples[3:]),
        timeline=timeline,
        quarantine=(
            QuarantineCount("flights", "not_json", 6, "flights-1@772", "the value is not a JSON object"),
            QuarantineCount("flights", "event_time_ahead", 3, "flights-0@90", "event time is 25 h after the record's"),
        ),
        audits=(Audit("flights", 6127, 6118, 9, 0, 0, False, True, "broker marks agree"),),
        expectations=(
            *base.expectations,
            ExpectationResult("stream", "expect_column_values_to_be_between(flights, 1, 40)", False, "1 of 368 is 0"),
        ),
        history=make_history(30, min_completeness=0.76, unexplained=4),
    )


def stale() -> Verdict:
    """The stream stopped while a further day of flights arrived."""
    base = explained()
    source = replace(
        base.cut.sources[0], broker_end={0: 2399, 1: 2301, 2: 2330}, bronze_end={0: 2399, 1: 2301, 2: 2330}
    )
    return replace(
        base,
        outcome="stale",
        exit_code=1,
        problems=(
            "The stream is 912 events behind (max_lag: 500), its last micro-batch 2 h 5 min old (max_age: 10 min).",
        ),
        cut=replace(base.cut, sources=(source,)),
        stream_lag_events=912,
        stream_age_ms=2 * HOUR + 300_000,
    )


def nothing_compared() -> Verdict:
    """Both tables exist, no window is closed."""
    base = empty()
    return replace(
        base,
        micro_batches=explained().micro_batches[:2],
        windows_pending=5,
        rows_pending=5,
        rows_batch=5,
        timeline=(WindowPoint(START_MS, 0, 0, 0, 5),),
    )


def empty() -> Verdict:
    """Nothing at all: every section must say so."""
    none: dict[str, Any] = {
        field.name: () if field.type.startswith("tuple") else 0
        for field in fields(Verdict)
        if field.name.startswith(("rows_", "windows_"))
        or field.name in ("schema_differences", "causes", "late_events", "samples", "timeline", "micro_batches")
        or field.name in ("quarantine", "audits", "expectations", "notes")
    }
    cut = replace(make_cut(), sources=(), watermark_ms=None, batch_static={}, stream_static={})
    return replace(
        explained(),
        **none,
        outcome="nothing_compared",
        exit_code=1,
        problems=("No window is closed in the stream's table, so nothing could be compared.",),
        cut=cut,
        stream_lag_events=None,
        stream_age_ms=None,
        history=None,
    )
