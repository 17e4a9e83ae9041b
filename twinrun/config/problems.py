"""Problems of a configuration: collected, then told together in plain sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from twinrun.config.nearest import listed, nearest
from twinrun.errors import ConfigError
from twinrun.wording import plural

Loc = tuple[str, ...]

MANY = "twinrun_problems"
"""Type of a validation error that carries several problems, each with a key below that of the field."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. ``loc`` is the key, part by part; ``origin`` the file and line, or option."""

    loc: Loc
    found: str
    expected: str = ""
    fix: str = ""
    origin: str = ""

    def line(self) -> str:
        """The problem on one line."""
        parts = [f"{self.origin}: {self.found}" if self.origin else self.found]
        parts += [f"expected {self.expected}"] if self.expected else []
        parts += [f"to fix: {self.fix}"] if self.fix else []
        return "; ".join(parts)


def dotted(loc: Sequence[str]) -> str:
    """The full key as a user writes it."""
    return ".".join(loc)


def config_error(file: str, problems: Sequence[Problem]) -> ConfigError:
    """One error that tells every problem of a configuration."""
    if len(problems) == 1:
        only = problems[0]
        found = f"{only.origin}: {only.found}" if only.origin else only.found
        return ConfigError(found, expected=only.expected, fix=only.fix)
    lines = "".join(f"\n  - {problem.line()}" for problem in problems)
    return ConfigError(f"{file} cannot be used; it has {plural(len(problems), 'problem')}:{lines}")


def several(problems: Sequence[Problem]) -> PydanticCustomError:
    """A validation error for problems that belong to one field."""
    return PydanticCustomError(MANY, "several problems", {"problems": tuple(problems)})


def from_validation(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Turn pydantic's errors into problems, without any value that the user did not need to see."""
    every = error.errors(include_url=False)
    misspelt = {_meant(details, model) for details in every if details["type"] == "extra_forbidden"}
    # A key that is missing because it is misspelt is one problem: adding it would leave the other as it stands.
    return [
        problem
        for details in every
        if details["type"] != "missing" or _loc(details) not in misspelt
        for problem in _read(details, model)
    ]


def _loc(details: ErrorDetails) -> Loc:
    return tuple(str(part) for part in details["loc"] if part != "[key]")


def _meant(details: ErrorDetails, model: type[BaseModel]) -> Loc | None:
    """The known key that a misspelt one stands for, in full."""
    loc = _loc(details)
    match = nearest(loc[-1], keys_at(model, loc[:-1]))
    return (*loc[:-1], match) if match else None


def _read(details: ErrorDetails, model: type[BaseModel]) -> list[Problem]:
    loc = _loc(details)
    kind, context = details["type"], details.get("ctx", {})
    if kind == MANY:
        return [Problem((*loc, *inner.loc), inner.found, inner.expected, inner.fix) for inner in context["problems"]]
    key = dotted(loc)
    if kind == "extra_forbidden":
        allowed = keys_at(model, loc[:-1])
        meant = _meant(details, model)
        fix = f"write {dotted(meant)}" if meant else "remove it"
        return [Problem(loc, f"{key} is not a known key", f"one of {listed(allowed)}", fix)]
    if kind == "missing":
        return [Problem(loc, f"{key} is missing", fix=f"add {key}")]
    if kind == "literal_error":
        return [_wrong_choice(loc, str(details["input"]), context["expected"])]
    if kind == "value_error":
        return [Problem(loc, f"{key} cannot be used: {context['error']}")]
    bounded = kind.startswith(("greater_than", "less_than"))
    what = str(details["input"]) if bounded else _type_name(details["input"])
    return [Problem(loc, f"{key} is {what}", _expected(details, model, loc))]


def _wrong_choice(loc: Loc, value: str, expected: str) -> Problem:
    choices = [word.strip("'") for part in expected.split(" or ") for word in part.split(", ")]
    match = nearest(value, choices)
    return Problem(loc, f"{dotted(loc)} is {value!r}", expected, f"write {match}" if match else "")


def _type_name(value: object) -> str:
    names: dict[type, str] = {
        bool: "true or false",
        int: "a whole number",
        float: "a number with a fraction",
        str: "text",
        list: "a list",
        dict: "a section",
        type(None): "null",
    }
    return names.get(type(value), type(value).__name__)


def _expected(details: ErrorDetails, model: type[BaseModel], loc: Loc) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        allowed = keys_at(model, loc)
        return f"a section with the keys {listed(allowed)}" if allowed else "a section of keys and values"
    plain = {
        "string_type": "text (write numbers and true/false in quotes)",
        "bool_type": "true or false",
        "list_type": "a list",
        "bool_parsing": "true or false",
        "greater_than_equal": f"at least {context.get('ge')}",
        "greater_than": f"more than {context.get('gt')}",
        "less_than_equal": f"at most {context.get('le')}",
    }
    return plain.get(kind, details["msg"])


def keys_at(model: type[BaseModel], loc: Sequence[str]) -> tuple[str, ...]:
    """Keys that are allowed at a place of the configuration; none where any key is."""
    inner = annotation_at(model, loc)
    return tuple(inner.model_fields) if isinstance(inner, type) and issubclass(inner, BaseModel) else ()


def annotation_at(model: type[BaseModel], loc: Sequence[str]) -> Any:
    """The declared type at a place of the configuration, or None where there is none."""
    here: Any = model
    for part in loc:
        if isinstance(here, type) and issubclass(here, BaseModel):
            field = here.model_fields.get(part)
            here = field.annotation if field else None
        else:
            arguments = get_args(here)
            here = arguments[1] if get_origin(here) is dict else None
    return here
