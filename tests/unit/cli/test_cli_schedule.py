"""A schedule fires by cron in UTC, never twice at once, and refuses what it cannot read."""

from __future__ import annotations

import importlib
import itertools
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from twinrun.errors import InputError

schedule: Any = importlib.import_module("twinrun.batch.schedule")
EVERY_SECOND = "* * * * * *"


def test_three_firings_one_second_apart() -> None:
    at: list[float] = []

    done = schedule.run_schedule(EVERY_SECOND, lambda: at.append(time.time()), stop=threading.Event(), max_firings=3)

    assert (done.fired, done.failed, done.refused) == (3, 0, 0)
    assert len(at) == 3
    # On a busy machine a firing may be late, and two that are late are run as one.
    assert all(later - earlier > 0.5 for earlier, later in itertools.pairwise(at))


def test_an_overlap_is_refused_and_reported() -> None:
    running, most = [0], [0]
    refused: list[int] = []

    def slow() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        deadline = time.monotonic() + 20
        while not refused and time.monotonic() < deadline:
            time.sleep(0.05)
        running[0] -= 1

    done = schedule.run_schedule(
        EVERY_SECOND, slow, stop=threading.Event(), max_firings=1, on_refused=lambda: refused.append(1)
    )

    assert done.fired == 1
    assert done.refused >= 1
    assert len(refused) == done.refused
    assert most == [1]


def test_a_firing_that_fails_does_not_end_the_schedule(capfd: pytest.CaptureFixture[str]) -> None:
    count = [0]

    def sometimes() -> None:
        count[0] += 1
        if count[0] == 1:
            raise ValueError("no")

    done = schedule.run_schedule(EVERY_SECOND, sometimes, stop=threading.Event(), max_firings=2)

    assert (done.fired, done.failed) == (2, 1)
    assert capfd.readouterr() == ("", "")


def test_stop_waits_for_the_firing_that_runs() -> None:
    stop = threading.Event()
    ended: list[bool] = []

    def firing() -> None:
        stop.set()
        time.sleep(0.3)
        ended.append(True)

    done = schedule.run_schedule(EVERY_SECOND, firing, stop=stop)

    assert ended == [True]
    assert done.fired == 1


@pytest.mark.parametrize("number", [0, 7, "sun", "SUN"])
def test_sunday_is_counted_as_in_crontab(number: Any) -> None:
    monday = datetime(2024, 1, 1, tzinfo=UTC)

    due = schedule.cron_trigger(f"30 6 * * {number}").get_next_fire_time(None, monday)

    assert due == datetime(2024, 1, 7, 6, 30, tzinfo=UTC)
    assert due.utcoffset() == timedelta(0)


def test_weekdays_are_monday_to_friday() -> None:
    trigger = schedule.cron_trigger("0 6 * * 1-5")
    friday = datetime(2024, 1, 5, 5, tzinfo=UTC)

    first = trigger.get_next_fire_time(None, friday)
    second = trigger.get_next_fire_time(first, first + timedelta(seconds=1))

    assert [first.day, second.day] == [5, 8]


@pytest.mark.parametrize(
    ("cron", "why"),
    [
        ("", "0 fields"),
        ("hourly", "1 fields"),
        ("61 * * * *", "higher than the maximum"),
        ("* * * * 9", "out of range"),
        ("* * * foo *", "foo"),
        ("0 6 1 * 1", "joins by 'or'"),
    ],
)
def test_a_bad_expression_is_refused(cron: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        schedule.cron_trigger(cron)
    with pytest.raises(InputError):
        schedule.run_schedule(cron, lambda: None, stop=threading.Event())
