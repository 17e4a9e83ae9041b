"""Summary, Markdown and JSON as committed texts. Regenerate with TWINRUN_REGEN_SNAPSHOTS=1 and read the diff."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import factory
import pytest

from twinrun.report.json_ import render_json
from twinrun.report.markdown import render_markdown
from twinrun.report.terminal import render_summary
from twinrun.results.ledger import History
from twinrun.results.verdict import Verdict

FOLDER = Path(__file__).parents[2] / "snapshots" / "report"
VARIANTS = ("explained", "agree", "differ", "stale", "nothing_compared", "empty")


def small(verdict: Verdict) -> Verdict:
    """Few enough rows that a person reads the diff."""
    return replace(
        verdict,
        late_events=verdict.late_events[:3],
        samples=verdict.samples[:2],
        timeline=verdict.timeline[:5],
        micro_batches=verdict.micro_batches[:4],
        history=verdict.history and shortened(verdict.history),
    )


def shortened(history: History) -> History:
    causes = tuple(replace(cause, rows=cause.rows[-3:]) for cause in history.causes)
    return replace(history, verifies=history.verifies[-3:], causes=causes, windows=history.windows[:2])


def check(name: str, text: str) -> None:
    path = FOLDER / name
    if os.environ.get("TWINRUN_REGEN_SNAPSHOTS"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"{path} is missing; run with TWINRUN_REGEN_SNAPSHOTS=1"
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("variant", VARIANTS)
def test_summary(variant: str) -> None:
    verdict = getattr(factory, variant)()
    check(f"{variant}.txt", "\n".join(render_summary(verdict, path="report/report.html")) + "\n")


@pytest.mark.parametrize("variant", VARIANTS)
def test_markdown(variant: str) -> None:
    check(f"{variant}.md", render_markdown(small(getattr(factory, variant)())))


def test_json() -> None:
    check("differ.json", render_json(small(factory.differ())))


def test_a_changed_verdict_would_be_noticed() -> None:
    verdict = replace(factory.explained(), windows_equal=271)
    with pytest.raises(AssertionError):
        assert (FOLDER / "explained.txt").read_text(encoding="utf-8") == "\n".join(
            render_summary(verdict, path="report/report.html")
        ) + "\n"
