"""Mark the batch's events by what is declared: did the other engine use them, and which does its rule drop?"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from twinrun.events.json_ import quoted
from twinrun.events.source import Source
from twinrun.explain.counterfactual import USED
from twinrun.explain.needed import NOTHING_LATE
from twinrun.results.cut import StreamCut
from twinrun.tables.offsets import at_or_after, before

_COORDINATES = ["_topic", "_partition", "_offset"]
_BIN_OFFSETS = 100_000


@dataclass(frozen=True)
class Rules:
    """What marks go by. ``lateness_ms`` None: no event is called late. ``refuse``: requeued records were not used."""

    lateness_ms: int | None = None
    refuse: bool = False


def mark_declared(
    events: DataFrame, requeued: DataFrame | None, source: Source, cut: StreamCut, rules: Rules
) -> DataFrame:
    """Add the columns that `twinrun.explain` reads from events; lazy.

    ``_cause``: before_start, beyond_cut, quarantined or null; `USED`; ``_late_ms``: the newest event time before the
    event in its partition, less the lateness; ``_micro_batch`` is -1: none is known.
    """
    cause = F.when(~at_or_after(cut.start[source.name]), F.lit("before_start")).when(
        ~before(cut.end[source.name]), F.lit("beyond_cut")
    )
    read = events
    if rules.refuse and requeued is not None:
        later = requeued.select(*_COORDINATES).distinct().withColumn("_requeued", F.lit(True))
        read = events.join(later, _COORDINATES, "left")
        cause = cause.when(F.coalesce("_requeued", F.lit(False)), F.lit("quarantined"))
    marked = read.withColumn("_cause", cause).withColumn(USED, F.col("_cause").isNull())
    if rules.lateness_ms is None:
        marked = marked.withColumn("_late_ms", F.lit(NOTHING_LATE).cast("bigint"))
    else:
        marked = _with_watermark(marked, source, rules.lateness_ms)
    return marked.withColumns({"_micro_batch": F.lit(-1).cast("bigint"), "_copy": F.lit(False)}).drop("_requeued")


def _with_watermark(marked: DataFrame, source: Source, lateness_ms: int) -> DataFrame:
    """Running newest event time per partition, over used events; in bins, so that no task reads a partition whole."""
    moment = F.when(F.col(USED), F.unix_millis(F.col(quoted(source.event_time))))
    binned = marked.withColumns({"_ms": moment, "_bin": F.floor(F.col("_offset") / _BIN_OFFSETS)})
    newest = binned.groupBy("_partition", "_bin").agg(F.max("_ms").alias("_in_bin"))
    earlier = Window.partitionBy("_partition").orderBy("_bin").rowsBetween(Window.unboundedPreceding, -1)
    newest = newest.select("_partition", "_bin", F.max("_in_bin").over(earlier).alias("_before_bin"))
    within = Window.partitionBy("_partition", "_bin").orderBy("_offset").rowsBetween(Window.unboundedPreceding, -1)
    seen = F.greatest(F.col("_before_bin"), F.max("_ms").over(within))
    # Partitioned by the very columns of the window below: this join moves nothing that it would not move.
    joined = binned.join(newest, ["_partition", "_bin"], "left")
    late = F.coalesce(seen - F.lit(lateness_ms), F.lit(NOTHING_LATE))
    return joined.withColumn("_late_ms", late).drop("_ms", "_bin", "_before_bin")
