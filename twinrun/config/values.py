"""Types of single configuration values, each with a plain sentence when a value does not fit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from twinrun.config.problems import Problem
from twinrun.config.secrets import is_reference, needs_reference

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
