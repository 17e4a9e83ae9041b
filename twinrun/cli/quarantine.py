"""``twinrun quarantine``: leave single records out of one job in both modes, and count them again."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from twinrun.cli.call import Call, command
from twinrun.cli.inputs import job_named, need_landed, need_table, record_place
from twinrun.cli.live import step
from twinrun.cli.session import job_size, with_spark
from twinrun.errors import EXIT_OK, InputError
from twinrun.job.job import Job
from twinrun.report.cells import instant
from twinrun.results.records import RULE, Refusal
from twinrun.wording import plural

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

commands = typer.Typer()
_PLACE = "TOPIC:PARTITION:OFFSET"


@command(commands, "quarantine", 'twinrun quarantine orders --add orders:0:17 --why "total is 0"')
def quarantine(
    call: Call,
    name: Annotated[str, typer.Argument(metavar="JOB", help="A job's name in the configuration, or its file.")],
    add: Annotated[
        list[str] | None,
        typer.Option("--add", metavar=_PLACE, help="A record to leave out of both modes; may be repeated."),
    ] = None,
    why: Annotated[str | None, typer.Option("--why", metavar="TEXT", help="Kept with the record.")] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option("--remove", metavar=_PLACE, help="A record to count again; may be repeated."),
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Show what is and was left out.")] = False,
    new_checkpoint: Annotated[
        bool, typer.Option("--new-checkpoint", help="Also a record that the stream has used: it must then start anew.")
    ] = False,
) -> int:
    """Leave single records out of one job, in both modes, where its function fails on them: rule refused_by_logic."""
    if [bool(add), bool(remove), show].count(True) != 1:
        raise InputError("nothing or too much is asked.", expected="one of --add, --remove and --list")
    if add and not (why or "").strip():
        raise InputError("--add has no --why.", expected='a reason, such as --why "total is 0"')
    if not add and (why is not None or new_checkpoint):
        raise InputError("--why and --new-checkpoint belong to --add.", fix="leave them out")
    cfg = call.config()
    job = job_named(cfg, name)
    module = importlib.import_module("twinrun.batch.quarantine")
    topics = [cfg.source(source.name).topic for source in job.sources]
    places = [module.Wanted(*record_place(text, topics, job.job_name)) for text in add or remove or ()]
    if add:
        need_landed(cfg, job)
    else:
        need_table(cfg, cfg.table("control"), fix=f"there is nothing yet; run: twinrun batch {job.job_name}")

    def work(spark: SparkSession, _: threading.Event) -> tuple[Refusal, ...]:
        with step(call.out, f"quarantine {job.job_name}"):
            found: tuple[Refusal, ...]
            if add:
                found = module.add(spark, cfg, job, places, (why or "").strip(), new_checkpoint=new_checkpoint)
            else:
                found = module.remove(spark, cfg, job, places) if remove else module.entries_of(spark, cfg, job)
            return found

    done = with_spark(cfg, f"quarantine {job.job_name}", work, size=job_size(cfg, job))
    call.out.result({"job": job.job_name, "records": [asdict(each) for each in done]}, refusal_lines(job, done, show))
    return EXIT_OK


def refusal_lines(job: Job, done: Sequence[Refusal], show: bool) -> list[str]:
    """What was changed and what comes next; or every entry."""
    if show:
        lines = [f"{job.job_name}: {plural(sum(each.counts for each in done), 'record')} left out ({RULE})"]
        for each in done:
            lines.append(f"  {each.place}  event time {_time_of(each)}, since {instant(each.at_ms)}, {each.by}")
            lines.append(f"    why: {each.why}")
            if each.removed_at_ms is not None:
                lines.append(f"    counted again since {instant(each.removed_at_ms)}, {each.removed_by}")
        return lines
    counts = bool(done) and done[0].counts
    lines = [f"{job.job_name}: {each.place} is {'left out' if counts else 'counted again'}" for each in done]
    anew = any(each.counts and each.used_by for each in done)
    stream = f"twinrun stream {job.job_name}{' --new-checkpoint' if anew else ''}"
    lines.append(f"  next       {stream}, twinrun batch {job.job_name}, twinrun verify {job.job_name}")
    if any(each.passed for each in done):
        lines.append("  note       the stream has read past it and will not use it; verify calls that quarantined")
    return lines


def _time_of(each: Refusal) -> str:
    return "unknown" if each.event_time_ms is None else instant(each.event_time_ms)
