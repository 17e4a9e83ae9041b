"""The cut that a verify pins, and what new events touch of a result."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import TableError
from twinrun.events.exact import quoted
from twinrun.events.times import utc_day
from twinrun.job.dataflow import Dataflow
from twinrun.job.job import Job
from twinrun.results.records import METADATA as HEAL
from twinrun.results.records import UNDO_METADATA as UNDO
from twinrun.results.state import BatchState, StreamState, first_read, states, told_in_offsets
from twinrun.tables.checkpoint import Offsets, last_committed, logged, query_id
from twinrun.tables.delta import delta_table, newest_logged

# What new events touch: the part of a job's result that an incremental batch run recomputes.
#
# The part must be closed: every event that can contribute to a recomputed row is read. That is so for tumbling and
# sliding windows (by time), for stateless jobs (each event by itself) and for latest-state jobs whose keys are fields
# of the event (by key). Everything else is recomputed whole.


MOST_RANGES = 200


@dataclass(frozen=True)
class TimeRange:
    """Window starts from ``low_ms`` (inclusive) to ``high_ms`` (inclusive), epoch milliseconds."""

    low_ms: int
    high_ms: int


def incremental_by(job: Job) -> str:
    """How the job can be recomputed in part: ``"events"``, ``"windows"``, ``"keys"``, or ``""`` for not at all."""
    if len(job.sources) != 1 or job.sources[0].distinct:  # an older copy of a new event may lie anywhere
        return ""
    if job.windowed:
        return "windows"
    if job.shape == "stateless":
        return "events"
    names = {part.split()[0].strip("`") for part in job.sources[0].schema.split(",")}
    return "keys" if job.shape == "latest" and set(job.keys) <= names else ""


def window_starts(job: Job, event_time: str) -> Column:
    """Array with the start (epoch ms) of every window of the job that holds the event."""
    return starts_of(event_time, job.window_ms or 0, job.slide_ms or 1)


def starts_of(event_time: str, window_ms: int, slide_ms: int) -> Column:
    """Array with the start (epoch ms) of every such window that holds the event. Aligned to 1970, as Spark's."""
    return _starts(F.unix_millis(F.col(quoted(event_time))), window_ms, slide_ms)


def starts_us_of(event_time: str, window_us: int, slide_us: int) -> Column:
    """The same in microseconds (epoch µs): windows that the function itself makes need not have whole milliseconds."""
    return _starts(F.unix_micros(F.col(quoted(event_time))), window_us, slide_us)


