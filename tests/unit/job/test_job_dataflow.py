"""Which operator drops late events first, and whether a closed form gives the stream's rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun import Job, Source
from twinrun.job.dataflow import LateRule, dataflow

LEFT = Source("left", schema="k STRING NOT NULL, at BIGINT NOT NULL, v INT", event_time="at", lateness="10 seconds")
RIGHT = Source("right", schema="k STRING NOT NULL, at BIGINT NOT NULL, v INT", event_time="at", lateness="10 seconds")
MINUTE = LateRule("window", 60_000_000, 60_000_000)
TIME = LateRule("time")


def tumbling(left: DataFrame) -> DataFrame:
    return left.groupBy("k", F.window("at", "1 minute")).count().select("k", F.col("window.start").alias("w"), "count")


def session(left: DataFrame) -> DataFrame:
    grouped = left.groupBy("k", F.session_window("at", "5 seconds")).count()
    return grouped.select("k", F.col("session_window.start").alias("w"), "count")


def distinct_then_window(left: DataFrame) -> DataFrame:
    return tumbling(left.dropDuplicates(["k", "at"]))


def window_then_window(left: DataFrame) -> DataFrame:
    inner = left.groupBy("k", F.window("at", "10 seconds")).count()
    outer = inner.groupBy("k", F.window(F.window_time("window"), "1 minute")).agg(F.sum("count").alias("n"))
    return outer.select("k", F.col("window.start").alias("w"), "n")


def distinct(left: DataFrame) -> DataFrame:
    return left.dropDuplicates(["k", "at"]).select("k", "at", "v")


def stateless(left: DataFrame) -> DataFrame:
    return left.filter("v > 1").select("k", "v")


def joined(left: DataFrame, right: DataFrame) -> DataFrame:
    on = F.expr("l.k = r.k AND r.at BETWEEN l.at AND l.at + INTERVAL 5 SECONDS")
    return left.alias("l").join(right.alias("r"), on).select("l.k", F.col("l.at").alias("w"), "r.v")


def unioned(left: DataFrame, right: DataFrame) -> DataFrame:
    return tumbling(left.unionByName(right))


def per_micro_batch(left: DataFrame) -> DataFrame:
    def first(frame: Any) -> Any:
        return frame.head(1)

    return left.select("k", "v").groupBy("k").applyInPandas(first, "k STRING, v INT")


CASES: list[tuple[Callable[..., DataFrame], dict[str, Any], tuple[str, ...], dict[str, LateRule], bool]] = [
    (tumbling, {"window": "1 minute", "window_column": "w"}, ("Aggregate",), {"left": MINUTE}, True),
    (
        session,
        {"gap": "5 seconds", "window_column": "w"},
        ("Aggregate",),
        {"left": LateRule("session", gap_us=5_000_000)},
        False,
    ),
    (
        distinct_then_window,
        {"window": "1 minute", "window_column": "w"},
        ("Aggregate", "Deduplicate"),
        {"left": TIME},
        False,
    ),
    (
        window_then_window,
        {"window": "1 minute", "window_column": "w"},
        ("Aggregate", "Aggregate"),
        {"left": LateRule("window", 10_000_000, 10_000_000)},
        False,
    ),
    (distinct, {}, ("Deduplicate",), {"left": TIME}, False),
    (stateless, {}, (), {"left": LateRule("none")}, True),
    (joined, {}, ("Join",), {"left": TIME, "right": TIME}, False),
    (unioned, {"window": "1 minute", "window_column": "w"}, ("Aggregate",), {"left": MINUTE, "right": MINUTE}, False),
    (per_micro_batch, {}, ("FlatMapGroupsInPandas",), {"left": LateRule("none")}, False),
]


@pytest.mark.parametrize(("logic", "grain", "operators", "rules", "closed"), CASES, ids=[c[0].__name__ for c in CASES])
def test_the_first_stateful_operator_gives_the_rule(
    spark_session: SparkSession,
    logic: Callable[..., DataFrame],
    grain: dict[str, Any],
    operators: tuple[str, ...],
    rules: dict[str, LateRule],
    closed: bool,
) -> None:
    sources = [source for source in (LEFT, RIGHT) if source.name in rules]
    flow = dataflow(spark_session, Job(logic, sources=sources, keys=["k"], **grain), {})
    assert flow.operators == operators
    assert flow.rules == rules
    assert flow.closed_form is closed


def test_without_a_watermark_nothing_is_late(spark_session: SparkSession) -> None:
    source = Source("left", schema=LEFT.schema, event_time="at")
    job = Job(tumbling, sources=[source], keys=["k", "w"], window="1 minute", window_column="w", emit="updates")
    flow = dataflow(spark_session, job, {})
    assert flow.rules == {"left": LateRule("none")}
    assert not flow.drops_late
