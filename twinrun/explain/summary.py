"""Turn what a verify wrote into counts and samples: aggregated in Spark, a bounded number of rows collected.

Most are questions, of which several are asked in one Spark job: see `twinrun.tables.listed`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from twinrun.events.exact import quoted
from twinrun.explain.differing import KEY_ID, is_open
from twinrun.explain.explain import Explained, Foreign
from twinrun.job.job import Job
from twinrun.results.causes import EXPECTED_CAUSES, PROOFS
from twinrun.results.cut import StreamCut
from twinrun.results.verdict import BlamedEvent, CauseCount, MicroBatchPoint, RowSample, SinkCommit, WindowPoint
from twinrun.tables.checkpoint import total
from twinrun.tables.listed import Question, ask

# A few differing rows with the events that their causes blame: what the report tells as a story.


EVENTS_PER_CAUSE = 5
"""Named events per row and cause; the counts are complete."""


def sample_rows(explained: Explained | None, limit: int) -> Question[list[Row]]:
    """Differing rows of the table ``differences``, at most ``limit``.

    First what has no proof, then what is proven and nobody should have to expect, then what is proven and expected, and
    last what only waits.
    """
    if explained is None:
        return Question(None, list)
    names = F.map_keys("causes")
    waits = (F.col("verdict") == "input_behind") | ((F.size(names) == 1) & F.array_contains(names, "pending"))
    expected = F.forall(names, lambda name: name.isin(*EXPECTED_CAUSES))
    proven = F.when(expected, 2).otherwise(1)
    order = F.when(waits, 3).when(F.col("verdict") == "explained", proven).otherwise(0)
    return Question(explained.rows.orderBy(order, "window_start", "key_id", "copy").limit(limit), list)


def row_samples(explained: Explained, rows: Sequence[Row], late: DataFrame | None = None) -> tuple[RowSample, ...]:
    """Differing rows side by side, each with a few of its blamed events. One Spark job.

    Parameters
    ----------
    rows : sequence of Row
        From `sample_rows`.
    late : DataFrame, optional
        The late events by name (`twinrun.explain.tables.late_events`): how each came to be late.
    """
    keys = [row["key_id"] for row in rows]
    proven = [row["key_id"] for row in rows if row["verdict"] == "explained"]
    asked = (
        _named(explained.blamed, late, proven),
        _commits(explained.foreign, keys),
        _emitted(explained.foreign, keys),
    )
    named, commits, emitted = ask(*asked)
    return tuple(
        RowSample(
            key=json.loads(row["key_id"]),
            window_start_ms=None if row["window_start"] is None else int(row["window_start"].timestamp() * 1000),
            kind=row["kind"],
            columns=tuple(row["columns"]),
            batch=_cells(row["batch"]),
            stream=_cells(row["stream"]),
            verdict=row["verdict"],
            causes=dict(row["causes"]),
            events=tuple(named.get(row["key_id"], ())),
            events_of=explained.events_of,
            emitted=emitted.get(row["key_id"]) if "sink_changed" in row["causes"] else None,
            commits=commits.get(row["key_id"], ()),
        )
        for row in rows
    )


def _cells(text: str | None) -> dict[str, Any] | None:
    return None if text is None else json.loads(text)


def _commits(foreign: Foreign, keys: list[str]) -> Question[dict[str, tuple[SinkCommit, ...]]]:
    """What else changed each row in the stream's table, the oldest first."""
    if foreign.touched is None or not keys:
        return Question(None, lambda _: {})
    known = {commit.version: SinkCommit(**vars(commit)) for commit in foreign.commits}
    rows = foreign.touched.filter(F.col(KEY_ID).isin(keys))
    return Question(rows, lambda rows: {r[KEY_ID]: tuple(known[version] for version in r["versions"]) for r in rows})


def _emitted(foreign: Foreign, keys: list[str]) -> Question[dict[str, dict[str, Any] | None]]:
    """What the stream had written in the place of each changed row."""
    if foreign.emitted is None or not keys:
        return Question(None, lambda _: {})
    rows = foreign.emitted.filter(F.col(KEY_ID).isin(keys))
    return Question(rows, lambda rows: {row[KEY_ID]: _cells(row["emitted"]) for row in rows})


def _named(blamed: DataFrame | None, late: DataFrame | None, keys: list[str]) -> Question[dict[str, list[BlamedEvent]]]:
    """The latest events of each cause, by row; at most `EVENTS_PER_CAUSE` each."""
    if blamed is None or not keys:
        return Question(None, lambda _: {})
    mine = blamed.filter(F.col(KEY_ID).isin(keys))
    late_ms = F.when(F.col("_end_ms").isNotNull(), F.col("_late_ms") - F.col("_end_ms"))
    # An event that lies in several windows of a row that tells no windows apart is one event.
    once = (
        mine.withColumn("_late_by", late_ms)
        .groupBy(KEY_ID, "_why", "_source", "_topic", "_partition", "_offset")
        .agg(F.max_by(F.struct(*mine.columns, "_late_by"), F.coalesce("_late_by", F.lit(0))).alias("_event"))
        .select("_event.*")
    )
    order = Window.partitionBy(KEY_ID, "_why").orderBy(F.col("_late_by").desc_nulls_last(), "_partition", "_offset")
    few = once.withColumn("_rank", F.row_number().over(order)).filter(F.col("_rank") <= EVENTS_PER_CAUSE)
    known = _with_arrival(few, late).withColumn("_known_ms", F.unix_millis("_kafka_timestamp"))
    return Question(known, _by_row)


def _by_row(rows: list[Row]) -> dict[str, list[BlamedEvent]]:
    found: dict[str, list[BlamedEvent]] = {}
    for row in sorted(rows, key=lambda row: (row["_why"], row["_rank"])):
        found.setdefault(row[KEY_ID], []).append(_event(row))
    return found


def _with_arrival(few: DataFrame, late: DataFrame | None) -> DataFrame:
    """Add ``arrival`` and ``passed_at_ms`` of the window that the event came too late for; null for other causes."""
    if late is None or "arrival" not in late.columns:
        nothing = {"arrival": F.lit(None).cast("string"), "passed_at_ms": F.lit(None).cast("bigint")}
        return few.withColumns(nothing)
    places = [F.col(name).alias(f"_{name}") for name in ("topic", "partition", "offset")]
    how = late.select(*places, F.col("window_end_ms").alias("_end_ms"), "arrival", "passed_at_ms")
    how = how.withColumn("_why", F.lit("late_dropped")).dropDuplicates(["_topic", "_partition", "_offset", "_end_ms"])
    return few.join(how, ["_why", "_topic", "_partition", "_offset", "_end_ms"], "left")


def _event(row: Row) -> BlamedEvent:
    return BlamedEvent(
        cause=row["_why"],
        id=json.loads(row["_id"]),
        source=row["_source"],
        topic=row["_topic"],
        partition=row["_partition"],
        offset=row["_offset"],
        event_time_ms=row["_event_ms"],
        known_at_ms=row["_known_ms"],
        micro_batch=row["_micro_batch"],
        watermark_ms=row["_late_ms"],
        end_ms=row["_end_ms"],
        late_ms=row["_late_by"],
        arrival=row["arrival"],
        passed_at_ms=row["passed_at_ms"],
    )


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
