"""How much lateness each event would have needed: from it follows the loss at any lateness, in one pass.

Micro-batch b drops by the watermark of the one before it, which is the newest event time seen before that, M, less the
lateness L. What an event belongs to ends at E, and the event is dropped if E <= M - L: if L <= M - E. So M - E is what
it needs, and an event is kept by any lateness above that. M is read from the log (watermark + lateness). A watermark
begins at 1970-01-01T00:00Z, whatever the lateness: what ends by then is lost at every lateness. As long as it stands
there, the log does not say M: a shorter lateness would have moved it already. Only then M is taken from event times.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from twinrun.events.source import Source
from twinrun.explain.late import end_us_of
from twinrun.job.dataflow import LateRule
from twinrun.results.touched import floor_ms

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
