"""Lint a job: build its function over empty frames in both modes, start nothing, and say what is refused or differs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from twinrun.config.problems import listed
from twinrun.errors import JobError
from twinrun.job.check import check_definition, job_error
from twinrun.job.code import call_logic
from twinrun.job.dataflow import dataflow
from twinrun.job.job import Job, Problem
from twinrun.job.jvmplan import has_jvm, read_plan
from twinrun.job.passing import passages
from twinrun.job.plan import check_plan, quiet_spark, seen_schema, stream_frame
from twinrun.lint.calls import Calls, Stopped, calls_of, watched
from twinrun.lint.clock import clocks
from twinrun.lint.fails import values_that_fail
from twinrun.lint.refused import Found, empty_sessions, refusal_rule, refused_in_batch, refused_in_streaming
from twinrun.lint.result import Finding, LintResult
from twinrun.lint.rows import losses, rows_that_differ
from twinrun.lint.rules import RULES
from twinrun.lint.tree import Tree, given, read_tree
from twinrun.lint.values import Judged, values_that_differ

_AT_LINE = re.compile(r" line (\d+): (.*)", re.DOTALL)
_ORDER = {"refused": 0, "fails": 1, "differs": 2, "note": 3}


@dataclass(frozen=True)
class Reading:
    """How the stream will read: records per micro-batch, and how many wait by source and partition, where known."""

    per_trigger: int
    backlog: Mapping[str, Mapping[int, int]] | None = None


def lint_job(
    spark: SparkSession, job: Job, tables: Mapping[str, StructType], reading: Reading | None = None
) -> LintResult:
    """Say what one mode refuses of a job and what can differ between the modes.

    Starts no query and, unless the function reads a table by itself, no Spark job: its actions are noted, not run.
    On Spark Connect only the Python code is looked at.

    Parameters
    ----------
    tables : mapping of str to StructType
        Schema of every static table of the job, by name.
    reading : Reading, optional
        None: a micro-batch reads all that waits.

    Returns
    -------
    LintResult
        Findings by line.

    Raises
    ------
    JobError
        The job cannot be used in any mode: its definition, its function or its contract is wrong.
    """
    check_definition(job)
    missing = [table.name for table in job.tables if table.name not in tables]
    if missing:
        raise JobError(f"{job.job_name}: the table {listed(missing)} has no schema", fix="bind it in the configuration")
    calls = calls_of(job)
    found: list[Judged] = [(each, None) for each in clocks(calls, getattr(job.logic, "__name__", ""))]
    found += [(_static_note(table.name, table.refresh, calls), None) for table in job.tables]
    left_out: tuple[str, ...] = ("the plan: there is no JVM to ask",)
    if has_jvm(spark):
        with quiet_spark():
            of_plan, left_out = _of_plan(spark, job, tables, calls)
        found += of_plan
    if reading is not None and any(each.rule == "TR201" for each, _ in found):
        found += [(each, None) for each in _uneven(job, reading, calls)]
    findings = _findings(found, calls.def_line)
    if not any(finding.severity == "refused" for finding in findings):
        _, problems = check_plan(job, spark, tables)
        if problems:
            raise job_error(job, problems)
    return LintResult(job.job_name, calls.file, findings, left_out)


def _of_plan(
    spark: SparkSession, job: Job, tables: Mapping[str, StructType], calls: Calls
) -> tuple[list[Judged], tuple[str, ...]]:
    """What the function does and what its plan holds; and what could not be looked at."""
    static = {table.name: spark.createDataFrame([], tables[table.name]) for table in job.tables}
    schemas = {source.name: seen_schema(source) for source in job.sources}
    events = {name: spark.createDataFrame([], schema) for name, schema in schemas.items()}
    streams = {source.name: stream_frame(spark, source, schemas[source.name]) for source in job.sources}
    for frame in (*static.values(), *events.values(), *streams.values()):
        given(spark, frame, calls)
    batch, problems = _built(spark, job, events | static, calls)
    if batch is None and problems:
        raise job_error(job, problems)
    stream, refusals = _built(spark, job, streams | static, calls, streaming=True)
    found: list[Judged] = [(_refused_while_building(problem, calls), None) for problem in refusals]
    found += [(Found(seen.rule, seen.line, seen.detail), None) for seen in calls.seen]
    if batch is None or (stream is None and not refusals):
        return found, ("the plan: the function stops at what is refused",)
    mode = "update" if job.emit == "updates" else "append"
    tree = read_tree(spark, batch if stream is None else stream, calls)
    if stream is not None:
        found += [(each, None) for each in refused_in_streaming(spark, tree, calls, mode)]
    found += [(each, None) for each in refused_in_batch(spark, batch, tree)]
    found += [(each, None) for each in empty_sessions(tree, read_plan(batch if stream is None else stream))]
    differing = list(rows_that_differ(job, tree, mode))
    if stream is not None and job.shape != "stateless":
        differing = _with_conditions(differing, _conditions(spark, job, static, calls), tree)
    found += [(each, None) for each in differing]
    found += values_that_fail(job, tree, calls)
    found += values_that_differ(job, tree, calls, spark.conf.get("spark.sql.session.timeZone") or "")
    if stream is not None and not any(RULES[each.rule].severity == "refused" for each, _ in found):
        found += [(each, None) for each in losses(job, dataflow(spark, job, dict(tables)), tree)]
    return found, () if stream is not None else ("the plan of the stream: Spark refuses to build it",)


def _built(
    spark: SparkSession, job: Job, frames: dict[str, DataFrame], calls: Calls, *, streaming: bool = False
) -> tuple[DataFrame | None, list[Problem]]:
    """The function's result in one mode; neither result nor problem where an action stopped it."""
    try:
        with watched(spark, calls):
            return call_logic(job, frames, streaming=streaming)
    except Stopped:
        return None, []


