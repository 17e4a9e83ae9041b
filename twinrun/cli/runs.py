"""``twinrun ingest|batch|stream|requeue``: the runs that move data."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinrun.broker.topics import offset_ranges
from twinrun.cli.call import Call, command
from twinrun.cli.inputs import (
    instant,
    job_named,
    need_landed,
    need_static,
    need_table,
    need_topics,
    record_place,
    sources_named,
)
from twinrun.cli.lint import warn_before_first_run
from twinrun.cli.live import progress_text, step
from twinrun.cli.output import in_words
from twinrun.cli.session import job_size, topic_size, until_stopped, with_spark
from twinrun.config.cron import Cron, read_cron
from twinrun.config.model import Config
from twinrun.config.problems import listed, nearest
from twinrun.errors import EXIT_OK, InputError
from twinrun.events.rules import RULES
from twinrun.events.source import Source
from twinrun.job.job import Job
from twinrun.results.records import RULE, OnProgress, Progress, RunSummary, Say, counts_of
from twinrun.wording import plural

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

commands = typer.Typer()
JobName = Annotated[str, typer.Argument(metavar="JOB", help="A job's name in the configuration, or its file.")]
SourceName = Annotated[
    str, typer.Argument(metavar="SOURCE_OR_JOB", help="A source's name, or a job whose sources are meant.")
]


SourceNames = Annotated[
    list[str],
    typer.Argument(metavar="SOURCE_OR_JOB...", help="One or more: a source's name, or a job whose sources are meant."),
]


@command(commands, "ingest", "twinrun ingest flights")
def ingest(
    call: Call,
    names: SourceNames,
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss",
            help="Go on from the oldest record left, and record the hole, where Kafka removed what was not landed yet.",
        ),
    ] = False,
) -> int:
    """Land topics in bronze, every record once; with the trigger processing-time until it is stopped."""
    cfg = call.config()
    sources = _each_once(cfg, names)
    if len(sources) > 1 and cfg.stream.trigger == "processing-time":
        each = "; ".join(f"twinrun ingest {source.name}" for source in sources)
        found = f"{' and '.join(names)} name {plural(len(sources), 'source')}"
        raise InputError(f"{found}, each a run that does not end.", fix=f"start each: {each}")
    need_topics(cfg, sources)
    run = runner("streaming.ingest")

    def work(spark: SparkSession, stop: threading.Event) -> None:
        for source in sources:
            with step(call.out, f"ingesting {source.name}") as say:
                tell = telling(call, f"ingest {source.name}", say)
                done = run(spark, cfg, source, stop, on_progress=tell, accept_loss=accept_loss)
            show_run(call, done)
            if stop.is_set():
                return

    size = topic_size(cfg, [source.name for source in sources], bounded=cfg.stream.trigger == "available-now")
    until_stopped(cfg, f"ingest {' '.join(names)}", work, size=size)
    return EXIT_OK


def _each_once(cfg: Config, names: list[str]) -> list[Source]:
    """The sources that are named, one per topic: jobs may share one."""
    found: dict[str, Source] = {}
    for name in names:
        for source in sources_named(cfg, name):
            found.setdefault(cfg.source(source.name).topic, source)
    return list(found.values())


@command(commands, "batch", 'twinrun batch departures_per_hour --schedule "5 * * * *"')
def batch(
    call: Call,
    name: JobName,
    full: Annotated[bool, typer.Option("--full", help="Decode and compute everything anew.")] = False,
    schedule: Annotated[
        str | None, typer.Option(metavar="CRON", help="Run again and again by a cron expression, in UTC.")
    ] = None,
) -> int:
    """Run a job at rest: recompute what new events touch, in one transaction."""
    cfg = call.config()
    job = job_named(cfg, name)
    need_static(cfg, job)
    if schedule is not None:
        return _scheduled(call, cfg, job, schedule, full)
    need_landed(cfg, job)

    def work(spark: SparkSession, stop: threading.Event) -> RunSummary:
        warn_before_first_run(call, spark, cfg, job, "batch")
        with step(call.out, f"batch {job.job_name}"):
            return batch_once(spark, cfg, job, full, stop)

    show_run(call, with_spark(cfg, f"batch {job.job_name}", work, size=job_size(cfg, job)))
    return EXIT_OK


@command(commands, "stream", "twinrun stream departures_per_hour --new-checkpoint --from earliest")
def stream(
    call: Call,
    name: JobName,
    new_checkpoint: Annotated[
        bool, typer.Option("--new-checkpoint", help="Start over beside the old checkpoint and table, which are kept.")
    ] = False,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="earliest|latest|TIME|TOPIC:PARTITION:OFFSET,...",
            help="Where a new checkpoint begins; partitions without an offset at their first. "
            "[default: starting_offsets of the source]",
        ),
    ] = None,
) -> int:
    """Run a job in motion: to the end of its topic, or with the trigger processing-time until it is stopped."""
    if start is not None and not new_checkpoint:
        raise InputError(
            "--from says where a new checkpoint begins.", fix="give --new-checkpoint too, or leave out --from"
        )
    at_places = start is not None and _is_places(start)
    if start not in (None, "earliest", "latest") and not at_places:
        start = instant(str(start), "--from").isoformat()
    cfg = call.config()
    job = job_named(cfg, name)
    need_static(cfg, job)
    need_topics(cfg, job.sources)
    if at_places:
        start = _from_places(cfg, job, str(start))
    if start is not None:
        from twinrun.tables.bronze import check_beginning

        check_beginning(cfg, start)
    fresh = (start or cfg.source(job.sources[0].name).starting_offsets) if new_checkpoint else None
    run = runner("streaming.runner")

    def work(spark: SparkSession, stop: threading.Event) -> None:
        warn_before_first_run(call, spark, cfg, job, "stream")
        with step(call.out, f"stream {job.job_name}") as say:
            done = run(spark, cfg, job, fresh, stop, telling(call, f"stream {job.job_name}", say))
        show_run(call, done)

    size = topic_size(cfg, [source.name for source in job.sources], bounded=cfg.stream.trigger == "available-now")
    until_stopped(cfg, f"stream {job.job_name}", work, size=size)
    return EXIT_OK


def _is_places(text: str) -> bool:
    """Whether a start is given by offsets; a time is none, nor is one that lacks its zone."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return text.count(":") >= 2
    return False


