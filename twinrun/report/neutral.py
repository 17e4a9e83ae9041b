"""Text of unknown origin, made harmless before any renderer sees it.

Every text of a verdict may come from data: it can hold terminal escapes, bidirectional overrides, null bytes
or a megabyte of one letter. Here each such character becomes visible (``\\x1b``, ``\\u202e``) and each text
bounded. What a target format treats as markup is escaped by that format's renderer.
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import fields, replace
from typing import Any, TypeVar

from twinrun.results.ledger import History
from twinrun.results.verdict import RowSample, Verdict

Result = TypeVar("Result", Verdict, History)

MAX_TEXT = 400
"""Characters kept of one text; the full text is in the JSON report."""

_KEPT = MAX_TEXT - 60
"""Characters kept of one cell around the places where the sides of a row differ first."""

ELLIPSIS = "…"


def visible(text: str) -> str:
    r"""Replace each character that does not show as itself by its escape, such as ``\x1b`` or ``\u202e``.

    That covers control and format characters, surrogates, unassigned code points and every separator but
    the plain space, so that two texts which differ also look different.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else escape(char) for char in text)


def escape(char: str) -> str:
    r"""The escape of one character, such as ``\x20`` or ``\u00e9``."""
    named = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}.get(char)
    if named:
        return named
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def look_alike(left: str, right: str) -> bool:
    r"""Whether two texts that differ become one when `visible`: one holds an escape such as ``\x00`` literally."""
    return left != right and visible(left) == visible(right)


def literal(text: str) -> str:
    r"""The text with its own backslashes as escapes, ``\x5c``, so that none looks like one of `visible`'s."""
    return text.replace("\\", r"\x5c")


def common_length(left: str, right: str) -> int:
    """How many characters two texts have in common at their beginning; fast for texts of megabytes too."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def shorten(text: str, limit: int) -> str:
    """Cut a text to ``limit`` characters and say how many characters it has."""
    if len(text) <= limit:
        return text
    return f"{text[:limit].rstrip()}{ELLIPSIS} ({len(text):,} characters)"


def fit(text: str, columns: int) -> str:
    """Cut a text to so many terminal columns; wide characters count as two, combining ones as none."""
    used = 0
    for position, char in enumerate(text):
        used += _columns(char)
        if used > columns:
            kept = text[:position]
            while kept and sum(map(_columns, kept)) > columns - 1:
                kept = kept[:-1]
            return kept + ELLIPSIS
    return text


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def neutral(result: Result) -> Result:
    """The same result with every text (also keys and cells) visible and bounded; numbers are untouched."""
    return replace(result, **_fields(result))


def _fields(item: Any) -> dict[str, Any]:
    return {field.name: _clean(getattr(item, field.name)) for field in fields(item)}


def _clean(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _clean_text(value)
    if isinstance(value, dict):
        return _clean_dict(value)
    if isinstance(value, list | tuple | set | frozenset):
        return tuple(_clean(cell) for cell in value)
    if isinstance(value, RowSample):
        value = _comparable(value)
    if hasattr(value, "__dataclass_fields__"):
        return replace(value, **_fields(value))
    return _clean_text(str(value))


def _comparable(sample: RowSample) -> RowSample:
    """The sample with cells that still look different once they are bounded and visible."""
    sides: list[dict[str, Any] | None] = [
        None if side is None else dict(side) for side in (sample.batch, sample.stream, sample.emitted)
    ]
    for name in dict.fromkeys(name for side in sides for name in side or {}):
        texts = [_text_of((side or {}).get(name)) for side in sides]
        pairs = [(a, b) for a, b in (texts[:2], texts[1:]) if a is not None and b is not None and a != b]
        long = any(len(text) > MAX_TEXT for pair in pairs for text in pair)
        alike = any(look_alike(*pair) for pair in pairs)
        if long or alike:
            places = sorted({common_length(*pair) for pair in pairs})
            for side, text in zip(sides, texts, strict=True):
                if side is not None and text is not None:
                    # An escape takes four characters.
                    part = _around(text, places, _KEPT // 4 if alike else _KEPT) if long else text
                    side[name] = literal(part) if alike else part
    return replace(sample, batch=sides[0], stream=sides[1], emitted=sides[2])


def _text_of(cell: Any) -> str | None:
    """What is compared of a cell: a text, or a structure as JSON; None for what is never cut."""
    if isinstance(cell, dict | list | tuple):
        return json.dumps(cell, ensure_ascii=False, default=str)
    return cell if isinstance(cell, str) else None


def _around(text: str, places: list[int], kept: int) -> str:
    """The parts of a text around these places, ``kept`` characters in all, and how many characters it has."""
    share = kept // len(places)
    parts: list[tuple[int, int]] = []
    for place in places:
        start, end = max(0, place - share // 3), place + share - share // 3
        if parts and start <= parts[-1][1]:
            start = parts.pop()[0]
        parts.append((start, end))
    shown = ELLIPSIS.join(text[start:end] for start, end in parts)
    head, tail = ELLIPSIS if parts[0][0] else "", ELLIPSIS if parts[-1][1] < len(text) else ""
    return f"{head}{shown}{tail} ({len(text):,} characters)"


def _clean_dict(value: dict[Any, Any]) -> dict[Any, Any]:
    cleaned: dict[Any, Any] = {}
    for key, cell in value.items():
        name = _clean(key)
        # two long keys may have the same beginning; neither may hide the other
        while name in cleaned:
            name = f"{name}+"
        cleaned[name] = _clean(cell)
    return cleaned


def _clean_text(text: str) -> str:
    # cut first: a text of many megabytes must not be walked character by character
    head = visible(text[:MAX_TEXT])
    return head if len(text) <= MAX_TEXT else f"{head.rstrip()}{ELLIPSIS} ({len(text):,} characters)"
