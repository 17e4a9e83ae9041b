"""Comparing tables of every awkward shape: empty, pending, oddly named, with many windows that differ."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from twinrun.comparator.tables import compare_frames
from twinrun.errors import TableError
from twinrun.tolerance import rel

HOUR = "timestamp_micros(id * 3600000000)"


def test_nothing_on_both_sides_is_never_equal(spark_session: SparkSession) -> None:
    table = spark_session.range(3).withColumn("v", F.lit(1))
    empty = table.where("id < 0")
    both, differences = compare_frames(empty, empty, keys=["id"])
    one, _ = compare_frames(table, empty, keys=["id"])
    other, _ = compare_frames(empty, table, keys=["id"], window_column="id")
    assert (both.verdict, both.rows_different, differences.count()) == ("nothing_compared", 0, 0)
    assert (one.verdict, one.counts["only_batch"]) == ("different", 3)
    assert (other.verdict, other.counts["only_stream"], other.windows_different) == ("different", 3, 3)


def test_rows_that_are_not_ready_are_counted_and_not_compared(spark_session: SparkSession) -> None:
    batch = spark_session.range(10).selectExpr("id", f"{HOUR} as window_end", "id as v")
    batch = batch.unionByName(spark_session.sql("select 99L as id, cast(null as timestamp) as window_end, 0L as v"))
    stream = batch.where("id < 7 or id = 99")
    options = {"keys": ["id"], "window_column": "window_end"}
    until = datetime(1970, 1, 1, 6, tzinfo=UTC)
    at, _ = compare_frames(batch, stream, ready_until=until, **options)  # type: ignore[arg-type]
    condition = F.col("window_end") + F.expr("interval 1 hour") <= F.timestamp_micros(F.lit(7 * 3_600_000_000))
    by_condition, _ = compare_frames(batch, stream, ready_until=condition, **options)  # type: ignore[arg-type]
    late, _ = compare_frames(batch, stream, ready_until=until.replace(hour=7), **options)  # type: ignore[arg-type]
    for comparison in (at, by_condition):
        assert comparison.verdict == "equal"
        # The row without a window is compared.
        assert (comparison.rows_batch, comparison.pending_batch, comparison.pending_stream) == (8, 3, 0)
        assert comparison.windows_compared == 8
    assert (late.verdict, late.pending_batch, late.counts["only_batch"]) == ("different", 2, 1)


def test_an_instant_that_cannot_be_compared_is_refused(spark_session: SparkSession) -> None:
    table = spark_session.range(1).selectExpr("id", f"{HOUR} as w")
    instant = datetime(2013, 1, 6, tzinfo=UTC)
    with pytest.raises(TableError, match="no time zone"):
        compare_frames(table, table, keys=["id"], window_column="w", ready_until=instant.replace(tzinfo=None))
    with pytest.raises(TableError, match="window column"):
        compare_frames(table, table, keys=["id"], ready_until=instant)
    with pytest.raises(TableError, match="'id', which holds bigint"):
        compare_frames(table, table, keys=["id"], window_column="id", ready_until=instant)
    with pytest.raises(TableError, match="buckets"):
        compare_frames(table, table, keys=["id"], buckets=0)


def test_awkward_names_and_case_come_back_as_they_are(spark_session: SparkSession) -> None:
    names = ["a.b", "batch.v", "stream", "x y", "b`q", "key", "Key", "c0", "grp"]
    table = spark_session.range(4).select(*(F.lit(0) + F.col("id") for _ in names)).toDF(*names)
    changed = table.toDF(*(f"n{place}" for place in range(9)))
    changed = changed.withColumn("n6", F.when(F.col("n0") == 2, F.lit(7)).otherwise(F.col("n6"))).toDF(*names)
    comparison, differences = compare_frames(table, changed, keys=["a.b", "key"], window_column="b`q")
    rows = differences.collect()
    assert len(rows) == 1
    assert rows[0].asDict(recursive=False) | {"batch": list(rows[0]["batch"]), "stream": list(rows[0]["stream"])} == {
        "key": (2, 2),
        "window": 2,
        "kind": "changed",
        "columns": ["Key"],
        "batch": [2] * 9,
        "stream": [2, 2, 2, 2, 2, 2, 7, 2, 2],
        "copy": 1,
    }
    assert rows[0]["batch"].__fields__ == names
    assert comparison.columns[0].name == "Key"
    sample = comparison.samples[0]
    assert (json.loads(sample.key), sample.window, sample.columns) == ({"a.b": 2, "key": 2}, "2", ("Key",))


@pytest.mark.parametrize(("share", "told"), [(3, 10_000), (10, 10_000), (10, 50)])
def test_many_windows_that_differ_are_all_found(
    spark_session: SparkSession, monkeypatch: pytest.MonkeyPatch, share: int, told: int
) -> None:
    """More than 200 windows: all by reading everything, a tenth by a semi-join, with and without telling the driver."""
    for module in ("digest", "tables"):
        monkeypatch.setattr(f"twinrun.comparator.{module}.TOLD_GROUPS", told)
    batch = spark_session.range(3000).selectExpr("id as k", "if(id = 0, null, id) as w", "id * 2 as v")
    hit = F.col("k") % (1 if share == 3 else share) == 0
    stream = batch.withColumn("v", F.when(hit, F.col("v") + 1).otherwise(F.col("v")))
    comparison, differences = compare_frames(batch, stream, keys=["k"], window_column="w", sample_rows=2)
    expected = 3000 // (1 if share == 3 else share)
    assert comparison.windows_different == comparison.counts["changed"] == differences.count() == expected
    assert [json.loads(sample.key)["k"] for sample in comparison.samples] == [0, 1 if share == 3 else share]
    assert comparison.samples[0].window == "null"


@pytest.mark.parametrize("window", ["w", "cast(hour(w.start) as double)"])
def test_windows_that_do_not_go_into_a_filter(spark_session: SparkSession, window: str) -> None:
    batch = spark_session.range(6).selectExpr("id", f"window({HOUR}, '2 hours') as w", "cast(id as double) as v")
    batch = batch.selectExpr("id", f"{window} as w", "v")
    stream = batch.withColumn("v", F.when(F.col("id") == 4, F.lit(0.5)).otherwise(F.col("v")))
    comparison, differences = compare_frames(batch, stream, keys=["id"], window_column="w", sample_rows=0)
    assert (comparison.counts["changed"], comparison.windows_different) == (1, 1)
    assert [row["key"]["id"] for row in differences.collect()] == [4]


def test_a_row_that_changed_its_window_counts_for_both(spark_session: SparkSession) -> None:
    batch = spark_session.range(6).selectExpr("id", "id div 2 as w", "1 as v")
    stream = batch.withColumn("w", F.when(F.col("id") == 0, F.lit(2)).otherwise(F.col("w")))
    comparison, differences = compare_frames(batch, stream, keys=["id"], window_column="w")
    assert (comparison.windows_compared, comparison.windows_different, comparison.rows_different) == (3, 2, 1)
    assert [(row["kind"], row["columns"], row["window"]) for row in differences.collect()] == [("changed", ["w"], 0)]


def test_summing_up_by_side_or_by_row_finds_the_same(spark_session: SparkSession) -> None:
    """Each side is summed up by itself where Spark generates one loop for it, which it does not in other tests."""
    found = []
    for generated in ("true", "false"):
        own = spark_session.newSession()
        own.conf.set("spark.sql.codegen.wholeStage", generated)
        batch = own.range(40).selectExpr("id as k", "if(id = 0, null, id div 4) as w", "id / 7 as v", "id < 36 as done")
        stream = batch.where("k != 9").withColumn("v", F.when(F.col("k") == 0, F.lit(1.0)).otherwise(F.col("v")))
        options = {"keys": ["k"], "window_column": "w", "tolerances": {"v": rel(1e-9)}}
        equal, _ = compare_frames(batch, batch.orderBy(F.desc("k")), **options)  # type: ignore[arg-type]
        assert equal.verdict == "equal"
        other, differences = compare_frames(batch, stream, ready_until=F.col("done"), **options)  # type: ignore[arg-type]
        assert (other.counts["changed"], other.counts["only_batch"], other.pending_batch) == (1, 1, 4)
        found.append((other, sorted(row["key"]["k"] for row in differences.collect())))
    assert found[0] == found[1]


def test_the_inputs_are_not_cached(spark_session: SparkSession) -> None:
    table = spark_session.range(5).withColumn("v", F.lit(1))
    compare_frames(table, table.where("id < 4"), keys=["id"])
    assert not table.storageLevel.useMemory
