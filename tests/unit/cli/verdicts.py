"""A small verdict made by hand."""

from __future__ import annotations

from typing import Any

from twinrun.results.ledger import CauseHistory, History, VerifyPoint, WindowHistory, trend_of
from twinrun.results.verdict import (
    Audit,
    BlamedEvent,
    CauseCount,
    Cut,
    ExpectationResult,
    LateEvent,
    MicroBatchPoint,
    QuarantineCount,
    RowSample,
    SourceCut,
    Verdict,
    WindowPoint,
)

HOUR_MS = 3_600_000
SOURCE = SourceCut("orders", "orders", {0: 0}, {0: 60}, {0: 60}, {0: 60}, {0: 60}, 60, 60)
CUT = Cut(
    "first_job", 6, 4 * HOUR_MS, "q", "b", 1, "s", 7, {}, {}, (SOURCE,), 1_700_000_000_000
)  # fmt: skip
LATE = LateEvent(
    {"order_id": "o015"}, "orders", 0, 40, HOUR_MS, 3 * HOUR_MS, HOUR_MS, 2 * HOUR_MS, 2 * HOUR_MS, 4, 60_000
)
SAMPLE = RowSample(
    {"shop": "north"},
    HOUR_MS,
    "changed",
    ("orders",),
    {"orders": 3},
    {"orders": 2},
    "explained",
    {"late_dropped": 1},
    events=(
        BlamedEvent(
            cause="late_dropped",
            id=LATE.id,
            source="orders",
            topic=LATE.topic,
            partition=LATE.partition,
            offset=LATE.offset,
            event_time_ms=LATE.event_time_ms,
            known_at_ms=LATE.known_at_ms,
            micro_batch=LATE.micro_batch,
            watermark_ms=LATE.watermark_ms,
            end_ms=LATE.window_end_ms,
            late_ms=LATE.late_ms,
        ),
    ),
)
POINT = VerifyPoint("v", 1_700_000_000_000, 6, 4 * HOUR_MS, 7, 1, {"equal": 3, "explained": 1}, 4, 3, 1, 0, 0)
HISTORY = History(
    job="first_job",
    since_ms=None,
    verifies_total=1,
    windows_total=1,
    verifies=(POINT,),
    causes=(CauseHistory("late_dropped", 1, 1, 1, POINT.at_ms, POINT.at_ms, trend_of([1]), (1,)),),
    windows=(WindowHistory(HOUR_MS, POINT.at_ms, POINT.at_ms, 1, "explained", 1, {"late_dropped": 1}, True),),
    differs_since_ms=POINT.at_ms,
    min_completeness=0.5,
)


def verdict(**changes: Any) -> Verdict:
    values: dict[str, Any] = {
        "job": "first_job",
        "outcome": "explained",
        "exit_code": 0,
        "problems": (),
        "notes": (),
        "cut": CUT,
        "keys": ("shop", "window_start"),
        "shape": "tumbling",
        "window_ms": HOUR_MS,
        "lateness_ms": HOUR_MS // 2,
        "rows_batch": 8,
        "rows_stream": 8,
        "rows_compared": 8,
        "rows_equal": 7,
        "rows_explained": 1,
        "rows_unexplained": 0,
        "windows_compared": 4,
        "windows_equal": 3,
        "windows_different": 1,
        "windows_pending": 1,
        "rows_pending": 2,
        "schema_differences": (),
        "causes": (CauseCount("late_dropped", 1, 1, 1, "recomputed"),),
        "late_events": (LATE,),
        "samples": (SAMPLE,),
        "timeline": (WindowPoint(HOUR_MS, 1, 1, 0, 0),),
        "micro_batches": (MicroBatchPoint(0, 10, 0, HOUR_MS, 1, None),),
        "quarantine": (QuarantineCount("orders", "not_json", 1, "orders partition 0 offset 3", "broken"),),
        "audits": (Audit("orders", 60, 59, 1, 0, 0, False, True, ""),),
        "expectations": (ExpectationResult("batch", "rows", True, "8"),),
        "stream_lag_events": 0,
        "stream_age_ms": 1000,
        "duration_ms": 2000,
        "history": HISTORY,
    }
    return Verdict(**{**values, **changes})
