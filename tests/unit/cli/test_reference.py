"""The reference is made from the code, and the committed pages are what the code says now. No Spark."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer

from twinrun.cli import reference, reference_classes
from twinrun.cli.call import Call, command
from twinrun.cli.reference_classes import _inside, _typed

ROOT = Path(__file__).resolve().parents[3]
PAGES = reference.pages(ROOT)


@pytest.mark.parametrize("name", PAGES)
def test_the_committed_page_is_what_the_code_says(name: str) -> None:
    committed = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert committed == PAGES[name], "write the pages anew: python -m twinrun.cli.reference"


def test_no_other_page_of_the_reference_is_left_over() -> None:
    assert {path.name for path in (ROOT / "docs").glob("reference*.md")} == set(PAGES)


def test_every_key_of_the_configuration_has_a_meaning_and_a_default() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| (.*) \| (.*) \| (.*) \|$", PAGES["reference_configuration.md"], re.MULTILINE)
    assert len(rows) > 40
    assert [row for row in rows if not all(cell.strip() for cell in row)] == []


def test_a_new_option_stands_on_the_page_with_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer()

    @app.callback()
    def _() -> None:
        """Several commands."""

    @command(app, "verify", "twinrun verify JOB")
    def verify(
        call: Call,
        name: Annotated[str, typer.Argument(metavar="JOB", help="A job.")],
        least: Annotated[int, typer.Option(min=2, help="How many at least.")] = 5,
    ) -> int:
        """Compare."""
        return 0

    monkeypatch.setattr(reference, "app", app)
    page = reference.commands_page()
    assert "* `JOB`: A job." in page
    assert "* `--least NUMBER`: How many at least. Default: 5. At least 2." in page


@dataclass(frozen=True)
class Inner:
    """A part."""

    count: int


@dataclass(frozen=True)
class Outer:
    """A whole.

    Attributes
    ----------
    name : str or None
        What it is called; None where it has no name.
    """

    name: str | None
    by_partition: dict[int, float]
    parts: tuple[Inner, ...]


def test_a_class_is_told_with_the_types_of_json_and_with_what_it_holds() -> None:
    assert _inside(Outer) == [Inner]
    assert _typed(Outer) == [
        ("`name`", "text, or null"),
        ("`by_partition`", "object of number by partition"),
        ("`parts`", "list of [Inner](reference_verdict.md#inner)"),
    ]
    assert reference_classes._attributes(Outer) == [("name", "What it is called; None where it has no name.")]
    assert reference_classes._in_json("None where it is False.") == "null where it is false."
