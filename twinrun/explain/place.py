"""Where a differing row and the events that made it meet: the window, or the session of the batch.

A late event moves the start of a session, so the two modes hold the same events under different starts. Both are
referred to the batch's session that began last at or before them.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from twinrun.events.json_ import quoted
from twinrun.events.source import Source
from twinrun.job.job import Job


@dataclass(frozen=True)
class Place:
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


def place_of(job: Job, fields: dict[str, frozenset[str]], batch: DataFrame) -> Place:
    """Decide how rows and events meet.

    Parameters
    ----------
    batch : DataFrame
        The batch's rows, recomputed.
    """
    keys = tuple(key for key in job.keys if key != job.window_column)
    shared = all(set(keys) <= names for names in fields.values())
    if job.shape != "session" or not shared or job.window_column not in batch.columns:
        return Place(fields)
    columns = [F.col(quoted(key)).alias(f"_key_{index}") for index, key in enumerate(keys)]
    sessions = batch.select(*columns, F.col(quoted(job.window_column)).cast("timestamp").alias("_begin")).distinct()
    return Place(fields, sessions, keys)
