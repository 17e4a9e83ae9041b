"""The page of many jobs: a card each, that says what the job's own report says, and nothing from outside."""

from __future__ import annotations

import re
from dataclasses import replace

import factory
import pytest

from twinrun.report.index import Entry, card, render_index, told

QUESTION = "How many visits has each page had, right now?"


def entry(name: str, **more: str) -> Entry:
    return Entry(
        name, QUESTION, "tumbling, window 1 hour, final", f"{name}/report.html", getattr(factory, name)(), **more
    )


@pytest.fixture(scope="module")
def page() -> str:
    failed = Entry("surge_prices", "What does a ride cost?", "stateless, final", "x.html", None, "no broker answers.")
    return render_index([entry("explained"), entry("agree"), entry("differ"), failed], "4 use cases", "On 60 events:")


def test_each_card_has_the_verdict_of_its_report_and_a_link_to_it(page: str) -> None:
    for name, tone, label in (
        ("explained", "fair", "EXPLAINED"),
        ("agree", "good", "AGREE"),
        ("differ", "bad", "DIFFER"),
    ):
        found = card(entry(name))
        assert (found.tone, found.label) == (tone, label)
        assert f'<a href="{name}/report.html">' in page
        counts = found.counts
        assert counts is not None
        assert f"{counts.equal:,} of {counts.compared:,} {counts.unit}s equal" in page
        verdict = getattr(factory, name)()
        assert len(found.causes) == min(
            3, len([c for c in verdict.causes if c.cause not in ("pending", "unexplained")])
        )


def test_a_job_that_failed_has_a_card_and_no_link(page: str) -> None:
    part = page.split("surge_prices", 1)[1]
    assert "no broker answers." in part
    assert "x.html" not in page
    assert "On 60 events: 1 explained, 1 agree, 1 differ, 1 failed." in page
    assert told([card(entry("agree")), card(entry("agree"))]) == "2 agree"


def test_an_unexplained_row_is_never_shown_as_if_all_were_well() -> None:
    found = card(entry("differ"))
    assert found.tone == "bad"
    assert "unexplained" in found.facts


def test_whatever_a_job_is_called_stays_text() -> None:
    evil = "<script>alert(1)</script>"
    verdict = replace(factory.explained(), job=evil)
    page = render_index([Entry(evil, evil, evil, "a/report.html", verdict, evil)], evil, evil)
    assert "<script" not in page
    assert not re.findall(r"(?i)https?:|url\(|@import|<link|\son\w+=", page.split("</style>")[1])
