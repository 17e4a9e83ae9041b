"""Values that do not fit, and unknown names, collected and told together in plain sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Annotated, Any, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from twinrun.config.secrets import is_reference, needs_reference
from twinrun.errors import ConfigError
from twinrun.wording import plural

# The nearest match of a word that is not known, for messages.


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word that looks most like ``word``, or an empty text when none is close.

    Upper and lower case count as equal.
    """
    by_lower = {name.lower(): name for name in known}
    found = get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else ""


def listed(words: Iterable[str]) -> str:
    """Words in alphabetical order, separated by commas; "none" where there are none."""
    return ", ".join(sorted(words)) or "none"


# Types of single configuration values, each with a plain sentence when a value does not fit.


_NAME = re.compile(r"[\w\-]+")
_TOPIC = re.compile(r"[A-Za-z0-9._\-]{1,249}")
_SERVER = re.compile(r"(?:[A-Za-z0-9+]+://)?(?:[A-Za-z0-9._\-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")
_CATALOG = re.compile(r"\w+\.\w+(?:\.\w+)?")
_FORBIDDEN = re.compile(r"[`\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _whole(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"\s*[-+]?\d+\s*", value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        kind = "whole_number"
        raise PydanticCustomError(kind, "a whole number")
    return value


def _empty_section(value: Any) -> Any:
    return {} if value is None else value


def _option_text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def literal_secrets(section: str, options: Mapping[str, str]) -> list[Problem]:
    """Problems for secrets that are written out; all of them are named, none is shown."""
    return [
        Problem(
            (key,),
            f"{section}.{key} holds a secret as plain text",
            "${env:NAME} or file:/path, as the whole value",
            "put the value into an environment variable or a file that only its owner can read",
        )
        for key, value in options.items()
        if needs_reference(key, value) and not is_reference(value)
    ]


def _servers(text: str) -> str:
    for server in text.split(","):
        match = _SERVER.fullmatch(server.strip())
        if match is None or not 0 < int(match[1]) < 65_536:
            msg = f"{server.strip()!r} is not host:port"
            raise ValueError(msg)
    return text


def _topic(text: str) -> str:
    if not _TOPIC.fullmatch(text) or text in (".", ".."):
        msg = f"{text!r} is not a Kafka topic name (letters, digits, '.', '_' and '-', at most 249)"
        raise ValueError(msg)
    return text


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        msg = f"{text!r} is not a name (letters, digits, '_' and '-')"
        raise ValueError(msg)
    return text


def _offsets(text: str) -> str:
    if text in ("earliest", "latest"):
        return text
    try:
        zone = datetime.fromisoformat(text).tzinfo
    except ValueError:
        zone = None
    if zone is None:
        msg = f"{text!r} is not earliest, latest or a time with a zone such as 2013-01-06T00:00:00Z"
        raise ValueError(msg)
    return text


def _table_path(text: str) -> str:
    text = _safe_path(text)
    if not is_path(text) and not _CATALOG.fullmatch(text):
        msg = f"{text!r} is not a path (with a '/') and not a catalog name such as catalog.schema"
        raise ValueError(msg)
    return text


def _folder_path(text: str) -> str:
    text = _safe_path(text)
    if not is_path(text):
        msg = f"{text!r} is not a path (with a '/')"
        raise ValueError(msg)
    return text


def _safe_path(text: str) -> str:
    if _FORBIDDEN.search(text) or ".." in text.split("/"):
        msg = "it holds a backtick, a control character or '..'"
        raise ValueError(msg)
    if re.search(r"://[^/@\s]*:[^/@\s]+@", text):
        msg = "it holds a password; give credentials in spark.conf, as a reference"
        raise ValueError(msg)
    if not text.strip():
        msg = "it is empty"
        raise ValueError(msg)
    return text.rstrip("/") or "/"


def _share(number: object) -> object:
    if isinstance(number, bool) or not isinstance(number, int | float):
        msg = "it is not a number from 0 to 1"
        raise ValueError(msg)
    return number


def is_path(text: str) -> bool:
    """Whether a text is a path that Spark reads, and not a catalog name."""
    return "/" in text


Whole = Annotated[int, BeforeValidator(_whole)]
Count = Annotated[int, BeforeValidator(_whole), Field(ge=1)]
NotNegative = Annotated[int, BeforeValidator(_whole), Field(ge=0)]
Share = Annotated[float, BeforeValidator(_share), Field(ge=0, le=1)]
EmptySection = BeforeValidator(_empty_section)
Options = Annotated[dict[str, Annotated[str, BeforeValidator(_option_text)]], EmptySection]
Servers = Annotated[str, AfterValidator(_servers)]
Topic = Annotated[str, AfterValidator(_topic)]
Name = Annotated[str, AfterValidator(_name)]
Offsets = Annotated[str, AfterValidator(_offsets)]
TablePath = Annotated[str, AfterValidator(_table_path)]
FolderPath = Annotated[str, AfterValidator(_folder_path)]


# Problems of a configuration: collected, then told together in plain sentences.


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