def _starts(moment: Column, window: int, slide: int) -> Column:
    last = moment - F.pmod(moment, F.lit(slide))
    count = -(-window // slide)
    starts = F.transform(F.sequence(F.lit(0), F.lit(count - 1)), lambda i: last - i.cast("bigint") * F.lit(slide))
    return F.filter(starts, lambda start: start + F.lit(window) > moment)


def floor_ms(time_us: Column) -> Column:
    """Whole milliseconds at or before a time in epoch µs; exact, and towards the past before 1970 too."""
    return F.unix_millis(F.timestamp_micros(time_us))


def touched_ranges(new_events: DataFrame, job: Job, since_ms: int = 0) -> list[TimeRange]:
    """Ranges of window starts that new events touch, at most `MOST_RANGES`: beyond that, neighbours are joined.

    One Spark job; only the ranges are collected. Windows that begin before ``since_ms`` (epoch ms; 0: none) are left
    out.
    """
    starts = new_events.select(F.explode(window_starts(job, job.sources[0].event_time)).alias("s")).distinct()
    if since_ms:
        starts = starts.filter(F.col("s") >= since_ms)
    return join_ranges(starts, job.slide_ms or 1)


def join_ranges(starts: DataFrame, slide_ms: int) -> list[TimeRange]:
    """Join distinct window starts (column ``s``, epoch ms) into at most `MOST_RANGES` ranges. One Spark job."""
    step = F.col("s") - F.lag("s").over(Window.orderBy("s"))
    gaps = starts.withColumn("gap", F.coalesce(step, F.lit(None).cast("bigint")))
    # The widest gaps stay gaps; everything else is joined, so that the predicate stays short.
    wide = gaps.filter(F.col("gap") > slide_ms).orderBy(F.col("gap").desc()).limit(MOST_RANGES - 1).select("s", "gap")
    bounds = starts.agg(F.min("s").alias("low"), F.max("s").alias("high"))
    found = bounds.join(wide.agg(F.collect_list(F.struct("s", "gap")).alias("cuts"))).collect()[0]
    if found["low"] is None:
        return []
    cuts = sorted((cut["s"], cut["gap"]) for cut in found["cuts"])
    lows = [found["low"], *[s for s, _ in cuts]]
    highs = [*[s - gap for s, gap in cuts], found["high"]]
    return [TimeRange(low, high) for low, high in zip(lows, highs, strict=True)]


def events_in(events: DataFrame, job: Job, ranges: list[TimeRange]) -> DataFrame:
    """Every event that lies in a window whose start is in the ranges."""
    window_ms = job.window_ms or 0
    name = job.sources[0].event_time
    inside = in_spans(F.unix_millis(F.col(quoted(name))), [(r.low_ms, r.high_ms + window_ms) for r in ranges])
    low, high = min(r.low_ms for r in ranges), max(r.high_ms for r in ranges) + window_ms
    # The day column first: whole files are skipped by it.
    day = utc_day(F.timestamp_millis(F.lit(low))), utc_day(F.timestamp_millis(F.lit(high)))
    return events.filter(F.col("_event_date").between(*day) & inside)


def in_ranges(column: str, ranges: list[TimeRange]) -> Column:
    """Condition: the window start lies in one of the ranges."""
    return in_spans(F.unix_millis(F.col(quoted(column))), [(r.low_ms, r.high_ms + 1) for r in ranges])


def in_spans(value: Column, spans: Iterable[tuple[int, int]]) -> Column:
    """Condition: a whole number lies in one of the spans (low inclusive, end exclusive); null for null.

    A search tree, so that a row takes a few comparisons. One condition with two for each of fifty spans is a method
    too large for Java's compiler, and then costs ten times as much as reading the rows (measured).
    """
    apart: list[tuple[int, int]] = []
    for low, end in sorted(spans):
        if apart and low <= apart[-1][1]:
            apart[-1] = (apart[-1][0], max(end, apart[-1][1]))
        else:
            apart.append((low, end))
    return _search(value, apart)


def _search(value: Column, apart: list[tuple[int, int]]) -> Column:
    if len(apart) == 1:
        return (value >= apart[0][0]) & (value < apart[0][1])
    middle = len(apart) // 2
    left, right = _search(value, apart[:middle]), _search(value, apart[middle:])
    return F.when(value < apart[middle][0], left).otherwise(right)


def ranges_sql(column: str, ranges: list[TimeRange]) -> str:
    """The same condition as SQL with timestamp literals, for replaceWhere (files are skipped by it)."""
    name = quoted(column)
    return " OR ".join(
        f"({name} >= timestamp_millis({r.low_ms}) AND {name} <= timestamp_millis({r.high_ms}))" for r in ranges
    )


# The cut: which offsets, versions and watermark a verify compares, pinned while everything else keeps running.


_RECENT = 50
_NO_CHANGE = (
    "OPTIMIZE",
    "VACUUM START",
    "VACUUM END",
    "SET TBLPROPERTIES",
    "UNSET TBLPROPERTIES",
    "ADD CONSTRAINT",
    "DROP CONSTRAINT",
    "COMPUTE STATS",
    "CLUSTER BY",
    "UPGRADE PROTOCOL",
)
_MOST_COMMITS = 20
EMITTED_NONE = -1


@dataclass(frozen=True)
class ForeignCommit:
    """A version of a result table that its own mode did not write: how, when (epoch ms), by which engine."""

    version: int
    operation: str
    at_ms: int
    engine: str

    def __str__(self) -> str:
        at = datetime.fromtimestamp(self.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        return f"version {self.version} ({self.operation} at {at} UTC by {self.engine or 'an unnamed engine'})"


@dataclass(frozen=True)
class Committed:
    """One version of the stream's table and the micro-batch whose rows it holds last (-1: none yet).

    ``foreign``: see `foreign_to_stream`; None where it has to be asked for.
    """

    version: int
    micro_batch: int
    foreign: tuple[ForeignCommit, ...] | None = None


@dataclass(frozen=True)
class StreamCut:
    """The stream's side: a pinned version, and what the log says up to its micro-batch.

    Attributes
    ----------
    start, end : dict
        Offsets per source name and partition; ``end`` exclusive. Both empty when nothing was emitted.
    watermark_ms : int or None
        The watermark that micro-batch emitted by; None for a job without watermark.
    micro_batches : DataFrame
        The log up to the micro-batch; see `twinrun.tables.checkpoint.logged`.
    missing : int
        Micro-batches up to it that neither log nor checkpoint has any more.
    static : dict
        Versions of static tables that every micro-batch saw; empty when they are mixed.
    """

    state: StreamState
    query_id: str
    committed: Committed
    start: dict[str, Offsets]
    end: dict[str, Offsets]
    watermark_ms: int | None
    started_at_ms: int
    micro_batches: DataFrame
    missing: int
    static: dict[str, int]
    static_mixed: bool
    taken_at_ms: int


@dataclass(frozen=True)
class Context:
    """What one verify compares, and with what: handed on whole from step to step.

    Attributes
    ----------
    flow : Dataflow
        What the job's function does with its events, under the static tables of both modes.
    cut : StreamCut
        Up to where the stream is looked at; of an external result what its owner declares.
    batch : BatchState
        What the batch had done then.
    """

    spark: SparkSession
    cfg: Config
    job: Job
    flow: Dataflow
    cut: StreamCut
    batch: BatchState


def both_states(spark: SparkSession, cfg: Config, job: Job) -> tuple[StreamState, BatchState]:
    """The newest state of both modes.

    Raises
    ------
    TableError
        One of the modes never ran.
    """
    stream, batch = states(spark, cfg, job.job_name)
    missing = [mode for mode, state in (("stream", stream), ("batch", batch)) if state is None]
    if stream is None or batch is None:
        raise TableError(
            f"there is nothing to verify for {job.job_name}: it has no {' and no '.join(missing)} result yet.",
            fix="run: " + " and ".join(f"twinrun {mode} {job.job_name}" for mode in missing),
        )
    return stream, batch


def stream_cut(spark: SparkSession, cfg: Config, job: Job, state: StreamState) -> StreamCut:
    """Pin the stream's newest version and read what belongs to it. About five small Spark jobs."""
    owner = state.query_id or query_id(spark, state.checkpoint) or ""
    # Read before the table's version, which then holds at least what these micro-batches wrote.
    finished = last_committed(spark, state.checkpoint) if job.emit == "updates" else None
    committed = newest_commit(spark, state.table, owner, job.emit)
    if finished is not None and finished > committed.micro_batch:
        committed = replace(committed, micro_batch=finished)
    told = told_in_offsets(spark, cfg, job, state)
    known = logged(spark, cfg, owner, state.checkpoint, told).filter(F.col("micro_batch") <= committed.micro_batch)
    # Read once, by the next line: the checkpoint goes on forgetting meanwhile, and every proof reads the log.
    log = known.localCheckpoint(eager=False)
    facts = _facts(log, committed.micro_batch)
    if committed.micro_batch > EMITTED_NONE and facts["end_offsets"] is None:
        raise TableError(
            f"the log has no row for micro-batch {committed.micro_batch}, which the stream's table version "
            f"{committed.version} belongs to: the evidence has expired.",
            expected="the micro-batch log of this query, complete",
            fix=f"restore the log table, or start anew: twinrun stream {job.job_name} --new-checkpoint",
        )
    topics = {cfg.source(source.name).topic: source.name for source in job.sources}
    ends: dict[str, Offsets] = {name: {} for name in topics.values()}
    for entry in facts["end_offsets"] or []:
        ends[topics[entry["topic"]]][entry["partition"]] = entry["offset"]
    starts = first_read(spark, cfg, job, state)
    versions = facts["statics"] or []
    return StreamCut(
        state=state,
        query_id=owner,
        committed=committed,
        start={name: starts.get(topic, {}) for topic, name in topics.items()},
        end=ends,
        watermark_ms=_watermark(job, facts["watermark_ms"]),
        started_at_ms=facts["started_at_ms"] or 0,
        micro_batches=log,
        missing=committed.micro_batch + 1 - facts["known"],
        static=json.loads(versions[0]) if len(versions) == 1 else state.static,
        static_mixed=len(versions) > 1,
        taken_at_ms=int(time.time() * 1000),
    )


def newest_commit(spark: SparkSession, table: str, owner: str, emit: str) -> Committed:
    """The table's newest version, and the last micro-batch of the query that is in it. One small Spark job, or three.

    A micro-batch that changes no row of an ``updates`` table (all late, all refused) makes no commit, see `stream_cut`.
    """
    history = delta_table(spark, table)
    foreign: tuple[ForeignCommit, ...] | None = None
    for limit in (_RECENT, None):
        commits = history.history(limit) if limit else history.history()
        number = micro_batch_of(owner, emit).alias("number")
        seen = commits.select("version", number, _hit(0, _not_by_stream(owner, emit)))
        if limit:  # so few are looked at here: an aggregate would be a Spark job more
            rows = seen.collect()
            versions, numbers = [row[0] for row in rows], [row[1] for row in rows if row[1] is not None]
            newest, oldest, last = max(versions), min(versions), max(numbers, default=None)
            foreign = _latest([row["hit"] for row in rows]) if oldest <= 1 else None
        else:
            newest, oldest, last = seen.agg(F.max("version"), F.min("version"), F.max("number")).collect()[0]
        if last is not None or oldest == 0:
            break
    return Committed(newest, EMITTED_NONE if last is None else last, foreign)


def foreign_commits(spark: SparkSession, table: str, since: int) -> tuple[ForeignCommit, ...]:
    """Changes of a batch table after version ``since`` that no batch run made, the oldest first.

    A run that is under way, or that died before it was recorded, has marked its commit. One small Spark job, three
    where there were many commits; at most twenty changes are given.
    """
    ours = F.get_json_object("userMetadata", "$.run_id").isNotNull()
    return _changes(spark, table, since, ~ours)


def foreign_to_stream(spark: SparkSession, cut: StreamCut, emit: str) -> tuple[ForeignCommit, ...]:
    """Changes of a stream's table up to the cut that neither its query nor twinrun made, the oldest first.

    The query's own commits are known by its id (``final``) or by their micro-batch (``updates``); heals, undone heals
    and erasures by what they left in the commit; the first version is the empty table. Of more than twenty the newest
    are given. No Spark job where the cut has them, else three.
    """
    if cut.committed.foreign is not None:
        return cut.committed.foreign
    not_ours = _not_by_stream(cut.query_id, emit)
    return _changes(spark, cut.state.table, 0, not_ours & (F.col("version") <= cut.committed.version))


def micro_batch_of(owner: str, emit: str) -> Column:
    """Of a table's history: the micro-batch of the query that a commit says it is of, null for all others.

    ``final``: Delta's sink keeps query and micro-batch in the commit, and ours does where a topic gets the rows as
    well. ``updates``: the MERGE's user metadata.
    """
    told = F.get_json_object("userMetadata", "$.micro_batch").cast("bigint")
    if emit != "final":
        return told
    parameters = F.col("operationParameters")
    by_delta = (F.col("operation") == "STREAMING UPDATE") & (parameters["queryId"] == owner)
    by_us = F.get_json_object("userMetadata", "$.query_id") == owner
    return F.when(by_delta, parameters["epochId"].cast("bigint")).when(by_us, told)


def _not_by_stream(owner: str, emit: str) -> Column:
    said = [F.get_json_object("userMetadata", f"$.{name}") for name in (HEAL, UNDO, "run_id")]
    ours = said[0].isNotNull() | said[1].isNotNull() | F.coalesce(said[2].startswith("erase-"), F.lit(False))
    return ~(ours | micro_batch_of(owner, emit).isNotNull())


def last_change(spark: SparkSession, table: str, since: int) -> int | None:
    """The newest version after ``since`` that changed rows, or None: compacting a table leaves its rows as they are.

    One small Spark job, three where there were many commits.
    """
    found = _changes(spark, table, since, F.lit(True))
    return found[-1].version if found else None


def _changes(spark: SparkSession, table: str, since: int, which: Column) -> tuple[ForeignCommit, ...]:
    """The newest `_MOST_COMMITS` after a version that can have changed rows, of those asked for; the oldest first.

    The newest commits are looked at first, and the whole history only where they do not reach back to ``since``.
    """
    history = delta_table(spark, table)
    if newest_logged(spark, table) == since:
        return ()
    recent = history.history(_RECENT).select("version", _hit(since, which)).collect()
    if min((row["version"] for row in recent), default=0) <= since + 1:
        return _latest([row["hit"] for row in recent])
    newest = F.slice(F.sort_array(F.collect_list("hit"), asc=False), 1, _MOST_COMMITS)
    return _latest(history.history().select(_hit(since, which)).agg(newest).collect()[0][0])


def _hit(since: int, which: Column) -> Column:
    """Of a row of a table's history: the fields of a `ForeignCommit`; null for a commit that is not asked for."""
    later = F.col("version") > since
    changed = later & ~F.coalesce(F.col("operation").isin(*_NO_CHANGE), F.lit(False)) & which
    commit = F.struct(
        "version",
        F.coalesce("operation", F.lit("?")).alias("operation"),
        F.unix_millis("timestamp").alias("at_ms"),
        F.coalesce("engineInfo", F.lit("")).alias("engine"),
    )
    return F.when(changed, commit).alias("hit")


def _latest(hits: Sequence[Any]) -> tuple[ForeignCommit, ...]:
    """The newest `_MOST_COMMITS` of them, the oldest first."""
    return tuple(ForeignCommit(*each) for each in sorted(each for each in hits if each is not None)[-_MOST_COMMITS:])


def _facts(log: DataFrame, micro_batch: int) -> dict[str, Any]:
    """One row about the log: the newest micro-batch, how many are known, and the static versions that occur."""
    newest = F.col("micro_batch") == micro_batch
    statics = F.when(F.col("static_versions").isNotNull(), F.to_json("static_versions"))
    row = log.agg(
        F.max(F.when(newest, F.col("watermark_ms"))).alias("watermark_ms"),
        F.max(F.when(newest, F.col("started_at_ms"))).alias("started_at_ms"),
        F.max_by(F.when(newest, F.col("end_offsets")), F.when(newest, F.lit(1)).otherwise(0)).alias("end_offsets"),
        F.count_distinct("micro_batch").alias("known"),
        F.collect_set(statics).alias("statics"),
    ).collect()[0]
    return dict(row.asDict())


def _watermark(job: Job, watermark_ms: int | None) -> int | None:
    return watermark_ms if any(source.lateness_ms is not None for source in job.sources) else None
