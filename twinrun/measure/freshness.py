"""How fresh a result was: for every event the time from when it was due until the commit that first holds its effect.

All of it is worked out after the run, from what the run left behind: the due time in the header of each record, the
micro-batch log, and the commits of the result table. Nothing is watched while the job runs, so nothing is missed.

An event has its effect
- in a stream of windows: with the micro-batch that wrote the first of its windows which had not been written before;
- in any other stream: with the micro-batch that read it;
- in real time: with the record of the results' topic that has its key, by the broker's time;
- in batch: with the first run that covers its offset. Its window may be incomplete then, and is written again later.

Freshness has three parts that add up to it: the watermark's wait (until an event was due whose time lets the watermark
pass the end of the window), the trigger's wait (from then until the micro-batch or run that wrote it began; it holds
those before it, too), and that one's own run until its commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from twinrun.broker.topics import offset_ranges
from twinrun.config.model import Config
from twinrun.config.sections import SourceBinding
from twinrun.events.exact import EXACT_TIMES, quoted
from twinrun.explain.used import with_micro_batch
from twinrun.job.carried import carried
from twinrun.job.dataflow import dataflow, probe_table
from twinrun.job.job import Job
from twinrun.job.jvmplan import unchanged_fields
from twinrun.job.passing import Passage, passages
from twinrun.job.plan import seen_schema
from twinrun.measure.load import DUE_HEADER
from twinrun.results.cut import StreamCut, micro_batch_of, window_starts
from twinrun.results.state import BatchState, read_events
from twinrun.tables.checkpoint import Offsets
from twinrun.tables.delta import delta_table, read_table
from twinrun.tables.kafka import kafka_range
from twinrun.tables.static import read_static

AT = (0.5, 0.95, 0.99, 1.0)
"""The quantiles that are given: p50, p95, p99 and the largest."""
SLICES = 40
"""So many points show freshness over the run."""
_PLACE = ["_partition", "_offset"]
_AS_BEFORE = 1.2
"""A wait that is longer than before a kill by no more than this factor is as before: no two micro-batches are equal."""


@dataclass(frozen=True)
class Quantiles:
    """Seconds at p50, p95 and p99, the largest, and the mean. None where no event had an effect."""

    p50: float
    p95: float
    p99: float
    max: float
    mean: float


@dataclass(frozen=True)
class Freshness:
    """What one arm's events went through.

    Attributes
    ----------
    events : int
        Events that reach the result: neither refused nor filtered away by the job.
    shown : int
        Those of them whose effect can be read; the figures are about these.
    waiting : int
        Those whose window was still open when the run ended.
    lost : int
        Those that the stream dropped as late, from all of their windows; 0 in batch.
    lost_at_own_pace : int or None
        So many at most are lost where events come at the pace of their own times and no partition lags behind: as if
        each event were a micro-batch.
    total, watermark, trigger, run, machinery : Quantiles or None
        ``machinery`` is the trigger's wait and the run together.
    over_time : tuple of (float, float, float)
        Seconds from the start of the load, and p50 and p99 of the events that were due then.
    """

    events: int
    shown: int
    waiting: int
    lost: int
    lost_at_own_pace: int | None
    total: Quantiles | None
    watermark: Quantiles | None
    trigger: Quantiles | None
    run: Quantiles | None
    machinery: Quantiles | None
    over_time: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True)
class BatchRun:
    """One batch run: when it began (epoch ms, ingest included), where it ended, and when its commit could be read."""

    began_ms: int
    ends: Offsets
    committed_ms: int


def stream_freshness(
    spark: SparkSession, cfg: Config, job: Job, cut: StreamCut, batch: BatchState, start_s: float
) -> Freshness:
    """Of a stream that has ended. Needs a batch run over all events. About six Spark jobs.

    Parameters
    ----------
    start_s : float
        When the load began, epoch seconds.
    """
    return _measured(_stream_timed(spark, cfg, job, cut, batch), job, start_s)


def batch_freshness(
    spark: SparkSession, cfg: Config, job: Job, runs: Sequence[BatchRun], batch: BatchState, start_s: float
) -> Freshness:
    """Of batch runs, the last of which covers all events. About five Spark jobs."""
    rows = [
        (int(partition), int(end), number, run.began_ms, run.committed_ms)
        for number, run in enumerate(runs)
        for partition, end in run.ends.items()
    ]
    covered = spark.createDataFrame(
        rows, "_partition INT, _end BIGINT, _run INT, _began_ms BIGINT, _committed_ms BIGINT"
    )
    events = due_events(spark, cfg, job, batch)
    reached = events.join(F.broadcast(covered), "_partition").filter(F.col("_end") > F.col("_offset"))
    first = reached.groupBy(*_PLACE).agg(F.min_by(F.struct("_began_ms", "_committed_ms"), F.col("_run")).alias("_by"))
    timed = events.join(first, _PLACE, "left").select(
        *events.columns,
        F.col("_by._began_ms"),
        F.col("_by._committed_ms"),
        F.lit(None).cast("bigint").alias("_moved_us"),
        F.lit(False).alias("_lost"),
    )
    return _measured(timed, job, start_s)


def real_time_freshness(
    spark: SparkSession, cfg: Config, job: Job, topic: str, batch: BatchState, start_s: float
) -> Freshness:
    """Of a job whose rows went to a topic record by record. Needs a batch run over all events. About seven Spark jobs.

    An event shows with the first row since it was due that has its key.

    Parameters
    ----------
    topic : str
        Its records have the time at which the broker appended them; their keys are those of `twinrun.results.publish`.
    """
    events = due_events(spark, cfg, job, batch)
    fields = key_fields(spark, job, read_static(spark, cfg, batch.static))
    of_event = F.struct(*[F.col(quoted(of)).alias(key) for key, of in fields.items()])
    found = offset_ranges(cfg.kafka.bootstrap_servers, topic, cfg.kafka.confluent_options())
    ends = {partition: high for partition, (_, high) in found.items()}
    rows = kafka_range(spark, cfg, SourceBinding(topic=topic), {}, ends).select(
        F.col("key").cast("string").alias("_row_key"), F.unix_millis("timestamp").alias("_row_ms")
    )
    keyed = events.withColumn("_key", F.to_json(of_event, EXACT_TIMES))
    met = (F.col("_row_key") == F.col("_key")) & (F.col("_row_ms") >= F.floor(F.col("_due_us") / 1000))
    first = keyed.join(rows, met).groupBy(*_PLACE).agg(F.min("_row_ms").alias("_row_ms"))
    timed = events.join(first, _PLACE, "left").select(
        *events.columns,
        F.floor(F.col("_due_us") / 1000).alias("_began_ms"),
        # The broker tells milliseconds: the row was there at the end of its own.
        (F.col("_row_ms") + 1).alias("_committed_ms"),
        F.lit(None).cast("bigint").alias("_moved_us"),
        F.lit(False).alias("_lost"),
    )
    return _measured(timed, job, start_s)


def key_fields(spark: SparkSession, job: Job, static: dict[str, DataFrame]) -> dict[str, str]:
    """By key column of the result the field of the event that it is, unchanged; empty where one of them is none. Lazy.

    Only all of them say of which event a row is: a carrier alone would be that of some later event, too.
    """
    source = job.sources[0]
    seen = probe_table(spark, seen_schema(source))
    named = unchanged_fields(job.apply({source.name: seen, **static}), seen, job.keys)
    found = carried(spark, job, static)  # knows fields under other names, but no function in Python
    renamed = {} if found.through else {name: fields[source.name] for name, fields in found.columns.items()}
    fields = {**{name: name for name in sorted(named)}, **renamed}
    return {key: fields[key] for key in job.keys} if set(job.keys) <= set(fields) else {}


@dataclass(frozen=True)
class FreshAgain:
    """After a kill: seconds until the first commit and until all is fresh again, and the longest wait before it.

    None where there is none: no commit after the kill, not fresh again by the last commit, nothing shown before.
    """

    first_commit_s: float | None
    fresh_s: float | None
    before_s: float | None


def fresh_again(
    spark: SparkSession, cfg: Config, job: Job, cut: StreamCut, batch: BatchState, before_ms: tuple[int, int]
) -> FreshAgain:
    """How long after a kill until no event waits longer for trigger and run than before it, by a fifth. Six Spark jobs.

    Parameters
    ----------
    before_ms : (int, int)
        From when on events count as before, and when the stream was killed; epoch ms.
    """
    since_ms, killed_ms = before_ms
    timed = parts_of(_stream_timed(spark, cfg, job, cut, batch)).filter(F.col("_committed_ms").isNotNull())
    waits = timed.select("_due_us", "_committed_ms", (F.col("_trigger_s") + F.col("_run_s")).alias("_both_s"))
    kept = waits.groupBy("_committed_ms").agg(F.max("_both_s").alias("_both_s"), F.max("_due_us").alias("_due_us"))
    rows = kept.orderBy("_committed_ms").collect()  # a row per commit
    return _after_a_kill([(row[0], row[1], row[2] // 1000) for row in rows], since_ms, killed_ms)


def _after_a_kill(commits: Sequence[tuple[int, float, int]], since_ms: int, killed_ms: int) -> FreshAgain:
    """Of each commit its time, the longest wait of an event that it shows, and when the newest of them was due."""
    before_s = max((wait for at, wait, due in commits if due >= since_ms and at <= killed_ms), default=None)
    after = [(at, wait) for at, wait, _ in commits if at > killed_ms]
    first_s = (after[0][0] - killed_ms) / 1000 if after else None
    if before_s is None or not after or after[-1][1] > before_s * _AS_BEFORE:
        return FreshAgain(first_s, None, before_s)
    slow = [at for at, wait in after if wait > before_s * _AS_BEFORE]
    return FreshAgain(first_s, (max(slow, default=killed_ms) - killed_ms) / 1000, before_s)


def commit_ms(spark: SparkSession, table: str, version: int) -> int:
    """When a version of a table could be read, epoch ms: the time of its file in the log. One small Spark job."""
    found = delta_table(spark, table).history().filter(F.col("version") == version)
    return int(found.select(F.unix_millis("timestamp")).collect()[0][0])


def parts_of(timed: DataFrame) -> DataFrame:
    """Add ``_total_s``, ``_watermark_s``, ``_trigger_s`` and ``_run_s``, which add up; null where nothing shows. Lazy.

    Parameters
    ----------
    timed : DataFrame
        ``_due_us``, ``_moved_us`` (when an event was due that let the watermark pass; null: nothing waited for that),
        ``_began_ms`` and ``_committed_ms``.
    """
    # What moved the watermark was there when the micro-batch that followed it began.
    moved_us = F.least(F.coalesce("_moved_us", "_due_us"), F.col("_began_ms") * 1000)
    ready_us = F.greatest(F.col("_due_us"), moved_us)
    began_us = F.greatest(F.col("_began_ms") * 1000, ready_us)
    seconds = {
        "_total_s": F.col("_committed_ms") * 1000 - F.col("_due_us"),
        "_watermark_s": ready_us - F.col("_due_us"),
        "_trigger_s": began_us - ready_us,
        "_run_s": F.col("_committed_ms") * 1000 - began_us,
    }
    shown = F.col("_committed_ms").isNotNull()
    return timed.withColumns({name: F.when(shown, us / F.lit(1e6)) for name, us in seconds.items()})


def quantiles(column: str) -> Column:
    """Exact quantiles `AT` and the mean of a column, as a struct ``(at, mean)``; nulls do not count."""
    return F.struct(F.percentile(column, [*AT]).alias("at"), F.avg(column).alias("mean"))


def _stream_timed(spark: SparkSession, cfg: Config, job: Job, cut: StreamCut, batch: BatchState) -> DataFrame:
    """Each event that reaches the result with when the micro-batch that shows it began and was committed. Lazy."""
    source = job.sources[0]
    topic = cfg.source(source.name).topic
    events = with_micro_batch(due_events(spark, cfg, job, batch), cut, topic, cut.start[source.name])
    commits = _stream_commits(spark, cut, job.emit)
    began = cut.micro_batches.select("micro_batch", F.col("started_at_ms").alias("_began_ms"))
    wrote = commits.join(began, "micro_batch")
    if job.windowed and job.emit == "final":
        effects = _by_window(spark, job, events, cut)
    else:
        dropped = _last_end_us(job) <= F.col("_late_ms") * 1000 if job.windowed else F.lit(False)
        by = F.when(~F.coalesce(dropped, F.lit(False)), F.col("_micro_batch"))
        effects = events.withColumns({"micro_batch": by, "_moved_us": F.lit(None).cast("bigint")})
    gone = F.lit(False)
    if job.windowed:
        gone = F.coalesce(_last_end_us(job) <= F.col("_late_ms") * 1000, F.lit(False))
    return effects.withColumn("_lost", gone).join(F.broadcast(wrote), "micro_batch", "left")


def due_events(spark: SparkSession, cfg: Config, job: Job, batch: BatchState) -> DataFrame:
    """The events that reach the result, with ``_due_us`` of their records. Lazy."""
    source = job.sources[0]
    headers = F.filter("headers", lambda header: header["key"] == DUE_HEADER)
    bronze = read_table(spark, cfg.table("bronze", topic=cfg.source(source.name).topic))
    due = F.element_at(headers, -1)["value"].cast("string").cast("bigint")
    dues = bronze.select(F.col("partition").alias("_partition"), F.col("offset").alias("_offset"), due.alias("_due_us"))
    events = _passage(spark, cfg, job, batch).reaching(read_events(spark, cfg, source.name, batch))
    # Records without a due time were there before the load began.
    return events.join(dues.filter(F.col("_due_us").isNotNull()), _PLACE)


def _passage(spark: SparkSession, cfg: Config, job: Job, batch: BatchState) -> Passage:
    static = read_static(spark, cfg, batch.static)
    flow = dataflow(spark, job, {name: frame.schema for name, frame in static.items()})
    found = passages(spark, job, static)
    return found.get(job.sources[0].name) or flow.passage(job.sources[0].name)


def _stream_commits(spark: SparkSession, cut: StreamCut, emit: str) -> DataFrame:
    """``micro_batch`` and ``_committed_ms`` of each commit of the stream's query. Lazy."""
    history = delta_table(spark, cut.state.table).history()
    number = micro_batch_of(cut.query_id, emit)
    commits = history.select(number.alias("micro_batch"), F.unix_millis("timestamp").alias("_committed_ms"))
    return commits.filter(F.col("micro_batch").isNotNull())


