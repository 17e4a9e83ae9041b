"""A ledger's history and the blamed events of rows, made by arithmetic."""

from __future__ import annotations

from factory_parts import HOUR, START_MS

from twinrun.results.ledger import CauseHistory, History, VerifyPoint, WindowHistory, differs_since, trend_of
from twinrun.results.verdict import BlamedEvent, RowSample

DAY = 24 * HOUR
VERIFIED_MS = 1_763_000_000_000


def make_history(verifies: int, min_completeness: float | None = None, unexplained: int = 0) -> History:
    """One verify a day; the last ones have ``unexplained`` rows, and two causes come and go."""
    late = [90 + (place * 7) % 5 for place in range(verifies)]
    refused = [4 if place > verifies // 2 else 0 for place in range(verifies)]
    points = tuple(
        VerifyPoint(
            verify_id=f"verify-{place}",
            at_ms=VERIFIED_MS + place * DAY,
            micro_batch=80 + place,
            watermark_ms=START_MS + place * DAY,
            stream_version=place,
            batch_version=place,
            windows={"equal": 270, "explained": late[place]},
            rows_compared=368,
            rows_equal=368 - late[place] - (unexplained if place >= verifies - 2 else 0),
            rows_explained=late[place],
            rows_unexplained=unexplained if place >= verifies - 2 else 0,
            rows_pending=5,
        )
        for place in range(verifies)
    )
    causes = tuple(
        CauseHistory(
            cause=name,
            rows_now=rows[-1],
            windows_now=rows[-1],
            verifies=sum(1 for count in rows if count),
            first_seen_ms=VERIFIED_MS + DAY * next(place for place, count in enumerate(rows) if count),
            last_seen_ms=points[-1].at_ms,
            trend=trend_of(rows),
            rows=tuple(rows),
        )
        for name, rows in (("late_dropped", late), ("quarantined", refused))
        if any(rows)
    )
    windows = tuple(
        WindowHistory(
            window_start_ms=START_MS + place * 5 * HOUR,
            first_seen_ms=points[0].at_ms,
            last_seen_ms=points[-1].at_ms,
            verifies=verifies,
            verdict="explained",
            rows=1,
            causes={"late_dropped": 1 + place % 3},
            still=place < 3,
        )
        for place in range(4)
    )
    return History(
        job="departures_per_hour",
        since_ms=None,
        verifies_total=verifies,
        windows_total=96,
        verifies=points,
        causes=causes,
        windows=windows,
        differs_since_ms=differs_since(points),
        min_completeness=min_completeness,
    )


def make_blamed(sample: RowSample, count: int, cause: str = "late_dropped") -> tuple[BlamedEvent, ...]:
    """Events that a row blames, the latest first; those of other causes were never judged by a watermark."""
    start_ms = sample.window_start_ms or START_MS
    end_ms = start_ms + HOUR
    late = cause == "late_dropped"
    return tuple(
        BlamedEvent(
            cause=cause,
            id={"flight_id": f"UA{2000 + place}-{sample.key.get('origin', 'EWR')}"},
            source="flights",
            topic="flights",
            partition=place % 3,
            offset=700 + place,
            event_time_ms=start_ms + (7 + place) * 60_000,
            known_at_ms=end_ms + (150 - place) * 60_000,
            micro_batch=20 if late else None,
            watermark_ms=end_ms + (123 - place) * 60_000 if late else None,
            end_ms=end_ms if late else None,
            late_ms=(123 - place) * 60_000 if late else None,
        )
        for place in range(count)
    )
