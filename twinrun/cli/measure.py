"""``twinrun measure``: what each mode of a job costs and how fresh it is, on this machine."""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinrun.broker.process import BrokerInfo, start_broker, stop_broker
from twinrun.broker.topics import create_topic, offset_ranges
from twinrun.cli.call import Call, command
from twinrun.cli.inputs import job_named, need_static, need_table
from twinrun.cli.live import step
from twinrun.cli.measure_asked import Asked, asked_for, possible, regression_share, with_real_time
from twinrun.cli.measured import compared, lines, told
from twinrun.cli.runs import JobName
from twinrun.cli.session import with_spark
from twinrun.cli.workplace import broker_folder, fresh_folder, without_interruption
from twinrun.config.model import Config
from twinrun.config.sections import TableBinding
from twinrun.errors import EXIT_DIFFERENT, EXIT_OK, BrokerError, InputError, MachineError
from twinrun.job.job import Job
from twinrun.session.settings import Size
from twinrun.wording import plural

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from twinrun.measure.bench import Bench
    from twinrun.measure.load import Due
    from twinrun.measure.past import Past
    from twinrun.measure.results import Measurement, Recovery, Result, Sustained
    from twinrun.produce.records import Record

commands = typer.Typer()
FLIGHTS = "flights"
LEAST_EVENTS = 200
_FOLDER = Path(".data/measure")
_PACKAGES = ("twinrun", "pyspark", "delta-spark")
_PARTITIONS = 3
_PRIMER = 20
_LIMIT_EVENTS = 400_000


@dataclass(frozen=True)
class Load:
    """The events of a measurement: where they come from, when each is due, and the speed of their own times."""

    origin: str
    dues: list[Due]
    speed: float
    primer: list[Record]
    more: list[Record]
    """Those behind the load's own, as many as a search of the highest rate may need."""


@command(commands, "measure", "twinrun measure departures_per_hour --quick")
def measure(
    call: Call,
    name: JobName,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few events and short cadences: under 10 minutes on 2 idle cores.")
    ] = False,
    events: Annotated[
        int | None,
        typer.Option("--events", min=LEAST_EVENTS, help="Events of each arm. [default: 90,000; quick 1,600]"),
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", min=0.1, help="Events per second. [default: 500; quick 100]")
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            "--arm", metavar="'MODE DURATION'", help="Measure this arm, such as 'batch 30s'; may be repeated."
        ),
    ] = None,
    repeats: Annotated[int | None, typer.Option("--repeats", min=1, help="Of each arm. [default: 5; quick 1]")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the order of the arms.")] = 1,
    limit: Annotated[
        bool, typer.Option("--limit", help="Also look for the highest rate that a stream keeps up with: minutes.")
    ] = False,
    recovery: Annotated[
        bool, typer.Option("--recovery", help="Also kill a stream with kill -9, and time until it is fresh again.")
    ] = False,
    slo: Annotated[
        str | None, typer.Option("--freshness", metavar="DURATION", help="Draw this freshness into the chart as a box.")
    ] = None,
    price: Annotated[
        float | None,
        typer.Option("--price-per-core-hour", min=0, help="Tell what a day costs, in whatever currency this is."),
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="Measure nothing: compare the last measurement with the one before it.")
    ] = False,
    max_regression: Annotated[
        str | None,
        typer.Option("--max-regression", metavar="SHARE", help="Exit 1 where a figure grew by more, such as 10%."),
    ] = None,
) -> int:
    """Run a job in both modes under the same load; say how fresh and how costly each is. Has its own broker and tables.

    An arm has figures only where its verify agrees.
    """
    from twinrun.measure.past import changes

    most = None if max_regression is None else regression_share(max_regression)
    slo_s = None
    if slo is not None:
        from twinrun.measure.advise import freshness_seconds

        slo_s = freshness_seconds(slo)
    cfg = call.config()
    job = job_named(cfg, name)
    if history:
        return _history(call, cfg, job, most)
    _check_job(job)
    asked = replace(asked_for(quick, events, rate, arm, repeats, seed), name=name, limit=limit, recovery=recovery)
    asked = with_real_time(asked, cfg, job)
    if (limit or recovery) and asked.quickest is None:
        raise InputError("--limit and --recovery need a stream.", fix="give an arm such as --arm 'stream 1s'")
    with fresh_folder(cfg.root / _FOLDER, "measurement") as folder:
        try:
            found, past = _measure(call, cfg, job, folder, asked)
        finally:
            with without_interruption():
                stop_broker(broker_folder(folder))
    files = _write(cfg, found, slo_s, price)
    changed, code = ([], EXIT_OK) if most is None else compared(*changes(past), most)
    payload = {**found.to_dict(), "report": files}
    call.out.result(payload, [*lines(found), *changed, f"  report     {files['html']}"])
    return code if any(result.agreed for result in found.results) else EXIT_DIFFERENT


