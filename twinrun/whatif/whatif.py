"""What another lateness would have lost, worked out from recorded watermarks and what each event would have needed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import JobError, TableError
from twinrun.events.exact import quoted
from twinrun.events.source import Source
from twinrun.explain.arrival import READ, with_arrival
from twinrun.explain.evidence import mark_events, refused_by_stream
from twinrun.explain.replay import reached_by
from twinrun.explain.tables import reads_of
from twinrun.explain.used import USED, end_us_of, late_rows
from twinrun.job.dataflow import Dataflow, LateRule, dataflow
from twinrun.job.job import Job
from twinrun.job.passing import passages
from twinrun.results.cut import Context, both_states, floor_ms, stream_cut, window_starts
from twinrun.results.state import read_events
from twinrun.tables.delta import read_table
from twinrun.tables.static import read_static

# How much lateness each event would have needed: from it follows the loss at any lateness, in one pass.
#
# Micro-batch b drops by the watermark of the one before it, which is the newest event time seen before that, M, less
# the lateness L. What an event belongs to ends at E, and the event is dropped if E <= M - L: if L <= M - E. So M - E
# is what it needs, and an event is kept by any lateness above that. M is read from the log (watermark + lateness). A
# watermark begins at 1970-01-01T00:00Z, whatever the lateness: what ends by then is lost at every lateness. As long as
# it stands there, the log does not say M: a shorter lateness would have moved it already. Only then M is taken from
# event times.


NO_LATENESS_MS = 2**52
"""Needed by events that no lateness keeps."""


def with_need(events: DataFrame, source: Source, rule: LateRule, newest: DataFrame | None = None) -> DataFrame:
    """Add ``_need_ms``: the event is lost, from one of its windows at least, at any lateness up to this. Lazy.

    Null where nothing could make the event late: there was no watermark yet. Negative where it came in time for all;
    `NO_LATENESS_MS` where the first of what it belongs to ended by 1970.

    Parameters
    ----------
    events : DataFrame
        Events that the stream read, with ``_late_ms``, the watermark that they were judged by.
    newest : DataFrame, optional
        ``_micro_batch`` and ``_newest_ms``, M by event times, for micro-batches that were judged by the watermark of
        1970. Needed where an event is `unsaid`.
    """
    seen_ms = F.when(F.col("_late_ms") > 0, F.col("_late_ms") + F.lit(source.lateness_ms))
    if newest is not None:
        events = events.join(F.broadcast(newest), "_micro_batch", "left")
        seen_ms = seen_ms.otherwise(F.col("_newest_ms"))
    end_us = end_us_of(source, rule)
    # Whole milliseconds, as every lateness and watermark: at or below what the event's microseconds would need.
    need_ms = floor_ms(seen_ms * F.lit(1000) - end_us)
    needed = events.withColumn("_need_ms", F.when(end_us <= 0, F.lit(NO_LATENESS_MS)).otherwise(need_ms))
    return needed if newest is None else needed.drop("_newest_ms")


def unsaid(source: Source, rule: LateRule) -> Column:
    """Whether a shorter lateness may have lost the event though its watermark stood at 1970; never null.

    The newest event was then no later than the lateness after 1970, and so what it lost ended by then.
    """
    end_us = end_us_of(source, rule)
    soon = (end_us > 0) & (end_us <= F.lit((source.lateness_ms or 0) * 1000))
    # The watermark of micro-batch b - 1 knows the events up to b - 2.
    return F.coalesce((F.col("_late_ms") <= 0) & (F.col("_micro_batch") >= 2) & soon, F.lit(False))


# The loss, the delay and the state at other settings of lateness, from what one run recorded.


_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS
GRID_MS = (
    *(0, 1_000, 10_000, 30_000),
    *(minutes * _MINUTE_MS for minutes in (1, 5, 15, 30)),
    *(hours * _HOUR_MS for hours in (1, 2, 3, 6, 12, 24)),
)
"""Lateness from 0 s to 24 h."""


@dataclass(frozen=True)
class Point:
    """One setting of lateness.

    Attributes
    ----------
    lateness_ms : int
    lost : int
        Events that the stream would have dropped, from one of their windows at least.
    delay_ms : int or None
        How far, on average, event time went on beyond a window's end before the window came out. None for jobs
        without windows, and where none came out.
    open_rows : float or None
        Estimate: result rows in the stream's state, on average over micro-batches.
    """

    lateness_ms: int
    lost: int
    delay_ms: int | None
    open_rows: float | None


@dataclass(frozen=True)
class WhatIf:
    """What other settings would have done to the same micro-batches.

    Attributes
    ----------
    events : int
        Events that the stream used and that reach the result; what the job filters away cannot be lost.
    recorded_ms, recorded_lost : int
        The lateness of the run, and the events that it dropped.
    read_late : int
        Those of them that lay in Kafka before anything that moved the watermark past their window: what they need is
        not a longer lateness but partitions that are read evenly.
    points : tuple of Point
        By lateness, the recorded one among them.
    keep : float
        The share that was asked for.
    enough_ms : int or None
        The smallest lateness that keeps this share, to the millisecond; None where none does.
    before_1970 : int
        Events that every stream drops, whatever its lateness: a watermark begins at 1970, and they ended before.
    """

    job: str
    micro_batches: int
    events: int
    recorded_ms: int
    recorded_lost: int
    read_late: int
    points: tuple[Point, ...]
    keep: float
    enough_ms: int | None
    before_1970: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)


def what_if(spark: SparkSession, cfg: Config, job: Job, keep: float = 0.999, also_ms: tuple[int, ...] = ()) -> WhatIf:
    """Work out the loss at every lateness of `GRID_MS`, at the recorded one and at ``also_ms``. About eight Spark jobs.

    It holds for the same micro-batches: another lateness changes neither what a micro-batch reads nor the newest event
    time that it has seen.

    Raises
    ------
    JobError
        The job drops nothing, or its sources have different latenesses.
    TableError
        A mode never ran, or the log has a hole.
    """
    lateness = {source.lateness_ms for source in job.sources}
    stream, batch = both_states(spark, cfg, job)
    static = read_static(spark, cfg, batch.static)
    flow = dataflow(spark, job, {name: frame.schema for name, frame in static.items()})
    flow = replace(flow, passages=passages(spark, job, static))
    if not flow.drops_late or len(lateness) != 1:
        why = "its sources have different latenesses" if flow.drops_late else "its stream drops no late events"
        raise JobError(f"there is no other lateness to try for {job.job_name}: {why}.")
    cut = stream_cut(spark, cfg, job, stream)
    if cut.missing or cut.committed.micro_batch < 0:
        raise TableError(f"the micro-batch log of {job.job_name} is empty or has a hole: the evidence has expired.")
    recorded_ms = int(lateness.pop() or 0)
    ctx = Context(spark, cfg, job, flow, cut, batch)
    used = _used(ctx)
    needs = _needs(job, flow, used).localCheckpoint()
    if needs.filter("_unsaid").limit(1).count():
        needs = _needs(job, flow, used, newest_before(spark, job, flow, used)).localCheckpoint()
    grid = sorted({*GRID_MS, recorded_ms, *also_ms})
    counts = [F.count_if(F.col("_need_ms") >= F.lit(at)).alias(f"l{at}") for at in grid]
    never = F.count_if(F.col("_need_ms") == F.lit(NO_LATENESS_MS)).alias("never")
    row = needs.agg(F.count("*").alias("events"), never, *counts).collect()[0]
    waiting = _waiting(ctx, grid, recorded_ms) if job.windowed else {}
    nothing = (None, None)
    return WhatIf(
        job=job.job_name,
        micro_batches=cut.committed.micro_batch + 1,
        events=row["events"],
        recorded_ms=recorded_ms,
        recorded_lost=row[f"l{recorded_ms}"],
        read_late=_read_late(ctx) if row[f"l{recorded_ms}"] else 0,
        points=tuple(Point(at, row[f"l{at}"], *waiting.get(at, nothing)) for at in grid),
        keep=keep,
        enough_ms=smallest(needs, row["events"], keep),
        before_1970=row["never"],
    )


def _used(ctx: Context) -> dict[str, DataFrame]:
    """By source, the events that the stream used, with ``_micro_batch`` and ``_late_ms``. Lazy."""
    found = {}
    for source in ctx.job.sources:
        events = read_events(ctx.spark, ctx.cfg, source.name, ctx.batch)
        topic = ctx.cfg.source(source.name).topic
        marked = mark_events(events, refused_by_stream(ctx, source.name), source.name, ctx.cut, topic)
        found[source.name] = marked.filter(F.col(USED) & F.col("_micro_batch").isNotNull())
    return found


def _needs(job: Job, flow: Dataflow, used: dict[str, DataFrame], newest: DataFrame | None = None) -> DataFrame:
    """``_need_ms`` and ``_unsaid`` of every event that the stream used and that would have reached the result. Lazy."""
    parts = []
    for source in job.sources:
        rule = flow.rules[source.name]
        reaching = flow.passage(source.name).reaching(used[source.name])
        needed = with_need(reaching, source, rule, newest)
        parts.append(needed.select("_need_ms", unsaid(source, rule).alias("_unsaid")))
    return reduce(DataFrame.unionByName, parts)


def newest_before(spark: SparkSession, job: Job, flow: Dataflow, used: dict[str, DataFrame]) -> DataFrame:
    """``_newest_ms`` by ``_micro_batch``: what its events were judged by, were there no lateness. A job per source.

    Only up to where the recorded watermark leaves 1970. Of several sources the one that is behind counts.
    """
    reached = reached_by(job, used, flow.passages)
    names = [source.name for source in job.sources if source.lateness_ms is not None]
    lateness_ms = {source.name: source.lateness_ms or 0 for source in job.sources}
    so_far: dict[str, int] = {}
    rows: list[tuple[int, int]] = []
    for number in range(max(reached, default=-1) + 1):
        for name, mark_ms in reached.get(number, {}).items():
            so_far[name] = max(so_far.get(name, mark_ms), mark_ms)
        if len(so_far) == len(names):
            rows.append((number + 2, min(so_far[name] + lateness_ms[name] for name in names)))
            if min(so_far.values()) > 0:
                break
    return spark.createDataFrame(rows, "_micro_batch BIGINT, _newest_ms BIGINT")


def _read_late(ctx: Context) -> int:
    """How many of the dropped events were read late. A few Spark jobs."""
    reads = reads_of(ctx)
    parts = [
        late_rows(
            read.passage.reaching(read.events),
            ctx.job.job_name,
            read.source,
            ctx.flow.rules[read.source.name],
            ctx.cut.query_id,
        )
        for read in reads
    ]
    rows = with_arrival(reduce(DataFrame.unionByName, parts), reads).filter(F.col("arrival") == READ)
    return rows.select("topic", "partition", "offset").distinct().count()


def smallest(needs: DataFrame, events: int, keep: float) -> int | None:
    """The smallest lateness (ms) at which at most the share ``1 - keep`` is lost, or None where none is enough.

    One Spark job.

    Parameters
    ----------
    needs : DataFrame
        ``_need_ms`` of every event, see `twinrun.whatif.whatif.with_need`.
    """
    may_lose = int(events * (1 - keep) + 1e-9)
    worst = needs.filter(F.col("_need_ms") >= 0).orderBy(F.col("_need_ms").desc()).limit(may_lose + 1)
    row = worst.agg(F.count("*").alias("n"), F.min("_need_ms").alias("last")).collect()[0]
    if row["n"] <= may_lose:
        return 0
    return None if row["last"] == NO_LATENESS_MS else int(row["last"]) + 1


def _emitted_at(lateness_ms: int) -> Column:
    """The first micro-batch of ``log`` that emits the window that ends at ``end_ms``; null where none does."""

    def passed(each: Column) -> Column:
        return each["seen"] - F.lit(lateness_ms) >= F.col("end_ms")

    return F.try_element_at(F.filter("log", passed), F.lit(1))


def opened(used: DataFrame, job: Job, event_time: str) -> DataFrame:
    """``end_ms`` of each window of a job, and ``first``, the micro-batch that read its first event. Lazy.

    Not those that ended by 1970: no watermark begins before, so that they come out at no lateness.

    Parameters
    ----------
    used : DataFrame
        Events that the stream used, with ``_micro_batch``.
    """
    return (
        used.select("_micro_batch", F.explode(window_starts(job, event_time)).alias("_start_ms"))
        .groupBy("_start_ms")
        .agg(F.min("_micro_batch").alias("first"))
        .select("first", (F.col("_start_ms") + F.lit(job.window_ms)).alias("end_ms"))
        .filter(F.col("end_ms") > 0)
    )


def _waiting(ctx: Context, grid: list[int], recorded_ms: int) -> dict[int, tuple[int | None, float | None]]:
    """By lateness: mean delay of a window, and mean result rows held. One row is collected."""
    source = ctx.job.sources[0]
    events = read_events(ctx.spark, ctx.cfg, source.name, ctx.batch)
    topic = ctx.cfg.source(source.name).topic
    marked = mark_events(events, None, source.name, ctx.cut, topic).filter(F.col("_micro_batch").isNotNull())
    marked = ctx.flow.passage(source.name).reaching(marked)
    windows = opened(marked, ctx.job, source.event_time)
    # Newest event time that each micro-batch emits by; the same for every lateness.
    seen = F.when(F.col("watermark_ms") > 0, F.col("watermark_ms") + F.lit(recorded_ms)).otherwise(F.lit(0))
    log = ctx.cut.micro_batches.select("micro_batch", seen.alias("seen")).agg(
        F.sort_array(F.collect_list(F.struct("micro_batch", "seen"))).alias("log")
    )
    placed = windows.crossJoin(F.broadcast(log))
    last = ctx.cut.committed.micro_batch
    columns = []
    for at in grid:
        emitted = _emitted_at(at)
        until = F.coalesce(emitted["micro_batch"], F.lit(last + 1))
        # Passed before any of its events was read: all of them would have been late, and it would not come out.
        comes = emitted["micro_batch"] >= F.col("first")
        columns.append(F.avg(F.when(comes, emitted["seen"] - F.col("end_ms"))).alias(f"d{at}"))
        columns.append((F.sum(F.greatest(until - F.col("first"), F.lit(0))) / F.lit(last + 1)).alias(f"s{at}"))
    rows = read_table(ctx.spark, ctx.batch.table, ctx.batch.table_version)
    rows = rows.filter(F.unix_millis(quoted(ctx.job.window_column)) + F.lit(ctx.job.window_ms) > 0)
    row = placed.agg(F.count("*").alias("windows"), *columns).collect()[0]
    per_window = rows.count() / row["windows"] if row["windows"] else 0.0
    return {
        at: (
            None if row[f"d{at}"] is None else int(row[f"d{at}"]),
            None if row[f"s{at}"] is None else round(float(row[f"s{at}"]) * per_window, 1),
        )
        for at in grid
    }
