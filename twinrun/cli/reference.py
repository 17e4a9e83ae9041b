"""The pages docs/reference*.md, made from the code: ``python -m twinrun.cli.reference`` writes them anew.

A test holds that the committed pages are what this module makes, so that a new option, key or field cannot be
forgotten there. It reads the checkout (``conf/local.yaml`` has the words for each key), and is no command.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard, Union, get_args, get_origin

import typer
from pydantic import BaseModel

from twinrun import errors
from twinrun.cli.app import app
from twinrun.cli.reference_classes import api_page, head, json_page, paragraph, table, verdict_page, verdict_parts_page
from twinrun.config.model import Config, Layout

SHARED = ("conf", "overrides", "as_json", "debug")
"""Parameters that every command has; they are described once."""

ONE_NAME = {"sources": "SOURCE", "tables": "TABLE", "jobs": "JOB", "external": "JOB"}
"""Sections of the configuration whose keys are names that the user chooses, and how the page writes them."""

FILLED = {"sources.SOURCE.topic": "the source's name"}
"""Keys that a configuration fills by itself before it looks whether they are there."""

TOOLS = ("broker", "demo", "doctor", "gallery", "init", "maintain", "produce", "scenario", "schedule", "topic")
"""First words of the commands around the runs of a job; they have a page of their own."""

_BRACKETS = re.compile(r"\s*\[(?:default[^\]]*|[^\]]*required|[^\]]*x[<>]=?[^\]]*|env var: \w+)\]")


def pages(root: Path) -> dict[str, str]:
    """The text of each page by its file name.

    Parameters
    ----------
    root : Path
        The checkout.
    """
    made = {
        "reference.md": commands_page(),
        "reference_tools.md": tools_page(),
        "reference_json.md": json_page(),
        "reference_verdict.md": verdict_page(),
        "reference_verdict_parts.md": verdict_parts_page(),
        "reference_configuration.md": configuration_page((root / "conf/local.yaml").read_text(encoding="utf-8")),
        "reference_api.md": api_page(),
    }
    return {name: "\n".join([*lines, ""]) for name, lines in made.items()}


def commands_page() -> list[str]:
    """Every command with its arguments, options and an example."""
    program: Any = typer.main.get_command(app)
    some = program.commands["verify"]
    context = some.make_context("verify", [], resilient_parsing=True)
    shared = [_option(p, context) for p in some.params if p.name in SHARED and not p.hidden]
    codes = [
        (errors.EXIT_OK, "done; for a verdict: nothing differs, or only as it is expected to"),
        (errors.EXIT_DIFFERENT, "done, and what was found needs a look"),
        (errors.EXIT_ERROR, "error: what was found, what was expected, what to do"),
        (errors.EXIT_INTERRUPTED, "interrupted; what was committed stays"),
    ]
    lines = [
        *head("commands"),
        *paragraph(
            "The other pages: [commands around a job's runs: Kafka, schedules, projects, upkeep](reference_tools.md), "
            "[what `--json` prints](reference_json.md), [a verdict as JSON](reference_verdict.md), "
            "[keys of the configuration](reference_configuration.md), [the Python API](reference_api.md). What each "
            "command does with the data: [how_it_works.md](how_it_works.md) and [operations.md](operations.md). Every "
            "command has these options:"
        ),
        "",
        *table(("option", "meaning"), [*shared, ("`--help`, `-h`", "Show the command with its options.")]),
        "",
        *paragraph(
            "`twinrun --version` prints the version. An argument in capitals must be given, unless it stands in "
            "brackets. Exit codes; what 1 means for each command: [operations.md](operations.md#exit-codes)."
        ),
        "",
        *table(("exit code", "meaning"), [(f"`{code}`", text) for code, text in codes]),
    ]
    return [*lines, *_told(program, tools=False)]


def tools_page() -> list[str]:
    """Every command of `TOOLS`, as `commands_page` tells the others."""
    words = "Options that every command has, and exit codes: [reference.md](reference.md)."
    return [*head("commands around a job's runs"), *paragraph(words), *_told(typer.main.get_command(app), tools=True)]


def _told(program: Any, *, tools: bool) -> list[str]:
    chosen = ((name, each) for name, each in _commands(program) if (name.split()[0] in TOOLS) == tools)
    return [line for name, each in chosen for line in ("", f"## twinrun {name}", "", *_command(name, each))]


def configuration_page(local: str) -> list[str]:
    """Every key of the configuration with what it takes, its default and its meaning.

    Parameters
    ----------
    local : str
        The text of ``conf/local.yaml``, whose comments say what each key means.
    """
    words = _comments(local)
    rows = [
        (f"`{key}`", kind, default, words.get(key, ""))
        for key, kind, default in _keys(Config)
        if not key.startswith("layout.")
    ]
    templates = [(f"`layout.{name}`", f"`{field.default}`") for name, field in Layout.model_fields.items()]
    return [
        *head("configuration"),
        *paragraph(
            "One YAML file, `conf/local.yaml` unless `--conf` or `TWINRUN_CONF` names another. Which setting wins, how "
            "a file extends another, secrets and environment variables: [operations.md](operations.md#configuration). "
            "Names in capitals are yours: `SOURCE`, `TABLE` and `JOB` stand for any name."
        ),
        "",
        *table(("key", "takes", "default", "meaning"), rows),
        "",
        "## Where tables are",
        "",
        *paragraph(
            "Each key of `layout` is a template. `{warehouse}` is the warehouse; the other placeholders that a default "
            "has must stay, since without them two tables would be one. What each table holds: "
            "[how_it_works.md](how_it_works.md#what-each-table-holds)."
        ),
        "",
        *table(("key", "default"), templates),
    ]


def _commands(group: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from _commands(command, f"{above}{name} ")
        else:
            yield f"{above}{name}", command


def _command(name: str, command: Any) -> list[str]:
    context = command.make_context(name, [], resilient_parsing=True)
    own = [p for p in command.params if p.name not in SHARED and not getattr(p, "hidden", False)]
    example = (command.epilog or "").removeprefix("Example: ")
    said = " ".join((command.help or "").split())
    lines = [f"{said} Example: `{example}`"]
    return [*lines, "", *(f"* {name}: {text}" for name, text in (_option(p, context) for p in own))] if own else lines


def _option(parameter: Any, context: Any) -> tuple[str, str]:
    """What to write, and what it means, as ``--help`` says it; its brackets become words."""
    written, said = parameter.get_help_record(context)
    if parameter.param_type_name == "argument":
        written = re.sub(r" <[^>]*>", "", parameter.metavar or written.upper())
    name = re.sub(r"<([^>]*)>", lambda kind: _KINDS.get(kind[1], kind[1]).upper(), written)
    notes = []
    if re.search(r"\[[^\]]*required\]", said) and parameter.param_type_name == "option":
        notes.append("Must be given.")
    notes += [f"Default{found}." for found in re.findall(r"\[default([^\];]*)", said)]
    notes += [f"At least {found}." for found in re.findall(r"x>=(\S+?)[\];]", said)]
    notes += [f"From {low} to {high}." for low, high in re.findall(r"\b(\d+)<=x<=(\d+)", said)]
    notes += [f"Variable: `{found}`." for found in re.findall(r"\[env var: (\w+)\]", said)]
    return f"`{name}`", " ".join([_BRACKETS.sub("", said).strip(), *notes])


_KINDS = {"str": "text", "int": "number", "int range": "number", "float": "number", "float range": "number"}


def _keys(section: type[BaseModel], above: str = "") -> Iterator[tuple[str, str, str]]:
    """Every key with what it takes and its default."""
    for name, field in section.model_fields.items():
        key = f"{above}{name}"
        chosen = [each for each in get_args(field.annotation) if _is_section(each)]
        if _is_section(field.annotation):
            yield from _keys(field.annotation, f"{key}.")
        elif name in ONE_NAME and not above:
            yield from _keys(chosen[0], f"{key}.{ONE_NAME[name]}.")
        else:
            default = "must be given" if field.is_required() else _shown(field.get_default(call_default_factory=True))
            yield key, _taken(field.annotation, field.metadata), FILLED.get(key, default)


def _is_section(hint: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(hint, type) and issubclass(hint, BaseModel)


def _taken(hint: Any, limits: Iterable[Any] = ()) -> str:
    """What a key takes, with its limits."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _taken(inner[0], [more for each in inner[1:] for more in getattr(each, "metadata", [each])])
    if origin in (Union, types.UnionType):
        kinds = [_taken(each, limits) for each in inner if each is not type(None)]
        return ", or ".join([" or ".join(kinds), *(["null"] if type(None) in inner else [])])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    low, high = (next((getattr(e, name) for e in limits if hasattr(e, name)), None) for name in ("ge", "le"))
    kind = _TYPES[origin or hint]
    if low is None:
        return kind
    return f"{kind}, at least {low}" if high is None else f"{kind}, {low} to {high}"


_TYPES = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}
_TYPES |= {dict: "section", list: "list"}


def _shown(default: Any) -> str:
    if default is None:
        return "null"
    return "none" if default in ({}, []) else f"`{default}`"


def _comments(text: str) -> dict[str, str]:
    """What the comment behind each key of a YAML file says, by the key's path; chosen names as `ONE_NAME` has them."""
    found: dict[str, str] = {}
    path: list[str] = []
    for line in text.splitlines():
        match = re.match(r"^( *)([\w-]+):[^#]*(?:# (.*))?$", line)
        if match is None:
            continue
        path = [*path[: len(match[1]) // 2], match[2]]
        names = [ONE_NAME[path[0]] if depth == 1 and path[0] in ONE_NAME else part for depth, part in enumerate(path)]
        if match[3] and (key := ".".join(names)) not in found:
            found[key] = match[3].strip()
    return found


def main() -> None:
    """Write the pages into the checkout that this file belongs to."""
    root = Path(__file__).resolve().parents[2]
    for name, text in pages(root).items():
        (root / "docs" / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
