"""A few differing rows with the events that their causes blame: what the report tells as a story."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pyspark.sql import DataFrame, Row, Window
from pyspark.sql import functions as F

from twinrun.explain.differing import KEY_ID
from twinrun.explain.explain import Explained, Foreign
from twinrun.results.causes import EXPECTED_CAUSES
from twinrun.results.verdict import BlamedEvent, RowSample, SinkCommit
from twinrun.tables.asked import Question, ask

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
