"""The two results that a verify compares: where they differ, which rows count, and where rows and events meet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import or_

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from twinrun.comparator.digest import prepare
from twinrun.comparator.result import Comparison
from twinrun.comparator.rows import differing_pairs, public_rows
from twinrun.comparator.schema import plan_schema
from twinrun.comparator.tables import compare_frames
from twinrun.config.model import Config
from twinrun.events.exact import EXACT_TIMES, quoted
from twinrun.events.source import Source
from twinrun.job.job import Job
from twinrun.results.cut import Context, TimeRange, in_ranges, starts_of, window_starts
from twinrun.results.state import read_events
from twinrun.tables.kafka import Gone, gone_of
from twinrun.wording import worded

# The two results that a verify compares, and which of their rows the stream had to have emitted.


@dataclass(frozen=True)
class Sides:
    """Both results at the cut, closed windows only, without lineage columns."""

    batch: DataFrame
    stream: DataFrame


@contextmanager
def read_once(sides: Sides) -> Iterator[Sides]:
    """Both results, each kept from when it is first read to the end of the block. No Spark job by itself."""
    kept = Sides(sides.batch.persist(), sides.stream.persist())
    try:
        yield kept
    finally:
        kept.batch.unpersist()
        kept.stream.unpersist()


def compare_sides(job: Job, sides: Sides, full: bool) -> tuple[Comparison, DataFrame]:
    """The comparison of a verify: by the job's keys, windows and tolerances; the differing rows are materialised."""
    return compare_frames(
        sides.batch,
        sides.stream,
        keys=job.keys,
        window_column=job.window_column if job.windowed else None,
        tolerances=job.tolerances,
        sample_rows=0,
        full=full,
        every_key=True,
        materialise=True,
    )


def closed(job: Job, results: DataFrame, watermark_ms: int | None) -> DataFrame:
    """Rows of windows that the stream had to emit: their end is at or before the watermark. All rows without one.

    A row whose window is null can wait for nothing, so it is compared: no job of ours emits one.
    """
    return results.filter(~is_open(job, watermark_ms))


def is_open(job: Job, watermark_ms: int | None) -> Column:
    """Whether the row's window ends after the watermark, so that the stream may still wait with it; never null."""
    if not waits_for_close(job):
        return F.lit(False)
    return F.coalesce(window_end_ms(job) > F.lit(watermark_ms or 0), F.lit(False))


def waits_for_close(job: Job) -> bool:
    """Whether rows come out only when their window closes."""
    return job.windowed and job.emit == "final"


def window_end_ms(job: Job) -> Column:
    """End of a row's window in epoch milliseconds."""
    return F.unix_millis(F.col(quoted(job.window_column))) + F.lit(job.window_ms)


# Where two versions of a result differ, by key: the question that every proof asks.


KEY_ID = "key_id"


def key_id(job: Job) -> Column:
    """A result row's key as JSON text, as `differing` gives it."""
    return F.to_json(F.struct(*[F.col(quoted(key)) for key in job.keys]), EXACT_TIMES)


def rows_at(job: Job, rows: DataFrame, keys: DataFrame) -> DataFrame:
    """The rows with one of the keys (column `KEY_ID`). Lazy; see `twinrun.comparator.digest.sent` for the keys."""
    return rows.withColumn(KEY_ID, key_id(job)).join(keys, KEY_ID, "left_semi").drop(KEY_ID)


def differing(job: Job, expected: DataFrame, actual: DataFrame, ranges: list[TimeRange] | None = None) -> DataFrame:
    """The rows that differ, with `KEY_ID`, ``kind`` (batch: expected, stream: actual), ``batch`` and ``stream``. Lazy.

    Parameters
    ----------
    ranges : list of TimeRange, optional
        Look only at windows that start in these.
    """
    if ranges:
        expected = expected.filter(in_ranges(job.window_column, ranges))
        actual = actual.filter(in_ranges(job.window_column, ranges))
    window = job.window_column if job.windowed else None
    plan = plan_schema(expected.schema, actual.schema, job.keys, window, job.tolerances)
    sides = prepare(expected, plan, "batch", None, 1), prepare(actual, plan, "stream", None, 1)
    rows = public_rows(differing_pairs(*sides, plan), plan)
    return rows.withColumn(KEY_ID, F.to_json("key", EXACT_TIMES))


