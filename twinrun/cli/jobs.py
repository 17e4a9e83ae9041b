"""``twinrun jobs`` and ``twinrun jobs show NAME``: the contracts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from twinrun.cli.call import Call, command
from twinrun.cli.inputs import job_named
from twinrun.cli.output import columns
from twinrun.cli.reread import read_verdict
from twinrun.cli.verify import report_folder
from twinrun.config.model import Config
from twinrun.errors import EXIT_ERROR, EXIT_OK, InputError
from twinrun.events.source import Source
from twinrun.job.check import definition_problems
from twinrun.job.job import Job
from twinrun.job.loader import JobFile, list_jobs
from twinrun.wording import plural

commands = typer.Typer()


@command(commands, "jobs", "twinrun jobs show departures_per_hour")
def jobs(
    call: Call,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[show JOB]", help="Show the contract of one job, by its name or its file."),
    ] = None,
) -> int:
    """List the jobs of the configuration, or show one contract: sources, grain, keys, tolerances, limits, tables.

    The list exits with 2 when one of the jobs cannot be used.
    """
    if not words:
        return listed(call)
    if len(words) != 2 or words[0] != "show":
        raise InputError(f"jobs has no command {' '.join(words)!r}.", expected="twinrun jobs, or twinrun jobs show JOB")
    return show(call, words[1])


def listed(call: Call) -> int:
    """Print every job of the configuration; exit code 2 when one of them cannot be used."""
    cfg = call.config()
    files = list_jobs(cfg)
    problems = {file.name: _problem(file) for file in files}
    rows: list[tuple[str, ...]] = [("job", "shape", "emit", "sources", "keys")]
    rows += [_row(file.name, file.job) for file in files if file.job is not None]
    none = f"{cfg.file} lists {plural(len(files), 'job')}, and none of them can be used" if files else ""
    lines = columns(rows, indent="") if len(rows) > 1 else [none or f"{cfg.file} lists no job"]
    lines += [f"{name} cannot be used: {problem}" for name, problem in problems.items() if problem]
    payload = [
        {
            "name": f.name,
            "file": f.path,
            "problem": problems[f.name],
            "schedule": cfg.jobs[f.name].schedule,
            **_contract(cfg, f.job),
            **_last(cfg, f.job),
        }
        for f in files
    ]
    call.out.result({"jobs": payload}, lines)
    return EXIT_ERROR if any(problems.values()) else EXIT_OK


def show(call: Call, name: str) -> int:
    """Print the contract of one job."""
    cfg = call.config()
    job = job_named(cfg, name)
    call.out.result(_contract(cfg, job), [job.job_name, *columns(_contract_rows(cfg, job))])
    return EXIT_OK


def _problem(file: JobFile) -> str:
    if file.job is None or file.error:
        return file.error
    return "; ".join(problem.found for problem in definition_problems(file.job))


def _row(name: str, job: Job) -> tuple[str, ...]:
    return name, job.shape, job.emit, ", ".join(source.name for source in job.sources), ", ".join(job.keys)


def _last(cfg: Config, job: Job | None) -> dict[str, Any]:
    """What the last verify said whose report stands in the configuration's folder; null where there is none."""
    if job is None:
        return {}
    file = report_folder(cfg, job.job_name) / "report.json"
    if not file.exists():
        return {"last_verdict": None}
    try:
        verdict = read_verdict(file)
    except InputError as error:
        return {"last_verdict": {"report": file, "problem": error.sentence()}}
    return {
        "last_verdict": {
            "report": file,
            "outcome": verdict.outcome,
            "exit_code": verdict.exit_code,
            "taken_at_ms": verdict.cut.taken_at_ms,
            "rows_compared": verdict.rows_compared,
            "rows_unexplained": verdict.rows_unexplained,
            "causes": {cause.cause: cause.rows for cause in verdict.causes},
        }
    }


def _contract(cfg: Config, job: Job | None) -> dict[str, Any]:
    if job is None:
        return {}
    return {
        "job": job.job_name,
        "shape": job.shape,
        "emit": job.emit,
        "keys": job.keys,
        "window": job.window,
        "slide": job.slide,
        "gap": job.gap,
        "window_column": job.window_column if job.windowed else None,
        "delete_when": job.delete_when,
        "tolerances": {column: str(tolerance) for column, tolerance in job.tolerances.items()},
        "max_late_share": job.max_late_share,
        "max_quarantined_share": job.max_quarantined_share,
        "sources": [{**asdict(source), "topic": cfg.source(source.name).topic} for source in job.sources],
        "tables": [
            {
                "name": table.name,
                "refresh": table.refresh,
                "path": cfg.tables[table.name].path if table.name in cfg.tables else None,
            }
            for table in job.tables
        ],
        "batch_results": cfg.table("batch_results", job=job.job_name, version=1),
        "stream_results": cfg.table("stream_results", job=job.job_name, version=1),
    }


def _contract_rows(cfg: Config, job: Job) -> list[tuple[str, str]]:
    grain = [f"{part} {getattr(job, part)}" for part in ("window", "slide", "gap") if getattr(job, part)]
    rows = [
        ("shape", ", ".join([job.shape, *grain])),
        ("emit", job.emit),
        ("keys", ", ".join(job.keys)),
        *(("source", _source_line(cfg, source)) for source in job.sources),
        *(
            ("table", f"{t.name} at {cfg.tables[t.name].path if t.name in cfg.tables else 'no place'}")
            for t in job.tables
        ),
        ("tolerances", ", ".join(f"{column} {value}" for column, value in job.tolerances.items()) or "none: exact"),
        ("limits", f"late {job.max_late_share:.2%}, quarantined {job.max_quarantined_share:.2%} of events"),
        ("batch", cfg.table("batch_results", job=job.job_name, version=1)),
        ("stream", cfg.table("stream_results", job=job.job_name, version=1) + " (each --new-checkpoint: the next)"),
    ]
    if job.delete_when:
        rows.insert(3, ("delete when", job.delete_when))
    return rows


def _source_line(cfg: Config, source: Source) -> str:
    parts = [f"topic {cfg.source(source.name).topic}", f"event time {source.event_time} ({source.event_time_format})"]
    parts.append(f"lateness {source.lateness}" if source.lateness else "no watermark")
    parts.append(f"at most {source.max_ahead} ahead" if source.max_ahead else "no limit ahead")
    return f"{source.name}: " + ", ".join(parts)
