"""Names of the tables: templates with placeholders, filled into paths or catalog identifiers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import Formatter
from typing import Final

from pydantic import BaseModel, ConfigDict, model_validator

from twinrun.config.nearest import listed, nearest
from twinrun.config.problems import Problem, several
from twinrun.config.values import is_path
from twinrun.errors import ConfigError

_PART = re.compile(r"[\w.\-]+")

PLACEHOLDERS: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "bronze": (("topic",), ()),
    "events": (("source",), ("topic",)),
    "quarantine": (("source",), ("topic",)),
    "batch_results": (("job", "version"), ()),
    "stream_results": (("job", "version"), ()),
    "static": (("table",), ()),
}
"""Placeholders that a template must have (without them two tables would be one), and those that it may have."""


class Layout(BaseModel):
    """Where each table lives. A template holds placeholders in braces and nothing of a certain machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bronze: str = "{warehouse}/bronze/{topic}"
    events: str = "{warehouse}/events/{source}"
    quarantine: str = "{warehouse}/quarantine/{source}"
    batch_results: str = "{warehouse}/results/{job}/batch_v{version}"
    stream_results: str = "{warehouse}/results/{job}/stream_v{version}"
    static: str = "{warehouse}/static/{table}"
    control: str = "{warehouse}/twinrun/control"
    micro_batches: str = "{warehouse}/twinrun/micro_batches"
    ledger: str = "{warehouse}/twinrun/ledger"
    late_events: str = "{warehouse}/twinrun/late_events"
    duplicate_events: str = "{warehouse}/twinrun/duplicate_events"
    differences: str = "{warehouse}/twinrun/differences"
    erased: str = "{warehouse}/twinrun/erased"
    requeue: str = "{warehouse}/twinrun/requeue"
    external_differences: str = "{warehouse}/twinrun/external_differences"
    external_malformed: str = "{warehouse}/twinrun/external_malformed"
    measurements: str = "{warehouse}/twinrun/measurements"

    @model_validator(mode="after")
    def _templates_are_sound(self) -> Layout:
        problems = [problem for name, text in self for problem in _template_problems(name, text)]
        if not problems:
            problems = _shared_places(self)
        if problems:
            raise several(problems)
        return self


def _template_problems(name: str, text: str) -> list[Problem]:
    needed, optional = PLACEHOLDERS.get(name, ((), ()))
    allowed = {"warehouse", *needed, *optional}
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        return [Problem((name,), f"layout.{name} is not a template: {error}")]
    fields = [field for _, field, _, _ in parts if field is not None]
    plain = "".join(literal for literal, *_ in parts)
    problems = [
        Problem((name,), f"layout.{name} has the placeholder {{{field}}}", f"one of {listed(allowed)}")
        for field in fields
        if field not in allowed
    ]
    if any(spec or conversion for _, _, spec, conversion in parts):
        problems.append(Problem((name,), f"layout.{name} has a placeholder with a format", "a plain {name}"))
    problems += [
        Problem((name,), f"layout.{name} lacks {{{field}}}, so that two tables would share one place")
        for field in needed
        if field not in fields
    ]
    if ".." in plain or re.search(r"[`\x00-\x1f\x7f-\x9f]", plain):
        problems.append(Problem((name,), f"layout.{name} holds '..', a backtick or a control character"))
    return problems


def _shared_places(layout: Layout) -> list[Problem]:
    """Two names with one place would write into the same table."""
    owners: dict[str, str] = {}
    problems = []
    for name, text in layout:
        # The same letter for each placeholder: templates that differ only in the placeholder can meet.
        place = re.sub(r"\{(?!warehouse)\w+\}", "x", text).rstrip("/").lower()
        if place in owners:
            problems.append(Problem((name,), f"layout.{name} and layout.{owners[place]} lead to the same table"))
        owners.setdefault(place, name)
    return problems


def safe_part(name: str, value: str | int) -> str:
    """A value as it may stand in a path.

    Raises
    ------
    ConfigError
        It is empty or holds ``..``, a slash, a backtick, a control character or another sign with a meaning in paths.
    """
    text = str(value)
    if not _PART.fullmatch(text) or ".." in text or text == ".":
        raise ConfigError(
            f"the {name} {text!r} cannot be part of a table's name",
            expected="letters, digits, '.', '_' and '-', and no '..'",
            fix=f"rename the {name}",
        )
    return text


def fill(layout: Layout, name: str, warehouse: str, parts: Mapping[str, str | int]) -> str:
    """The path or catalog identifier of a table.

    Raises
    ------
    ConfigError
        The layout has no such name, a part is missing, or a part is not safe.
    """
    template = getattr(layout, name, None) if name in Layout.model_fields else None
    if template is None:
        known = Layout.model_fields
        match = nearest(name, known)
        raise ConfigError(
            f"the layout has no table {name!r}",
            expected=f"one of {listed(known)}",
            fix=f"use {match!r}" if match else "",
        )
    values = {key: safe_part(key, value) for key, value in parts.items()}
    fields = {field for _, field, _, _ in Formatter().parse(template) if field and field != "warehouse"}
    missing = sorted(fields - values.keys())
    if missing:
        raise ConfigError(f"layout.{name} needs {', '.join(missing)}", expected=template)
    if is_path(warehouse) or not template.startswith("{warehouse}/"):
        return str(template.format(warehouse=warehouse, **values))
    last = template.removeprefix("{warehouse}/").format(**values)
    return f"{warehouse}.{identifier(last)}"


def identifier(text: str) -> str:
    """A text as the last part of a catalog identifier: every sign but letters, digits and ``_`` becomes ``_``."""
    return re.sub(r"\W", "_", text)
