"""Which differing rows may be healed, and that a MERGE touches exactly the named keys."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from twinrun import Job, Source
from twinrun.errors import TableError
from twinrun.explain.differing import key_id
from twinrun.explain.explain import healable
from twinrun.heal.write import merge_keys, one_per_key
from twinrun.session.settings import with_settings
from twinrun.tables.delta import GONE, USER_METADATA, append, merge_by_key

SOURCE = Source("clicks", schema="id STRING NOT NULL, at BIGINT NOT NULL", event_time="at", lateness="1 minute")
PLAIN = Job(lambda clicks: clicks, sources=[SOURCE], keys=["id`s"], name="plain")
HOURLY = Job(lambda clicks: clicks, sources=[SOURCE], keys=["page", "window_start"], window="1 hour", name="hourly")
HOUR_MS = 3_600_000
DIFFERENCES = "n INT, hour BIGINT, verdict STRING, kind STRING, copy INT, causes MAP<STRING, BIGINT>"


def differing(spark: SparkSession, rows: list[tuple[Any, ...]]) -> DataFrame:
    frame = spark.createDataFrame(rows, DIFFERENCES)
    return frame.selectExpr("*", "timestamp_millis(hour * 3600000) AS window_start")


def chosen(frame: DataFrame, job: Job, watermark_ms: int | None) -> list[int]:
    return sorted(row["n"] for row in frame.filter(healable(job, watermark_ms)).collect())


def test_windows_must_be_over_and_causes_proven(spark_session: SparkSession) -> None:
    late = {"late_dropped": 1}
    rows = [
        (1, 0, "explained", "changed", 1, late),
        (2, 1, "explained", "only_stream", 1, late),  # ends at the watermark: over
        (3, 2, "explained", "changed", 1, late),  # ends after the watermark
        (4, 0, "unexplained", "changed", 1, {}),
        (5, 0, "evidence_expired", "changed", 1, {}),
        (6, None, "explained", "changed", 1, late),
        (7, 0, "explained", "duplicate_in_stream", 2, late),
        (8, 0, "explained", "only_batch", 1, {"beyond_cut": 1}),  # read later, then dropped: never written again
        (9, 0, "explained", "only_batch", 1, {"late_dropped": 1, "pending": 0}),  # still in the stream's state
        (10, 0, "explained", "changed", 1, {"nondeterministic": 0}),  # the batch is no better
    ]
    frame = differing(spark_session, rows)
    assert chosen(frame, HOURLY, 2 * HOUR_MS) == [1, 2, 8]
    assert chosen(frame, HOURLY, None) == []


def test_without_windows_no_event_of_the_row_may_still_be_read(spark_session: SparkSession) -> None:
    rows = [
        (1, None, "explained", "only_batch", 1, {"before_start": 1}),
        (2, None, "explained", "only_batch", 1, {"beyond_cut": 1}),
        (3, None, "explained", "only_batch", 1, {"before_start": 1, "beyond_cut": 1}),
        (4, None, "explained", "only_batch", 1, {"a_cause_of_later_days": 1}),
        (5, None, "unexplained", "only_batch", 1, {"before_start": 1}),
    ]
    assert chosen(differing(spark_session, rows), PLAIN, None) == [1]


def test_a_merge_writes_the_named_keys_and_no_other(spark_session: SparkSession, tmp_path: Path) -> None:
    columns = "`id`\u0060s` STRING, n INT"
    table = str(tmp_path / "t")
    append(spark_session.createDataFrame([("a", 1), ("b", 2), (None, 3), ("d", 4)], columns), table)
    wanted = [("b", 20, False), (None, 30, False), ("e", 50, False), ("d", 4, True), ("absent", 0, True)]
    merge_keys(
        spark_session.createDataFrame(wanted, f"{columns}, {GONE} BOOLEAN"), PLAIN, table, {"heal": {"id": "h1"}}
    )
    found = {tuple(row) for row in spark_session.read.format("delta").load(table).collect()}
    assert found == {("a", 1), ("b", 20), (None, 30), ("e", 50)}
    newest = DeltaTable.forPath(spark_session, table).history(1).collect()[0]
    assert json.loads(newest["userMetadata"]) == {"heal": {"id": "h1"}}
    append(spark_session.createDataFrame([("z", 9)], columns), table)
    assert DeltaTable.forPath(spark_session, table).history(1).collect()[0]["userMetadata"] is None


def test_a_session_that_starts_between_two_milliseconds_is_replaced_and_not_doubled(
    spark_session: SparkSession, tmp_path: Path
) -> None:
    columns = "page STRING, window_start TIMESTAMP, n INT"
    table = str(tmp_path / "t")
    start = datetime(2024, 1, 1, 0, 0, 0, 500, tzinfo=UTC)
    append(spark_session.createDataFrame([("a", start, 1)], columns), table)
    rows = spark_session.createDataFrame([("a", start, 2, False)], f"{columns}, {GONE} BOOLEAN")
    merge_keys(rows, HOURLY, table, {})
    assert [row["n"] for row in spark_session.read.format("delta").load(table).collect()] == [2]


def test_a_merge_that_fails_leaves_the_session_as_it_was(spark_session: SparkSession, tmp_path: Path) -> None:
    table = str(tmp_path / "t")
    append(spark_session.createDataFrame([("a", 1)], "id STRING, n INT"), table)
    rows = spark_session.createDataFrame([("a", 2, False), ("a", 3, False)], f"id STRING, n INT, {GONE} BOOLEAN")
    with with_settings(spark_session, {USER_METADATA: "the user's own"}):
        with pytest.raises(Exception, match=r"MULTIPLE_SOURCE|multiple source rows"):
            merge_by_key(rows, table, ["id"], {"mine": 1})
        assert spark_session.conf.get(USER_METADATA) == "the user's own"
    append(spark_session.createDataFrame([("z", 9)], "id STRING, n INT"), table)
    assert DeltaTable.forPath(spark_session, table).history(1).collect()[0]["userMetadata"] is None


def test_a_key_that_is_absent_or_repeated_stops_a_heal(spark_session: SparkSession) -> None:
    rows = spark_session.createDataFrame([("a", 1), ("a", 2)], "`id`\u0060s` STRING, n INT")
    for expected in (1, 2, 3):
        with pytest.raises(TableError, match=rf"names {expected} keys?, but the tables have 2 rows of 1 such key\."):
            one_per_key(rows, PLAIN, expected, "the plan")
    assert one_per_key(rows.limit(1), PLAIN, 1, "the plan").count() == 1


def test_keys_are_named_as_the_differences_name_them(spark_session: SparkSession) -> None:
    rows = spark_session.sql("SELECT CAST(NULL AS STRING) AS page, timestamp'2013-01-06 10:00:00' AS window_start")
    (row,) = rows.select(key_id(HOURLY).alias("k")).collect()
    assert json.loads(row["k"]) == {"page": None, "window_start": "2013-01-06T10:00:00.000000Z"}
