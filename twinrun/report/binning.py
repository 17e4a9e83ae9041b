"""Thousands of windows or micro-batches, added up into few enough bars and points to be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from twinrun.report.cells import moment
from twinrun.results.verdict import MicroBatchPoint, WindowPoint

_HOUR = 3_600_000
_DAY = 24 * _HOUR
_NICE_MS = (
    *(1, 10, 100, 1_000, 5_000, 10_000, 30_000),
    *(60_000 * minutes for minutes in (1, 2, 5, 10, 15, 30)),
    *(_HOUR * hours for hours in (1, 2, 3, 4, 6, 8, 12)),
    *(_DAY * days for days in (1, 2, 7, 14, 28, 91, 182, 364)),
)


@dataclass(frozen=True)
class WindowBins:
    """Windows added up: every bin is ``width_ms`` wide; ``windows`` went in, ``left_out`` have no real date."""

    bins: tuple[WindowPoint, ...]
    width_ms: int
    windows: int
    left_out: int

    @property
    def aggregated(self) -> bool:
        """Whether some bin holds more than one window start."""
        return len(self.bins) < self.windows


@dataclass(frozen=True)
class Progress:
    """Neighbouring micro-batches added up; instants are UTC milliseconds, null where there is none."""

    first: int
    last: int
    events: int
    watermark_ms: int | None
    newest_event_ms: int | None
    duration_ms: int


def bin_windows(timeline: Sequence[WindowPoint], limit: int) -> WindowBins:
    """Add the windows up into at most ``limit`` bins of equal width, in order of time; empty bins are absent."""
    points = sorted(
        (point for point in timeline if moment(point.window_start_ms) and moment(point.window_start_ms + _DAY)),
        key=lambda point: point.window_start_ms,
    )
    starts = sorted({point.window_start_ms for point in points})
    width_ms = _width_ms(starts, limit)
    sums: dict[int, list[int]] = {}
    for point in points:
        total = sums.setdefault(point.window_start_ms // width_ms * width_ms, [0] * 5)
        for place, rows in enumerate((point.equal, point.explained, point.unexplained, point.pending, point.behind)):
            total[place] += rows
    bins = tuple(WindowPoint(start, *sums[start]) for start in sorted(sums))
    return WindowBins(bins, width_ms, len(starts), len(timeline) - len(points))


def _width_ms(starts: Sequence[int], limit: int) -> int:
    if len(starts) < 2:
        return _HOUR
    gap = min(after - before for before, after in pairwise(starts))
    # a bin must hold whole steps, or neighbouring bins would get different shares of the same data
    steps = [width for width in _NICE_MS if width >= gap and (width % gap == 0 or _DAY % gap)]
    for width in (gap, *steps) if _DAY % gap == 0 else steps:
        if _bins_needed(starts, width) <= limit:
            return width
    return gap * -(-(starts[-1] - starts[0] + gap) // (gap * max(limit - 1, 1)))


def _bins_needed(starts: Sequence[int], width: int) -> int:
    return starts[-1] // width - starts[0] // width + 1


def bin_progress(points: Sequence[MicroBatchPoint], limit: int) -> tuple[Progress, ...]:
    """Add neighbouring micro-batches up into at most ``limit`` groups, in order of the micro-batch number."""
    ordered = sorted(points, key=lambda point: point.micro_batch)
    size = max(-(-len(ordered) // limit), 1)
    return tuple(_group(ordered[at : at + size]) for at in range(0, len(ordered), size))


def _group(points: Sequence[MicroBatchPoint]) -> Progress:
    newest = [point.newest_event_ms for point in points if point.newest_event_ms is not None]
    watermark = max(point.watermark_ms for point in points)
    return Progress(
        first=points[0].micro_batch,
        last=points[-1].micro_batch,
        events=sum(point.events for point in points),
        # Spark holds 0 until the first watermark; it is no instant
        watermark_ms=watermark if watermark > 0 else None,
        newest_event_ms=max(newest) if newest else None,
        duration_ms=sum(point.duration_ms or 0 for point in points),
    )
