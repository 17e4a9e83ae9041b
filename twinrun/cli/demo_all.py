"""``twinrun demo --all``: every job of the gallery on one broker, in one session, and a page with a card for each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinrun.broker.process import start_broker
from twinrun.broker.topics import create_topic
from twinrun.cli.call import Call
from twinrun.cli.gallery import grain
from twinrun.cli.inputs import job_named
from twinrun.cli.live import progress_text, step
from twinrun.cli.runs import batch_once, runner
from twinrun.cli.session import with_spark
from twinrun.cli.verify import report_folder
from twinrun.cli.workplace import broker_folder
from twinrun.config.model import Config
from twinrun.errors import EXIT_DIFFERENT, EXIT_OK, InputError, TwinrunError
from twinrun.gallery.entries import ENTRIES, Entry, Make, absent
from twinrun.job.job import Job
from twinrun.results.verdict import Verdict
from twinrun.wording import plural

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

PARTITIONS = 3
INDEX = "index.html"


@dataclass
class Shown:
    """One job of the gallery: its verdict, or why there is none."""

    entry: Entry
    job: Job
    seconds: float = 0.0
    verdict: Verdict | None = None
    failure: str = ""


@dataclass
class Stage:
    """What all jobs share: one broker, one topic per source, one warehouse."""

    call: Call
    cfg: Config
    folder: Path
    events: int
    seed: int
    landed: set[str] = field(default_factory=set)
    """Sources whose topic is in bronze: jobs that share one ingest it once."""


def run_all(
    call: Call, folder: Path, configure: Callable[[str, tuple[str, ...]], Config], events: int, seed: int
) -> int:
    """Run each job of the gallery that the configuration has; a job that fails is told, and the others go on.

    Parameters
    ----------
    configure : function
        From the broker's address and further settings to the configuration of a demo in this folder.

    Returns
    -------
    int
        0 where every job's verdict passes, else 1.
    """
    known = call.config()
    shown = [Shown(entry, job_named(known, entry.job)) for entry in ENTRIES if entry.job in known.jobs]
    with step(call.out, "starting the broker and sending the logs"):
        servers = start_broker(broker_folder(folder)).bootstrap_servers
        sources = {source.name: f"gallery_{source.name}" for each in shown for source in each.job.sources}
        tables = {name for each in shown for name in each.entry.tables}
        places = [f"sources.{name}.topic={topic}" for name, topic in sources.items()]
        for table in sorted(tables):
            places += [f"tables.{table}.path={folder}/static/{table}", f"tables.{table}.format=delta"]
        stage = Stage(call, configure(servers, tuple(places)), folder, events, seed)
        _send(stage, sources)
    with_spark(stage.cfg, "demo --all", lambda spark, stop: _run_each(spark, stage, shown, stop))
    return _show(stage, shown)


def _send(stage: Stage, sources: dict[str, str]) -> None:
    """Make each topic and send its log; the topics of sinks stay empty."""
    from twinrun.gallery.log import log_records
    from twinrun.produce.producer import produce

    options = stage.cfg.kafka.confluent_options()
    unmade = {name for entry in ENTRIES if absent(entry.made_with) for name in entry.logs}
    makers: dict[str, Make] = {name: make for entry in ENTRIES for name, make in entry.logs.items()}
    for topic in [*sources.values(), *(sink.topic for sink in stage.cfg.sinks.values())]:
        create_topic(stage.cfg.kafka.bootstrap_servers, topic, PARTITIONS, options)
    for name, topic in sources.items():
        if name in unmade:
            continue
        produce(log_records(makers[name](stage.seed, stage.events)), topic, options)


def _run_each(spark: SparkSession, stage: Stage, shown: list[Shown], stop: threading.Event) -> None:
    for each in shown:
        if stop.is_set():
            raise KeyboardInterrupt
        began = time.monotonic()
        try:
            each.verdict = _run_one(spark, stage, each, stop)
            said = each.verdict.outcome.upper()
        except TwinrunError as error:
            if stop.is_set():  # the session went away under the job: that is no fault of the job
                raise KeyboardInterrupt from None
            each.failure = error.sentence()
            said = f"FAILED: {error.sentence()}"
        each.seconds = time.monotonic() - began
        stage.call.out.note(f"  {each.seconds:6.1f} s  {each.job.job_name:<22} {said}")


def _run_one(spark: SparkSession, stage: Stage, each: Shown, stop: threading.Event) -> Verdict:
    from twinrun.explain.verify import verify
    from twinrun.gallery.entries import write_static
    from twinrun.report.write import write_report

    cfg, job = stage.cfg, each.job
    if package := each.entry.lacking():
        raise InputError(
            f"it needs the package {package}, and that is not installed.", fix="pip install 'twinrun[gallery]'"
        )
    with step(stage.call.out, job.job_name) as say:
        for name, table in each.entry.tables.items():
            write_static(spark, table, stage.seed, stage.events, cfg.tables[name].path)
        for source in job.sources:
            if source.name not in stage.landed:
                say("ingest")
                runner("streaming.ingest")(spark, cfg, source, stop, None)
                stage.landed.add(source.name)
        told: Callable[[Any], None] = lambda progress: say(progress_text(progress))  # noqa: E731
        runner("streaming.runner")(spark, cfg, job, None, stop, told)
        if stop.is_set():
            raise KeyboardInterrupt
        say("batch")
        batch_once(spark, cfg, job, False, stop)
        found = verify(spark, cfg, job, on_step=say)
        write_report(found, report_folder(cfg, job.job_name))
        return found


def _show(stage: Stage, shown: list[Shown]) -> int:
    from twinrun.report.index import Entry as Line
    from twinrun.report.index import render_index
    from twinrun.report.write import write_files

    lines = [
        Line(
            job=each.job.job_name,
            question=each.entry.question,
            grain=grain(each.job),
            link=str((report_folder(stage.cfg, each.job.job_name) / "report.html").relative_to(stage.folder)),
            verdict=each.verdict,
            failure=each.failure,
        )
        for each in shown
    ]
    title = f"{plural(len(shown), 'use case')}, each at rest and in motion"
    lead = f"Each job ran on {stage.events:,} made-up events per log, from seed {stage.seed}:"
    write_files(stage.folder, {INDEX: render_index(lines, title, lead)})
    passed = all(each.verdict is not None and each.verdict.exit_code == 0 for each in shown)
    payload = {"events": stage.events, "seed": stage.seed, "jobs": [_payload(each) for each in shown]}
    stage.call.out.result(
        {**payload, "page": stage.folder / INDEX}, [*(_line(each) for each in shown), f"page: {stage.folder / INDEX}"]
    )
    return EXIT_OK if passed else EXIT_DIFFERENT


def _payload(each: Shown) -> dict[str, Any]:
    """What a run says of one job, for ``--json`` and for the table in docs/gallery.md."""
    about: dict[str, Any] = {"job": each.job.job_name, "seconds": round(each.seconds, 1)}
    verdict = each.verdict
    if verdict is None:
        return {**about, "outcome": "failed", "failure": each.failure}
    return {
        **about,
        "outcome": verdict.outcome,
        "exit_code": verdict.exit_code,
        "events": sum(source.events_batch for source in verdict.cut.sources),
        "quarantined": sum(rule.events for rule in verdict.quarantine),
        "rows_compared": verdict.rows_compared,
        "rows_equal": verdict.rows_equal,
        "rows_explained": verdict.rows_explained,
        "rows_unexplained": verdict.rows_unexplained,
        "causes": {cause.cause: cause.rows for cause in verdict.causes},
        "example": _example(verdict),
    }


def _example(verdict: Verdict) -> dict[str, str] | None:
    """One row that differed, told: which, by what, what happened and how that is proven."""
    from twinrun.report.stories import proven_story

    story = proven_story(verdict)
    if story is None:
        return None
    told = {part.heading: part.text for part in story.told}
    lead = {"row": story.title, "cause": story.tag.removeprefix("explained: "), "differs": story.lead}
    return {**lead, "happened": told.get("What happened", ""), "proven": told.get("How it is proven", "")}


def _line(each: Shown) -> str:
    verdict = each.verdict
    if verdict is None:
        return f"{each.job.job_name:<22} FAILED     {each.failure}"
    causes = ", ".join(f"{cause.cause} {cause.rows:,}" for cause in verdict.causes)
    rows = f"{verdict.rows_equal:,} of {plural(verdict.rows_compared, 'row')} equal"
    return f"{each.job.job_name:<22} {verdict.outcome.upper():<10} {rows}{f'; {causes}' if causes else ''}"
