"""The pure parts of a history: trend, since when, and how both are written."""

from __future__ import annotations

from dataclasses import replace

import pytest

from twinrun.cli.history import history_lines, since_instant_ms
from twinrun.errors import InputError
from twinrun.report.history import history_section, percent
from twinrun.results.ledger import CauseHistory, History, Trend, VerifyPoint, WindowHistory, differs_since, trend_of

DAY_MS = 86_400_000
HOUR_MS = 3_600_000


def point(day: int, different: int, compared: int = 1000, unexplained: int = 0) -> VerifyPoint:
    return VerifyPoint(
        verify_id=f"v{day}",
        at_ms=day * DAY_MS,
        micro_batch=day,
        watermark_ms=None,
        stream_version=day,
        batch_version=day,
        windows={"equal": compared - different, "explained": different},
        rows_compared=compared,
        rows_equal=compared - different,
        rows_explained=different - unexplained,
        rows_unexplained=unexplained,
        rows_pending=0,
    )


def made(*points: VerifyPoint) -> History:
    cause = CauseHistory("late_dropped", 3, 2, 2, points[0].at_ms, points[-1].at_ms, trend_of([1, 3]))
    window = WindowHistory(HOUR_MS, points[0].at_ms, points[-1].at_ms, 2, "explained", 1, {"late_dropped": 4}, True)
    return History("job", None, len(points), 1, points, (cause,), (window,), differs_since(points))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], Trend("unknown", 0, 0.0, None)),
        ([7], Trend("unknown", 1, 7.0, None)),
        ([0, 0], Trend("steady", 1, 0.0, 0.0)),
        ([0, 4], Trend("new", 1, 4.0, 0.0)),
        ([4, 0], Trend("gone", 1, 0.0, 4.0)),
        ([1, 1, 5, 0], Trend("gone", 2, 2.5, 1.0)),
        ([0, 0, 5, 0], Trend("gone", 2, 2.5, 0.0)),
        ([100, 110], Trend("steady", 1, 110.0, 100.0)),
        ([100, 111], Trend("rising", 1, 111.0, 100.0)),
        ([100, 89], Trend("falling", 1, 89.0, 100.0)),
        ([2, 2, 4, 4], Trend("rising", 2, 4.0, 2.0)),
        ([1] * 15 + [1, 1, 1, 1, 6], Trend("rising", 5, 2.0, 1.0)),
    ],
)
def test_a_trend_sets_the_last_verifies_against_those_before(rows: list[int], expected: Trend) -> None:
    assert trend_of(rows) == expected


@pytest.mark.parametrize(
    ("different", "since"),
    [([0, 0], None), ([1, 0], None), ([0, 1], 1), ([1, 1], 0), ([1, 0, 1, 1], 2)],
)
def test_since_when_goes_back_to_the_last_verify_without_a_difference(different: list[int], since: int | None) -> None:
    points = tuple(point(day, count) for day, count in enumerate(different))
    assert differs_since(points) == (None if since is None else since * DAY_MS)


def test_nothing_compared_is_not_complete_and_does_not_differ() -> None:
    empty = point(1, 0, compared=0)
    assert (empty.completeness, empty.differs) == (None, False)


@pytest.mark.parametrize(
    ("share", "text"), [(None, "–"), (1.0, "100 %"), (0.9999999, "99.999 %"), (0.999, "99.900 %"), (0.0, "0.000 %")]
)
def test_a_share_is_never_rounded_up_to_all(share: float | None, text: str) -> None:
    assert percent(share).replace("\u202f", " ") == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-02", DAY_MS),
        ("1970-01-02T00:00:00Z", DAY_MS),
        ("1970-01-02T01:00:00+01:00", DAY_MS),
    ],
)
def test_since_is_a_day_or_a_time_with_its_zone(text: str, expected: int) -> None:
    assert since_instant_ms(text) == expected


@pytest.mark.parametrize("text", ["1970-01-02T00:00:00", "yesterday", "1970-13-01", ""])
def test_another_since_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--since"):
        since_instant_ms(text)


def test_the_lines_are_newest_first_and_few() -> None:
    lines = history_lines(made(*[point(day, day) for day in range(30)]))
    assert lines[0] == "job: 30 verifies, the results differ since 1970-01-02 00:00 UTC"
    verified = [line.split()[0] for line in lines if line.startswith("  1970")]
    assert verified[:10] == [f"1970-01-{day}" for day in range(30, 20, -1)]
    assert len(lines) < 25


def test_the_section_has_every_count_and_shows_hostile_names_as_text() -> None:
    found = made(point(1, 5), point(2, 5, unexplained=1))
    hostile = replace(found, causes=(replace(found.causes[0], cause="\x1b[2J" + "x" * 10_000),))
    section = history_section(hostile, HOUR_MS)
    texts = [cell.text for grid in section.grids for line in grid.rows for cell in line]
    assert "99.500\u202f%" in texts
    assert "1970-01-01 01:00–02:00" in texts
    assert not any("\x1b" in text or len(text) > 200 for text in texts)
    unexplained = [line[5] for line in section.grids[0].rows]
    assert [(cell.text, cell.tone) for cell in unexplained] == [("1", "bad"), ("0", "")]


def test_without_windows_there_is_no_table_of_them() -> None:
    assert len(history_section(made(point(1, 1)), None).grids) == 2
