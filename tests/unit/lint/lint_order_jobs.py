"""A function that breaks each rule of TR23., and one near it that does not."""

from __future__ import annotations

from lint_base import HOURLY, Case, hour, hourly
from lint_refused_jobs import set_size
from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def first_dest(events: DataFrame) -> DataFrame:
    per = events.groupBy("kind", hour()).agg(
        F.count("*").alias("c"),
        F.first("dest").alias("dest"),  # here
    )
    return hourly(per, "c", "dest")


def unused_first(events: DataFrame) -> DataFrame:
    per = events.groupBy("kind", hour()).agg(F.count("*").alias("c"), F.first("dest").alias("dest"))
    return hourly(per, "c")


def listed(events: DataFrame) -> DataFrame:
    per = events.groupBy("kind", hour()).agg(F.collect_list("dest").alias("dests"))  # here
    return hourly(per, F.concat_ws(",", "dests").alias("dests"))


def sorted_later(events: DataFrame) -> DataFrame:
    per = events.groupBy("kind", hour()).agg(F.collect_list("dest").alias("dests"))
    return hourly(per, F.concat_ws(",", F.sort_array("dests")).alias("dests"), F.size("dests").alias("c"))


def by_time(events: DataFrame) -> DataFrame:
    last = F.max_by("dest", "ts")  # here
    return hourly(events.groupBy("kind", hour()).agg(last.alias("dest")), "dest")


def most_frequent(events: DataFrame) -> DataFrame:
    return hourly(events.groupBy("kind", hour()).agg(F.mode("dest").alias("dest")), "dest")  # here


def most_frequent_least(events: DataFrame) -> DataFrame:
    return hourly(events.groupBy("kind", hour()).agg(F.mode("dest", True).alias("dest")), "dest")


def by_time_and_place(events: DataFrame) -> DataFrame:
    order = F.struct("ts", "_partition", "_offset")
    last = F.max_by(F.struct("dest", "n"), order)
    return hourly(events.groupBy("kind", hour()).agg(last.alias("last")), F.col("last.dest").alias("dest"))


def by_itself(events: DataFrame) -> DataFrame:
    last = F.max_by("dest", F.struct("ts", "dest"))
    return hourly(events.groupBy("kind", hour()).agg(last.alias("dest")), "dest")


def summed(events: DataFrame) -> DataFrame:
    per = events.groupBy("kind", hour()).agg(F.sum("n").alias("n"), F.sum("x").alias("x"))  # here
    return hourly(per, "n", F.round("x", 2).alias("x"))


def spread(events: DataFrame) -> DataFrame:
    return hourly(events.groupBy("kind", hour()).agg(F.stddev_pop("n").alias("s")), "s")  # here


def mean_of_integers(events: DataFrame) -> DataFrame:
    per = events.groupBy("kind", hour()).agg(F.avg("n").alias("n"), F.sum(F.col("x").cast("decimal(20,6)")).alias("x"))
    return hourly(per, "n", "x")


def estimated(events: DataFrame) -> DataFrame:
    return hourly(events.groupBy("kind", hour()).agg(F.percentile_approx("x", 0.5).alias("p")), "p")  # here


def exact_median(events: DataFrame) -> DataFrame:
    return hourly(events.groupBy("kind", hour()).agg(F.median("x").alias("p")), "p")


ORDER_CASES = [
    Case("TR230", HOURLY, first_dest, unused_first),
    Case("TR231", HOURLY, listed, sorted_later),
    Case("TR231", HOURLY, listed, set_size),
    Case("TR232", HOURLY, by_time, by_time_and_place),
    Case("TR232", HOURLY, by_time, by_itself),
    Case("TR232", HOURLY, most_frequent, most_frequent_least),
    Case("TR233", HOURLY, summed, mean_of_integers),
    Case("TR233", HOURLY, spread, mean_of_integers),
    Case("TR234", HOURLY, estimated, exact_median),
]