def measurement_folder(cfg: Config, job_name: str) -> Path:
    """Where the page and the JSON of a job's last measurement are."""
    return Path(cfg.report.folder) / f"{job_name}.measure"


def versions_of(job: Job) -> dict[str, str]:
    """What a measurement was made with, the text of the job included."""
    from twinrun.job.code import project_text

    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # from a zip
            found[package] = "unknown"
    return {**found, "job": hashlib.sha256(project_text(job).encode()).hexdigest()[:16]}


def _check_job(job: Job) -> None:
    """Refuse what no freshness can be told of yet."""
    if len(job.sources) != 1:
        raise InputError(
            f"{job.job_name} has {plural(len(job.sources), 'source')}; measure tells the freshness of one alone.",
            expected="a job with one source",
        )
    if job.shape == "session":
        raise InputError(
            f"{job.job_name} makes sessions; measure cannot tell yet with which row an event of a session shows.",
            expected="a job of windows, of single events, or of the latest row per key",
        )


def _measure(call: Call, cfg: Config, job: Job, folder: Path, asked: Asked) -> tuple[Measurement, tuple[Past, ...]]:
    """All that happens before Spark starts, then the arms on one session."""
    from twinrun.measure.load import check_rate, fastest

    with step(call.out, "reading the events"):
        load = _load(cfg, job, asked)
    if job.tables and not load.origin.startswith("the flights"):
        need_static(cfg, job)
    with step(call.out, "starting a broker"):
        broker = start_broker(broker_folder(folder))
        create_topic(broker.bootstrap_servers, "measure-fastest", _PARTITIONS)
        check_rate(asked.rate, fastest(broker.bootstrap_servers, "measure-fastest", load.dues))
    began = time.monotonic()

    def work(spark: SparkSession, stop: threading.Event) -> tuple[Measurement, tuple[Past, ...]]:
        session_s = time.monotonic() - began
        return _on_spark(call, spark, cfg, job, folder, asked, load, broker, session_s, stop)

    return with_spark(cfg, f"measure {job.job_name}", work, size=Size(0, len(load.dues)))


