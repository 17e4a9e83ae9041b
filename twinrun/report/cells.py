"""How instants, durations, counts and result cells are written in every report."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from twinrun import wording
from twinrun.durations import human
from twinrun.report.neutral import ELLIPSIS, common_length, escape, fit, literal, look_alike, shorten, visible

NONE = "–"
"""Stands where there is no value to show; a null of the data is written ``null``."""

THIN = "\u202f"
_UNBROKEN = "\u00a0"
_MISTAKABLE = ("", "null", "true", "false")
MAX_CELL = 120
_DAY_MS = 86_400_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"-?\d{1,30}(\.\d{1,30})?([eE][+-]?\d{1,2})?")


def moment(instant_ms: int) -> datetime | None:
    """The instant as an aware UTC datetime, or None where it lies outside the years 1 to 9999."""
    try:
        return _EPOCH + timedelta(milliseconds=instant_ms)
    except OverflowError:
        return None


def instant(instant_ms: int | None) -> str:
    """``2013-01-06 14:00`` in UTC; seconds and milliseconds only where they are not zero."""
    if instant_ms is None:
        return NONE
    at = moment(instant_ms)
    if at is None:
        return f"{instant_ms} ms since 1970"
    text = f"{at:%Y-%m-%d %H:%M}" if at.year >= 1000 else f"{at.year:04d}-{at:%m-%d %H:%M}"
    if at.second or at.microsecond:
        text += f":{at:%S}"
    if at.microsecond:
        text += f".{at.microsecond // 1000:03d}"
    return text


def span(start_ms: int | None, end_ms: int | None) -> str:
    """A window as ``2013-01-06 14:00–15:00``, with the end's date only where it is another day.

    An end at midnight is the end of the start's day: ``23:00–24:00``.
    """
    if start_ms is None or end_ms is None:
        return instant(start_ms)
    start, end = instant(start_ms), instant(end_ms)
    if moment(start_ms) is None or moment(end_ms) is None:
        return f"{start}–{end}"
    days = end_ms // _DAY_MS - start_ms // _DAY_MS
    if days == 1 and end_ms % _DAY_MS == 0:
        return f"{start}–24:00"
    return f"{start}–{end[11:] if days == 0 else end}"


def duration(duration_ms: int | None) -> str:
    """A duration for people, such as ``1 h 5 min``, that a line break never cuts."""
    return NONE if duration_ms is None else human(duration_ms).replace(" ", _UNBROKEN)


def number(count: int | None, separator: str = THIN) -> str:
    """A count with its thousands set apart by a thin space that never breaks."""
    return NONE if count is None else wording.number(count, separator)


def plural(count: int, noun: str, separator: str = THIN) -> str:
    """``1 window``, ``368 windows``."""
    return wording.plural(count, noun, separator)


def worded(count: int, one: str, many: str, separator: str = THIN) -> str:
    """``1 row differs``, ``368 rows differ``."""
    return wording.worded(count, one, many, separator)


def value(cell: Any) -> str:
    """One cell of the data as text: null is ``null``, the text null ``"null"``, structures are JSON."""
    if cell is None:
        return "null"
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float) and math.isfinite(cell):
        return repr(cell)
    if isinstance(cell, dict | list | tuple):
        return shorten(json.dumps(cell, ensure_ascii=False, default=str), MAX_CELL)
    text = str(cell)
    return f'"{text}"' if text in _MISTAKABLE else shorten(text, MAX_CELL)


def apart(batch: Any, stream: Any, columns: int) -> tuple[str, str, str]:
    """Two cells that differ as texts that look different, and from which character on they differ (or nothing).

    What looks the same and is not (a space at the end, two forms of one letter, letters of two scripts) is written in
    escapes; of texts too long for ``columns``, the place where they differ is shown.

    Parameters
    ----------
    columns : int
        Terminal columns that each text may take.
    """
    left, right = _full(batch), _full(stream)
    if look_alike(left, right):
        left, right = literal(left), literal(right)
    at = common_length(left, right)
    if left == right:
        return fit(visible(left), columns), fit(visible(right), columns), ""
    where = f"from character {at + 1}" if isinstance(batch, str) and isinstance(stream, str) else ""
    if _alike(left, right, at):
        same_end = common_length(left[at:][::-1], right[at:][::-1])
        middles = [_escaped(text[at : len(text) - same_end]) for text in (left, right)]
        ends = [visible(text[len(text) - same_end :]) for text in (left, right)]
    else:
        middles, ends = ["", ""], [visible(text[at:]) for text in (left, right)]
    head = visible(left[:at])
    texts = [f"{head}{middle}{end}" for middle, end in zip(middles, ends, strict=True)]
    if all(fit(text, columns) == text for text in texts):
        return texts[0], texts[1], where
    start = max(0, at - columns // 3)
    head = (ELLIPSIS if start else "") + visible(left[start:at])
    cut = [fit(f"{head}{middle}{end}", columns) for middle, end in zip(middles, ends, strict=True)]
    return cut[0], cut[1], where or f"from character {at + 1}"


def _full(cell: Any) -> str:
    """The cell as text, of any length."""
    if isinstance(cell, dict | list | tuple):
        return json.dumps(cell, ensure_ascii=False, default=str)
    return cell if isinstance(cell, str) and cell not in _MISTAKABLE else value(cell)


def _alike(left: str, right: str, at: int) -> bool:
    """Whether two texts that differ may look the same where they do."""
    if _folded(left) == _folded(right):
        return True
    a, b = left[at : at + 1], right[at : at + 1]
    return bool(a and b) and a.isalpha() and b.isalpha() and _script(a) != _script(b)


def _folded(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split())


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


def _escaped(text: str) -> str:
    """A text in ASCII without spaces; every other character is its escape."""
    return "".join(char if "!" <= char <= "~" else escape(char) for char in text)


def joined(cells: dict[str, Any]) -> str:
    """The values of a key or an event id on one line."""
    return " · ".join(value(cell) for cell in cells.values()) or NONE


def difference(batch: Any, stream: Any) -> str:
    """Stream minus batch where both are finite numbers, with its sign; otherwise a dash."""
    left, right = _decimal(batch), _decimal(stream)
    if left is None or right is None:
        return NONE
    delta = right - left
    text = f"{+delta:f}" if delta == delta.to_integral_value() else f"{delta:.6g}"
    text = text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text
    return f"+{text}" if delta > 0 else text.replace("-", "−")


def _decimal(cell: Any) -> Decimal | None:
    if isinstance(cell, bool) or not isinstance(cell, int | float | str):
        return None
    text = cell if isinstance(cell, str) else repr(cell)
    return Decimal(text) if _NUMBER.fullmatch(text) else None
