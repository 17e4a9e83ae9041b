"""Cron expressions as crontab has them, in UTC: read, refused in plain words, written out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from croniter import CroniterError, croniter

from twinrun.config.problems import nearest
from twinrun.errors import InputError
from twinrun.wording import plural

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MOST_COUNTED = 1_000
EXPECTED = "minute, hour, day of month, month, day of week, such as '*/15 * * * *' (UTC)"


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()


_SECOND = _Field("second", 0, 59)
_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _DAYS),
)
_NAMED = {
    "hourly": "0 * * * *",
    "daily": "0 0 * * *",
    "midnight": "0 0 * * *",
    "nightly": "0 0 * * *",
    "weekly": "0 0 * * 0",
    "monthly": "0 0 1 * *",
    "yearly": "0 0 1 1 *",
    "annually": "0 0 1 1 *",
}
_EVERY = re.compile(r"(?:every )?(\d*) ?(m|min|minutes?|h|hours?|d|days?)")
_PART = re.compile(r"(\*|\w+)(?:-(\w+))?(?:/(\w+))?")


@dataclass(frozen=True)
class Cron:
    """A cron expression that was read by `read_cron`.

    Attributes
    ----------
    text : str
        As it was written, with single spaces.
    values : tuple of (tuple of int or None)
        For minute, hour, day of month, month and day of week (0 is Sunday) when it comes due; None: at each.
    seconds : bool
        Whether the text has a sixth field, seconds, in front.
    """

    text: str
    values: tuple[tuple[int, ...] | None, ...]
    seconds: bool = False

    def next_after(self, at: datetime) -> datetime:
        """The first instant after ``at`` (aware) at which it comes due, in UTC."""
        found: datetime = self._from(at).get_next(datetime)
        return found

    def between(self, after: datetime, until: datetime) -> int:
        """How often it comes due after one instant and up to another; no more than a thousand are counted."""
        coming, count = self._from(after), 0
        while count < _MOST_COUNTED and coming.get_next(datetime) <= until:
            count += 1
        return count

    @property
    def plain(self) -> str:
        """The five fields in what every scheduler reads alike: numbers, ranges and steps behind a star."""
        fields = zip(self.text.split()[-5:], self.values, strict=True)
        return " ".join(_plain(written, values) for written, values in fields)

    @property
    def calendar(self) -> str:
        """The same as an ``OnCalendar`` of systemd."""
        minute, hour, day, month, weekday = self.values
        days = "" if weekday is None else ",".join(_DAYS[number].capitalize() for number in weekday) + " "
        date, time = (_padded(month), _padded(day)), (_padded(hour), _padded(minute))
        return f"{days}*-{'-'.join(date)} {':'.join(time)}:00 UTC"

    def _from(self, at: datetime) -> croniter:
        return croniter(self.text, at.astimezone(UTC), second_at_beginning=self.seconds)


def read_cron(text: str, *, seconds: bool = False) -> Cron:
    """Read a cron expression: five fields of numbers, ``*``, lists, ranges, steps, and names of months and weekdays.

    Days of the week are counted as in crontab: 0 and 7 are Sunday.

    Parameters
    ----------
    seconds : bool
        Six fields with seconds first are taken too.

    Raises
    ------
    InputError
        It cannot be read; it never comes due; a step is longer than what it counts in; or it gives both a day of month
        and a day of week, which crontab joins by "or" and other schedulers by "and". With the nearest that can be used.
    """
    fields = text.split()
    if len(fields) not in ((5, 6) if seconds else (5,)):
        raise _refused(text, f"it has {plural(len(fields), 'field')}", _nearest_text(text, fields))
    for written, field in zip(fields, _fields(fields), strict=True):
        _check(text, written, field)
    if fields[-3] != "*" and fields[-1] != "*":
        raise _refused(
            text, "it gives a day of month and a day of week, which cron joins by 'or'", "write * for one of the two"
        )
    joined = " ".join(fields)
    try:
        expanded = croniter.expand(joined, second_at_beginning=len(fields) == 6, strict=True)[0]
    except CroniterError as error:
        raise _refused(text, _reason(error), "correct the expression") from None
    # It puts the seconds last, wherever they stood.
    values = tuple(None if found == ["*"] else tuple(int(each) for each in found) for found in expanded[:5])
    return Cron(joined, values, len(fields) == 6)


def _fields(fields: Sequence[str]) -> tuple[_Field, ...]:
    return _FIELDS if len(fields) == 5 else (_SECOND, *_FIELDS)


def _check(text: str, written: str, field: _Field) -> None:
    takes = f"{field.name} takes {field.low} to {field.high}"
    for part in written.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise _refused(text, f"its {field.name} {written!r} is not of crontab", f"{takes}, *, 1-5, 1,3 or */2")
        first, last, step = match.groups()
        for value in filter(None, (None if first == "*" else first, last)):
            _check_value(text, value, field, takes)
        if step is not None and not (step.isdecimal() and 0 < int(step) <= field.high):
            fix = f"write a step from 1 to {field.high}: it counts anew where the {field.name} begins anew"
            raise _refused(text, f"its {field.name} {written!r} has a step of {step}", fix)


def _check_value(text: str, value: str, field: _Field, takes: str) -> None:
    if value.isdecimal():
        if not field.low <= int(value) <= field.high:
            raise _refused(text, f"its {field.name} {value} is out of range", takes)
        return
    if value.lower() not in field.words:
        match = nearest(value, field.words)
        names = f" or one of {', '.join(field.words)}" if field.words else ""
        raise _refused(text, f"its {field.name} {value!r} is not known", f"write {match}" if match else takes + names)


def _nearest_text(text: str, fields: list[str]) -> str:
    """What was probably meant by something that is no expression."""
    words = text.strip().lower()
    every = _EVERY.fullmatch(words)
    if every is not None:
        meant = _every(int(every[1] or 1), every[2][0])
        return (
            f"write '{meant}'" if meant else "write how often by what divides an hour or a day, such as '*/20 * * * *'"
        )
    name = nearest(words.removeprefix("@"), _NAMED)
    if name:
        return f"write '{_NAMED[name]}'"
    if len(fields) == 6:
        return f"leave out the seconds: '{' '.join(fields[1:])}'"
    completed = " ".join([*fields, *["*"] * (5 - len(fields))])
    return f"write '{completed}'" if 0 < len(fields) < 5 and _can_be_read(completed) else "write five fields; * is each"


def _can_be_read(text: str) -> bool:
    try:
        read_cron(text)
    except InputError:
        return False
    return True


def _every(number: int, unit: str) -> str:
    if unit == "m" and 0 < number < 60 and 60 % number == 0:
        return f"*/{number} * * * *" if number > 1 else "* * * * *"
    if unit == "h" and 0 < number < 24 and 24 % number == 0:
        return f"0 */{number} * * *" if number > 1 else "0 * * * *"
    return "0 0 * * *" if (unit, number) == ("d", 1) else ""


def _refused(text: str, reason: str, fix: str) -> InputError:
    return InputError(f"the schedule {text!r} cannot be used: {reason}.", expected=EXPECTED, fix=fix)


def _reason(error: CroniterError) -> str:
    """The library's own words without the expression in front."""
    words = re.sub(r"^\[.*?\] is not acceptable[.,]? *", "", str(error)).rstrip(".")
    return f"{words[:1].lower()}{words[1:]}"


def _plain(written: str, values: tuple[int, ...] | None) -> str:
    if values is None:
        return "*"
    if re.fullmatch(r"\*/\d+", written):
        return written
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


def _padded(values: tuple[int, ...] | None) -> str:
    return "*" if values is None else ",".join(f"{value:02}" for value in values)
