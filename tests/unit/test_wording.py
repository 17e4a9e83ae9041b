"""Counts in words: the noun and the verb agree with the number."""

from __future__ import annotations

import pytest

from twinrun.wording import plural, worded


@pytest.mark.parametrize(
    ("count", "noun", "says"),
    [
        (1, "row", "1 row"),
        (0, "row", "0 rows"),
        (1_200, "event", "1,200 events"),
        (2, "micro-batch", "2 micro-batches"),
        (3, "copy", "3 copies"),
        (2, "key", "2 keys"),
    ],
)
def test_a_noun_agrees_with_its_count(count: int, noun: str, says: str) -> None:
    assert plural(count, noun) == says


def test_a_verb_agrees_with_its_count() -> None:
    assert worded(1, "row differs", "rows differ") == "1 row differs"
    assert worded(2, "row differs", "rows differ") == "2 rows differ"
