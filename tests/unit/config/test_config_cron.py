"""Cron expressions: what is taken, when it comes due, what is refused with which way out, and how others read it."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.config.test_config_load import MINIMAL, refusal, written
from twinrun.config.cron import Cron, read_cron
from twinrun.config.load import load_config
from twinrun.errors import InputError

START = datetime(2024, 1, 1, tzinfo=UTC)


def due(cron: Cron, count: int, after: datetime = START) -> list[datetime]:
    found = [after]
    for _ in range(count):
        found.append(cron.next_after(found[-1]))
    return found[1:]


@pytest.mark.parametrize("number", [0, 7, "sun", "SUN"])
def test_sunday_is_counted_as_in_crontab(number: Any) -> None:
    [at] = due(read_cron(f"30 6 * * {number}"), 1)

    assert at == datetime(2024, 1, 7, 6, 30, tzinfo=UTC)
    assert at.utcoffset() == timedelta(0)


def test_weekdays_are_monday_to_friday() -> None:
    friday, monday = due(read_cron("0 6 * * 1-5"), 2, datetime(2024, 1, 5, 5, tzinfo=UTC))

    assert [friday.day, monday.day] == [5, 8]


def test_it_is_utc_whatever_zone_the_instant_is_told_in() -> None:
    from zoneinfo import ZoneInfo

    here = datetime(2024, 3, 31, 1, 30, tzinfo=ZoneInfo("Europe/Berlin"))  # half an hour before its clocks go on

    assert due(read_cron("30 * * * *"), 2, here) == [
        datetime(2024, 3, 31, 1, 30, tzinfo=UTC) - timedelta(minutes=0),
        datetime(2024, 3, 31, 2, 30, tzinfo=UTC),
    ]


def test_seconds_stand_first_where_they_are_taken() -> None:
    assert due(read_cron("30 0 * * * *", seconds=True), 2) == [
        START + timedelta(seconds=30),
        START + timedelta(hours=1, seconds=30),
    ]


def test_firings_between_two_instants_are_counted_up_to_a_thousand() -> None:
    every = read_cron("*/15 * * * *")

    assert every.between(START, START + timedelta(minutes=45)) == 3
    assert every.between(START, START + timedelta(minutes=14, seconds=59)) == 0
    assert read_cron("* * * * *").between(START, START + timedelta(days=30)) == 1_000


@pytest.mark.parametrize(
    ("cron", "why", "way_out"),
    [
        ("", "0 fields", "write five fields"),
        ("hourly", "1 field", "write '0 * * * *'"),
        ("@dayly", "1 field", "write '0 0 * * *'"),
        ("every 15 minutes", "3 fields", "write '*/15 * * * *'"),
        ("2h", "1 field", "write '0 */2 * * *'"),
        ("7 minutes", "2 fields", "what divides an hour"),
        ("5", "1 field", "write '5 * * * *'"),
        ("1 2 3 4 5 6 7", "7 fields", "write five fields"),
        ("0 5 * * * *", "6 fields", "leave out the seconds: '5 * * * *'"),
        ("61 * * * *", "minute 61 is out of range", "0 to 59"),
        ("0 24 * * *", "hour 24 is out of range", "0 to 23"),
        ("* * * * 9", "day of week 9 is out of range", "0 to 7"),
        ("* * * foo *", "month 'foo' is not known", "one of jan, feb"),
        ("0 6 * * mo", "day of week 'mo' is not known", "write mon"),
        ("*/70 * * * *", "a step of 70", "from 1 to 59"),
        ("*/0 * * * *", "a step of 0", "from 1 to 59"),
        ("0 6 1 * 1", "joins by 'or'", "for one of the two"),
        ("0 0 31 2 *", "can never occur", "correct the expression"),
        ("0 0 L * *", "day of month 'L' is not known", "1 to 31"),
        ("0 0 * * 1#2", "not of crontab", "0 to 7"),
        ("? * * * *", "not of crontab", "0 to 59"),
        ("-1 * * * *", "not of crontab", "0 to 59"),
    ],
)
def test_a_bad_expression_is_refused_with_the_nearest_way_out(cron: str, why: str, way_out: str) -> None:
    with pytest.raises(InputError) as caught:
        read_cron(cron)
    assert why in caught.value.found
    assert way_out in caught.value.fix
    assert "\n" not in caught.value.found


def test_the_configuration_refuses_a_schedule_with_its_file_and_line(tmp_path: Path) -> None:
    text = "jobs:\n  one:\n    path: jobs/one.py\n    schedule: hourly\n"
    told = refusal(written(tmp_path, MINIMAL + text))

    assert "here.yaml line 9: the schedule 'hourly' cannot be used: it has 1 field;" in told
    assert told.endswith("to fix: write '0 * * * *'")


def test_a_star_without_quotes_is_told_in_words(tmp_path: Path) -> None:
    text = "jobs:\n  one:\n    path: jobs/one.py\n    schedule: */15 * * * *\n"

    assert "put a value that begins with * or & in quotes" in refusal(written(tmp_path, MINIMAL + text))
    assert "in quotes" in refusal(written(tmp_path, MINIMAL + text.replace("*/15 * * * *", "*every")))


def test_a_schedule_is_kept_as_it_was_written(tmp_path: Path) -> None:
    text = "jobs:\n  one:\n    path: jobs/one.py\n    schedule: '*/15 * * * *'\n  two:\n    path: jobs/two.py\n"
    cfg = load_config(written(tmp_path, MINIMAL + text), (), {})

    assert [cfg.jobs[name].schedule for name in ("one", "two")] == ["*/15 * * * *", None]


def _fields(low: int, high: int) -> st.SearchStrategy[str]:
    one = st.integers(low, high).map(str)
    span = st.tuples(st.integers(low, high), st.integers(low, high)).map(lambda ab: f"{min(ab)}-{max(ab)}")
    step = st.integers(1, high).map(lambda n: f"*/{n}")
    listed = st.lists(st.one_of(one, span), min_size=1, max_size=3).map(",".join)
    return st.one_of(st.just("*"), listed, step)


_ANY_DAY = st.tuples(_fields(1, 28), _fields(1, 12), st.just("*"))
_ANY_WEEKDAY = st.tuples(st.just("*"), _fields(1, 12), _fields(0, 7))
EXPRESSIONS = st.tuples(_fields(0, 59), _fields(0, 23), st.one_of(_ANY_DAY, _ANY_WEEKDAY)).map(
    lambda parts: " ".join([parts[0], parts[1], *parts[2]])
)


@given(EXPRESSIONS)
@settings(max_examples=60, deadline=None)
def test_what_is_written_for_others_comes_due_at_the_same_instants(text: str) -> None:
    cron = read_cron(text)
    library = croniter(text, START)

    assert due(cron, 20) == [library.get_next(datetime) for _ in range(20)]
    assert due(read_cron(cron.plain), 20) == due(cron, 20)


@pytest.mark.parametrize(
    ("text", "plain", "calendar"),
    [
        ("*/15 * * * *", "*/15 * * * *", "*-*-* *:00,15,30,45:00 UTC"),
        ("5 6-8 * * mon-fri", "5 6-8 * * 1-5", "Mon,Tue,Wed,Thu,Fri *-*-* 06,07,08:05:00 UTC"),
        ("0 0 1,15 jan,jul *", "0 0 1,15 1,7 *", "*-01,07-01,15 00:00:00 UTC"),
        ("0 0 * * 5-7", "0 0 * * 0,5-6", "Sun,Fri,Sat *-*-* 00:00:00 UTC"),
    ],
)
def test_others_get_numbers_ranges_and_steps_only(text: str, plain: str, calendar: str) -> None:
    cron = read_cron(text)

    assert (cron.plain, cron.calendar) == (plain, calendar)


@pytest.mark.slow
def test_systemd_reads_the_calendar_as_cron_reads_the_expression(capsys: pytest.CaptureFixture[str]) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        with capsys.disabled():
            print("\nsystemd-analyze is not on this machine: the calendar was held against texts only")
        return
    at = datetime.now(UTC)
    for text in ("*/15 * * * *", "5 6-8 * * mon-fri", "0 0 1,15 jan,jul *", "0 0 * * 5-7", "7 */5 */9 * *"):
        cron = read_cron(text)
        done = subprocess.run(
            [program, "calendar", "--iterations=12", cron.calendar], capture_output=True, text=True, check=True
        )
        lines = [line for line in done.stdout.splitlines() if "Next elapse:" in line or "Iter" in line]
        found = [
            datetime.strptime(" ".join(line.split()[-3:-1]), "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC) for line in lines
        ]
        assert found == due(cron, 12, at), text
        assert all(later > earlier for earlier, later in itertools.pairwise(found))