def _by_window(spark: SparkSession, job: Job, events: DataFrame, cut: StreamCut) -> DataFrame:
    """The micro-batch that wrote the first window of each event not written before it was read; null where none did."""
    # A row says in which micro-batch it was written by the time of that micro-batch, which the log has, too.
    log = cut.micro_batches.select("micro_batch", F.col("started_at_ms").alias("_at_ms"))
    rows = read_table(spark, cut.state.table, cut.committed.version).select(
        F.unix_millis(F.col(quoted(job.window_column))).alias("_start_ms"),
        F.unix_millis("_written_at").alias("_at_ms"),
    )
    written = rows.distinct().join(log, "_at_ms").select("_start_ms", "micro_batch")
    windows = _with_mover(written, _movers(job, events))
    pairs = events.select(
        *_PLACE, "_micro_batch", F.explode(window_starts(job, job.sources[0].event_time or "")).alias("_start_ms")
    )
    met = pairs.join(F.broadcast(windows), "_start_ms").filter(F.col("micro_batch") >= F.col("_micro_batch"))
    first = met.groupBy(*_PLACE).agg(F.min(F.struct("micro_batch", "_moved_us")).alias("_first"))
    return events.join(first, _PLACE, "left").select(
        *events.columns, F.col("_first.micro_batch").alias("micro_batch"), F.col("_first._moved_us").alias("_moved_us")
    )


