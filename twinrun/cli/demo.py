"""``twinrun demo``: the main job on real flights, or a job of the gallery on its made-up log, end to end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinrun.broker.process import start_broker, stop_broker
from twinrun.broker.topics import create_topic
from twinrun.cli.call import Call, command
from twinrun.cli.inputs import job_named
from twinrun.cli.session import with_spark
from twinrun.cli.verify import report_folder, show_verdict
from twinrun.cli.whole import Steps, both_modes
from twinrun.cli.workplace import broker_folder, fresh_folder, without_interruption
from twinrun.config.model import Config
from twinrun.errors import InputError
from twinrun.gallery.entries import Entry, entry_of, write_static
from twinrun.job.job import Job
from twinrun.produce.producer import produce
from twinrun.results.verdict import Verdict
from twinrun.wording import plural

if TYPE_CHECKING:
    from pandas import DataFrame as Flights
    from pyspark.sql import SparkSession

commands = typer.Typer()
JOB = "departures_per_hour"
TOPIC = "flights"
PARTITIONS = 3
FIRST_DAY, NEW_YEAR = date(2013, 1, 6), date(2013, 1, 1)
LONGEST = (date(2013, 12, 31) - FIRST_DAY).days + 1
PER_MICRO_BATCH = 150
MOST_MICRO_BATCHES = 175
SHORT_DAYS = 31
DAYS, EVENTS, SEED = 7, 2_000, 1
MOST_EVENTS, FEW_EVENTS = 1_000_000, 50_000
_FOLDER, _GALLERY = Path(".data/demo"), Path(".data/gallery")
# In a minute or two, generated code costs more to compile than it saves, and one small heap is collected fastest alone.
_QUICK = (
    # A micro-batch of so few events is one task's work, and so is the log of a table with a few hundred files.
    "spark.sql.shuffle.partitions=1",
    "spark.databricks.delta.snapshotPartitions=1",
)


@command(commands, "demo", "twinrun demo page_load_times --events 5000")
def demo(
    call: Call,
    name: Annotated[
        str | None, typer.Argument(metavar="[JOB]", help=f"{JOB} (the default), or a job of twinrun gallery.")
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=365, help=f"Days of flights to replay. [default: {DAYS}]")
    ] = None,
    events: Annotated[
        int | None,
        typer.Option(min=100, max=MOST_EVENTS, help=f"Events in each log of a gallery job. [default: {EVENTS}]"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help=f"The same seed gives the same events. [default: {SEED}]")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every job of twinrun gallery in one session, and a page of cards.")
    ] = False,
) -> int:
    """Send events through Kafka, run a job in both modes, verify, and explain every difference.

    The main job runs on real flights, each job of the gallery on made-up events of its own kind. Needs the checkout
    (conf/ and jobs/). Everything is written below .data/demo or .data/gallery/JOB, fresh on each run.
    """
    _need_checkout(call)
    if every:
        if name is not None or days is not None:
            raise InputError(
                f"--all runs every job of the gallery, and {name or '--days'} is for one.", fix="leave one of them out"
            )
        return _all(call, EVENTS if events is None else events, SEED if seed is None else seed)
    if name is None or name == JOB:
        if events is not None or seed is not None:
            raise InputError(
                f"--events and --seed are of made-up events, and {JOB} runs on real flights.",
                fix="leave them out, or name a job of twinrun gallery",
            )
        return _flights(call, DAYS if days is None else days)
    entry = entry_of(name)
    if days is not None:
        raise InputError(f"--days is of real flights, and {name} runs on made-up events.", fix="write --events")
    return _gallery(call, entry, EVENTS if events is None else events, SEED if seed is None else seed)


def _need_checkout(call: Call) -> None:
    if not call.conf_file.exists():
        raise InputError(
            f"the demo needs the checkout of twinrun: there is no {call.conf_file} here.",
            expected="the folder that holds conf/ and jobs/",
            fix="change to it, or start a project of your own: twinrun init FOLDER",
        )


def _flights(call: Call, days: int) -> int:
    """The main job on real flights."""
    job_named(call.config(), JOB)
    flights = chosen_flights(days)
    size = micro_batch_size(len(flights))
    return _in_folder(call, _FOLDER, lambda steps, at: _run(call, steps, at, flights, days, size), {"days": days})


def _gallery(call: Call, entry: Entry, events: int, seed: int) -> int:
    """A job of the gallery on its made-up log."""
    job = job_named(call.config(), entry.job)
    inputs = {**entry.logs, **entry.tables}
    read = [*(source.name for source in job.sources), *(table.name for table in job.tables)]
    lacking = [name for name in read if name not in inputs]
    if lacking:
        raise InputError(
            f"{entry.job} reads {', '.join(lacking)}, of which the gallery has no log and no table.",
            expected=f"a job over {', '.join(inputs)}",
            fix="take the job file back to what the checkout has, or run your own: twinrun ingest, stream, batch",
        )
    if package := entry.lacking():
        raise InputError(
            f"{entry.job} needs the package {package}, and it is not installed.",
            fix="install it: pip install 'twinrun[gallery]'; in the checkout make setup does",
        )
    return _in_folder(
        call,
        _GALLERY / entry.job,
        lambda steps, at: _run_entry(call, steps, at, entry, job, events, seed),
        {"events": events, "seed": seed},
    )


def _all(call: Call, events: int, seed: int) -> int:
    """Every job of the gallery in one folder, on one broker and in one session."""
    from twinrun.cli.demo_all import run_all

    with fresh_folder(call.config().root / _GALLERY / "all") as folder:

        def configured(servers: str, more: tuple[str, ...]) -> Config:
            size = max(PER_MICRO_BATCH, -(-events // MOST_MICRO_BATCHES))
            free, fixed = _own_folder(folder, servers, size, little=events <= FEW_EVENTS)
            return Call(call.out, call.conf_file, (*free, *call.overrides)).config((*fixed, *more))

        try:
            return run_all(call, folder, configured, events, seed)
        finally:
            with without_interruption():
                stop_broker(broker_folder(folder))


def _in_folder(
    call: Call, below: Path, run: Callable[[Steps, Path], tuple[Verdict, Config]], more: dict[str, Any]
) -> int:
    """Run a demo in a folder of its own with a broker of its own, and show the verdict."""
    with fresh_folder(call.config().root / below) as folder:
        steps = Steps(call)
        try:
            verdict, cfg = run(steps, folder)
        finally:
            # The session is stopped by now, also after a failure; the broker is what would stay.
            with without_interruption():
                stop_broker(broker_folder(folder))
    more = {**more, "stream.max_offsets_per_trigger": cfg.stream.max_offsets_per_trigger, "steps": steps.told()}
    return show_verdict(call, verdict, report_folder(cfg, verdict.job), more)


def chosen_flights(days: int) -> Flights:
    """The flights of so many days from 6 January, or from 1 January where there are too many."""
    from twinrun.produce.flights import flight_records

    return flight_records(first_day(days), days)


def first_day(days: int) -> date:
    """The first day that is replayed."""
    return FIRST_DAY if days <= LONGEST else NEW_YEAR


def micro_batch_size(flights: int) -> int:
    """Flights per micro-batch: few enough that hours close while flights are still on their way, up to a year."""
    least = -(-flights // MOST_MICRO_BATCHES)
    return max(PER_MICRO_BATCH, -(-least // 10) * 10)


def demo_overrides(folder: Path, servers: str, size: int, days: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Settings of a demo: those that a user's ``--set`` may change, and those that keep it in its own folder."""
    free, fixed = _own_folder(folder, servers, size, little=days <= SHORT_DAYS)
    weather = f"tables.weather.path={folder}/static/weather", "tables.weather.format=delta"
    return free, (*fixed, f"sources.flights.topic={TOPIC}", *weather)


