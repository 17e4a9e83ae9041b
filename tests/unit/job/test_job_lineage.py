"""A result column that is a field of the events, against one that only has the name of one."""

from __future__ import annotations

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.job.jvmplan import unchanged_fields

KEYS = ["page", "shop", "window_start"]
CASES = {
    "grouping keys": (lambda e: e.groupBy("page", "shop").count(), {"page", "shop"}),
    "a projection": (lambda e: e.filter("page <> ''").select("shop", "page"), {"page", "shop"}),
    "a key made of its field": (lambda e: e.groupBy(F.lower("page").alias("page"), "shop").count(), {"shop"}),
    "a field replaced before": (lambda e: e.withColumn("page", F.lit("x")).groupBy("page", "shop").count(), {"shop"}),
    "fields with their names exchanged": (
        lambda e: e.select(F.col("shop").alias("page"), F.col("page").alias("shop")).distinct(),
        set(),
    ),
    "a window is no field": (
        lambda e: (
            e.groupBy("page", F.window("at", "1 minute")).count().withColumn("window_start", F.col("window.start"))
        ),
        {"page"},
    ),
    "an aggregate": (lambda e: e.groupBy("shop").agg(F.max("page").alias("page")), {"shop"}),
}


@pytest.fixture(scope="module")
def events(spark_session: SparkSession) -> DataFrame:
    return spark_session.createDataFrame([], "page STRING, shop STRING, at TIMESTAMP")


@pytest.mark.parametrize("case", CASES)
def test_only_fields_as_they_came_count(case: str, events: DataFrame) -> None:
    function, expected = CASES[case]
    assert unchanged_fields(function(events), events, KEYS) == expected


JOINS = {
    "by a field of the same name": ("l.page = r.page AND l.at < r.at", {"page"}, {"page"}),
    "by another field": ("l.page = r.shop AND l.shop = r.shop", {"page"}, set()),
    "by a field of either, or": ("l.page = r.page OR l.at = r.at", {"page"}, set()),
    "by a value made of it": ("lower(l.page) = r.page", {"page"}, set()),
}


@pytest.mark.parametrize("how", ["inner", "left"])
@pytest.mark.parametrize("case", JOINS)
def test_a_field_that_a_join_makes_equal_to_the_key_counts_too(case: str, how: str, events: DataFrame) -> None:
    condition, left, right = JOINS[case]
    other = events.sparkSession.createDataFrame([], "page STRING, shop STRING, at TIMESTAMP")
    joined = events.alias("l").join(other.alias("r"), F.expr(condition), how).select("l.page")
    assert unchanged_fields(joined, events, ["page"]) == left
    assert unchanged_fields(joined, other, ["page"]) == right
