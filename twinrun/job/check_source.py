"""What is wrong in the declaration of a source, seen without Spark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import get_args

import twinrun.events.json_  # noqa: F401 - makes the format "json" known
from twinrun.config.nearest import listed, nearest
from twinrun.errors import JobError
from twinrun.events.registry import find_decoder
from twinrun.events.source import EventTimeFormat, OffsetRule, Source
from twinrun.job.ddl import NUMERIC, DdlError, Field, read_ddl
from twinrun.job.problem import Problem, wrong_choice, wrong_duration

_NOT_DECODED = {
    "interval": "Delta cannot hold it; declare STRING, or BIGINT with the unit in the name",
    "void": "it has no values; leave the field out",
    "variant": "Spark reads long numbers in it as DOUBLE; declare STRING, which keeps the text, and use parse_json",
    "char": "Spark would pad it; declare STRING",
    "varchar": "Spark does not hold its length in a record; declare STRING",
    "time": "Delta cannot hold it; declare STRING",
}
_EVENT_TIME_TYPES = {"epoch_ms": ("bigint",), "iso8601": ("string", "timestamp")}


def source_problems(source: Source) -> Iterator[Problem]:
    """All problems of one source's declaration."""
    where = f"source {source.name!r}"
    if not isinstance(source.distinct, list | tuple):
        yield Problem(f"{where}: distinct is no list", "a list of field names")
        return
    yield from wrong_duration(f"{where}: lateness", source.lateness)
    yield from wrong_duration(f"{where}: max_ahead", source.max_ahead)
    yield from wrong_choice(f"{where}: event_time_format", source.event_time_format, get_args(EventTimeFormat))
    if source.offsets is not None:
        yield from wrong_choice(f"{where}: offsets", source.offsets, get_args(OffsetRule))
    try:
        find_decoder(source.format)
    except JobError as error:
        yield Problem(f"{where}: {error.found}", error.expected, error.fix)
    try:
        fields = {field.name: field for field in read_ddl(source.schema)}
    except (DdlError, TypeError) as error:
        example = "fields such as: flight_id STRING NOT NULL, delay INT"
        yield Problem(f"{where}: the schema cannot be read: {error}", example)
        return
    yield from _field_problems(source, where, fields)


def _field_problems(source: Source, where: str, fields: dict[str, Field]) -> Iterator[Problem]:
    for name in fields:
        for kind in sorted({fields[name].type, *fields[name].inside}):
            if kind in _NOT_DECODED:
                found = f"{where}: the field {name!r} has the type {kind.upper()}, which is not read from records"
                yield Problem(found, "a type of docs/decoding.md", _NOT_DECODED[kind])
            elif kind.startswith("key of ") and kind != "key of string":
                found = f"{where}: the field {name!r} has a MAP whose key is {kind.removeprefix('key of ').upper()}"
                yield Problem(found, "STRING, as names in JSON are", "declare MAP<STRING, ...>")
        if name.startswith("_"):
            yield Problem(f"{where}: the field {name!r} begins with '_', which is kept for twinrun", change="rename it")
    yield from _undeclared(f"{where}: event_time", [source.event_time], fields)
    yield from _undeclared(f"{where}: id", source.id, fields)
    yield from _undeclared(f"{where}: distinct", source.distinct, fields)
    if source.distinct and source.lateness is None:
        found = f"{where}: distinct stands without lateness, and the stream cannot remember ids for ever"
        yield Problem(found, "a lateness", "add lateness=...")
    yield from _undeclared(f"{where}: ranges", source.ranges, fields)
    allowed = _EVENT_TIME_TYPES.get(source.event_time_format, ())
    time = fields.get(source.event_time)
    if time is not None and allowed and time.type not in allowed:
        types = " or ".join(allowed).upper()
        yield Problem(
            f"{where}: the event time {time.name} is {time.type.upper()} with the format {source.event_time_format}",
            types,
            f"declare {time.name} {types}, or change event_time_format",
        )
    for name, (low, high) in source.ranges.items():
        if name in fields and fields[name].type not in NUMERIC:
            yield Problem(f"{where}: the range of {name} is on a field of type {fields[name].type}", "a numeric field")
        if any(limit is not None and math.isnan(limit) for limit in (low, high)) or (
            low is not None and high is not None and low > high
        ):
            yield Problem(f"{where}: the range of {name} is {low} to {high}", "low <= high, None for no limit")


def _undeclared(what: str, names: Iterable[str], fields: Iterable[str]) -> Iterator[Problem]:
    known = list(fields)
    for name in names:
        if name not in known:
            match = nearest(name, known)
            change = f"write {match!r}" if match else "declare it in the schema"
            yield Problem(f"{what} names {name!r}, which is no field", f"one of {listed(known)}", change)