def differing_keys(
    job: Job, expected: DataFrame, actual: DataFrame, flag: str, ranges: list[TimeRange] | None = None
) -> DataFrame:
    """`KEY_ID` of the rows that differ, once each, with a true column named ``flag``. Lazy."""
    return differing(job, expected, actual, ranges).select(KEY_ID).distinct().withColumn(flag, F.lit(True))


# Where a differing row and the events that made it meet: the window, or the session of the batch.
#
# A late event moves the start of a session, so the two modes hold the same events under different starts. Both are
# referred to the batch's session that began last at or before them.


@dataclass(frozen=True)
class Matching:
    """How rows and events are brought together.

    Attributes
    ----------
    fields : dict
        By source, the keys that the function takes over from the event's field of the same name.
    sessions : DataFrame or None
        For session jobs whose keys are fields: ``_key_0``, .. and ``_begin`` of each session of the batch.
    keys : tuple of str
        The keys of a session, its start left out.
    """

    fields: dict[str, frozenset[str]]
    sessions: DataFrame | None = None
    keys: tuple[str, ...] = ()

    def of_events(self, events: DataFrame, source: Source) -> DataFrame:
        """The events with ``_place``: the start of the batch's session that holds them."""
        keys = [F.col(quoted(key)) for key in self.keys]
        return self._begun_before(events, keys, F.col(quoted(source.event_time)), "_place")

    def of_rows(self, rows: DataFrame, job: Job) -> DataFrame:
        """Differing rows with ``place``: window start, start of the batch's session, or null."""
        if job.windowed:
            return rows.withColumn("place", F.col("window").cast("timestamp"))
        if self.sessions is None:
            return rows.withColumn("place", F.lit(None).cast("timestamp"))
        start = F.coalesce(F.col("batch")[job.window_column], F.col("stream")[job.window_column])
        keys = [F.col("key")[key] for key in self.keys]
        return self._begun_before(rows, keys, start.cast("timestamp"), "place")

    def begins(self, rows: DataFrame, job: Job, name: str) -> DataFrame:
        """Of each place the starts of the sessions of ``rows`` that lie there: ``_place`` and ``name``. Lazy."""
        keys = [F.col(quoted(key)) for key in self.keys]
        start = F.col(quoted(job.window_column)).cast("timestamp")
        placed = self._begun_before(rows, keys, start, "_begin_of")
        place = self.place_id(keys, F.col("_begin_of")).alias("_place")
        return placed.groupBy(place).agg(F.array_sort(F.collect_set(start)).alias(name))

    def place_id(self, keys: list[Column], begin: Column) -> Column:
        """A place by its keys and the start of the batch's session, as text."""
        named = [key.alias(f"_key_{number}") for number, key in enumerate(keys)]
        return F.to_json(F.struct(*named, begin.alias("_begin")), EXACT_TIMES)

    def _begun_before(self, frame: DataFrame, keys: list[Column], moment: Column, name: str) -> DataFrame:
        """Add the latest session start of the same keys at or before a moment. One shuffle by key; lazy."""
        assert self.sessions is not None
        names = [f"_key_{index}" for index in range(len(self.keys))]
        row = F.struct(*[F.col(quoted(column)) for column in frame.columns])
        rows = frame.select(
            *[key.alias(alias) for key, alias in zip(keys, names, strict=True)], moment.alias("_at"), row.alias("_row")
        )
        begins = self.sessions.select(*names, F.col("_begin").alias("_at"), F.lit(None).alias("_row"))
        begins = begins.withColumn("_row", F.lit(None).cast(rows.schema["_row"].dataType))
        both = begins.withColumn("_begin", F.col("_at")).unionByName(
            rows.withColumn("_begin", F.lit(None).cast("timestamp"))
        )
        # Sessions before rows of the same instant: a session holds the event that begins it.
        order = Window.partitionBy(*names).orderBy("_at", F.col("_begin").isNull())
        found = both.withColumn(name, F.last("_begin", ignorenulls=True).over(order))
        return found.filter(F.col("_row").isNotNull()).select("_row.*", name)


