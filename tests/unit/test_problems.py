"""docs/problems.md quotes what the code prints: each quoted line is found again in the texts of the code. No Spark."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "problems.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## (.+)\n((?:(?!^## ).*\n?)*)", PAGE, re.MULTILINE)
BLOCKS = re.findall(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
QUOTED = [line for block in BLOCKS for line in block.splitlines()]
# What stands for a reader's own names and numbers; Spark's own sentence; and the words before a sentence.
EXAMPLES = re.compile(
    r"\d{4}-\d\d-\d\dT[\d:.]+Z|orders_per_hour(?:\.py)?|\borders\b|\bhost-a\b|Division by zero|DIVIDE_BY_ZERO|"
    r"wrong_type|late_dropped|read_(?:un)?committed|stream:|ingest:|\d[\d,]*|^! |^error: |^ +(?:expected|to fix): "
)
# Single words that stand between the texts: nouns that are counted, a row's first column, units.
BETWEEN = {"events", "windows", "records", "record", "offset", "offsets", "partition", "topic", "up", "to", "of", "in"}
BETWEEN |= {"h", "min", "s", "explained", "pending", "refused", "unexplained", "failed", "differ", "is", "are"}
BETWEEN |= {"stream", "on", "full"}


@cache
def texts() -> tuple[str, ...]:
    """Pieces of two words and more of the strings in the code, docstrings apart; longest first."""
    found: set[str] = set()
    for path in [path for folder in ("twinrun", "batch", "streaming") for path in (ROOT / folder).rglob("*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                found.add(node.value.strip())
    return tuple(sorted((text for text in found if len(re.findall(r"\w+", text)) > 1), key=len, reverse=True))


def not_found(line: str) -> set[str]:
    """The words of a quoted line, names and numbers apart, that no text of the code has in that place."""
    rest = EXAMPLES.sub("\0", line)
    for text in texts():
        rest = rest.replace(text, "\0")
    return set(re.findall(r"\w+", rest)) - BETWEEN


@pytest.mark.parametrize("line", QUOTED)
def test_a_quoted_line_is_what_the_code_prints(line: str) -> None:
    assert not_found(line) == set()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("! the stream is 1,204 events behind its topic; allowed: 100", {"behind", "its", "allowed"}),
        ("! 3 differing rows have no more evidence (evidence_expired)", {"have", "no", "more"}),
        ("error: stream:orders_per_hour is held by another command: process 4711", {"held", "by", "another"}),
        ("error: Kafka has removed records that were not read yet: orders partition 0", {"Kafka", "removed"}),
    ],
)
def test_a_line_that_the_code_does_not_print_is_seen(wrong: str, words: set[str]) -> None:
    assert words <= not_found(wrong)


def test_each_problem_begins_with_what_is_printed() -> None:
    begins = {title: body.strip().startswith("```text") for title, body in SECTIONS}
    assert len(begins) > 10
    assert [title for title, first in begins.items() if not first] == ["Verify is slow"]