def _own_folder(folder: Path, servers: str, size: int, *, little: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The same of any demo: micro-batches of ``size`` records, everything below its folder."""
    free = ["stream.trigger=available-now", f"stream.max_offsets_per_trigger={size}"]
    # One process on a fresh folder: nobody else could take its lease, so it need not be renewed often.
    free += ["stream.lease_ttl_s=600", "stream.heartbeat_s=300"]
    if little:
        free += ["spark.small_data=always", *(f"spark.conf.{setting}" for setting in _QUICK)]
    fixed = (
        f"kafka.bootstrap_servers={servers}",
        f"warehouse={folder}/warehouse",
        f"checkpoints={folder}/checkpoints",
        f"report.folder={folder}/reports",
        f"broker.data_dir={broker_folder(folder)}",
    )
    return tuple(free), fixed


def _run(call: Call, steps: Steps, folder: Path, flights: Flights, days: int, size: int) -> tuple[Verdict, Config]:
    from twinrun.produce.flights import flight_events

    with steps.doing("broker") as now:
        servers = start_broker(broker_folder(folder)).bootstrap_servers
        free, fixed = demo_overrides(folder, servers, size, days)
        cfg = Call(call.out, call.conf_file, (*free, *call.overrides)).config(fixed)
        options = cfg.kafka.confluent_options()
        create_topic(servers, TOPIC, PARTITIONS, options)
        now.details.append(f"{servers}, topic {TOPIC} with {PARTITIONS} partitions")
    with steps.doing("produce") as now:
        sent = produce(flight_events(flights), TOPIC, options, on_progress=lambda n: now.say(f"{n.acked:,} flights"))
        now.details.append(f"{sent.acked:,} flights of {days} days from {first_day(days)}, as they became known")
    job = job_named(cfg, JOB)

    def work(spark: SparkSession, stop: threading.Event) -> Verdict:
        from twinrun.produce.flights import write_weather

        with steps.doing("weather") as now:
            write_weather(spark, cfg.tables["weather"].path)
            now.details.append("the static table, hourly")
        return both_modes(spark, cfg, job, steps, stop)

    return with_spark(cfg, "demo", work, on_death=lambda: _stopped(folder)), cfg


def _run_entry(
    call: Call, steps: Steps, folder: Path, entry: Entry, job: Job, events: int, seed: int
) -> tuple[Verdict, Config]:
    from twinrun.gallery.log import log_records

    topics = {source.name: f"gallery_{source.name}" for source in job.sources}
    with steps.doing("broker") as now:
        servers = start_broker(broker_folder(folder)).bootstrap_servers
        size = max(PER_MICRO_BATCH, -(-events // MOST_MICRO_BATCHES))
        free, fixed = _own_folder(folder, servers, size, little=events <= FEW_EVENTS)
        places = [f"sources.{source}.topic={topic}" for source, topic in topics.items()]
        for table in entry.tables:
            places += [f"tables.{table}.path={folder}/static/{table}", f"tables.{table}.format=delta"]
        cfg = Call(call.out, call.conf_file, (*free, *call.overrides)).config((*fixed, *places))
        options = cfg.kafka.confluent_options()
        sinks = [sink.topic for name, sink in cfg.sinks.items() if name == job.job_name]
        for topic in [*topics.values(), *sinks]:
            create_topic(servers, topic, PARTITIONS, options)
        now.details.append(f"{servers}, {plural(len(topics), 'topic')} with {PARTITIONS} partitions")
    with steps.doing("produce") as now:
        for source, topic in topics.items():
            log = entry.logs[source](seed, events)
            sent = produce(log_records(log), topic, options, on_progress=lambda n: now.say(f"{n.acked:,} records"))
            now.details.append(f"{sent.acked:,} records of {source}, made from seed {seed}, as they became known")

    def work(spark: SparkSession, stop: threading.Event) -> Verdict:
        if entry.tables:
            with steps.doing("tables") as now:
                for name, table in entry.tables.items():
                    write_static(spark, table, seed, events, cfg.tables[name].path)
                now.details.append(f"static: {', '.join(entry.tables)}")
        return both_modes(spark, cfg, job, steps, stop)

    return with_spark(cfg, "demo", work, on_death=lambda: _stopped(folder)), cfg


def _stopped(folder: Path) -> None:
    stop_broker(broker_folder(folder))