def _conditions(spark: SparkSession, job: Job, static: Mapping[str, DataFrame], calls: Calls) -> list[str]:
    """What Spark applies before the watermark of each source; nothing where its optimiser cannot be asked."""
    try:
        with watched(spark, calls):
            found = passages(spark, job, static)
    except Exception:
        return []
    return [f"source {name}: {each.moves_if}" for name, each in found.items() if each.moves_if]


def _with_conditions(found: list[Found], conditions: list[str], tree: Tree) -> list[Found]:
    """The findings of filters with the conditions; one where it is no filter of the function that makes them."""
    detail = "; ".join(conditions)
    filters = [each for each in found if each.rule == "TR203"]
    if not detail:
        return found
    if not filters:
        line = next((node.line for node in tree.root.own() if node.kind in ("Generate", "Join")), tree.root.line)
        return [*found, Found("TR203", line, detail)]
    return [replace(each, detail=detail) if each in filters else each for each in found]


def _uneven(job: Job, reading: Reading, calls: Calls) -> Iterable[Found]:
    """Sources of which a trigger reads a part, from several partitions as far as that is known."""
    for source in job.sources:
        detail = f"source {source.name}, {reading.per_trigger} per trigger"
        if reading.backlog is not None:
            waiting = [count for count in reading.backlog.get(source.name, {}).values() if count]
            if len(waiting) < 2 or sum(waiting) <= reading.per_trigger:
                continue
            detail += f", {sum(waiting)} records wait on {len(waiting)} partitions"
        if source.lateness is not None:
            yield Found("TR212", calls.def_line, detail)


def _refused_while_building(problem: Problem, calls: Calls) -> Found:
    at = _AT_LINE.search(problem.found)
    line, sentence = (int(at[1]), at[2]) if at else (calls.def_line, problem.found)
    return Found(refusal_rule(sentence), line, sentence)


def _static_note(name: str, refresh: str | None, calls: Calls) -> Found:
    return Found("TR250", calls.def_line, f"{name}, refreshed every {refresh}" if refresh else name)


def _findings(found: Iterable[Judged], def_line: int) -> tuple[Finding, ...]:
    """Each finding once, in the order of lines; of two severities on one line and rule the graver one."""
    each_once: dict[tuple[int, str, str], Finding] = {}
    for each, severity in found:
        rule = RULES[each.rule]
        finding = Finding(rule, each.line or def_line, each.detail, severity or rule.severity)
        key = (finding.line, each.rule, each.detail)
        known = each_once.get(key)
        if known is None or _ORDER[finding.severity] < _ORDER[known.severity]:
            each_once[key] = finding
    return tuple(each_once[key] for key in sorted(each_once))
