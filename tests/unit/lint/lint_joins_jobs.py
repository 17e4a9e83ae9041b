"""A function that breaks each rule of TR1.. on two frames, and one near it that does not."""

from __future__ import annotations

from dataclasses import replace

from lint_base import HOURLY, MARKED, TOTALS, WITH_SHOPS, Case, plain
from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def intersected(events: DataFrame) -> DataFrame:
    return events.select("id").intersect(events.select("id"))  # here


def subtracted(events: DataFrame) -> DataFrame:
    return events.select("id").subtract(events.filter("n > 1").select("id"))  # here


def subtracted_static(events: DataFrame, shops: DataFrame) -> DataFrame:
    return events.select(F.col("kind").alias("id")).subtract(shops.select("kind"))  # here


def without_shop(events: DataFrame, shops: DataFrame) -> DataFrame:
    return events.join(shops, "kind", "left_anti").select("id")


def united_static(events: DataFrame, shops: DataFrame) -> DataFrame:
    return events.select(F.col("kind").alias("id")).union(shops.select("kind"))  # here


def united(events: DataFrame, shops: DataFrame) -> DataFrame:
    return events.select("id").union(events.select("id"))


def all_shops(events: DataFrame, shops: DataFrame) -> DataFrame:
    return shops.join(events, "kind", "left").select("id")  # here


def shops_right(events: DataFrame, shops: DataFrame) -> DataFrame:
    return events.join(shops, "kind", "right").select("id")  # here


def all_events(events: DataFrame, shops: DataFrame) -> DataFrame:
    return events.join(shops, "kind", "left").select("id")


def pairs(events: DataFrame, condition: str, how: str) -> DataFrame:
    return events.alias("a").join(events.alias("b"), F.expr(condition), how).select("a.id")


SAME = "a.id = b.id"
NEAR = f"{SAME} AND b.ts BETWEEN a.ts AND a.ts + INTERVAL 1 HOUR"


def anti_pairs(events: DataFrame) -> DataFrame:
    return events.alias("a").join(events.alias("b"), F.expr(NEAR), "left_anti").select("a.id")  # here


def inner_pairs(events: DataFrame) -> DataFrame:
    return pairs(events, NEAR, "inner")


def ordered_pairs(events: DataFrame) -> DataFrame:
    return events.alias("a").join(events.alias("b"), F.expr("a.n < b.n")).select("a.id")  # here


def outer_pairs(events: DataFrame) -> DataFrame:
    return events.alias("a").join(events.alias("b"), F.expr(SAME), "left").select("a.id")  # here


def outer_near_pairs(events: DataFrame) -> DataFrame:
    return pairs(events, NEAR, "left")


def outer_pairs_updated(events: DataFrame) -> DataFrame:
    return events.alias("a").join(events.alias("b"), F.expr(NEAR), "left").select("a.kind")  # here


JOIN_CASES = [
    Case("TR108", MARKED, intersected, inner_pairs),
    Case("TR109", MARKED, subtracted, plain),
    Case("TR109", WITH_SHOPS, subtracted_static, without_shop),
    Case("TR110", WITH_SHOPS, united_static, united),
    Case("TR111", WITH_SHOPS, all_shops, all_events),
    Case("TR111", WITH_SHOPS, shops_right, all_events),
    Case("TR112", MARKED, anti_pairs, inner_pairs),
    Case("TR113", MARKED, ordered_pairs, inner_pairs),
    Case("TR114", MARKED, outer_pairs, outer_near_pairs),
    Case("TR115", replace(TOTALS, sources=HOURLY.sources), outer_pairs_updated, outer_near_pairs, MARKED),
]
