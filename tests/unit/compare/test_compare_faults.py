"""Faults planted in one window each: each is found there, named for what it is, and nothing else is."""

from __future__ import annotations

import math
from collections import defaultdict

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.comparator.result import Comparison
from twinrun.comparator.tables import compare_frames
from twinrun.tolerance import Tolerance, rel

HOUR_MICROSECONDS = 3_600_000_000
Rows = list[tuple[str | None, int | None, int | None, float | None]]
TOLERANCES = {"mean": rel(1e-9)}

# Hour 0 stands for windows without a fault.
BATCH: dict[str, Rows] = {
    "none": [("EWR", 0, 5, 1.5), ("JFK", 0, 6, None), (None, 0, 7, math.nan)],
    "value changed": [("EWR", 1, 5, 1.5), ("JFK", 1, 6, 2.5)],
    "row deleted": [("EWR", 2, 5, 1.5), ("JFK", 2, 6, 2.5)],
    "row doubled": [("EWR", 3, 5, 1.5), ("JFK", 3, 6, 2.5)],
    "written twice": [("EWR", 4, 5, 1.5), ("JFK", 4, 6, 2.5), ("JFK", 4, 6, 3.5)],
    "swap": [("EWR", 5, 5, 1.5), ("JFK", 5, 6, 2.5), ("LGA", 6, 5, 1.5), ("XYZ", 6, 6, 2.5)],
    "nan": [("EWR", 7, 5, math.nan)],
    "null": [("EWR", 8, 5, None), ("JFK", 8, None, 1.0)],
    "two to the 53": [("EWR", 9, 2**53, 1.5)],
    "hour shift": [("EWR", 10, 5, 1.5), ("JFK", 10, 6, 2.5)],
    "other order": [("EWR", 20, 5, 1.5), ("EWR", 20, 6, 2.5), ("EWR", 20, 6, 2.5)],
    "last bits": [("EWR", 21, 5, 0.1 + 0.2), ("JFK", 21, 6, 1e300)],
    "null window": [("EWR", None, 5, 1.5), ("JFK", None, 6, 1.5)],
    "null key": [(None, 22, 5, 1.5)],
    "two keys alike": [("EWR", 23, 5, 1.5), ("EWR", 23, 5, 1.5)],
}
STREAM: dict[str, Rows] = {
    **BATCH,
    "value changed": [("EWR", 1, 5, 1.5), ("JFK", 1, 60, 2.5)],
    "row deleted": [("EWR", 2, 5, 1.5)],
    "row doubled": [("EWR", 3, 5, 1.5), ("JFK", 3, 6, 2.5), ("JFK", 3, 6, 2.5)],
    "written twice": BATCH["written twice"] * 2,
    "swap": [("LGA", 5, 5, 1.5), ("JFK", 5, 6, 2.5), ("EWR", 6, 5, 1.5), ("XYZ", 6, 6, 2.5)],
    "nan": [("EWR", 7, 5, 1.0)],
    "null": [("EWR", 8, 5, 0.0), ("JFK", 8, 0, 1.0)],
    "two to the 53": [("EWR", 9, 2**53 + 1, 1.5)],
    "hour shift": [("EWR", 11, 5, 1.5), ("JFK", 11, 6, 2.5)],
    "other order": BATCH["other order"][::-1],
    "last bits": [("EWR", 21, 5, 0.3), ("JFK", 21, 6, 1.0000000001e300)],
    "null window": [("EWR", None, 5, 1.5), ("JFK", None, 7, 1.5)],
    "null key": [(None, 22, 6, 1.5)],
    "two keys alike": [("EWR", 23, 5, 1.5), ("EWR", 23, 5, 2.5)],
}
EXPECTED: dict[int | None, list[tuple[str | None, str, str]]] = {
    1: [("JFK", "changed", "flights")],
    2: [("JFK", "only_batch", "")],
    3: [("JFK", "duplicate_in_stream", "")],
    4: [("EWR", "duplicate_in_stream", ""), ("JFK", "duplicate_in_stream", ""), ("JFK", "duplicate_in_stream", "")],
    5: [("EWR", "only_batch", ""), ("LGA", "only_stream", "")],
    6: [("EWR", "only_stream", ""), ("LGA", "only_batch", "")],
    7: [("EWR", "changed", "mean")],
    8: [("EWR", "changed", "mean"), ("JFK", "changed", "flights")],
    9: [("EWR", "changed", "flights")],
    10: [("EWR", "only_batch", ""), ("JFK", "only_batch", "")],
    11: [("EWR", "only_stream", ""), ("JFK", "only_stream", "")],
    None: [("JFK", "changed", "flights")],
    22: [(None, "changed", "flights")],
    23: [("EWR", "changed", "mean")],
}


