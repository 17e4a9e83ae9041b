"""Read a verdict back from its JSON report."""

from __future__ import annotations

import json
import types
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from twinrun.errors import InputError
from twinrun.results.verdict import SCHEMA_VERSION, Verdict

READABLE = (1, 2, SCHEMA_VERSION)
"""Versions of the schema whose reports can be read: what they lack has a default."""


def read_verdict(file: Path) -> Verdict:
    """The verdict that a ``report.json`` holds.

    Raises
    ------
    InputError
        It is not JSON, or was written by another version of the schema.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        version = values["schema_version"]
    except (OSError, ValueError, KeyError, TypeError):
        raise _unusable(file, "it is not a JSON report of twinrun") from None
    if version not in READABLE:
        readable = " and ".join(map(str, READABLE))
        raise _unusable(file, f"it has schema version {version}, this twinrun reads {readable}")
    try:
        verdict: Verdict = _build(Verdict, values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unusable(file, f"its content does not fit ({error})") from None
    return verdict


def _build(kind: Any, value: Any) -> Any:
    """A JSON value as the declared type: dataclasses from objects, tuples from arrays, whole-number keys from text."""
    origin, arguments = get_origin(kind), get_args(kind)
    if value is None or kind is Any:
        return value
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        # A field with a default may be younger than the report.
        needed = {each.name for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING}
        known = [each for each in fields(kind) if each.name in value or each.name in needed]
        return kind(**{each.name: _build(hints[each.name], value[each.name]) for each in known})  # type: ignore[operator]
    if origin in (types.UnionType, Union):
        return _build(next(each for each in arguments if each is not types.NoneType), value)
    if origin is tuple:
        kinds = arguments if Ellipsis not in arguments else (arguments[0],) * len(value)
        return tuple(_build(each, item) for each, item in zip(kinds, value, strict=True))
    if origin is dict:
        return {arguments[0](key): _build(arguments[1], each) for key, each in value.items()}
    return value


def _unusable(file: Path, why: str) -> InputError:
    return InputError(f"{file} cannot be read: {why}.", fix="make it anew: twinrun verify JOB")
