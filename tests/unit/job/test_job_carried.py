"""Which keys of a result keep events of other values away from a row, as the plan shows it; and which only seem to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun import Job, Source
from twinrun.job.carried import carried

SCHEMA = "id STRING NOT NULL, at BIGINT NOT NULL, page STRING, amount INT, weight DOUBLE"
CLICKS = Source("clicks", schema=SCHEMA, event_time="at", lateness="10 seconds")
ORDERS = replace(CLICKS, name="orders")


def _visits(clicks: DataFrame, *by: Any) -> DataFrame:
    grouped = clicks.groupBy(*(by or ["page"]), F.session_window("at", "5 seconds")).agg(F.count(F.lit(1)).alias("n"))
    return grouped.withColumn("window_start", F.col("session_window.start")).drop("session_window")


def plain(clicks: DataFrame) -> DataFrame:
    return _visits(clicks)


def renamed(clicks: DataFrame) -> DataFrame:
    return _visits(clicks.withColumnRenamed("page", "where"), "where").withColumnRenamed("where", "page")


def filtered_exploded(clicks: DataFrame) -> DataFrame:
    several = clicks.filter("amount > 0").withColumn("_", F.explode(F.array(F.lit(1), F.lit(2))))
    return _visits(several)


def lowered(clicks: DataFrame) -> DataFrame:
    return _visits(clicks.withColumn("page", F.lower("page")))


def newest_page(clicks: DataFrame) -> DataFrame:
    """A column that is only named like the field."""
    grouped = clicks.groupBy("id", F.session_window("at", "5 seconds")).agg(F.max("page").alias("page"))
    return grouped.select("page", F.col("session_window.start").alias("window_start"))


def by_weight(clicks: DataFrame) -> DataFrame:
    return _visits(clicks.withColumn("page", F.col("weight")))


def once_by_id(clicks: DataFrame) -> DataFrame:
    """An id that another page had first keeps a click from this one."""
    return _visits(clicks.dropDuplicates(["id", "at"]))


def once_by_page(clicks: DataFrame) -> DataFrame:
    return _visits(clicks.dropDuplicates(["id", "page", "at"]))


def rolled_up(clicks: DataFrame) -> DataFrame:
    """The total of all pages has no page, and is made of every page's events."""
    grouped = clicks.rollup("page", "id").agg(F.count(F.lit(1)).alias("n"))
    return grouped.select("page", "n")


def sliding(clicks: DataFrame) -> DataFrame:
    grouped = clicks.groupBy("page", F.window("at", "20 seconds", "5 seconds")).agg(F.count(F.lit(1)).alias("n"))
    return grouped.select("page", F.col("window.start").alias("window_start"), "n")


def over_all(clicks: DataFrame) -> DataFrame:
    """The second aggregation takes rows of all pages together."""
    minutes = clicks.groupBy("page", F.window("at", "10 seconds")).agg(F.count(F.lit(1)).alias("n"))
    grouped = minutes.groupBy(F.window(F.window_time("window"), "20 seconds")).agg(F.max("page").alias("page"))
    return grouped.select("page", F.col("window.start").alias("window_start"))


def chained(clicks: DataFrame) -> DataFrame:
    minutes = clicks.groupBy("page", F.window("at", "10 seconds")).agg(F.count(F.lit(1)).alias("n"))
    grouped = minutes.groupBy("page", F.window(F.window_time("window"), "20 seconds")).agg(F.sum("n").alias("n"))
    return grouped.select("page", F.col("window.start").alias("window_start"), "n")


def in_python(clicks: DataFrame) -> DataFrame:
    @F.pandas_udf("int")
    def less_the_mean(amounts: pd.Series) -> pd.Series:
        return amounts - int(amounts.mean())

    return _visits(clicks.withColumn("amount", less_the_mean("amount"))).select("page", "window_start", "n")


def by_chance(clicks: DataFrame) -> DataFrame:
    return _visits(clicks.filter(F.rand() > 0.5))


def by_the_clock(clicks: DataFrame) -> DataFrame:
    return _visits(clicks.filter(F.col("at") < F.current_timestamp()))


def limited(clicks: DataFrame) -> DataFrame:
    return clicks.limit(10).select("id", "page")


def united(clicks: DataFrame, orders: DataFrame) -> DataFrame:
    return _visits(clicks.union(orders))


def united_crosswise(clicks: DataFrame, orders: DataFrame) -> DataFrame:
    """An order's id stands where a click's page does."""
    return _visits(clicks.select("id", "at", "page").union(orders.select("page", "at", "id")))


def with_itself_crosswise(clicks: DataFrame) -> DataFrame:
    """The id of a click stands for a page too: a row has events under either field."""
    return _visits(clicks.select("page", "at").union(clicks.select("id", "at")))


def _on(how: str, condition: str) -> Callable[..., DataFrame]:
    def joined(clicks: DataFrame, orders: DataFrame) -> DataFrame:
        both = F.expr(f"{condition} AND o.at BETWEEN c.at AND c.at + INTERVAL 30 SECONDS")
        side = "o" if how == "right" else "c"
        return clicks.alias("c").join(orders.alias("o"), both, how).select(f"{side}.page", f"{side}.id")

    return joined


def of_clicks(clicks: DataFrame, orders: DataFrame) -> DataFrame:
    """By page, of which the result shows nothing."""
    both = F.expr("c.page = o.page AND o.at BETWEEN c.at AND c.at + INTERVAL 30 SECONDS")
    return clicks.alias("c").join(orders.alias("o"), both, "left").select("c.id", "o.amount")


