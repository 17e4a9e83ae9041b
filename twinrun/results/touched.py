"""What new events touch: the part of a job's result that an incremental batch run recomputes.

The part must be closed: every event that can contribute to a recomputed row is read. That is so for tumbling and
sliding windows (by time), for stateless jobs (each event by itself) and for latest-state jobs whose keys are fields of
the event (by key). Everything else is recomputed whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from twinrun.events.json_ import quoted
from twinrun.events.times import utc_day
from twinrun.job.job import Job

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


def events_of(events: DataFrame, job: Job, ranges: list[TimeRange]) -> DataFrame:
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