def matching_of(job: Job, fields: dict[str, frozenset[str]], batch: DataFrame) -> Matching:
    """Decide how rows and events meet.

    Parameters
    ----------
    batch : DataFrame
        The batch's rows, recomputed.
    """
    keys = tuple(key for key in job.keys if key != job.window_column)
    shared = all(set(keys) <= names for names in fields.values())
    if job.shape != "session" or not shared or job.window_column not in batch.columns:
        return Matching(fields)
    columns = [F.col(quoted(key)).alias(f"_key_{index}") for index, key in enumerate(keys)]
    sessions = batch.select(*columns, F.col(quoted(job.window_column)).cast("timestamp").alias("_begin")).distinct()
    return Matching(fields, sessions, keys)


# Rows whose proof would need events that expired or were erased: they are neither explained nor unexplained.


ByName = dict[str, Gone]
"""What is gone, by source."""


@dataclass(frozen=True)
class Split:
    """Differing rows: those of windows that lost an event, and the others."""

    lost: DataFrame
    others: DataFrame


def gone_from(spark: SparkSession, cfg: Config, job: Job) -> ByName:
    """What is gone of each source of a job. At most two small Spark jobs per source."""
    return {source.name: gone_of(spark, cfg, source.name) for source in job.sources}


def anything(gone: ByName) -> bool:
    """Whether a proof could miss an event."""
    return any(each.anything for each in gone.values())


def split(job: Job, keyed: DataFrame, gone: ByName) -> Split:
    """Tell apart by window; lazy. Without windows nothing tells which rows an event belonged to: all are others.

    Parameters
    ----------
    keyed : DataFrame
        Differing rows with ``window``.
    """
    if not job.windowed:
        return Split(keyed.filter(F.lit(False)), keyed)
    start = F.unix_millis("window")
    marked = keyed.withColumn("_lost", start < F.lit(max(each.before_ms for each in gone.values())))
    for each in gone.values():
        if each.erased is not None:
            at = each.erased.withColumn("_at", F.timestamp_millis("event_time_ms"))
            starts = starts_of("_at", job.window_ms or 0, job.slide_ms or 1)
            touched = at.select(F.explode(starts).alias("_start")).distinct().withColumn("_hit", F.lit(True))
            marked = marked.join(touched, start == F.col("_start"), "left")
            marked = marked.withColumn("_lost", F.col("_lost") | F.col("_hit").isNotNull()).drop("_start", "_hit")
    lost = F.coalesce("_lost", F.lit(False))
    return Split(marked.filter(lost).drop("_lost"), marked.filter(~lost).drop("_lost"))


def uncounted(ctx: Context, gone: ByName) -> int:
    """Events that came for windows whose other events had expired: no result holds them. One Spark job, or none.

    The batch keeps such windows as they are, so that both tables could agree and both lack the event.
    """
    found = 0
    for source in ctx.job.sources:
        each = gone[source.name]
        if ctx.job.windowed and each.before_ms:
            events = read_events(ctx.spark, ctx.cfg, source.name, ctx.batch)
            first, seq = F.array_min(window_starts(ctx.job, source.event_time)), F.col("_decoded_seq")
            found += events.filter(
                reduce(or_, [(first < before_ms) & (seq > decoded) for before_ms, decoded in each.steps])
            ).count()
    return found


def notes_on(gone: ByName) -> tuple[str, ...]:
    """What a reader should know of each source of which something is gone. One small Spark job per erasure."""
    notes = []
    for name, each in gone.items():
        if each.before_ms:
            upto = ", ".join(f"partition {p} below offset {end}" for p, end in sorted(each.ends.items()))
            notes.append(f"Records of {name} have expired ({upto}): older windows cannot be proven any more.")
        if each.erased is not None:
            records = worded(each.erased.count(), f"record of {name} was", f"records of {name} were")
            notes.append(f"{records} erased: what was made of them cannot be proven.")
    return tuple(notes)
