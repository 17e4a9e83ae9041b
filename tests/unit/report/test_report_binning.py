"""Adding windows and micro-batches up loses no row and no event, and keeps within the limit."""

from __future__ import annotations

import pytest
from factory import explained
from factory_parts import DAY, HOUR, START_MS
from hypothesis import given
from hypothesis import strategies as st

from twinrun.report.binning import bin_progress, bin_windows
from twinrun.results.verdict import MicroBatchPoint, WindowPoint

MINUTE = 60_000


def windows(count: int, step: int) -> list[WindowPoint]:
    return [WindowPoint(START_MS + place * step, 3, 1, place % 2, 0) for place in range(count)]


@pytest.mark.parametrize(
    ("count", "step", "width"),
    [
        (168, HOUR, HOUR),
        (8760, HOUR, 2 * DAY),
        (10_000, MINUTE, HOUR),
        (1_000, 10 * MINUTE, HOUR),
        (800, 90 * MINUTE, 6 * HOUR),
        (1, HOUR, HOUR),
    ],
)
def test_width(count: int, step: int, width: int) -> None:
    binned = bin_windows(windows(count, step), 200)
    assert len(binned.bins) <= 200
    assert binned.windows == count
    assert binned.width_ms == width
    assert binned.width_ms % step == 0


@given(st.lists(st.integers(-(10**13), 10**13), max_size=80), st.integers(2, 50))
def test_no_row_is_lost_and_no_limit_passed(starts: list[int], limit: int) -> None:
    points = [WindowPoint(start, 1, 2, 3, 4) for start in starts]
    binned = bin_windows(points, limit)
    assert sum(point.equal for point in binned.bins) == len(points)
    assert sum(point.pending for point in binned.bins) == 4 * len(points)
    assert len(binned.bins) <= limit
    assert all(point.window_start_ms % binned.width_ms == 0 for point in binned.bins)


def test_windows_without_a_date_are_counted_apart() -> None:
    binned = bin_windows([WindowPoint(2**62, 1, 0, 0, 0), *windows(2, HOUR)], 200)
    assert (binned.left_out, len(binned.bins)) == (1, 2)


@given(st.integers(0, 1000), st.integers(1, 60))
def test_no_event_is_lost(count: int, limit: int) -> None:
    points = [MicroBatchPoint(place, place, 0, None, 0, None) for place in range(count)]
    groups = bin_progress(points, limit)
    assert len(groups) <= limit
    assert sum(group.events for group in groups) == sum(range(count))
    assert all(group.watermark_ms is None and group.newest_event_ms is None for group in groups)


def test_groups_keep_the_latest_instants() -> None:
    points = explained().micro_batches
    groups = bin_progress(points, 10)
    assert groups[0].first == 0
    assert groups[-1].last == points[-1].micro_batch
    assert max(group.watermark_ms or 0 for group in groups) == max(point.watermark_ms for point in points)
