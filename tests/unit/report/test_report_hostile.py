"""Whatever the data holds reaches each report as text, and never as markup or as a command to a terminal."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from typing import Any

import pytest
from factory import differ
from hostile import CORPUS, PLAIN, infested
from markdown_it import MarkdownIt

from twinrun.report import html as html_report
from twinrun.report import markdown
from twinrun.report.html import environment, page_html, render_html
from twinrun.report.json_ import render_json
from twinrun.report.markdown import render_markdown
from twinrun.report.neutral import visible
from twinrun.report.page import build_page
from twinrun.report.terminal import render_summary
from twinrun.results.verdict import Verdict

SHOWS_DATA = ("aria-label", "data-label", "alt")
"""Attributes whose value may change with the data: text for people. ``class`` has a test of its own."""
OWN_SPACES = {"\n", "\u202f", "\u00a0"}

SMALL = replace(
    differ(),
    late_events=differ().late_events[:20],
    samples=differ().samples[:8],
    timeline=differ().timeline[:30],
    micro_batches=differ().micro_batches[:30],
)

every_text = pytest.mark.parametrize("text", CORPUS.values(), ids=CORPUS.keys())


class Bones(HTMLParser):
    """The elements and attributes of a page, and its text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[Any] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        kept = [(name, None if name in SHOWS_DATA else value) for name, value in attrs if name != "class"]
        self.tags.append((tag, kept))

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_comment(self, data: str) -> None:
        self.tags.append(("comment", data))

    def handle_pi(self, data: str) -> None:
        self.tags.append(("pi", data))

    def unknown_decl(self, data: str) -> None:
        self.tags.append(("decl", data))


def bones(page: str) -> Bones:
    parser = Bones()
    parser.feed(page)
    parser.close()
    return parser


@cache
def page_of(text: str) -> str:
    return render_html(infested(SMALL, text))


def class_words(page: str) -> list[str]:
    return [word for value in re.findall(r'<[^<>]* class="([^"]*)"', page) for word in value.split()]


@pytest.fixture(scope="module", autouse=True)
def _charts_once() -> Any:
    """The charts hold no text from data (see test_report_charts), so one drawing serves all cases."""
    with pytest.MonkeyPatch.context() as patch:
        pictures = html_report._pictures(SMALL)
        patch.setattr(html_report, "_pictures", lambda verdict: pictures)
        yield


@pytest.fixture(scope="module")
def plain_bones() -> list[Any]:
    return bones(render_html(infested(SMALL, PLAIN))).tags


def test_plain_page_has_bones(plain_bones: list[Any]) -> None:
    assert len([tag for tag in plain_bones if tag == "/td"]) > 300


@every_text
def test_html_has_the_same_bones(text: str, plain_bones: list[Any]) -> None:
    found = bones(page_of(text))
    assert found.tags == plain_bones
    assert not [tag for tag in found.tags if tag[0] in ("script", "a", "iframe", "object", "form", "link", "base")]


@every_text
def test_html_shows_the_text(text: str) -> None:
    shown = "".join(bones(page_of(text)).text)
    assert visible(text[:100]) in shown


@every_text
def test_html_holds_no_unseen_character(text: str) -> None:
    page = html.unescape(page_of(text))
    assert {char for char in page if not char.isprintable()} <= OWN_SPACES


@every_text
def test_html_classes_are_words_of_ours(text: str) -> None:
    words = class_words(page_of(text))
    assert set(words) <= set(class_words(render_html(SMALL))) | {"time"}


def test_autoescape_off_would_be_noticed(plain_bones: list[Any]) -> None:
    unsafe = environment().overlay(autoescape=False)
    page = page_html(unsafe, build_page(infested(SMALL, CORPUS["script"])))
    found = bones(page)
    assert found.tags != plain_bones
    assert ("script", []) in found.tags


def test_unseen_characters_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinrun.report.page.neutral", lambda verdict: verdict)
    page = html.unescape(render_html(infested(SMALL, CORPUS["bidi"])))
    assert "\u202e" in page


