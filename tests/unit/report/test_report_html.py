"""The HTML page: one file, no network, no script, readable in light and dark, and said in words."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import factory
import pytest

from twinrun.report.html import render_html
from twinrun.results.verdict import WindowPoint

VARIANTS = ("explained", "agree", "differ", "stale", "nothing_compared", "empty")
DATA_URI = re.compile(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)")
OUTSIDE = re.compile(r"(?i)https?:|//|url\(|@import|<script|<link|<iframe|<object|<embed|\son\w+=|javascript:")


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {name: render_html(getattr(factory, name)()) for name in VARIANTS}


def svgs(page: str) -> list[str]:
    return [base64.b64decode(found).decode() for found in DATA_URI.findall(page)]


def without_pictures(page: str) -> str:
    """The page without what is base64: there, two slashes mean nothing."""
    return re.sub(r"sha256-[^']*", "", DATA_URI.sub("data:", page))


def text_of(page: str) -> str:
    return re.sub(r"[ \n]+", " ", re.sub(r"<[^>]*>", " ", page.split("</style>")[1])).replace("&#39;", "'")


@pytest.mark.parametrize("name", VARIANTS)
def test_page_needs_nothing_from_outside(pages: dict[str, str], name: str) -> None:
    assert not OUTSIDE.findall(without_pictures(pages[name]))
    for svg in svgs(pages[name]):
        namespaces = {'xmlns="http://www.w3.org/2000/svg"', 'xmlns:xlink="http://www.w3.org/1999/xlink"'}
        assert not OUTSIDE.findall(re.sub("|".join(map(re.escape, namespaces)), "", svg))


def test_something_from_outside_would_be_noticed(pages: dict[str, str]) -> None:
    assert OUTSIDE.findall(pages["agree"] + '<img src="https://cdn.example/x.png">')
    assert OUTSIDE.findall(pages["agree"] + "<p onclick=alert(9)>")


def test_policy_allows_our_style_and_data_images_only(pages: dict[str, str]) -> None:
    page = pages["explained"]
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert policy
    assert style
    digest = base64.b64encode(hashlib.sha256(style.group(1).encode()).digest()).decode()
    expected = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    assert policy.group(1) == expected
    assert " style=" not in page
    assert page.index("Content-Security-Policy") < page.index("<style>")


@pytest.mark.parametrize("name", VARIANTS)
def test_page_is_small(pages: dict[str, str], name: str) -> None:
    assert len(pages[name].encode()) < 400_000


class Structure(HTMLParser):
    """Whether every element is closed, every table has a caption and scoped headers, every image a text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.problems: list[str] = []
        self.seen: dict[str, int] = {}
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] = self.seen.get(tag, 0) + 1
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        if tag == "th" and found.get("scope") not in ("row", "col"):
            self.problems.append("th without scope")
        if tag == "img" and not found.get("alt"):
            self.problems.append("img without alt")
        if tag not in ("meta", "img", "source", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] = self.seen.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes something else")


@pytest.mark.parametrize("name", VARIANTS)
def test_page_is_sound_and_accessible(pages: dict[str, str], name: str) -> None:
    parser = Structure()
    parser.feed(pages[name])
    assert (parser.open, parser.problems) == ([], [])
    assert parser.seen["table"] == parser.seen["caption"]
    assert parser.seen["h1"] == 1
    assert len(parser.ids) == len(set(parser.ids))


def test_an_open_element_would_be_noticed(pages: dict[str, str]) -> None:
    parser = Structure()
    parser.feed(pages["empty"].replace("</main>", ""))
    assert parser.problems


def test_the_verdict_comes_first_and_in_words(pages: dict[str, str]) -> None:
    text = text_of(pages["explained"])
    assert text.index("Batch and stream differ in 96 of 368 windows, and every difference is proven.") < 400
    assert "337 events came too late for the stream, which was done with what they belong to." in text
    assert "exit code 0: passes" in text
    assert "exit code 1: does not pass" in text_of(pages["differ"])
    assert "4 rows differ without a proven cause (limit: 0)." in text_of(pages["differ"])


def test_dropped_events_are_named_and_bounded(pages: dict[str, str]) -> None:
    text = text_of(pages["explained"])
    assert "UA1000-EWR-2013-01-06 2\u00a0h 2013-01-06 09:00–10:00" in text
    assert "337 events in all; 100 are listed here." in text
    many = replace(factory.explained(), late_events=factory.explained().late_events * 40)
    assert render_html(many).count("flights-0 at") < 200


def test_differing_cells_are_marked_not_only_by_colour(pages: dict[str, str]) -> None:
    page = pages["differ"]
    assert re.search(
        r'<th scope="row">≠ flights</th>\s*<td class="mark num">31</td>\s*<td class="mark num">30</td>', page
    )
    assert not re.search(
        r'<th scope="row">≠ wind_mph</th>\s*<td class="mark num">11.5</td>\s*<td class="mark num">11.5', page
    )
    assert "The batch has this row, the stream has none." in page
    assert page.count('<td class="mark num">no row</td>') >= 7


@pytest.mark.parametrize(
    "sentence",
    [
        "No windows to draw",
        "Nothing was compared, so there is nothing to explain.",
        "No dropped event is known.",
        "No differing rows to show.",
        "No micro-batches are on record.",
        "No event was refused.",
        "No source was audited.",
        "The job declares no expectations.",
        "Both results have the same columns and types.",
    ],
)
def test_empty_sections_say_so(pages: dict[str, str], sentence: str) -> None:
    assert sentence in text_of(pages["empty"])


def test_thousands_of_windows_are_added_up_and_it_says_so() -> None:
    timeline = tuple(WindowPoint(factory.START_MS + place * factory.HOUR, 2, place % 3, 0, 0) for place in range(8760))
    many = replace(factory.explained(), timeline=timeline, micro_batches=factory.explained().micro_batches * 60)
    page = render_html(many)
    assert "window starts are added up into" in page
    assert "each bar covers 2\u00a0d" in page
    assert len(page.encode()) < 450_000


def test_odd_instants_do_not_stop_the_page() -> None:
    odd = replace(factory.explained().timeline[0], window_start_ms=2**62)
    late = replace(factory.explained().late_events[0], event_time_ms=-(2**62), window_start_ms=None)
    point = replace(factory.explained().micro_batches[0], watermark_ms=2**62, newest_event_ms=-(2**62))
    verdict = replace(factory.explained(), timeline=(odd,), late_events=(late,), micro_batches=(point,))
    assert "ms since 1970" in render_html(verdict)