def _on_spark(
    call: Call,
    spark: SparkSession,
    cfg: Config,
    job: Job,
    folder: Path,
    asked: Asked,
    load: Load,
    broker: BrokerInfo,
    session_s: float,
    stop: threading.Event,
) -> tuple[Measurement, tuple[Past, ...]]:
    from twinrun.measure.bench import Bench, prepare
    from twinrun.measure.past import read_past, write_rows
    from twinrun.measure.results import Measurement, without_noisy
    from twinrun.measure.usage import NOISE_SHARE, commit_of, machine

    about = machine()
    cores = _cores(spark, about["cores"])
    bench = Bench(
        spark=spark,
        cfg=cfg,
        job=job,
        broker=broker,
        folder=folder / "arms",
        dues=load.dues,
        partitions=_PARTITIONS,
        cores=about["cores"],
        settle_s=max(60.0, load.dues[-1].due_s),
        stop=stop,
        tables=_tables(spark, cfg, job, folder, load),
        primer=load.primer,
        name=asked.name,
    )
    prepare(bench)
    with step(call.out, f"measure {job.job_name}") as say:
        results, left_out = run_arms(call, bench, asked, say)
        limits, kills = _limits(bench, asked, load, say)
    kept, thrown = without_noisy(results, NOISE_SHARE)
    found = Measurement(
        measurement=uuid.uuid4().hex[:12],
        job=job.job_name,
        at_ms=int(time.time() * 1000),
        rate_per_s=asked.rate,
        speed=load.speed,
        events_from=load.origin,
        windowed_stream=job.windowed and job.emit == "final",
        session_s=session_s,
        cores=cores,
        machine=about,
        versions=versions_of(job),
        settings=_settings(spark, asked, len(load.dues), job.job_name in cfg.sinks),
        commit=commit_of(cfg.root),
        results=tuple(kept),
        thrown_away=tuple(thrown),
        notes=(*_notes(load, job, kept), *left_out),
        recoveries=kills,
        sustained=limits,
    )
    write_rows(spark, cfg, found)
    return found, read_past(spark, cfg, job.job_name)


def run_arms(call: Call, bench: Bench, asked: Asked, say: Callable[[str], None]) -> tuple[list[Result], list[str]]:
    """Each arm in turn, as often as asked for; and what is to be said of an arm that could not be run."""
    from twinrun.measure.arms import REAL_TIME, in_order
    from twinrun.measure.run import run_arm, warm_up
    from twinrun.measure.usage import NOISE_SHARE

    arms, left_out = possible(bench, asked, say)
    order = in_order(arms, asked.repeats, asked.seed)
    say("warming up")
    warm_up(bench, arms)
    results: list[Result] = []
    for number, (repeat, arm) in enumerate(order):
        asks = arm == asked.quickest and not any(r.lateness and r.others_share <= NOISE_SHARE for r in results)
        try:
            result = run_arm(bench, arm, repeat, say, asks)
        except MachineError as error:
            # Its own process has a Java of its own, and the machine may be too small for two: the others go on.
            if arm.mode != REAL_TIME or len(order) == 1:
                raise
            left_out.append(f"{arm.name}, repeat {repeat + 1}, has no figures: {error.found}")
            continue
        results.append(result)
        call.out.note(f"  {number + 1:>3} of {len(order)}  {result.seconds:6.1f} s  {arm.name}: {told(result)}")
    return results, left_out


def _limits(
    bench: Bench, asked: Asked, load: Load, say: Callable[[str], None]
) -> tuple[tuple[Sustained, ...], tuple[Recovery, ...]]:
    """The highest rate and the kill, where they were asked for."""
    from twinrun.measure.recovery import recover
    from twinrun.measure.sustained import sustained

    arm = asked.quickest
    if arm is None:
        return (), ()
    records = [*(due.record for due in load.dues), *load.more]
    return (
        (sustained(bench, arm, records, say),) if asked.limit else (),
        (recover(bench, arm, say),) if asked.recovery else (),
    )


def _settings(spark: SparkSession, asked: Asked, events: int, sink: bool) -> dict[str, Any]:
    """What two measurements must have in common to be compared."""
    from twinrun.measure.usage import NOISE_SHARE

    return {
        "events": events,
        "rate_per_s": asked.rate,
        "repeats": asked.repeats,
        "partitions": _PARTITIONS,
        "noise_share": NOISE_SHARE,
        "spark": {key: spark.conf.get(key, "") for key in ("spark.master", "spark.sql.shuffle.partitions")},
        # Arms that send to a topic as well do more.
        **({"sink": True} if sink else {}),
    }


