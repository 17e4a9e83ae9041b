"""Counts in words, for every sentence that names one: no text says "1 rows"."""

from __future__ import annotations

COMMA = ","
"""Sets thousands apart in plain text; reports in HTML use a thin space."""


def number(count: int, separator: str = COMMA) -> str:
    """A count with its thousands set apart."""
    return f"{count:,}".replace(",", separator)


def plural(count: int, noun: str, separator: str = COMMA) -> str:
    """``1 window``, ``368 windows``, ``2 micro-batches``, ``3 copies``."""
    return worded(count, noun, _many(noun), separator)


def worded(count: int, one: str, many: str, separator: str = COMMA) -> str:
    """The count before the words that agree with it: ``1 row differs``, ``1,200 rows differ``."""
    return f"{number(count, separator)} {one if count == 1 else many}"


def _many(noun: str) -> str:
    if noun.endswith(("ch", "sh", "s", "x")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"
