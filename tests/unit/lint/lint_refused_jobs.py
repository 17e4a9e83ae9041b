"""A function that breaks each rule of TR1.. on one stream, and one near it that does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from lint_base import HOURLY, MARKED, RECORDS, SESSIONS, TOTALS, WITH_SHOPS, Case, hour, hourly, plain
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F


def distinct_count(events: DataFrame) -> DataFrame:
    per = events.groupBy("kind", hour()).agg(
        F.max("n").alias("most"),
        F.count_distinct("dest").alias("dests"),  # here
    )
    return hourly(per, "most", "dests")


def set_size(events: DataFrame) -> DataFrame:
    return hourly(events.groupBy("kind", hour()).agg(F.size(F.collect_set("dest")).alias("dests")), "dests")


def ranked(events: DataFrame) -> DataFrame:
    rank = F.row_number().over(Window.partitionBy("kind").orderBy("ts"))  # here
    return events.select("id", rank.alias("rank"))


def latest(events: DataFrame) -> DataFrame:
    order = F.struct("ts", "_partition", "_offset")
    return hourly(events.groupBy("kind", hour()).agg(F.max_by("id", order).alias("last")), "last")


def ordered(events: DataFrame) -> DataFrame:
    kept = events.filter("n > 0")
    return kept.orderBy("ts").select("id")  # here


def ordered_within(events: DataFrame) -> DataFrame:
    return events.select("id").sortWithinPartitions("id")  # here


def ordered_list(events: DataFrame) -> DataFrame:
    return hourly(events.groupBy("kind", hour()).agg(F.sort_array(F.collect_list("id")).alias("ids")), "ids")


def limited(events: DataFrame) -> DataFrame:
    return events.groupBy("kind").agg(F.count("*").alias("c")).limit(3)  # here


def counted(events: DataFrame) -> DataFrame:
    return events.groupBy("kind").agg(F.count("*").alias("c"))


def skipped(events: DataFrame) -> DataFrame:
    return events.select("id").offset(3)  # here


def sampled(events: DataFrame) -> DataFrame:
    return events.sample(0.1).select("id")  # here


def hashed(events: DataFrame) -> DataFrame:
    return events.filter(F.pmod(F.xxhash64("id"), F.lit(10)) == 0).select("id")


def pivoted(events: DataFrame) -> DataFrame:
    return events.groupBy("kind").pivot("dest", ["a", "b"]).agg(F.sum("n"))  # here


def pivoted_blind(events: DataFrame) -> DataFrame:
    return events.groupBy("kind").pivot("dest").agg(F.sum("n"))  # here


def conditional(events: DataFrame) -> DataFrame:
    return events.groupBy("kind").agg(F.sum(F.when(F.col("dest") == "a", F.col("n"))).alias("a"))


def chained(events: DataFrame) -> DataFrame:
    first = events.groupBy("kind", "dest").agg(F.max("n").alias("n"))
    return first.groupBy("kind").agg(F.sum("n").alias("n"))  # here


def session_updated(events: DataFrame) -> DataFrame:
    return events.groupBy("kind", F.session_window("ts", "5 minutes")).agg(F.count("*").alias("c"))  # here


def session_final(events: DataFrame) -> DataFrame:
    per = events.groupBy("kind", F.session_window("ts", "5 minutes")).agg(F.count("*").alias("c"))
    return per.select("kind", F.col("session_window.start").alias("window_start"), "c")


def sessions_without_gap(events: DataFrame) -> DataFrame:
    per = events.groupBy("kind", F.session_window("ts", "0 seconds")).agg(F.count("*").alias("c"))  # here
    return per.select("kind", F.col("session_window.start").alias("window_start"), "c")


def sessions_backwards(events: DataFrame) -> DataFrame:
    per = events.groupBy("kind", F.session_window("ts", "-5 minutes")).agg(F.count("*").alias("c"))  # here
    return per.select("kind", F.col("session_window.start").alias("window_start"), "c")


def marked_again(events: DataFrame) -> DataFrame:
    return own_clock(events.withWatermark("ts", "1 minute"))  # here


def other_time_marked(events: DataFrame) -> DataFrame:
    return events.withWatermark("_kafka_timestamp", "1 minute").select("id")  # here


def session_of_all(events: DataFrame) -> DataFrame:
    per = events.groupBy(F.session_window("ts", "5 minutes")).agg(F.count("*").alias("c"))  # here
    return per.select(F.col("session_window.start").alias("window_start"), "c")


def pandas_mean(events: DataFrame) -> DataFrame:
    import pandas as pd

    def mean(values: pd.Series) -> float:
        return float(values.mean())

    mean.__annotations__ = {"values": pd.Series, "return": float}
    mean_of: Any = F.pandas_udf(mean, "double")
    per = events.groupBy("kind", hour()).agg(mean_of("x").alias("mean"))  # here
    return hourly(per, "mean")


def unused_pandas_mean(events: DataFrame) -> DataFrame:
    return pandas_mean(events).drop("mean")


def numbered(events: DataFrame) -> DataFrame:
    return events.select("id", F.monotonically_increasing_id().alias("number"))  # here


def coordinates(events: DataFrame) -> DataFrame:
    return events.select("id", F.col("_offset").alias("number"))


def above_all(events: DataFrame) -> DataFrame:
    return events.filter(F.col("n") > events.agg(F.avg("n")).scalar()).select("id")  # here


def above_shops(events: DataFrame, shops: DataFrame) -> DataFrame:
    return events.filter(F.col("n") > shops.agg(F.avg("size")).scalar()).select("id")


def other_clock(events: DataFrame) -> DataFrame:
    per = events.groupBy("kind", F.window("_kafka_timestamp", "1 hour")).agg(F.count("*").alias("c"))  # here
    return hourly(per, "c")


def own_clock(events: DataFrame) -> DataFrame:
    return hourly(events.groupBy("kind", hour()).agg(F.count("*").alias("c")), "c")


def counting(events: DataFrame) -> DataFrame:
    if events.count() > 3:  # here
        return events.select("id")
    return events.select("id").filter("id > 'a'")


def reading_pandas(events: DataFrame) -> DataFrame:
    ids = list(events.toPandas()["id"])  # here
    return events.filter(F.col("id").isin(ids)).select("id")


def counting_groups(events: DataFrame) -> DataFrame:
    return events.groupBy("kind").count()


def cached(events: DataFrame) -> DataFrame:
    kept = events.cache()  # here
    return kept.select("id")


def as_rdd(events: DataFrame) -> DataFrame:
    return events.rdd.toDF().select("id")  # here


def written(events: DataFrame) -> DataFrame:
    events.write.format("noop").mode("append").save()  # here
    return events.select("id")


def deduplicated_a_while(events: DataFrame) -> DataFrame:
    return events.dropDuplicatesWithinWatermark(["id"]).select("id")  # here


def deduplicated(events: DataFrame) -> DataFrame:
    return events.dropDuplicates(["id", "ts"]).select("id")


def with_state(events: DataFrame) -> DataFrame:
    def first(key: Any, frames: Iterator[Any], state: Any) -> Iterator[Any]:
        yield from frames

    groups = events.select("id").groupBy("id")
    return groups.applyInPandasWithState(first, "id STRING", "n INT", "append", "NoTimeout")  # here


GLOBAL_SESSIONS = replace(SESSIONS, keys=["window_start"])
REFUSED_CASES = [
    Case("TR101", HOURLY, distinct_count, set_size),
    Case("TR102", RECORDS, ranked, latest, HOURLY),
    Case("TR103", RECORDS, ordered, ordered_list, HOURLY),
    Case("TR103", RECORDS, ordered_within, plain),
    Case("TR104", TOTALS, limited, counted),
    Case("TR105", RECORDS, skipped, hashed),
    Case("TR106", RECORDS, sampled, hashed),
    Case("TR107", TOTALS, pivoted, conditional),
    Case("TR107", TOTALS, pivoted_blind, conditional),
    Case("TR116", TOTALS, chained, counted),
    Case("TR117", TOTALS, session_updated, session_final, SESSIONS),
    Case("TR118", GLOBAL_SESSIONS, session_of_all, session_final, SESSIONS),
    Case("TR119", HOURLY, pandas_mean, set_size),
    Case("TR119", HOURLY, pandas_mean, unused_pandas_mean),
    Case("TR120", RECORDS, numbered, coordinates),
    Case("TR121", RECORDS, above_all, above_shops, WITH_SHOPS),
    Case("TR122", SESSIONS, sessions_without_gap, session_final),
    Case("TR122", SESSIONS, sessions_backwards, session_final),
    Case("TR123", HOURLY, other_clock, own_clock),
    Case("TR124", HOURLY, marked_again, own_clock),
    Case("TR124", MARKED, other_time_marked, plain),
    Case("TR130", RECORDS, counting, counting_groups, TOTALS),
    Case("TR130", RECORDS, reading_pandas, counting_groups, TOTALS),
    Case("TR131", RECORDS, cached, plain),
    Case("TR131", RECORDS, as_rdd, plain),
    Case("TR132", RECORDS, written, plain),
    Case("TR141", MARKED, deduplicated_a_while, deduplicated),
    Case("TR142", RECORDS, with_state, deduplicated, MARKED),
]
