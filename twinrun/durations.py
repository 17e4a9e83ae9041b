"""Durations as people write them ("90 minutes"), held as whole milliseconds."""

from __future__ import annotations

import re

_UNIT_MS = {
    "ms": 1,
    "millisecond": 1,
    "s": 1_000,
    "sec": 1_000,
    "second": 1_000,
    "m": 60_000,
    "min": 60_000,
    "minute": 60_000,
    "h": 3_600_000,
    "hour": 3_600_000,
    "d": 86_400_000,
    "day": 86_400_000,
    "week": 604_800_000,
}
_PART = re.compile(r"(\d+)\s*([A-Za-z]+)")


def parse_ms(text: str) -> int:
    """Read a duration such as ``"1 hour"``, ``"90 min"`` or ``"1h 30m"``.

    Months and years have no fixed length and are refused, as Spark refuses them in ``withWatermark``.

    Returns
    -------
    int
        Whole milliseconds, 0 or more.

    Raises
    ------
    ValueError
        The text is not a duration; the message lists the allowed units.
    """
    rest = _PART.sub("", text)
    parts = _PART.findall(text)
    units = [_unit(name) for _, name in parts]
    if rest.strip() or not parts or None in units:
        allowed = "ms, second(s), minute(s), hour(s), day(s), week(s)"
        msg = f"{text!r} is not a duration; write a whole number and a unit such as '1 hour' (units: {allowed})"
        raise ValueError(msg)
    return sum(int(count) * (unit or 0) for (count, _), unit in zip(parts, units, strict=True))


def _unit(name: str) -> int | None:
    lowered = name.lower()
    return _UNIT_MS.get(lowered, _UNIT_MS.get(lowered.removesuffix("s") or lowered))


def spark_interval(duration_ms: int) -> str:
    """The duration as an interval text that Spark reads exactly."""
    return f"{duration_ms} milliseconds"


def human(duration_ms: int) -> str:
    """A short text for people: ``"1 h 5 min"``, ``"21.7 h"`` is never rounded away below a second."""
    if duration_ms < 0:
        return f"-{human(-duration_ms)}"
    parts: list[str] = []
    rest = duration_ms
    for unit_ms, label in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms")):
        count, rest = divmod(rest, unit_ms)
        if count:
            parts.append(f"{count} {label}")
    return " ".join(parts[:2]) or "0 s"
