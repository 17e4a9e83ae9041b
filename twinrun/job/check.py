"""Check a job and its sources before Spark starts, with all problems told together."""

from __future__ import annotations

import inspect
import keyword
import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import get_args

from twinrun.config.model import Config
from twinrun.config.problems import listed, nearest
from twinrun.durations import parse_ms
from twinrun.errors import ConfigError, JobError, TableError
from twinrun.events.json_ import find_decoder
from twinrun.events.source import Avro, EventTimeFormat, OffsetRule, Protobuf, Source
from twinrun.job.ddl import NUMERIC, DdlError, Field, read_ddl
from twinrun.job.job import Emit, Job, Problem, Table, job_error, wrong_choice, wrong_duration
from twinrun.tolerance import Tolerance, as_tolerance

# What is wrong in the declaration of a source, seen without Spark.


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
    if isinstance(source.format, str):
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
    if isinstance(source.format, Avro | Protobuf):
        from twinrun.events.payload import check_payload

        try:
            check_payload(source.format, list(fields), source.event_time, source.event_time_format)
        except JobError as error:
            yield Problem(f"{where}: {error.found}", error.expected, error.fix)


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


# Everything that is wrong in a job definition and can be seen without Spark, found in one pass.


__all__ = ["Problem", "check_definition", "check_topics", "definition_problems", "job_error"]

_JOB_NAME = re.compile(r"\w[\w\-]*")


def check_definition(job: Job) -> None:
    """Refuse a definition that has problems.

    Raises
    ------
    JobError
        Lists every problem of ``definition_problems``.
    """
    problems = definition_problems(job)
    if problems:
        raise job_error(job, problems)


def check_topics(cfg: Config, job: Job) -> None:
    """Refuse two sources of a job that read one topic: an offset would not say whose record it is.

    Raises
    ------
    ConfigError
        Names the sources and the topic.
    """
    names: dict[str, str] = {}
    for source in job.sources:
        if source.name not in cfg.sources:
            continue  # whoever reads it says so
        topic = cfg.sources[source.name].topic
        if topic in names:
            raise ConfigError(
                f"the sources {names[topic]} and {source.name} of {job.job_name} both read the topic {topic}.",
                expected="a topic of its own for each source of a job",
                fix="read it as one source, and let the function tell the two kinds of records apart",
            )
        names[topic] = source.name


def definition_problems(job: Job) -> list[Problem]:
    """All problems of a definition that show without Spark, without data and without calling the function.

    Returns
    -------
    list of Problem
        In the order of the job's fields; empty for a sound definition.
    """
    shapes = list(_shape_problems(job))
    if shapes:
        # The other rules read these fields and would only repeat that they are of another kind.
        return shapes
    rules: tuple[Callable[[Job], Iterator[Problem]], ...] = (
        _logic_problems,
        _name_problems,
        _parameter_problems,
        lambda each: (problem for source in each.sources for problem in source_problems(source)),
        _key_problems,
        _grain_problems,
        _emit_problems,
        _tolerance_problems,
        _share_problems,
    )
    return [problem for rule in rules for problem in rule(job)]


def _shape_problems(job: Job) -> Iterator[Problem]:
    """Fields of another kind than the contract says."""
    if not callable(job.logic):
        yield Problem(f"the logic is of type {type(job.logic).__name__}", "a function of DataFrames")
    for name, kind in (("sources", Source), ("tables", Table), ("keys", str)):
        value = getattr(job, name)
        if not isinstance(value, list | tuple):
            yield Problem(f"{name} is of type {type(value).__name__}", f"a list of {kind.__name__}")
        elif not all(isinstance(item, kind) for item in value):
            yield Problem(f"{name} holds something that is no {kind.__name__}", f"a list of {kind.__name__}")
        elif not value and name == "sources":
            yield Problem("the job has no source", "at least one Source", "add sources=[...]")
    sources = job.sources if isinstance(job.sources, list | tuple) else []
    for source in sources:
        if isinstance(source, Source) and not isinstance(source.id, list | tuple):
            yield Problem(f"the id of source {source.name!r} is no list", "a list of field names")
    for source in sources:
        ranges = source.ranges if isinstance(source, Source) else {}
        if not isinstance(ranges, dict) or not all(
            isinstance(limits, list | tuple) and len(limits) == 2 for limits in ranges.values()
        ):
            yield Problem(f"the ranges of source {source.name!r} are no dict of pairs", "field name to (low, high)")
    if not isinstance(job.tolerances, dict):
        yield Problem("tolerances is no dict", "column name to number")
    if not callable(job.expect) and not isinstance(job.expect, list | tuple):
        yield Problem("expect is no list", "a list of expectations, or a function that returns one")


def _logic_problems(job: Job) -> Iterator[Problem]:
    logic = job.logic
    if getattr(logic, "__name__", "") == "<lambda>":
        yield Problem(
            "the logic is a lambda, which has no name and no line in messages",
            "a function",
            "write it with def at the top level of the job file",
        )
    if inspect.iscoroutinefunction(logic) or inspect.isgeneratorfunction(inspect.unwrap(logic)):
        yield Problem("the logic is a coroutine or a generator", "a plain function that returns a DataFrame")