def _movers(job: Job, events: DataFrame) -> DataFrame:
    """Per window start the first due time of an event by which the watermark passes just that window's end. Lazy."""
    source = job.sources[0]
    slide_ms = job.slide_ms or 1
    newest_end = F.unix_millis(F.col(quoted(source.event_time or ""))) - F.lit(source.lateness_ms or 0)
    closed = newest_end - F.lit(job.window_ms or 0)
    return events.groupBy((closed - F.pmod(closed, F.lit(slide_ms))).alias("_closes_ms")).agg(
        F.min("_due_us").alias("_due_us")
    )


def _with_mover(windows: DataFrame, movers: DataFrame) -> DataFrame:
    """Windows with ``_moved_us``: an event that closes a later window closes the earlier ones, too. Lazy."""
    joined = windows.join(F.broadcast(movers), F.col("_closes_ms") >= F.col("_start_ms"), "left")
    return joined.groupBy("_start_ms", "micro_batch").agg(F.min("_due_us").alias("_moved_us"))


def _last_end_us(job: Job) -> Column:
    """When (epoch µs) the last window of an event ends."""
    starts = window_starts(job, job.sources[0].event_time or "")
    return (F.array_max(starts) + F.lit(job.window_ms or 0)) * F.lit(1000)


def newest_before_us(job: Job) -> Column:
    """The newest event time (epoch µs) of the events that were due before one; null for the first of them."""
    before = Window.orderBy("_due_us", *_PLACE).rowsBetween(Window.unboundedPreceding, -1)
    return F.max(F.unix_micros(F.col(quoted(job.sources[0].event_time)))).over(before)