def of_orders(clicks: DataFrame, orders: DataFrame) -> DataFrame:
    """Under the id of an order, where there is one."""
    both = F.expr("c.page = o.page AND o.at BETWEEN c.at AND c.at + INTERVAL 30 SECONDS")
    return clicks.alias("c").join(orders.alias("o"), both, "left").select("o.id", "c.amount")


def right_named_by_the_left(clicks: DataFrame, orders: DataFrame) -> DataFrame:
    """Orders without a click come out under no page of a click."""
    both = F.expr("c.page = o.page AND c.at BETWEEN o.at AND o.at + INTERVAL 30 SECONDS")
    return clicks.alias("c").join(orders.alias("o"), both, "right").select("c.page", "o.id")


def priced(clicks: DataFrame, prices: DataFrame) -> DataFrame:
    return _visits(clicks.join(prices, "page", "left"))


SESSION: dict[str, Any] = {"keys": ["page", "window_start"], "gap": "5 seconds"}
ROWS: dict[str, Any] = {"keys": ["page", "id"]}
PAGE = {"page": {"clicks": "page"}}
BOTH = {"page": {"clicks": "page", "orders": "page"}}
MIXED = "no field of the events"
CASES: dict[str, tuple[Callable[..., DataFrame], dict[str, Any], Any]] = {
    "a session by a field": (plain, SESSION, PAGE),
    "under another name on the way": (renamed, SESSION, PAGE),
    "behind filters and explodes": (filtered_exploded, SESSION, PAGE),
    "an expression of the field": (lowered, SESSION, MIXED),
    "another column of that name": (newest_page, SESSION, MIXED),
    "a double": (by_weight, SESSION, MIXED),
    "de-duplicated without it": (once_by_id, SESSION, MIXED),
    "de-duplicated with it": (once_by_page, SESSION, PAGE),
    "a rollup": (rolled_up, {"keys": ["page"], "emit": "updates"}, MIXED),
    "sliding windows": (
        sliding,
        {"keys": ["page", "window_start"], "window": "20 seconds", "slide": "5 seconds"},
        PAGE,
    ),
    "a second aggregation over all": (
        over_all,
        {"keys": ["page", "window_start"], "window": "20 seconds"},
        MIXED,
    ),
    "a second aggregation by it": (chained, {"keys": ["page", "window_start"], "window": "20 seconds"}, PAGE),
    "a function that sees other rows": (in_python, SESSION, "functions in Python"),
    "random numbers": (by_chance, SESSION, "draws numbers"),
    "the clock": (by_the_clock, SESSION, "asks the clock"),
    "a limit": (limited, ROWS, "may let rows of different keys meet"),
    "a union": (united, SESSION, BOTH),
    "a union of other fields": (united_crosswise, SESSION, {"page": {"clicks": "page", "orders": "id"}}),
    "a union with itself of other fields": (with_itself_crosswise, SESSION, MIXED),
    "an inner join by it": (_on("inner", "c.page = o.page"), ROWS, BOTH),
    "a left join by it": (_on("left", "c.page = o.page"), ROWS, BOTH),
    "a right join by it": (_on("right", "c.page = o.page"), ROWS, BOTH),
    "a join by another field": (_on("inner", "c.id = o.id"), ROWS, {"id": {"clicks": "id", "orders": "id"}}),
    "a join by an expression": (_on("inner", "lower(c.page) = lower(o.page)"), ROWS, MIXED),
    "the side that an outer join pads": (right_named_by_the_left, ROWS, ("orders", {"id": "id"})),
    "a join by a field that is not in the result": (of_clicks, {"keys": ["id"]}, ("clicks", {"id": "id"})),
    "a key that a padded row lacks": (of_orders, {"keys": ["id"]}, MIXED),
    "a static table": (priced, SESSION, PAGE),
}


THROUGH = {"the side that an outer join pads", "a join by a field that is not in the result"}
"""Cases whose values are told by the events that have the result's key."""


@pytest.mark.parametrize("name", CASES)
def test_a_key_is_carried_only_if_no_event_of_another_value_can_reach_its_rows(
    spark_session: SparkSession, name: str
) -> None:
    logic, shape, expected = CASES[name]
    job = Job(logic, [CLICKS], name="j", **shape)
    if "orders" in job.parameters():
        job = replace(job, sources=[CLICKS, ORDERS])
    prices = spark_session.range(3).selectExpr("concat('p', id) AS page", "id AS price")
    found = carried(spark_session, job, {"prices": prices} if "prices" in job.parameters() else {})
    if name in THROUGH:
        assert (found.columns, found.through, found.why) == ({"field page": BOTH["page"]}, expected, "")
    elif isinstance(expected, str):
        assert found.columns == {}
        assert expected in found.why
    else:
        assert (found.columns, found.through, found.why) == (expected, None, "")


def test_what_a_source_de_duplicates_by_must_hold_the_key_too(spark_session: SparkSession) -> None:
    by_id = Job(plain, [replace(CLICKS, distinct=["id"])], **SESSION)
    assert carried(spark_session, by_id, {}).columns == {}
    by_both = Job(plain, [replace(CLICKS, distinct=["id", "page"])], **SESSION)
    assert carried(spark_session, by_both, {}).columns == PAGE
