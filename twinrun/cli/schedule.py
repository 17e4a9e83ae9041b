"""``twinrun schedule``: run jobs by their cron expressions, or write the files of another scheduler."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinrun.cli import runs
from twinrun.cli.call import Call, command
from twinrun.cli.emit import Kind, Plan, write_files
from twinrun.cli.inputs import job_named, need_landed, need_static, need_topics
from twinrun.cli.lint import warn_before_first_run
from twinrun.cli.live import step
from twinrun.cli.output import columns
from twinrun.cli.session import until_stopped
from twinrun.config.cron import read_cron
from twinrun.config.model import Config
from twinrun.config.problems import listed, nearest
from twinrun.errors import EXIT_OK, InputError
from twinrun.job.job import Job
from twinrun.results.records import RunSummary
from twinrun.wording import plural

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

commands = typer.Typer()
_BY_ITSELF = (
    "note: stream.trigger is processing-time: an ingest that keeps running lands the topics, and a run is a batch alone"
)


@command(commands, "schedule", "twinrun schedule --emit systemd --out units")
def schedule(
    call: Call,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[JOB...]", help="Some of the jobs that have a schedule. [default: all of them]"),
    ] = None,
    retries: Annotated[int, typer.Option(min=0, help="How often a run that failed is tried again.")] = 2,
    retry_wait_s: Annotated[
        int, typer.Option("--retry-wait", min=1, metavar="SECONDS", help="From a failure to the next attempt.")
    ] = 60,
    emit: Annotated[
        Kind | None, typer.Option(help="Write the files of another scheduler, and run nothing; without Spark.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where they are written (with --emit).")] = None,
    image: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="Container image with the project (with --emit k8s).")
    ] = None,
) -> int:
    """Run the batch of every job that has a schedule, each when it is due and its ingest before it, one at a time.

    Times are UTC. SIGTERM or Ctrl-C ends it after the run of that moment.
    """
    cfg = call.config()
    plans = planned(cfg, names or [])
    if emit is None:
        if out is not None or image is not None:
            raise InputError("--out and --image belong to --emit.", fix="give --emit too, or leave them out")
        return _run(call, cfg, plans, retries, retry_wait_s)
    if out is None:
        raise InputError(f"--emit {emit} needs --out FOLDER.", fix="say where the files are to be written")
    made = write_files(cfg, plans, emit, out, retries=retries, wait_s=retry_wait_s, image=image, sets=call.overrides)
    call.out.result(
        {"kind": emit, "folder": out.absolute(), "files": list(made.files), "old_files": list(made.old)},
        [f"made {out}", *(f"  {name}" for name in made.files), *made.next_steps],
    )
    for name in made.old:
        call.out.note(f"note: {out / name} is of an earlier time, and no job of this configuration needs it now")
    return EXIT_OK


def planned(cfg: Config, names: list[str]) -> list[Plan]:
    """The jobs that have a schedule, or those of them that are named.

    Raises
    ------
    InputError
        One has none, there is no such job (with the nearest name), or no job has a schedule.
    JobError
        A job file cannot be used.
    """
    crons = {name: read_cron(job.schedule) for name, job in cfg.jobs.items() if job.schedule is not None}
    for name in names:
        if name not in cfg.jobs:
            match = nearest(name, cfg.jobs)
            raise InputError(
                f"there is no job {name!r} in {cfg.file}.",
                expected=f"one of {listed(cfg.jobs)}",
                fix=f"write {match}" if match else "",
            )
        if name not in crons:
            raise InputError(
                f"the job {name} has no schedule in {cfg.file}.", fix=f"add it: jobs.{name}.schedule: '5 * * * *'"
            )
    if not crons:
        raise InputError(
            f"no job of {cfg.file} has a schedule.",
            expected="jobs.JOB.schedule, a cron expression",
            fix="add one, such as schedule: '5 * * * *'",
        )
    wanted = list(dict.fromkeys(names)) or list(crons)
    return [Plan(name, crons[name], job_named(cfg, name)) for name in wanted]


def _run(call: Call, cfg: Config, plans: list[Plan], retries: int, retry_wait_s: int) -> int:
    for plan in plans:
        need_static(cfg, plan.job)
    lands = cfg.stream.trigger == "available-now"
    now = datetime.now(UTC)
    rows = [(each.name, each.cron.plain, f"next at {runs.at_text(each.cron.next_after(now))}") for each in plans]
    for line in (f"{plural(len(plans), 'job')} by schedule (UTC); end it with Ctrl-C", *columns(rows)):
        call.out.note(line)
    if not lands:
        call.out.note(_BY_ITSELF)

    def work(spark: SparkSession, stop: threading.Event) -> None:
        seen: set[str] = set()

        def run_of(plan: Plan) -> Callable[[], bool]:
            def run() -> bool:
                if plan.name not in seen:
                    warn_before_first_run(call, spark, cfg, plan.job, "batch")
                    seen.add(plan.name)
                done = [*(_landed(call, spark, cfg, plan.job, stop) if lands else ())]
                if not stop.is_set():
                    need_landed(cfg, plan.job)
                    with step(call.out, f"batch {plan.name}"):
                        done.append(runs.batch_once(spark, cfg, plan.job, False, stop))
                if not done:
                    # The signal came when this run was about to begin.
                    return False
                lines = "\n".join(runs.run_lines(each)[0] for each in done)
                call.out.event({"event": "run", "job": plan.name, "runs": [asdict(each) for each in done]}, lines)
                return True

            return run

        runs.run_planned(
            call, [(each.name, each.cron, run_of(each)) for each in plans], stop, retries=retries, wait_s=retry_wait_s
        )

    until_stopped(cfg, "schedule", work)
    return EXIT_OK


def _landed(call: Call, spark: SparkSession, cfg: Config, job: Job, stop: threading.Event) -> list[RunSummary]:
    need_topics(cfg, job.sources)
    done = []
    for source in job.sources:
        if not stop.is_set():
            with step(call.out, f"ingesting {source.name}") as say:
                tell = runs.telling(call, f"ingest {source.name}", say)
                done.append(runs.runner("streaming.ingest")(spark, cfg, source, stop, on_progress=tell))
    return done