def own_pace_lost(events: DataFrame, job: Job) -> DataFrame:
    """Add ``_lost_alone``: dropped if each event were a micro-batch of its own, in the order of their due times. Lazy.

    Micro-batches of more events drop no more: each is judged by the watermark of the one before it.
    """
    source = job.sources[0]
    if not job.windowed or source.lateness_ms is None:
        return events.withColumn("_lost_alone", F.lit(False))
    newest_us = newest_before_us(job)
    # A watermark begins at 1970, whatever the lateness.
    mark_us = F.greatest(newest_us - F.lit(source.lateness_ms * 1000), F.lit(0))
    return events.withColumn("_lost_alone", F.coalesce(_last_end_us(job) <= mark_us, F.lit(False)))


def _measured(timed: DataFrame, job: Job, start_s: float) -> Freshness:
    """Two Spark jobs over the events: the figures, and their course over the run."""
    kept = parts_of(own_pace_lost(timed, job)).withColumn("_both_s", F.col("_trigger_s") + F.col("_run_s")).persist()
    try:
        named = ("_total_s", "_watermark_s", "_trigger_s", "_run_s", "_both_s")
        shown = F.col("_total_s").isNotNull()
        row = kept.agg(
            F.count(F.lit(1)).alias("events"),
            F.count_if(shown).alias("shown"),
            F.count_if(~shown & F.col("_lost")).alias("lost"),
            F.count_if("_lost_alone").alias("alone"),
            F.max("_due_us").alias("last_us"),
            *[quantiles(name).alias(name) for name in named],
        ).collect()[0]
        if not row["shown"]:
            waiting = row["events"] - row["lost"]
            return Freshness(row["events"], 0, waiting, row["lost"], row["alone"], None, None, None, None, None)
        start_us = F.lit(int(start_s * 1_000_000))
        width_us = max((row["last_us"] - int(start_s * 1_000_000)) // SLICES + 1, 1)
        part = F.floor((F.col("_due_us") - start_us) / F.lit(width_us))
        course = (
            kept.filter(shown)
            .groupBy(part.alias("part"))
            .agg(F.percentile("_total_s", [0.5, 0.99]).alias("at"))
            .orderBy("part")
            .limit(SLICES + 1)
            .collect()
        )
        over = tuple(((r["part"] + 0.5) * width_us / 1e6, float(r["at"][0]), float(r["at"][1])) for r in course)
    finally:
        kept.unpersist()
    parts = [(*row[name]["at"], row[name]["mean"]) for name in named]
    total, watermark, trigger, run, both = (Quantiles(p50, p95, p99, most, mean) for p50, p95, p99, most, mean in parts)
    waiting = row["events"] - row["shown"] - row["lost"]
    return Freshness(
        row["events"], row["shown"], waiting, row["lost"], row["alone"], total, watermark, trigger, run, both, over
    )
