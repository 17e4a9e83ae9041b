"""Turn what a verify wrote into counts and samples: aggregated in Spark, a bounded number of rows collected.

Most are questions, of which several are asked in one Spark job: see `twinrun.tables.asked`.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from twinrun.events.json_ import quoted
from twinrun.explain.explain import Explained
from twinrun.explain.sides import is_open
from twinrun.job.job import Job
from twinrun.results.causes import PROOFS
from twinrun.results.cut import StreamCut
from twinrun.results.verdict import CauseCount, MicroBatchPoint, WindowPoint
from twinrun.tables.asked import Question
from twinrun.tables.offsets import total

MOST_POINTS = 400


def windows_frame(job: Job, batch: DataFrame, stream: DataFrame, cut: StreamCut, judged: DataFrame | None) -> DataFrame:
    """One row per window: the rows of the ledger. Lazy.

    ``window_start`` (null for jobs without windows), ``verdict`` (equal, explained, unexplained, evidence_expired,
    input_behind or pending), ``rows``, ``rows_equal``, ``rows_explained``, ``rows_unexplained``, ``causes``; besides,
    not on the ledger, ``rows_behind``, ``n_batch`` and ``n_stream``. Pending windows count the rows that only the batch
    has so far.
    """
    window = F.col(quoted(job.window_column)) if job.windowed else F.lit(None).cast("timestamp")
    pending = is_open(job, cut.watermark_ms)
    counted = [
        frame.select(window.alias("window_start"), pending.alias("pending"))
        .groupBy("window_start", "pending")
        .agg(F.count("*").alias(name))
        for name, frame in (("n_batch", batch), ("n_stream", stream))
    ]
    sizes = (
        counted[0]
        .join(counted[1], _same(counted[0], counted[1]), "full")
        .select(
            F.coalesce(counted[0]["window_start"], counted[1]["window_start"]).alias("window_start"),
            F.coalesce(counted[0]["pending"], counted[1]["pending"]).alias("pending"),
            F.coalesce("n_batch", F.lit(0)).alias("n_batch"),
            F.coalesce("n_stream", F.lit(0)).alias("n_stream"),
        )
    )
    if judged is None:
        nothing = {name: F.lit(0).cast("bigint") for name in _COUNTED}
        return _ledger_rows(sizes.withColumns(nothing).withColumn("causes", F.create_map().cast("map<string,bigint>")))
    bad = judged.groupBy(F.col("window_start").alias("w")).agg(
        F.count_if(F.col("batch").isNotNull()).alias("bad_batch"),
        F.count_if(F.col("batch").isNull()).alias("bad_only"),
        F.count_if(F.col("verdict") == "explained").alias("explained"),
        F.count_if(F.col("verdict") == "unexplained").alias("unexplained"),
        F.count_if(F.col("verdict") == "evidence_expired").alias("expired"),
        F.count_if(F.col("verdict") == "input_behind").alias("behind"),
        _summed_causes().alias("causes"),
    )
    joined = sizes.join(bad, sizes["window_start"].eqNullSafe(bad["w"]) & ~sizes["pending"], "left").drop("w")
    zero = {name: F.coalesce(name, F.lit(0)) for name in _COUNTED}
    return _ledger_rows(joined.withColumns(zero))


_COUNTED = ("bad_batch", "bad_only", "explained", "unexplained", "expired", "behind")


def _same(left: DataFrame, right: DataFrame) -> Column:
    return left["window_start"].eqNullSafe(right["window_start"]) & (left["pending"] == right["pending"])


def _summed_causes() -> Column:
    """Largest count of each cause over the rows of a window: rows of one window may share events."""
    names = list(PROOFS)
    entries = [F.struct(F.lit(name), F.max(F.coalesce(F.col("causes")[name], F.lit(-1)))) for name in names]
    return F.map_filter(F.map_from_entries(F.array(*entries)), lambda _, count: count >= 0)


def _ledger_rows(joined: DataFrame) -> DataFrame:
    verdict = (
        F.when(F.col("pending"), F.lit("pending"))
        .when(F.col("unexplained") > 0, F.lit("unexplained"))
        .when(F.col("expired") > 0, F.lit("evidence_expired"))
        .when(F.col("behind") > 0, F.lit("input_behind"))
        .when(F.col("explained") > 0, F.lit("explained"))
        .otherwise(F.lit("equal"))
    )
    equal = F.when(F.col("pending"), F.lit(0)).otherwise(F.col("n_batch") - F.col("bad_batch"))
    return joined.select(
        "window_start",
        verdict.alias("verdict"),
        (F.col("n_batch") + F.col("bad_only")).alias("rows"),
        equal.alias("rows_equal"),
        F.col("explained").alias("rows_explained"),
        (F.col("unexplained") + F.col("expired")).alias("rows_unexplained"),
        F.coalesce("causes", F.create_map().cast("map<string,bigint>")).alias("causes"),
        F.col("behind").alias("rows_behind"),
        "n_batch",
        "n_stream",
    )


def totals(windows: DataFrame) -> Question[dict[str, int]]:
    """Windows and rows by verdict, over ledger rows: one row."""
    left_out = F.col("verdict").isin("pending", "input_behind")
    counts = [
        F.count_if(~left_out).alias("compared"),
        F.count_if(F.col("verdict") == "equal").alias("equal"),
        F.count_if(F.col("verdict") == "pending").alias("pending"),
        F.sum(F.when(F.col("verdict") == "pending", F.col("rows")).otherwise(0)).alias("rows_pending"),
        F.sum(F.when(F.col("verdict") != "pending", F.col("rows") - F.col("rows_behind")).otherwise(0)).alias(
            "rows_compared"
        ),
        F.count_if(F.col("verdict") == "input_behind").alias("behind"),
        F.sum("rows_behind").alias("rows_behind"),
        F.sum("n_batch").alias("rows_batch"),
        F.sum("n_stream").alias("rows_stream"),
        F.sum("rows_equal").alias("rows_equal"),
        F.sum("rows_explained").alias("rows_explained"),
        F.sum("rows_unexplained").alias("rows_unexplained"),
        F.sum(F.when(F.col("verdict") != "evidence_expired", F.col("rows_unexplained"))).alias("rows_unproven"),
        F.sum(F.when(F.col("verdict") != "pending", F.col("rows"))).alias("rows_closed"),
        F.sum(F.when(F.col("verdict") == "pending", F.col("n_stream")).otherwise(0)).alias("early_rows"),
        F.unix_millis(F.min("window_start")).alias("first_ms"),
        F.unix_millis(F.max("window_start")).alias("last_ms"),
    ]
    return Question(windows.agg(*counts), lambda rows: {n: int(value or 0) for n, value in rows[0].asDict().items()})


def of_rows(counts: dict[str, int]) -> tuple[int, int, int]:
    """Of `totals`: rows that are unexplained, rows that are equal, and rows of closed windows."""
    return counts["rows_unproven"], counts["rows_equal"], counts["rows_closed"]


def timeline(job: Job, windows: DataFrame, counts: dict[str, int]) -> Question[tuple[WindowPoint, ...]]:
    """Rows by verdict over event time, at most `MOST_POINTS` points; none without windows.

    Parameters
    ----------
    counts : dict
        From `totals`: ``first_ms`` and ``last_ms`` are the ends of the line.
    """
    if not job.windowed:
        return Question(None, lambda _: ())
    low, high, slide_ms = counts["first_ms"], counts["last_ms"], job.slide_ms or 1
    start = F.unix_millis("window_start")
    width = max(1, -(-(high - low) // slide_ms // MOST_POINTS)) * slide_ms
    point = F.lit(low) + F.floor((start - F.lit(low)) / width) * F.lit(width)
    pending = F.col("verdict") == "pending"
    points = (
        windows.filter(F.col("window_start").isNotNull())
        .groupBy(point.alias("at"))
        .agg(
            F.sum("rows_equal").alias("equal"),
            F.sum("rows_explained").alias("explained"),
            F.sum("rows_unexplained").alias("unexplained"),
            F.sum(F.when(pending, F.col("rows")).otherwise(0)).alias("pending"),
            F.sum("rows_behind").alias("behind"),
        )
    )

    def read(rows: list[Row]) -> tuple[WindowPoint, ...]:
        rows = sorted(rows, key=lambda row: int(row["at"]))
        return tuple(
            WindowPoint(r["at"], r["equal"], r["explained"], r["unexplained"], r["pending"], r["behind"]) for r in rows
        )

    return Question(points, read)


def cause_counts(explained: Explained | None) -> Question[tuple[CauseCount, ...]]:
    """Rows, windows and events by proven cause; a row with two causes counts under both. None where none differs."""
    if explained is None:
        return Question(None, lambda _: ())
    proven, events = explained.rows.filter(F.col("verdict") == "explained"), explained.events
    found = (
        proven.select("key_id", "window_start", F.explode("causes").alias("cause", "_events"))
        .groupBy("cause")
        .agg(F.count("*").alias("rows"), F.count_distinct("window_start").alias("windows"))
    )

    def read(rows: list[Row]) -> tuple[CauseCount, ...]:
        return tuple(
            CauseCount(r["cause"], r["rows"], r["windows"], events.get(r["cause"]), PROOFS[r["cause"]])
            for r in sorted(rows, key=lambda row: str(row["cause"]))
        )

    return Question(found, read)


def micro_batch_points(cut: StreamCut, newest_event: DataFrame | None) -> Question[tuple[MicroBatchPoint, ...]]:
    """Progress of the stream by micro-batch, thinned to at most `MOST_POINTS`."""
    step = max(1, -(-(cut.committed.micro_batch + 1) // MOST_POINTS))
    log = cut.micro_batches.select(
        "micro_batch",
        "watermark_ms",
        "started_at_ms",
        "duration_ms",
        F.aggregate("end_offsets", F.lit(0).cast("bigint"), lambda total, end: total + end["offset"]).alias("reached"),
    )
    if newest_event is not None:
        log = log.join(newest_event, "micro_batch", "left")
    else:
        log = log.withColumn("newest_ms", F.lit(None).cast("bigint"))
    last = F.col("micro_batch") == cut.committed.micro_batch
    return Question(log.filter((F.col("micro_batch") % step == 0) | last), lambda rows: _points(rows, total(cut.start)))


def _points(rows: list[Row], before: int) -> tuple[MicroBatchPoint, ...]:
    """``before``: sum of the offsets at which the stream began."""
    points = []
    rows = sorted(rows, key=lambda row: int(row["micro_batch"]))
    for row in rows:
        points.append(
            MicroBatchPoint(
                micro_batch=row["micro_batch"],
                events=row["reached"] - before,
                watermark_ms=row["watermark_ms"],
                newest_event_ms=row["newest_ms"],
                started_at_ms=row["started_at_ms"],
                duration_ms=row["duration_ms"],
            )
        )
        before = row["reached"]
    return tuple(points)
