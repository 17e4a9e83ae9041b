"""Which events reach the first operator with state and which move the watermark, by running Spark's own plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun import Job, Source
from twinrun.events.decode import event_schema
from twinrun.job.passing import EVERY, Passage, passages

CLICKS = Source(
    "clicks",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING, status INT, tags ARRAY<STRING>",
    event_time="at",
    lateness="10 seconds",
    id=["id"],
)
ROWS = [
    ("a", 1, "x", 200, ["r", "s"]),
    ("b", 2, "x", 404, []),
    ("c", 3, "y", 500, ["r"]),
    ("d", 4, None, 404, None),
    ("e", 65, "y", None, ["t"]),
    ("f", 130, "z", 404, ["r"]),
]
ALL = "abcdef"
Logic = Callable[..., DataFrame]


def _per_minute(clicks: DataFrame, *more: str) -> DataFrame:
    grouped = clicks.groupBy(*(more or ("page",)), F.window("at", "1 minute")).agg(F.count(F.lit(1)).alias("n"))
    return grouped.withColumn("window_start", F.col("window.start"))


def plain(clicks: DataFrame) -> DataFrame:
    return _per_minute(clicks.withColumn("page", F.upper("page")))


def filtered(clicks: DataFrame) -> DataFrame:
    return _per_minute(clicks.select("at", "page", "status").filter("status >= 400"))


def after(clicks: DataFrame) -> DataFrame:
    return _per_minute(clicks).filter("page <> 'x'")


def by_time(clicks: DataFrame) -> DataFrame:
    return _per_minute(clicks.filter("status >= 400 AND at < timestamp_seconds(100)"))


def exploded(clicks: DataFrame) -> DataFrame:
    return _per_minute(clicks.select("at", F.explode("tags").alias("tag")).filter("tag <> 's'"), "tag")


def exploded_outer(clicks: DataFrame) -> DataFrame:
    return _per_minute(clicks.select("at", F.explode_outer("tags").alias("tag")), "tag")


def known_pages(clicks: DataFrame, pages: DataFrame) -> DataFrame:
    return _per_minute(clicks.join(pages, "page"))


def other_pages(clicks: DataFrame, pages: DataFrame) -> DataFrame:
    return _per_minute(clicks.join(pages, "page", "left_anti"))


def named_pages(clicks: DataFrame, pages: DataFrame) -> DataFrame:
    return _per_minute(clicks.join(pages, "page", "left"))


def in_python(clicks: DataFrame) -> DataFrame:
    def is_error(status):  # type: ignore[no-untyped-def]
        return status is not None and status >= 400

    return _per_minute(clicks.filter(F.udf(is_error, "boolean")("status")))


def once(clicks: DataFrame) -> DataFrame:
    return _per_minute(clicks.dropDuplicates(["id", "at"]).filter("status >= 400"))


def both_kinds(clicks: DataFrame) -> DataFrame:
    return _per_minute(clicks.filter("status >= 500").union(clicks.filter("status < 400")))


def sliding(clicks: DataFrame) -> DataFrame:
    grouped = clicks.filter("status >= 400").groupBy("page", F.window("at", "1 minute", "20 seconds")).count()
    return grouped.withColumn("window_start", F.col("window.start"))


def projected(clicks: DataFrame) -> DataFrame:
    return clicks.filter("page = 'x' OR status = 500").select("id")


def by_chance(clicks: DataFrame) -> DataFrame:
    return _per_minute(clicks.filter(F.rand() > 0.5))


def by_the_clock(clicks: DataFrame) -> DataFrame:
    return _per_minute(clicks.filter("at > current_timestamp() - INTERVAL 1 DAY"))


def in_chunks(clicks: DataFrame) -> DataFrame:
    return _per_minute(clicks.mapInPandas(lambda chunks: chunks, clicks.schema))


@dataclass(frozen=True)
class Case:
    logic: Logic
    reach: str
    move: str = ALL
    moves_if: str = ""
    told: bool = True


CASES = [
    Case(plain, ALL),
    Case(filtered, "bcdf", "bcdf", "status >= 400"),
    Case(after, "cef", "cef", "NOT (page = 'x')"),
    Case(by_time, "bcd", "bcdf", "status >= 400"),
    Case(exploded, "acef", "acef", "size(tags) > 0"),
    Case(exploded_outer, ALL),
    Case(known_pages, "abf", "abcef", "page IS NOT NULL"),
    Case(other_pages, "cde"),
    Case(named_pages, ALL),
    Case(in_python, "bcdf", "bcdf", "is_error(status)"),
    Case(once, "bcdf"),
    Case(both_kinds, "ac"),
    Case(sliding, "bcdf", "bcdf", "status >= 400"),
    Case(projected, "abc", "abc", "(page = 'x') OR (status = 500)"),
    Case(by_chance, ALL, told=False),
    Case(by_the_clock, ALL, told=False),
    Case(in_chunks, ALL, told=False),
]


def events(spark: SparkSession) -> DataFrame:
    rows = [(*row, "clicks", 0, place, 0) for place, row in enumerate(ROWS)]
    names = "id STRING, at BIGINT, page STRING, status INT, tags ARRAY<STRING>, _topic STRING, _partition INT, "
    frame = spark.createDataFrame(rows, names + "_offset BIGINT, _kafka_timestamp BIGINT")
    times = {name: F.timestamp_seconds(name) for name in ("at", "_kafka_timestamp")}
    return frame.withColumns(times).withColumn("_mark", F.lit("m")).localCheckpoint()


def passage(spark: SparkSession, logic: Logic, source: Source = CLICKS) -> Passage:
    pages = spark.createDataFrame([("x", 1), ("x", 2), ("z", 3)], "page STRING, n INT")
    statics = {"pages": pages} if "pages" in logic.__annotations__ else {}
    return passages(spark, Job(logic, sources=[source], keys=["id"]), statics)[source.name]


def ids(frame: DataFrame) -> str:
    return "".join(sorted(row["id"] for row in frame.select("id", "_mark", "_offset").collect()))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.logic.__name__)
def test_the_plan_says_which_events_reach_the_operator_and_which_move_the_watermark(
    spark_session: SparkSession, case: Case
) -> None:
    found = passage(spark_session, case.logic)
    frame = events(spark_session)

    assert (found.told, found.moves_if) == (case.told, case.moves_if)
    assert ids(found.reaching(frame)) == (case.reach if case.told else ALL)
    assert ids(found.moving(frame)) == (case.move if case.told else ALL)
    assert found.moves_told == (case.logic is not both_kinds)
    assert found.all_reach == (case.reach == ALL and case.told)
    assert set(found.reaching(frame).columns) == set(frame.columns)


def test_what_spark_cannot_move_through_a_de_duplication_of_the_source_moves_no_watermark(
    spark_session: SparkSession,
) -> None:
    found = passage(spark_session, filtered, replace(CLICKS, distinct=["id"]))

    assert (found.all_move, found.moves_if) == (True, "")
    assert ids(found.reaching(events(spark_session))) == "bcdf"


def test_a_source_without_lateness_has_no_watermark_to_move(spark_session: SparkSession) -> None:
    found = passage(spark_session, projected, replace(CLICKS, lateness=None))

    assert (found.all_move, found.moves_if) == (True, "")
    assert ids(found.reaching(events(spark_session))) == "abc"


def test_each_source_of_a_join_has_a_way_of_its_own(spark_session: SparkSession) -> None:
    def joined(clicks: DataFrame, orders: DataFrame) -> DataFrame:
        on = F.expr("c.id = o.id AND o.at BETWEEN c.at AND c.at + INTERVAL 30 SECONDS")
        return clicks.alias("c").join(orders.filter("status >= 400").alias("o"), on).select("c.id")

    orders = replace(CLICKS, name="orders")
    found = passages(spark_session, Job(joined, sources=[CLICKS, orders], keys=["id"]), {})
    frame = events(spark_session)

    assert found["clicks"].reaching(frame) is frame
    assert ids(found["orders"].reaching(frame)) == "bcdf"
    assert found["orders"].moves_if == "status >= 400"


def test_of_a_union_only_the_side_that_is_filtered_loses_events(spark_session: SparkSession) -> None:
    def together(clicks: DataFrame, orders: DataFrame) -> DataFrame:
        return _per_minute(clicks.union(orders.filter("status >= 400")))

    orders = replace(CLICKS, name="orders")
    found = passages(spark_session, Job(together, sources=[CLICKS, orders], keys=["page"]), {})

    assert found["clicks"].all_reach
    assert ids(found["orders"].reaching(events(spark_session))) == "bcdf"


def test_where_nothing_stands_in_the_way_the_events_are_the_very_frame(spark_session: SparkSession) -> None:
    frame = events(spark_session)

    assert EVERY.reaching(frame) is frame
    assert passage(spark_session, plain).reaching(frame) is frame


def test_the_columns_of_a_passage_are_those_of_the_events(spark_session: SparkSession) -> None:
    names = {field.name for field in event_schema(CLICKS)}
    assert names <= set(events(spark_session).columns)
