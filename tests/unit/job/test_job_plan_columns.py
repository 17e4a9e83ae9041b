"""The columns of the result: present, of a usable type, never null where they are keys."""

from __future__ import annotations

from dataclasses import replace

import pytest
from plan_jobs import (
    HOURLY,
    SESSION,
    STATELESS,
    TOTALS,
    WEATHER,
    found,
    grouped,
    hourly,
    selected,
    totals,
)
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun import Job, Table


def renamed(flights: DataFrame) -> DataFrame:
    return hourly(flights).withColumnRenamed("window_start", "window_begin")


def text_window(flights: DataFrame) -> DataFrame:
    return hourly(flights).withColumn("window_start", F.col("window_start").cast("string"))


def local_window(flights: DataFrame) -> DataFrame:
    return hourly(flights).withColumn("window_start", F.col("window_start").cast("timestamp_ntz"))


def window_end(flights: DataFrame) -> DataFrame:
    per = grouped(flights, "origin", F.window("ts", "1 hour"))
    return per.select("origin", F.col("window.end").alias("window_start"), "n", "mean")


def twice(flights: DataFrame) -> DataFrame:
    return hourly(flights).select("*", F.col("n").alias("N"))


def reserved(flights: DataFrame) -> DataFrame:
    return hourly(flights).withColumn("_n", F.col("n"))


def spaced(flights: DataFrame) -> DataFrame:
    return hourly(flights).withColumnRenamed("mean", "mean delay")


def nested_sign(flights: DataFrame) -> DataFrame:
    return hourly(flights).withColumn("both", F.struct(F.col("n").alias("n;(m)"), "mean"))


def void(flights: DataFrame) -> DataFrame:
    return hourly(flights).withColumn("note", F.lit(None))


def nested_void(flights: DataFrame) -> DataFrame:
    return hourly(flights).withColumn("all", F.array())


def text_mean(flights: DataFrame) -> DataFrame:
    return hourly(flights).withColumn("mean", F.col("mean").cast("string"))


def map_key(flights: DataFrame) -> DataFrame:
    return flights.filter(F.col("tags").isNotNull()).select("id", F.array("tags").alias("tags"))


def nullable_key(flights: DataFrame) -> DataFrame:
    return selected(grouped(flights, "dest", F.window("ts", "1 hour")), "dest")


def outer_key(flights: DataFrame, weather: DataFrame) -> DataFrame:
    joined = flights.join(weather.withColumn("place", F.col("origin")), "origin", "left")
    return joined.select("id", "place")


def other_key(flights: DataFrame) -> DataFrame:
    per = flights.groupBy("origin", F.window("ts", "1 hour")).agg(F.count_if("cancelled").alias("n"))
    return per.select(F.col("n").alias("origin"), F.col("window.start").alias("window_start"))


def counted_key(flights: DataFrame) -> DataFrame:
    return selected(grouped(flights, "origin", F.window("ts", "1 hour")), F.col("n").alias("origin"))


def finer(flights: DataFrame) -> DataFrame:
    return selected(grouped(flights, "origin", "id", F.window("ts", "1 hour")), "origin")


def nothing(flights: DataFrame) -> None:
    flights.select("id")


def by_mode(flights: DataFrame) -> DataFrame:
    return flights.select("id", "ts") if flights.isStreaming else flights.select("id", "delay")


def retyped_by_mode(flights: DataFrame) -> DataFrame:
    return flights.select("id", F.lit(1 if flights.isStreaming else "1").alias("x"))


@pytest.mark.parametrize(
    ("job", "says"),
    [
        (
            replace(HOURLY, logic=renamed),
            "'window_start' is no column of the result; allowed: one of mean, n, origin, window_begin",
        ),
        (replace(HOURLY, logic=text_window), "the window column 'window_start' is string; allowed: a timestamp"),
        (replace(HOURLY, logic=local_window), "'window_start' is timestamp_ntz; allowed: a timestamp"),
        (replace(SESSION, logic=totals, keys=["origin"], emit="final"), "window column 'window_start' is no column"),
        (replace(HOURLY, logic=window_end), "'window_start' holds the end of the window"),
        (replace(HOURLY, logic=twice), "the result has the column 'n' more than once"),
        (replace(HOURLY, logic=reserved), "the result column '_n' begins with '_'"),
        (replace(HOURLY, logic=spaced), "the result column 'mean delay' has a space in its name, which Delta refuses"),
        (replace(HOURLY, logic=spaced), "end the function in .alias('mean_delay')"),
        (replace(HOURLY, logic=nested_sign), "the result column 'both.n;(m)' has ';', '(', ')' in its name"),
        (replace(HOURLY, logic=void), "the result column 'note' is void: it has no type, and Delta cannot keep it"),
        (replace(HOURLY, logic=void), "F.lit(None).cast('string')"),
        (replace(HOURLY, logic=nested_void), "the result column 'all.element' is void"),
        (replace(HOURLY, tolerances={"meen": 1}), "the column with a tolerance, 'meen' is no column of the result"),
        (replace(HOURLY, logic=text_mean), "'mean' has a tolerance and is string; allowed: a numeric column"),
        (replace(STATELESS, logic=map_key, keys=["id", "tags"]), "the key 'tags' is array<map<string,int>>"),
        (replace(HOURLY, logic=nullable_key, keys=["dest", "window_start"]), "the key 'dest' can be null"),
        (replace(HOURLY, logic=counted_key), "'origin' is no grouping key of the function; allowed: made from: origin"),
        (replace(HOURLY, logic=finer), "the function groups by id, which no key holds"),
        (replace(TOTALS, delete_when="nn > 3"), "delete_when cannot be read"),
        (replace(TOTALS, delete_when="n"), "delete_when is bigint; allowed: a boolean expression"),
        (replace(STATELESS, logic=nothing), "the function returns NoneType; allowed: a DataFrame"),
        (replace(STATELESS, logic=by_mode), "other columns in streaming than in batch: delay, ts"),
        (replace(STATELESS, logic=retyped_by_mode), "other columns in streaming than in batch: x"),
    ],
)
def test_a_wrong_result_column_is_refused(spark_session: SparkSession, job: Job, says: str) -> None:
    lines = found(spark_session, job)
    assert any(says in line for line in lines), lines


def test_a_key_of_an_outer_join_can_be_null(spark_session: SparkSession) -> None:
    job = replace(STATELESS, logic=outer_key, keys=["id", "place"], tables=[Table("weather")])
    assert any("the key 'place' can be null" in line for line in found(spark_session, job, WEATHER))
