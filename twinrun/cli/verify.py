"""``twinrun verify`` and ``twinrun report``: the verdict, and where its report is."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinrun.cli.call import Call, command
from twinrun.cli.inputs import job_named, need_external, need_runs
from twinrun.cli.live import step
from twinrun.cli.reread import read_verdict
from twinrun.cli.runs import JobName
from twinrun.cli.session import job_size, with_spark
from twinrun.config.model import Config
from twinrun.errors import InputError
from twinrun.job.job import Job
from twinrun.results.verdict import Verdict

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

commands = typer.Typer()


External = Annotated[
    bool,
    typer.Option(
        "--external", help="The stream side is another engine's, as bound under external: in the configuration."
    ),
]


@command(commands, "verify", "twinrun verify departures_per_hour --wait 60")
def verify(
    call: Call,
    name: JobName,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 for any difference, also a proven one.")] = False,
    wait_s: Annotated[
        float | None,
        typer.Option(
            "--wait", min=0, metavar="SECONDS", help="Wait for the batch to cover the cut. [default: verify.wait_s]"
        ),
    ] = None,
    full: Annotated[
        bool,
        typer.Option("--full", help="Also compare every row exactly, without digests, and count all records anew."),
    ] = False,
    external: External = False,
) -> int:
    """Compare both results of a job at one cut and prove why rows differ; exit code 0 or 1 is the verdict."""
    cfg = call.config()
    job = job_named(cfg, name)
    if external:
        return _verify_external(call, cfg, job, strict=strict, wait_s=wait_s, full=full)
    need_runs(cfg, job)
    from twinrun.cli import repeat
    from twinrun.explain.coverage import silent_kafka

    # Before Spark starts, too: where it is silent, all that follows knows less.
    with step(call.out, "asking Kafka"):
        silent = silent_kafka(cfg)
    if silent:
        call.out.note(silent)

    def work(spark: SparkSession, _: threading.Event) -> Verdict:
        from twinrun.explain.verify import verify as run
        from twinrun.history.history import with_history

        with step(call.out, f"verify {job.job_name}") as say:
            say("looking whether anything has moved")
            before = None if silent else repeat.standing(spark, cfg, job, strict)
            known = None if full else repeat.said_again(before, report_folder(cfg, job.job_name) / "report.json")
            if known is not None:
                return known
            asked: dict[str, Any] = {"strict": strict, "wait_s": wait_s, "full": full, "silent": bool(silent)}
            found = run(spark, cfg, job, **asked, on_step=say, on_warning=call.out.note)
            say("reading the history")
            verdict = with_history(spark, cfg, found)
            repeat.remember(spark, cfg, job, strict, before, verdict)
            return verdict

    verdict = with_spark(cfg, f"verify {job.job_name}", work, size=job_size(cfg, job))
    return show_verdict(call, verdict, report_folder(cfg, verdict.job))


def _verify_external(call: Call, cfg: Config, job: Job, **options: Any) -> int:
    """The same against the result of another engine; its report stands in a folder of its own."""
    binding = need_external(cfg, job)

    def work(spark: SparkSession, _: threading.Event) -> Verdict:
        from twinrun.external.verify import verify_external

        with step(call.out, f"verify {job.job_name} --external") as say:
            return verify_external(spark, cfg, job, binding, on_step=say, **options)

    verdict = with_spark(cfg, f"verify {job.job_name} --external", work, size=job_size(cfg, job))
    return show_verdict(call, verdict, report_folder(cfg, verdict.job, external=True))


@command(commands, "report", "twinrun report departures_per_hour")
def report(call: Call, name: JobName, external: External = False) -> int:
    """Render the reports of the last verify again from its JSON, and say where they are."""
    cfg = call.config()
    job_name = name if name in cfg.jobs else job_named(cfg, name).job_name
    folder = report_folder(cfg, job_name, external=external)
    if not (folder / "report.json").exists() and name in cfg.jobs:
        # The name in the configuration may be another than the job's own.
        folder = report_folder(cfg, job_named(cfg, name).job_name, external=external)
    file = folder / "report.json"
    if not file.exists():
        raise InputError(
            f"there is no report of {name} in {folder}.",
            fix=f"make one: twinrun verify {name}{' --external' if external else ''}",
        )
    return show_verdict(call, read_verdict(file), folder)


def report_folder(cfg: Config, job_name: str, *, external: bool = False) -> Path:
    """Where the reports of a job are: one folder per job, holding the last verify; one more for external results."""
    return Path(cfg.report.folder) / (f"{job_name}.external" if external else job_name)


def show_verdict(call: Call, verdict: Verdict, folder: Path, more: dict[str, Any] | None = None) -> int:
    """Write the reports, print the summary, and return the verdict's exit code."""
    # Charts and templates take a second to load: only what renders pays for it.
    from twinrun.report.json_ import render_json
    from twinrun.report.terminal import render_summary
    from twinrun.report.write import write_report

    with step(call.out, "writing the report"):
        files = write_report(verdict, folder)
    payload = json.loads(render_json(verdict))
    paths = {"html": files.html, "json": files.json, "markdown": files.markdown}
    summary = render_summary(verdict, path=str(_from_here(files.html)))
    call.out.result({**payload, "report": paths, **(more or {})}, summary)
    return verdict.exit_code


def _from_here(path: Path) -> Path:
    """The path as one would type it here, where it lies below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
