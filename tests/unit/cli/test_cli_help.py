"""Every command explains itself: options that all have, and an example that could be typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from twinrun.cli.app import app

ALL = [
    "advise",
    "batch",
    "broker start",
    "broker status",
    "broker stop",
    "compare",
    "demo",
    "doctor",
    "gallery",
    "heal",
    "history",
    "ingest",
    "init",
    "jobs",
    "lint",
    "maintain erase",
    "maintain expire",
    "maintain tidy",
    "measure",
    "produce",
    "quarantine",
    "report",
    "requeue",
    "run",
    "scenario",
    "schedule",
    "show",
    "stream",
    "topic describe",
    "topic list",
    "topic produce",
    "topic tail",
    "verify",
    "what-if",
]


def commands(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, each in group.commands.items():
        if hasattr(each, "commands"):
            yield from commands(each, f"{path}{name} ")
        else:
            yield f"{path}{name}", each


KNOWN = dict(commands(typer.main.get_command(app)))


def test_the_commands_are_these() -> None:
    assert sorted(KNOWN) == ALL


@pytest.mark.parametrize("name", ALL)
def test_help_ends_with_success_and_names_the_shared_options(name: str, run: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "200")

    done = run(*name.split(), "--help")

    assert done.code == 0
    assert done.err == ""
    for text in (f"Example: twinrun {name}", "--conf", "--set", "--json", "--help"):
        assert text in done.out


@pytest.mark.parametrize("name", ALL)
def test_an_example_uses_only_options_that_exist(name: str) -> None:
    example = KNOWN[name].epilog.removeprefix("Example: twinrun ")
    known = {option for parameter in KNOWN[name].params for option in parameter.opts}

    assert example.startswith(name)
    assert {word for word in shlex.split(example) if word.startswith("--")} <= known


@pytest.mark.parametrize("name", ALL)
def test_every_option_and_argument_is_explained(name: str) -> None:
    unexplained = [p.name for p in KNOWN[name].params if not p.help and not getattr(p, "hidden", False)]

    assert unexplained == []


def test_no_command_at_all_shows_the_list(run: Any) -> None:
    done = run()

    assert done.code == 0
    assert re.search(r"verify\s+Compare both results", done.out)


def test_version(run: Any) -> None:
    assert re.fullmatch(r"twinrun \d+\.\d+\.\d+\n", run("--version").out)
