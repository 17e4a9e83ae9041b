"""``twinrun lint JOB``: what one mode refuses and what can differ, before anything runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinrun.cli.call import Call, command
from twinrun.cli.inputs import job_named, need_static
from twinrun.cli.live import step
from twinrun.cli.session import with_spark
from twinrun.config.model import Config
from twinrun.errors import BrokerError
from twinrun.job.job import Job
from twinrun.lint.result import Finding, LintResult, Severity
from twinrun.session.settings import Size

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.types import StructType

    from twinrun.lint.lint import Reading

commands = typer.Typer()
_WORDS: dict[Severity, str] = {"refused": "refused", "fails": "can fail", "differs": "can differ", "note": "note"}


@command(commands, "lint", "twinrun lint departures_per_hour --strict")
def lint(
    call: Call,
    name: Annotated[str, typer.Argument(metavar="JOB", help="A job's name in the configuration, or its file.")],
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 also for what can fail or differ; notes never count. For CI.")
    ] = False,
) -> int:
    """Say what one mode refuses, what can fail and what can differ, by line of the job file; nothing is run.

    The exit code is 1 when something is refused, and 2 when the job cannot be used at all.
    """
    cfg = call.config()
    job = job_named(cfg, name)
    need_static(cfg, job)

    def work(spark: SparkSession, _: threading.Event) -> LintResult:
        from twinrun.lint.lint import lint_job

        with step(call.out, f"lint {job.job_name}"):
            return lint_job(spark, job, table_schemas(spark, cfg, job), _reading(cfg))

    found = with_spark(cfg, f"lint {job.job_name}", work, size=Size(0))
    call.out.result(payload(found), lines(found))
    return found.exit_code(strict=strict)


def warn_before_first_run(call: Call, spark: SparkSession, cfg: Config, job: Job, mode: str) -> bool:
    """Print what the lint finds, where this mode of the job never ran before; of its notes those on what is late.

    Never stops a run: what Spark refuses is said by the run itself. One or two small Spark jobs.

    Parameters
    ----------
    mode : {"batch", "stream"}
        Which run is about to start. What is said before a stream holds what would be said before a batch run.

    Returns
    -------
    bool
        Whether the lint looked: this mode never ran before, and the job could be read.
    """
    from twinrun.lint.lint import lint_job
    from twinrun.results.state import batch_state, stream_state

    try:
        state = batch_state if mode == "batch" else stream_state
        if state(spark, cfg, job.job_name) is not None:
            return False
        reading = _reading(cfg) if mode == "stream" else None
        if reading is not None:
            backlog = _backlog(cfg, job) if any(source.lateness is not None for source in job.sources) else None
            # Without the broker's word it may be one partition: lint says what can be, a first run what is.
            reading = None if backlog is None else replace(reading, backlog=backlog)
        found = lint_job(spark, job, table_schemas(spark, cfg, job), reading)
    except Exception:
        # Whatever is wrong here, the run checks the same things next and says it better.
        return False
    for finding in found.findings:
        if finding.severity != "note" or finding.rule.first_run:
            kind = "note" if finding.severity == "note" else "warning"
            call.out.note(f"{kind}: {_head(found, finding)}")
            call.out.note(f"  instead: {finding.rule.instead}")
    return True


def _reading(cfg: Config) -> Reading | None:
    from twinrun.lint.lint import Reading

    limit = cfg.stream.max_offsets_per_trigger
    return None if limit is None else Reading(limit)


def _backlog(cfg: Config, job: Job) -> dict[str, dict[int, int]] | None:
    """Records by source and partition that a first run from the earliest offset reads; None where no broker answers."""
    from twinrun.broker.topics import offset_ranges

    found = {}
    try:
        for source in job.sources:
            topic = cfg.source(source.name).topic
            ranges = offset_ranges(cfg.kafka.bootstrap_servers, topic, cfg.kafka.confluent_options())
            found[source.name] = {partition: high - low for partition, (low, high) in ranges.items()}
    except BrokerError:
        return None
    return found


def table_schemas(spark: SparkSession, cfg: Config, job: Job) -> dict[str, StructType]:
    """Schemas of a job's static tables as they are now. A table that is not Delta may take a small Spark job."""
    from twinrun.tables.static import static_schema

    return {table.name: static_schema(spark, cfg.tables[table.name]) for table in job.tables}


def lines(found: LintResult) -> Iterator[str]:
    """Each finding with its reason and its remedy, then the counts."""
    for finding in found.findings:
        yield _head(found, finding)
        yield f"    why: {finding.rule.why}"
        yield f"    instead: {finding.rule.instead}"
    for sentence in found.not_looked_at:
        yield f"not looked at: {sentence}"
    counts = [f"{found.count(severity)} {_WORDS[severity]}" for severity in _WORDS if severity != "note"]
    notes = found.count("note")
    yield f"{found.job}: {', '.join([*counts, '1 note' if notes == 1 else f'{notes} notes'])}"


def payload(found: LintResult) -> dict[str, Any]:
    """The same for machines."""
    return {
        "job": found.job,
        "file": _from_here(found.file),
        "findings": [
            {
                "line": finding.line,
                "rule": finding.rule.id,
                "severity": finding.severity,
                "title": finding.rule.title,
                "detail": finding.detail,
                "why": finding.rule.why,
                "instead": finding.rule.instead,
            }
            for finding in found.findings
        ],
        "counts": {severity: found.count(severity) for severity in _WORDS},
        "not_looked_at": found.not_looked_at,
    }


def _head(found: LintResult, finding: Finding) -> str:
    what = f"{finding.rule.title}: {finding.detail}" if finding.detail else finding.rule.title
    return f"{_from_here(found.file)}:{finding.line} {finding.rule.id} {_WORDS[finding.severity]}, {what}"


def _from_here(file: str) -> str:
    """The path as one would type it here, where it lies below."""
    path, here = Path(file), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else file
