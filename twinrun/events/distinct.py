"""De-duplication that a source declares once: each mode has its own operator for it.

The stream remembers an id for as long as the watermark lets it (``dropDuplicatesWithinWatermark``); the batch, which
has no such operator, keeps the first copy of all. They agree while copies come within the lateness of each other.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from twinrun.events.json_ import quoted
from twinrun.events.source import Source


def distinct_in_stream(events: DataFrame, source: Source) -> DataFrame:
    """Events of a stream under a watermark, later copies dropped. Lazy; the state holds ids within the lateness."""
    return events.dropDuplicatesWithinWatermark(source.distinct) if source.distinct else events


def distinct_in_batch(events: DataFrame, source: Source) -> DataFrame:
    """Events at rest, only the first copy of each kept: by Kafka timestamp, then partition and offset. One shuffle."""
    if not source.distinct:
        return events
    row = F.struct(*[F.col(quoted(name)) for name in events.columns])
    keys = [F.col(quoted(name)).alias(f"_distinct_{index}") for index, name in enumerate(source.distinct)]
    first = events.groupBy(*keys).agg(
        F.min_by(row, F.struct("_kafka_timestamp", "_partition", "_offset")).alias("_row")
    )
    return first.select("_row.*")


def copies_kept(events: DataFrame, source: Source) -> DataFrame:
    """Coordinates of the copies beyond the first that the stream kept, since it had forgotten the id. Lazy.

    The rule (tried, 0 mismatches over six seeds): an event that is not late is suppressed if the id's last kept copy
    is of the same micro-batch, or if its event time + lateness is after the watermark that the event is judged by.

    Parameters
    ----------
    events : DataFrame
        Events that the stream read, with ``_micro_batch`` and ``_late_ms``.
    """
    moment = F.unix_micros(F.col(quoted(source.event_time)))
    one = F.struct(
        F.col("_micro_batch").alias("b"),
        F.col("_partition").alias("p"),
        F.col("_offset").alias("o"),
        F.col("_topic").alias("t"),
        moment.alias("at"),
        (F.col("_late_ms") * F.lit(1000)).alias("late"),
    )
    keys = [F.col(quoted(name)) for name in source.distinct]
    grouped = events.groupBy(*keys).agg(F.sort_array(F.collect_list(one)).alias("all"))
    several = grouped.filter(F.size("all") > 1)
    place = "array<struct<t:string,p:int,o:bigint>>"
    start = F.struct(
        F.lit(-1).cast("bigint").alias("b"), F.lit(None).cast("bigint").alias("at"), F.array().cast(place).alias("kept")
    )
    delay = F.lit((source.lateness_ms or 0) * 1000)

    def step(state: Column, event: Column) -> Column:
        late = event["at"] <= event["late"]
        known = state["at"].isNotNull() & ((state["b"] == event["b"]) | (state["at"] + delay > event["late"]))
        here = F.struct(event["t"].alias("t"), event["p"].alias("p"), event["o"].alias("o"))
        taken = F.struct(
            event["b"].alias("b"), event["at"].alias("at"), F.array_append(state["kept"], here).alias("kept")
        )
        return F.when(late | known, state).otherwise(taken)

    kept = several.select(F.aggregate("all", start, step)["kept"].alias("kept"))
    beyond = kept.select(F.explode(F.slice("kept", 2, 1_000_000)).alias("c"))
    return beyond.select(F.col("c.t").alias("_topic"), F.col("c.p").alias("_partition"), F.col("c.o").alias("_offset"))