def _load(cfg: Config, job: Job, asked: Asked) -> Load:
    """The events: of the job's topic where there is one, else, for a job on flights, the data set of the demo."""
    from twinrun.measure.load import read_topic, schedule

    source = job.sources[0].name
    binding, options = cfg.source(source), cfg.kafka.confluent_options()
    records: list[Record] = []
    most = (max(asked.events, _LIMIT_EVENTS) if asked.limit else asked.events) + _PRIMER
    try:
        ranges = offset_ranges(cfg.kafka.bootstrap_servers, binding.topic, options)
        if sum(high - low for low, high in ranges.values()):
            records = read_topic(cfg.kafka.bootstrap_servers, binding.topic, options, most)
        why = f"the topic {binding.topic!r} has none"
    except BrokerError as error:
        why = error.found.rstrip(".")
    origin = f"the topic {binding.topic}"
    if not records and source == FLIGHTS:
        records, origin = _flights(most), "the flights of 2013 (the demo's data set)"
    if len(records) < LEAST_EVENTS + _PRIMER:
        had = f"{origin} has {len(records)}" if records else why
        raise InputError(
            f"there are too few events to measure {job.job_name} with: {had}.",
            expected=f"at least {LEAST_EVENTS + _PRIMER} records in the topic of {source}",
            fix="name the cluster that has them, or produce some: twinrun produce --help",
        )
    own = _PRIMER + asked.events
    dues, speed = schedule(records[_PRIMER:own], asked.rate)
    return Load(origin, dues, speed, records[:_PRIMER], records[own:])


def _flights(most: int) -> list[Record]:
    from twinrun.produce.flights import FIRST_DAY, flight_events, flight_records

    days = min(365, most // 800 + 2)
    return list(flight_events(flight_records(FIRST_DAY, days).head(most)))


def _tables(spark: SparkSession, cfg: Config, job: Job, folder: Path, load: Load) -> dict[str, TableBinding]:
    """Static tables beside those of the configuration: the weather that goes with the flights."""
    if not load.origin.startswith("the flights") or not any(table.name == "weather" for table in job.tables):
        return {}
    from twinrun.produce.flights import write_weather

    path = str(folder / "static" / "weather")
    write_weather(spark, path)
    return {"weather": TableBinding(path=path)}


def _cores(spark: SparkSession, there: int) -> int:
    return min(int(spark.sparkContext.defaultParallelism), there) or there


def _notes(load: Load, job: Job, results: list[Result]) -> list[str]:
    from twinrun.measure.usage import NOISE_SHARE

    notes = []
    if load.speed > 1.05:
        notes.append(
            f"Events came {load.speed:,.0f} times as fast as their own times say: the watermark's wait is as many "
            "times longer where they come at their own pace, and more of them may be late there."
        )
    if job.windowed and job.emit == "final":
        notes.append(
            "Batch shows a window as soon as it has an event of it, and again later; the stream shows it once, when it "
            "is over. The two freshnesses are of these."
        )
    noisy = sorted({r.arm.name for r in results if r.others_share > NOISE_SHARE})
    if noisy:
        notes.append(f"Other processes kept the machine busy during every repeat of: {', '.join(noisy)}.")
    return notes


def _write(cfg: Config, found: Measurement, slo_s: float | None, price: float | None) -> dict[str, str]:
    from twinrun.measure.page import write_page

    return write_page(found, measurement_folder(cfg, found.job), slo_s, price)


def _history(call: Call, cfg: Config, job: Job, most: float | None) -> int:
    """What became slower since the measurement before the last."""
    from twinrun.measure.past import changes, read_past

    fix = f"measure it: twinrun measure {job.job_name} --quick"
    need_table(cfg, cfg.table("measurements"), fix=fix)

    def work(spark: SparkSession, _: threading.Event) -> tuple[Past, ...]:
        with step(call.out, f"measure {job.job_name} --history"):
            return read_past(spark, cfg, job.job_name)

    past = with_spark(cfg, f"measure {job.job_name} --history", work)
    if not past:
        raise InputError(f"{job.job_name} was never measured.", fix=fix)
    found, notes = changes(past)
    told, code = compared(found, notes, most)
    payload = {
        "exit_code": code,
        "changes": [{**vars(each), "share": each.share} for each in found],
        "notes": notes,
        "max_regression": most,
    }
    call.out.result(payload, told)
    return code
