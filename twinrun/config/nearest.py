"""The nearest match of a word that is not known, for messages."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word that looks most like ``word``, or an empty text when none is close.

    Upper and lower case count as equal.
    """
    by_lower = {name.lower(): name for name in known}
    found = get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else ""


def listed(words: Iterable[str]) -> str:
    """Words in alphabetical order, separated by commas; "none" where there are none."""
    return ", ".join(sorted(words)) or "none"