def _from_places(cfg: Config, job: Job, text: str) -> str:
    """Offsets as they are given, and the first offset of every partition of the job's topics that is not named.

    Raises
    ------
    InputError
        One is not of the form, of no topic or partition of the job, named twice, or not held by Kafka.
    """
    # Spark's Python classes come with it: only this start pays for them.
    from twinrun.tables.kafka import places_text

    topics = [cfg.source(source.name).topic for source in job.sources]
    options = cfg.kafka.confluent_options()
    ranges = {topic: offset_ranges(cfg.kafka.bootstrap_servers, topic, options) for topic in topics}
    starts = {topic: {number: low for number, (low, _) in held.items()} for topic, held in ranges.items()}
    named: set[tuple[str, int]] = set()
    for place in text.split(","):
        topic, number, offset = record_place(place, topics, job.job_name)
        low, high = ranges[topic].get(number, (0, -1))
        if high < 0:
            raise InputError(f"the topic {topic} has no partition {number}.", expected=f"0 to {len(ranges[topic]) - 1}")
        if (topic, number) in named:
            raise InputError(f"--from names partition {number} of {topic} twice.", fix="leave one out")
        if not low <= offset <= high:
            raise InputError(
                f"Kafka does not hold offset {offset} of partition {number} of {topic}.", expected=f"{low} to {high}"
            )
        named.add((topic, number))
        starts[topic][number] = offset
    return places_text(starts)


@command(commands, "requeue", "twinrun requeue flights --rule event_time_ahead")
def requeue(
    call: Call,
    name: SourceName,
    rule: Annotated[str, typer.Option("--rule", metavar="RULE", help="The rule whose records are decoded again.")],
) -> int:
    """Decode quarantined records again, after a change of the source's declaration; a second time changes nothing."""
    if rule == RULE:
        raise InputError(
            f"{rule} is no rule of a decoder: the records are valid, and a job leaves them out.",
            fix="take them back: twinrun quarantine JOB --remove TOPIC:PARTITION:OFFSET",
        )
    if rule not in RULES:
        match = nearest(rule, RULES)
        raise InputError(
            f"there is no quarantine rule {rule!r}.",
            expected=f"one of {listed(RULES)}",
            fix=f"write {match}" if match else "",
        )
    cfg = call.config()
    sources = sources_named(cfg, name)
    for source in sources:
        need_table(cfg, cfg.table("quarantine", source=source.name), fix="run the batch first: twinrun batch JOB")
    run = runner("batch.requeue")

    def work(spark: SparkSession, stop: threading.Event) -> list[Any]:
        with step(call.out, f"requeue {name}"):
            return [run(spark, cfg, source, rule) for source in sources]

    done = with_spark(cfg, f"requeue {name}", work)
    lines = [
        f"{each.source}: {plural(each.examined, 'record')} of {each.rule} decoded again, "
        f"{each.accepted:,} accepted, {each.refused:,} still refused"
        for each in done
    ]
    call.out.result({"requeued": [asdict(each) for each in done]}, lines)
    return EXIT_OK


