"""Rows whose proof would need events that expired or were erased: they are neither explained nor unexplained."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import or_

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.job.job import Job
from twinrun.results.state import BatchState, read_events
from twinrun.results.touched import starts_of, window_starts
from twinrun.tables.gone import Gone, gone_of
from twinrun.wording import worded

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


def uncounted(spark: SparkSession, cfg: Config, job: Job, batch: BatchState, gone: ByName) -> int:
    """Events that came for windows whose other events had expired: no result holds them. One Spark job, or none.

    The batch keeps such windows as they are, so that both tables could agree and both lack the event.
    """
    found = 0
    for source in job.sources:
        each = gone[source.name]
        if job.windowed and each.before_ms:
            events = read_events(spark, cfg, source.name, batch)
            first, seq = F.array_min(window_starts(job, source.event_time)), F.col("_decoded_seq")
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
