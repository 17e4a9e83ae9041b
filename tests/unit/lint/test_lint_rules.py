"""The registry is in order, its document says the same, and what is said to be shown by a run is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from twinrun.lint.calls import Calls
from twinrun.lint.clock import clocks
from twinrun.lint.differs_rules import DIFFERS, FAILS
from twinrun.lint.refused import refusal_rule
from twinrun.lint.refused_rules import REFUSED
from twinrun.lint.rules import RULES

ROOT = Path(__file__).resolve().parents[3]
ROW = re.compile(r"^\| `(TR\d+)` \| (.*) \| (.*) \| (.*) \|$", re.MULTILINE)


def documented(text: str) -> dict[str, tuple[str, ...]]:
    return {found[1]: tuple(cell.strip() for cell in found.groups()[1:]) for found in ROW.finditer(text)}


def as_documented() -> dict[str, tuple[str, ...]]:
    words = {"refused": "", "fails": "", "differs": "", "note": " (note)"}
    return {r.id: (f"{r.title}{words[r.severity]}", r.why, r.instead) for r in RULES.values()}


def test_the_document_and_the_registry_agree() -> None:
    assert documented((ROOT / "docs/lint.md").read_text(encoding="utf-8")) == as_documented()


def test_a_document_that_says_something_else_is_seen() -> None:
    text = (ROOT / "docs/lint.md").read_text(encoding="utf-8")
    assert documented(text.replace("| `TR101` |", "| `TR100` |")) != as_documented()
    assert documented(text.replace("one value per micro-batch", "one value", 1).replace("the stream one", "one")) != (
        as_documented()
    )


def test_ids_are_unique_in_order_and_in_their_group() -> None:
    ids = [rule.id for rule in (*REFUSED, *DIFFERS, *FAILS)]
    assert ids == sorted(set(ids))
    assert {rule.severity for rule in REFUSED} == {"refused"}
    assert all(rule.id.startswith("TR1") for rule in REFUSED)
    assert all(rule.id.startswith("TR2") for rule in DIFFERS)
    assert {rule.severity for rule in DIFFERS} == {"differs", "note"}
    assert all(rule.id.startswith("TR3") for rule in FAILS)
    assert {rule.severity for rule in FAILS} == {"fails"}


def test_sentences_are_complete() -> None:
    for rule in RULES.values():
        assert rule.why.endswith("."), rule.id
        assert rule.title, rule.id
        assert rule.instead, rule.id
        assert not rule.instead.endswith("."), rule.id


def test_every_rule_that_a_run_can_show_has_a_run() -> None:
    files = [
        ROOT / "tests/integration" / name
        for name in ("test_lint_shown.py", "test_lint_shown_slow.py", "test_operators_state.py")
    ]
    text = "".join(file.read_text(encoding="utf-8").upper() for file in files)
    shown = {rule.id for rule in RULES.values() if rule.shown == "run"}
    assert {rule for rule in shown if rule not in text} == set()
    assert len(shown) > 15


@pytest.mark.parametrize(
    ("sentence", "rule"),
    [
        ("Distinct aggregations are not supported on streaming DataFrames/Datasets", "TR101"),
        ("Limits are not supported on streaming DataFrames/Datasets in Update output mode", "TR104"),
        ("pivot is not supported on a streaming DataFrames/Datasets", "TR107"),
        ("Stream-stream LeftOuter join between two streams is not supported without a watermark", "TR114"),
        ("LeftOuter join between two streaming DataFrames is not supported in Update output mode", "TR115"),
        ("Invalid subquery: Streaming query is not allowed in subquery expressions", "TR121"),
        ("Append output mode not supported without watermark", "TR123"),
        ("Something that a later Spark says", "TR199"),
    ],
)
def test_a_sentence_of_spark_has_a_rule(sentence: str, rule: str) -> None:
    assert refusal_rule(sentence) == rule


CLOCKS = """
import time as t
from datetime import date, datetime
from random import Random
import numpy as np

TODAY = date.today()
FIXED = datetime(2024, 1, 1)


def helper():
    return t.time()


def unused():
    return datetime.now()


def logic(events):
    seeded = Random(3).random()
    return events.filter(helper() > np.random.rand())
"""


def test_clocks_are_found_where_a_run_evaluates_them(tmp_path: Path) -> None:
    file = tmp_path / "job.py"
    file.write_text(CLOCKS, encoding="utf-8")

    found = {(each.line, each.detail) for each in clocks(Calls(str(file), 19), "logic")}

    assert found == {(7, "datetime.date.today()"), (12, "time.time()"), (21, "numpy.random.rand()")}


def test_a_file_that_is_not_there_has_no_clocks() -> None:
    assert list(clocks(Calls("<stdin>", 1), "logic")) == []
