"""Aggregates that no order of rows changes: each against plain Python, over rows in any order."""

from __future__ import annotations

import random
import statistics

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from twinrun.aggregates import earliest, latest, percentiles, top_with_ties

ROWS = [(n % 5, n, chr(97 + n % 3), None if n % 7 == 0 else float(n % 4)) for n in range(40)]


@pytest.mark.parametrize("seed", range(4))
def test_no_order_of_rows_changes_what_they_say(spark_session: SparkSession, seed: int) -> None:
    shuffled = random.Random(seed).sample(ROWS, len(ROWS))
    frame = spark_session.createDataFrame(shuffled, "at INT, _offset INT, name STRING, weight DOUBLE")
    frame = frame.withColumns({"_topic": F.lit("t"), "_partition": F.lit(0)}).repartition(1 + seed)
    told = frame.agg(
        earliest(F.struct("at", "_offset"), "at").alias("first"),
        latest("weight", "_offset", "at").alias("last"),
        percentiles("weight", [0, 0.5, 1]).alias("shares"),
        top_with_ties("name", F.col("weight"), 3).alias("top"),
    ).collect()[0]
    weights = [weight for *_, weight in ROWS if weight is not None]
    assert tuple(told.first) == min((at, offset) for at, offset, *_ in ROWS)
    assert told.last == max(ROWS, key=lambda row: row[1])[3]
    assert told.shares == [min(weights), statistics.median(weights), max(weights)]
    largest = [(weight, name) for *_, name, weight in ROWS if weight == max(weights)]
    assert [tuple(each) for each in told.top] == sorted(largest, reverse=True)


def test_of_no_rows_there_is_nothing_and_the_largest_none_are_refused(spark_session: SparkSession) -> None:
    frame = spark_session.sql("SELECT 1 AS at, 'a' AS name, 1.0D AS weight WHERE false")
    told = frame.agg(latest("name", "at", "name"), percentiles("weight", [0.5]), top_with_ties("name", "weight", 1))
    assert [tuple(row) for row in told.collect()] == [(None, None, [])]
    with pytest.raises(ValueError, match="ask for 1 or more"):
        top_with_ties("name", "weight", 0)