def _name_problems(job: Job) -> Iterator[Problem]:
    lambda_name = not job.name and job.job_name == "<lambda>"
    if not lambda_name and not _JOB_NAME.fullmatch(job.job_name):
        allowed = "letters, digits, '_' and '-'"
        yield Problem(f"the job's name is {job.job_name!r}", allowed, "set Job(name=...)")
    names = [*(source.name for source in job.sources), *(table.name for table in job.tables)]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Problem(f"the name {name!r} stands for more than one source or table", change="rename one of them")
    for name in dict.fromkeys(names):
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
            allowed = "a name that can be a parameter and does not begin with '_'"
            yield Problem(f"a source or table is named {name!r}", allowed)


def _parameter_problems(job: Job) -> Iterator[Problem]:
    try:
        parameters = inspect.signature(job.logic).parameters
    except (TypeError, ValueError):
        yield Problem("the parameters of the logic cannot be read", "a function written in Python")
        return
    declared = [*(source.name for source in job.sources), *(table.name for table in job.tables)]
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            yield Problem(f"the parameter {name!r} is not given by name", "one plain parameter per source and table")
        elif name not in declared:
            unused = [other for other in declared if other not in parameters]
            match = nearest(name, unused)
            change = f"rename it to {match!r}" if match else "declare a Source or Table of that name, or remove it"
            yield Problem(f"the parameter {name!r} is no source or table", f"one of {listed(declared)}", change)
    for name in declared:
        if name not in parameters:
            change = f"add a parameter {name!r}, or remove the declaration"
            yield Problem(
                f"{name!r} is declared, but no parameter takes it", f"parameters: {listed(parameters)}", change
            )


def _key_problems(job: Job) -> Iterator[Problem]:
    if not job.keys:
        yield Problem("the job has no keys", "columns that name a result row", "add keys=[...]")
    for key in sorted({key for key in job.keys if job.keys.count(key) > 1}):
        yield Problem(f"the key {key!r} stands twice", change="remove one")
    for name in dict.fromkeys([*job.keys, job.window_column]):
        if not name or name.startswith("_"):
            allowed = "a name that does not begin with '_', which is kept for twinrun"
            yield Problem(f"a key or the window column is named {name!r}", allowed, "rename the column")
    if job.window is not None and job.keys and job.window_column not in job.keys:
        change = f"add {job.window_column!r} to keys, or set window_column"
        yield Problem(f"the window column {job.window_column!r} is no key: windows would share rows", change=change)


def _grain_problems(job: Job) -> Iterator[Problem]:
    broken = [
        problem
        for name in ("window", "slide", "gap")
        for problem in wrong_duration(name, getattr(job, name), least_ms=1)
    ]
    yield from broken
    for table in job.tables:
        yield from wrong_duration(f"table {table.name!r}: refresh", table.refresh, least_ms=1)
    if job.gap is not None and (job.window is not None or job.slide is not None):
        yield Problem("gap stands with window or slide", "gap alone (a session), or window with or without slide")
    elif job.slide is not None and job.window is None:
        yield Problem("slide stands without window", "window and slide together", "add window=...")
    elif job.slide is not None and not broken:
        window_ms, slide_ms = parse_ms(job.window or ""), parse_ms(job.slide)
        if slide_ms > window_ms:
            change = "make slide smaller: events between two windows would be lost"
            yield Problem(f"slide ({job.slide}) is longer than window ({job.window})", "slide <= window", change)
        elif window_ms % slide_ms:
            yield Problem(f"window ({job.window}) is no multiple of slide ({job.slide})", "a whole number of slides")


def _emit_problems(job: Job) -> Iterator[Problem]:
    yield from wrong_choice("emit", job.emit, get_args(Emit))
    if job.emit == "final" and (job.window is not None or job.gap is not None):
        for source in job.sources:
            if source.lateness is None:
                yield Problem(
                    f"emit='final' needs to know when a window is over, and source {source.name!r} has no lateness",
                    "a lateness for every source, or emit='updates'",
                    f"add lateness=... to source {source.name!r}",
                )
    if job.emit == "updates" and job.gap is not None:
        yield Problem("emit='updates' stands with gap: Spark cannot update sessions", "emit='final'")
    if job.delete_when is not None:
        if job.emit != "updates":
            yield Problem("delete_when stands without emit='updates'", "delete_when with emit='updates'", "remove it")
        if not isinstance(job.delete_when, str) or not job.delete_when.strip():
            yield Problem("delete_when holds no expression", "a boolean SQL expression over the result")


def _tolerance_problems(job: Job) -> Iterator[Problem]:
    for column, tolerance in job.tolerances.items():
        value = tolerance.value if isinstance(tolerance, Tolerance) else tolerance
        try:
            as_tolerance(value)
        except TableError as error:
            yield Problem(f"the tolerance of {column!r}: {error.found}", error.expected)
        if column in job.keys:
            yield Problem(f"the key {column!r} has a tolerance", "keys are compared exactly", "remove the tolerance")


def _share_problems(job: Job) -> Iterator[Problem]:
    for name in ("max_late_share", "max_quarantined_share"):
        share = getattr(job, name)
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            yield Problem(f"{name} is {share!r}", "a share from 0 to 1")