def runner(module: str) -> Callable[..., Any]:
    """The ``run`` of a module of batch/ or streaming/, loaded by name so that both stay replaceable."""
    run: Callable[..., Any] = importlib.import_module(f"twinrun.{module}").run
    return run


def batch_once(spark: SparkSession, cfg: Config, job: Job, full: bool, stop: threading.Event) -> RunSummary:
    """One batch run."""
    done: RunSummary = runner("batch.runner")(spark, cfg, job, "full" if full else None, stop)
    return done


def show_run(call: Call, done: RunSummary) -> None:
    """Print what a run did."""
    call.out.result({**asdict(done)}, run_lines(done))


def telling(call: Call, title: str, say: Say) -> OnProgress:
    """Hand progress on to a step; what a run waits for is said once, on a terminal or not, and when it is over."""
    said = [""]

    def tell(so_far: Progress) -> None:
        if so_far.waits != said[0]:
            call.out.note(f"{title} {so_far.waits or 'goes on: Kafka answers again'}")
            said[0] = so_far.waits
        say(progress_text(so_far))

    return tell


def run_lines(done: RunSummary) -> list[str]:
    """A finished run in a few lines; all counts are those of this run."""
    lines = [f"{done.mode} {done.name}: {', '.join(counts_of(done))}, {done.duration_ms / 1000:.1f} s"]
    version = "" if done.version is None else f" version {done.version}"
    lines.append(f"  table      {done.table}{version}")
    if done.details.get("watermark"):
        lines.append(f"  watermark  {done.details['watermark']}")
    lines += [f"  note       {note}" for note in done.notes]
    if done.stopped_by:
        lines.append(f"  stopped    by {done.stopped_by}; the next run continues")
    return lines


def _scheduled(call: Call, cfg: Config, job: Job, cron: str, full: bool) -> int:
    """Run the batch by a cron expression until the process is stopped; a firing that fails does not end that."""
    every = read_cron(cron, seconds=True)

    def work(spark: SparkSession, stop: threading.Event) -> None:
        warn_before_first_run(call, spark, cfg, job, "batch")

        def firing() -> None:
            need_landed(cfg, job)
            done = batch_once(spark, cfg, job, full, stop)
            call.out.event(asdict(done), run_lines(done)[0])

        run_planned(call, [(job.job_name, every, firing)], stop)

    call.out.note(f"batch {job.job_name} by cron {cron!r} (UTC); end it with Ctrl-C")
    until_stopped(cfg, f"batch {job.job_name}", work)
    return EXIT_OK


def run_planned(
    call: Call,
    planned: Sequence[tuple[str, Cron, Callable[[], object]]],
    stop: threading.Event,
    *,
    retries: int = 0,
    wait_s: float = 60.0,
) -> None:
    """Run by the schedule until ``stop`` is set, tell what does not go by it, and count at the end."""
    module = importlib.import_module("twinrun.batch.schedule")

    def tell(found: Any) -> None:
        line = happening_line(found, retries)
        if call.out.as_json:
            error = None if found.error is None else in_words(found.error)
            words = {} if error is None else {"error": {"type": type(error).__name__, "found": error.found}}
            about = {"event": found.kind, "job": found.name, "at": at_text(found.at), "firings": found.count, **words}
            call.out.event(about, line)
        call.out.note(line)

    done = module.run_schedule(
        [module.Planned(*each) for each in planned], stop=stop, retries=retries, retry_wait_s=wait_s, tell=tell
    )
    more = f", {done.missed} taken together with others" if done.missed else ""
    call.out.note(f"schedule ended: {done.fired} run, {done.failed} failed, {done.refused} refused{more}")


def happening_line(found: Any, retries: int) -> str:
    """A `Happening` of the schedule in a sentence.

    Parameters
    ----------
    retries : int
        How often a failed run is tried again.
    """
    following = "" if found.next_at is None else at_text(found.next_at)
    if found.kind == "missed":
        return (
            f"{found.name}: {plural(found.count, 'firing')} since {at_text(found.at)} had passed, since this process "
            f"slept or another job ran; one run is made for all of them"
        )
    if found.kind == "overlap":
        return (
            f"{found.name}: {plural(found.count, 'firing')} came due while it ran, and {_was(found.count)} left out; "
            f"the next run is at {following}"
        )
    attempts = f" (attempt {found.attempt} of {retries + 1})" if retries else ""
    then = f"tried again at {following}" if found.retried else f"the next firing is at {following}"
    if found.next_at is None:
        then = "the schedule was ended meanwhile"
    return f"{found.name} failed{attempts}: {in_words(found.error).sentence()}\n  {then}"


def at_text(at: datetime) -> str:
    """An instant in UTC, to the second."""
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _was(count: int) -> str:
    return "was" if count == 1 else "were"