def test_templates_are_never_made_from_data() -> None:
    page = render_html(infested(SMALL, "{{1234*5678}}"))
    assert "{{1234*5678}}" in page
    assert str(1234 * 5678) not in page


def test_empty_texts_are_no_trouble() -> None:
    verdict = infested(SMALL, "")
    assert "<td" in render_html(verdict)
    assert render_markdown(verdict)
    assert render_summary(verdict, path="")
    assert json.loads(render_json(verdict))["job"] == ""


def test_keys_that_begin_alike_stay_apart() -> None:
    base = SMALL.samples[0]
    long = "k" * 1000
    cells = {f"{long}1": 1, f"{long}2": 2, "a\x00": 3, "a\\x00": 4}
    sample = replace(base, batch=cells, stream=cells, columns=())
    page = render_html(replace(SMALL, samples=(sample,)))
    assert page.count("kkk…") >= 2
    assert page.count("a\\x00") == 2


def test_long_texts_do_not_swell_the_page() -> None:
    assert len(render_html(infested(SMALL, "<" * 2_000_000))) < 2_500_000


@every_text
def test_terminal_lines_are_printable(text: str) -> None:
    lines = render_summary(infested(SMALL, text), path=f"/tmp/{text[:1000]}/report.html")
    assert len(lines) <= 60
    assert all(line.isprintable() for line in lines)
    assert all(len(line) <= 400 for line in lines[:-1] if not line.startswith("  next "))


def test_terminal_escape_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinrun.report.terminal.neutral", lambda verdict: verdict)
    lines = render_summary(infested(SMALL, CORPUS["colour"]), path=None)
    assert not all(line.isprintable() for line in lines)


@every_text
def test_json_is_strict_ascii_and_keeps_the_text(text: str) -> None:
    verdict = infested(SMALL, text)
    rendered = render_json(verdict)
    assert rendered.isascii()
    assert all(char.isprintable() or char == "\n" for char in rendered)
    assert not set("<>&") & set(rendered)
    read = json.loads(rendered, parse_constant=_refuse)
    assert read["job"] == text
    assert read["late_events"][0]["id"] == {f"{text}0": text}


def _refuse(constant: str) -> None:
    raise AssertionError(constant)


def markdown_bones(rendered: str) -> list[tuple[str, str, int]]:
    parser = MarkdownIt("gfm-like", {"html": True, "linkify": False}).enable("table")
    tokens: list[tuple[str, str, int]] = []
    for token in parser.parse(rendered):
        inline = token.children or []
        tokens.append((token.type, token.tag, token.nesting))
        tokens += [
            (child.type, child.tag, child.nesting)
            for child in inline
            if child.type not in ("text", "text_special") and child.content != "<!-- -->"
        ]
    return tokens


@pytest.fixture(scope="module")
def plain_shape() -> list[tuple[str, str, int]]:
    return shape(infested(SMALL, PLAIN))


def shape(verdict: Verdict) -> list[tuple[str, str, int]]:
    return markdown_bones(render_markdown(verdict))


@every_text
def test_markdown_has_the_same_bones(text: str, plain_shape: list[Any]) -> None:
    assert shape(infested(SMALL, text)) == plain_shape


@every_text
def test_markdown_has_no_raw_markup_and_no_link(text: str) -> None:
    rendered = render_markdown(infested(SMALL, text))
    assert not set("<>{}") & set(rendered.replace("@<!-- -->", ""))
    assert not re.search(r"@\w", rendered)
    assert "://" not in rendered
    assert "www." not in rendered
    assert {char for char in rendered if not char.isprintable()} <= OWN_SPACES


def test_unescaped_markdown_would_be_noticed(monkeypatch: pytest.MonkeyPatch, plain_shape: list[Any]) -> None:
    monkeypatch.setattr(markdown, "escape", lambda text: text)
    for name in ("script", "pipes", "backticks", "link"):
        assert shape(infested(SMALL, CORPUS[name])) != plain_shape, name
