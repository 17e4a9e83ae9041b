"""The handful of counts that every report leads with, worked out once."""

from __future__ import annotations

from dataclasses import dataclass

from twinrun.results.causes import EXPECTED_CAUSES
from twinrun.results.verdict import CauseCount, Verdict

NOT_A_CAUSE = ("pending", "unexplained")
"""Names that may stand among the causes but have a figure of their own."""


@dataclass(frozen=True)
class Figures:
    """Counts that add up: compared = equal + explained + unexplained. ``unit`` says what is counted.

    ``pending`` and ``behind`` are left out of them: not closed by the stream, not read by the batch.
    ``events_stream`` is None where another engine wrote the result and no offsets are declared.
    """

    unit: str
    compared: int
    equal: int
    explained: int
    unexplained: int
    pending: int
    events_batch: int
    events_stream: int | None
    behind: int = 0

    @property
    def different(self) -> int:
        """What is compared and not equal."""
        return self.explained + self.unexplained


def figures(verdict: Verdict) -> Figures:
    """Count in windows where the verdict tells how many of them are unexplained, else in result rows."""
    events_batch = sum(source.events_batch for source in verdict.cut.sources)
    events_stream: int | None = sum(source.events_in_cut for source in verdict.cut.sources)
    if verdict.external is not None and not verdict.external.offsets_declared:
        events_stream = None
    unexplained = _windows_unexplained(verdict)
    if unexplained is None:
        # Rows that a replay found waiting stand among the explained ones; here they are what they are.
        waits = verdict.window_ms is None
        waiting = sum(cause.rows for cause in verdict.causes if waits and cause.cause == "pending")
        return Figures(
            "row",
            verdict.rows_compared - waiting,
            verdict.rows_equal,
            verdict.rows_explained - waiting,
            verdict.rows_unexplained,
            verdict.rows_pending + waiting,
            events_batch,
            events_stream,
            verdict.rows_behind,
        )
    return Figures(
        "window",
        verdict.windows_compared,
        verdict.windows_equal,
        verdict.windows_different - unexplained,
        unexplained,
        verdict.windows_pending,
        events_batch,
        events_stream,
        verdict.windows_behind,
    )


def _windows_unexplained(verdict: Verdict) -> int | None:
    """Windows with an unexplained row, or None where the verdict does not tell or has no windows."""
    if verdict.window_ms is None or not verdict.windows_compared + verdict.windows_pending + verdict.windows_behind:
        return None
    if not verdict.rows_unexplained:
        return 0
    for cause in verdict.causes:
        if cause.cause == "unexplained":
            return cause.windows
    one_row_each = verdict.windows_different == verdict.rows_explained + verdict.rows_unexplained
    if one_row_each and verdict.windows_compared == verdict.rows_compared:
        return verdict.rows_unexplained
    differing = [point for point in verdict.timeline if point.explained + point.unexplained]
    if len(differing) == verdict.windows_different:
        return sum(1 for point in differing if point.unexplained)
    return None


def causes(verdict: Verdict) -> list[CauseCount]:
    """The causes of differences: those that nobody should have to expect first, then the one with most rows."""
    real = [cause for cause in verdict.causes if cause.cause not in NOT_A_CAUSE]
    return sorted(real, key=lambda cause: (cause.cause in EXPECTED_CAUSES, -cause.rows, cause.cause))


def unexpected(verdict: Verdict) -> list[CauseCount]:
    """The causes that make a verify fail, the one with most rows first."""
    return [cause for cause in causes(verdict) if cause.cause not in EXPECTED_CAUSES]
