"""Instants, durations, numbers and cells are written the same way everywhere, and no digit is lost."""

from __future__ import annotations

import pytest
from factory_parts import HOUR, START_MS

from twinrun.report.cells import apart, difference, duration, instant, number, plural, span, value
from twinrun.report.neutral import fit, shorten, visible


@pytest.mark.parametrize(
    ("instant_ms", "text"),
    [
        (START_MS + 14 * HOUR, "2013-01-06 14:00"),
        (START_MS + 14 * HOUR + 5_000, "2013-01-06 14:00:05"),
        (START_MS + 14 * HOUR + 5_001, "2013-01-06 14:00:05.001"),
        (START_MS + 14 * HOUR - 1, "2013-01-06 13:59:59.999"),
        (0, "1970-01-01 00:00"),
        (-1, "1969-12-31 23:59:59.999"),
        (-62_135_596_800_000, "0001-01-01 00:00"),
        (None, "–"),
        (2**62, "4611686018427387904 ms since 1970"),
        (-(2**62), "-4611686018427387904 ms since 1970"),
    ],
)
def test_instant(instant_ms: int | None, text: str) -> None:
    assert instant(instant_ms) == text


@pytest.mark.parametrize(
    ("hours", "length", "text"),
    [
        (14, 1, "2013-01-06 14:00–15:00"),
        (23, 1, "2013-01-06 23:00–24:00"),
        (0, 24, "2013-01-06 00:00–24:00"),
        (23, 2, "2013-01-06 23:00–2013-01-07 01:00"),
        (0, 48, "2013-01-06 00:00–2013-01-08 00:00"),
    ],
)
def test_span(hours: int, length: int, text: str) -> None:
    start = START_MS + hours * HOUR
    assert span(start, start + length * HOUR) == text


def test_span_with_an_end_beyond_all_years() -> None:
    assert span(0, 2**62) == "1970-01-01 00:00–4611686018427387904 ms since 1970"
    assert span(None, None) == "–"


def test_numbers_and_durations_do_not_break_over_lines() -> None:
    assert number(1_234_567) == "1\u202f234\u202f567"
    assert number(1_234_567, ",") == "1,234,567"
    assert plural(1, "micro-batch") == "1 micro-batch"
    assert plural(1_000, "micro-batch", ",") == "1,000 micro-batches"
    assert " " not in duration(HOUR + 300_000)
    assert duration(None) == "–"


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, "null"),
        ("null", '"null"'),
        ("", '""'),
        (True, "true"),
        ("true", '"true"'),
        (0.1 + 0.2, "0.30000000000000004"),
        (-0.0, "-0.0"),
        (float("nan"), "nan"),
        (2**53 + 1, "9007199254740993"),
        ({"a": [1, None]}, '{"a": [1, null]}'),
    ],
)
def test_value_tells_apart_what_differs(cell: object, text: str) -> None:
    assert value(cell) == text


@pytest.mark.parametrize(
    ("batch", "stream", "text"),
    [
        (31, 28, "−3"),
        (28, 31, "+3"),
        (2**53, 2**53 + 1, "+1"),
        ("18.42", "14.07", "−4.35"),
        (100, 200, "+100"),
        (0.5, 0.25, "−0.25"),
        (1.0, float("nan"), "–"),
        (None, 0, "–"),
        ("a", "b", "–"),
        (True, False, "–"),
        ("9" * 31, "1", "–"),
    ],
)
def test_difference(batch: object, stream: object, text: str) -> None:
    assert difference(batch, stream) == text


def test_visible_keeps_what_can_be_seen() -> None:
    assert visible("Zürich 東京 🛫") == "Zürich 東京 🛫"
    assert visible("a\x1b[31m\x00\u202e\U000e0041\n") == r"a\x1b[31m\x00\u202e\U000e0041\n"


def test_shorten_says_how_long_it_was() -> None:
    assert shorten("a" * 10, 10) == "a" * 10
    assert shorten("a" * 11, 10) == "a" * 10 + "… (11 characters)"


def test_fit_counts_wide_characters_twice() -> None:
    assert fit("abc", 3) == "abc"
    assert fit("abcd", 3) == "ab…"
    assert fit("東京都", 6) == "東京都"
    assert fit("東京都", 5) == "東京…"


LONG = "x" * 60


@pytest.mark.parametrize(
    ("batch", "stream", "shown"),
    [
        ("ab", "ab ", ("ab", r"ab\x20", "from character 3")),
        ("a b", "a  b", ("a b", r"a \x20b", "from character 3")),
        ("caf\u00e9 au lait", "cafe\u0301 au lait", (r"caf\xe9 au lait", r"cafe\u0301 au lait", "from character 4")),
        ("paypal", "p\u0430ypal", ("paypal", r"p\u0430ypal", "from character 2")),
        ("\u212b", "\u00c5", (r"\u212b", r"\xc5", "from character 1")),
        ("a\u200bb", "ab", (r"a\u200bb", "ab", "from character 2")),
        ("Müller", "Muller", ("Müller", "Muller", "from character 2")),
        ("北京", "上海", ("北京", "上海", "from character 1")),
        (LONG + "a", LONG + "b", ("…" + "x" * 13 + "a", "…" + "x" * 13 + "b", "from character 61")),
        (LONG + " ", LONG, ("…" + "x" * 13 + r"\x20", "…" + "x" * 13, "from character 61")),
        ("a" + LONG, "b" + LONG, ("a" + "x" * 38 + "…", "b" + "x" * 38 + "…", "from character 1")),
        ("a\x1b[2J", "b", (r"a\x1b[2J", "b", "from character 1")),
        ("a\x00", r"a\x00", (r"a\x00", r"a\x5cx00", "from character 2")),
        ("null", None, ('"null"', "null", "")),
        (1.5, 2.0, ("1.5", "2.0", "")),
        ({"t": LONG + "a"}, {"t": LONG + "b"}, ("…" + "x" * 13 + 'a"}', "…" + "x" * 13 + 'b"}', "from character 68")),
        ("same", "same", ("same", "same", "")),
    ],
)
def test_what_differs_looks_different(batch: object, stream: object, shown: tuple[str, str, str]) -> None:
    found = apart(batch, stream, 40)
    assert found == shown
    assert batch == stream or found[0] != found[1]
    assert all(len(text) <= 40 for text in found)