def table(spark: SparkSession, faults: dict[str, Rows]) -> DataFrame:
    rows = [row for part in faults.values() for row in part]
    frame = spark.createDataFrame(rows, "origin string, hour long, flights long, mean double")
    start = F.timestamp_micros(F.col("hour") * F.lit(HOUR_MICROSECONDS))
    return frame.select("origin", start.alias("window_start"), "flights", "mean")


def compare(batch: DataFrame, stream: DataFrame, **options: object) -> tuple[Comparison, DataFrame]:
    given: dict[str, object] = {
        "keys": ["origin", "window_start"],
        "window_column": "window_start",
        "tolerances": TOLERANCES,
        **options,
    }
    return compare_frames(batch, stream, **given)  # type: ignore[arg-type]


def by_window(differences: DataFrame) -> dict[int | None, list[tuple[str | None, str, str]]]:
    hour = F.expr("unix_micros(window)") / HOUR_MICROSECONDS
    rows = differences.select(
        hour.cast("int").alias("hour"), F.col("key.origin"), "kind", F.concat_ws(",", "columns").alias("columns")
    )
    found = defaultdict(list)
    for row in rows.collect():
        found[row["hour"]].append((row["origin"], row["kind"], row["columns"]))
    return {hour: sorted(rows, key=str) for hour, rows in found.items()}


@pytest.mark.parametrize("full", [False, True])
def test_every_fault_is_found_in_its_window(spark_session: SparkSession, full: bool) -> None:
    comparison, differences = compare(table(spark_session, BATCH), table(spark_session, STREAM), full=full)
    assert by_window(differences) == EXPECTED
    assert comparison.verdict == "different"
    assert comparison.audit == ("agrees" if full else "not_run")
    assert comparison.windows_different == len(EXPECTED)
    assert comparison.windows_equal == comparison.windows_compared - len(EXPECTED) == 3
    assert comparison.counts == {
        kind: sum(row[1] == kind for rows in EXPECTED.values() for row in rows)
        for kind in ("changed", "only_batch", "only_stream", "duplicate_in_batch", "duplicate_in_stream")
    }
    # written twice (1), other order (1), two keys alike (1); the stream also: row doubled (1), EWR written twice (1).
    # The copies of "other order" are the same on both sides: only a look at all rows meets them.
    seen = comparison.keys_counted, comparison.keys_repeated_batch, comparison.keys_repeated_stream
    assert seen == (("all", 3, 5) if full else ("differing_windows", 2, 4))


def test_without_faults_nothing_is_found(spark_session: SparkSession) -> None:
    batch = table(spark_session, BATCH)
    comparison, differences = compare(batch, batch.repartition(3).orderBy("mean"))
    assert comparison.verdict == "equal"
    assert comparison.rows_different == 0
    assert (comparison.keys_counted, comparison.keys_repeated_batch) == ("differing_windows", 0)
    for asked in ({"every_key": True}, {"full": True}):
        counted, _ = compare(batch, batch.repartition(3), **asked)
        assert (counted.verdict, counted.keys_counted) == ("equal", "all")
        assert counted.keys_repeated_batch == counted.keys_repeated_stream == 3
    assert differences.count() == 0


def test_without_the_tolerance_the_last_bits_count(spark_session: SparkSession) -> None:
    only = {name: BATCH[name] for name in ("none", "last bits")}
    other = {name: STREAM[name] for name in only}
    exact: dict[str, Tolerance] = {}
    comparison, differences = compare(table(spark_session, only), table(spark_session, other), tolerances=exact)
    assert by_window(differences) == {21: [("EWR", "changed", "mean"), ("JFK", "changed", "mean")]}
    assert comparison.columns[0].name == "mean"
    assert comparison.columns[0].max_rel == pytest.approx(1e-10)


def test_a_renamed_or_retyped_column_is_a_difference_though_values_agree(spark_session: SparkSession) -> None:
    batch = table(spark_session, {"none": BATCH["none"]})
    text = batch.withColumnRenamed("mean", "average").withColumn("flights", F.col("flights").cast("string"))
    other, _ = compare(batch, text)
    assert (other.verdict, other.rows_different) == ("different", 0)
    assert [(d.name, d.kind) for d in other.schema_differences] == [
        ("average", "missing_in_batch"),
        ("flights", "type_differs"),
        ("mean", "missing_in_stream"),
    ]
    narrower, _ = compare(batch, batch.withColumn("flights", F.col("flights").cast("int")))
    assert narrower.verdict == "equal"
