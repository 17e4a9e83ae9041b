"""How much lateness each event would have needed: from it follows the loss at any lateness, in one pass.

Micro-batch b drops by the watermark of the one before it, which is the newest event time seen before that, M, less the
lateness L. What an event belongs to ends at E, and the event is dropped if E <= M - L: if L <= M - E. So M - E is what
it needs, and an event is kept by any lateness above that. M is read from the log (watermark + lateness), never
computed from event times.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from twinrun.events.json_ import quoted
from twinrun.events.source import Source
from twinrun.job.dataflow import LateRule
from twinrun.results.touched import starts_of


def with_need(events: DataFrame, source: Source, rule: LateRule) -> DataFrame:
    """Add ``_need_ms``: the event is lost, from one of its windows at least, at any lateness up to this. Lazy.

    Null where nothing could make the event late: there was no watermark yet. Negative where it came in time for all.

    Parameters
    ----------
    events : DataFrame
        Events that the stream read, with ``_late_ms``, the watermark that they were judged by.
    """
    moment = F.unix_millis(F.col(quoted(source.event_time)))
    seen = F.when(F.col("_late_ms") > 0, F.col("_late_ms") + F.lit(source.lateness_ms))
    return events.withColumn("_need_ms", seen - _first_end(moment, source, rule))


def _first_end(moment: Column, source: Source, rule: LateRule) -> Column:
    """When the first of what the event belongs to ends: an event that is in time for that is in time for all."""
    if rule.kind == "window":
        starts = starts_of(source.event_time, rule.window_ms or 0, rule.slide_ms or 1)
        return F.array_min(starts) + F.lit(rule.window_ms)
    return moment + F.lit(rule.gap_ms) if rule.kind == "session" else moment
