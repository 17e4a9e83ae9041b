"""Which record makes a function fail: found by halving and proven alone, or honestly not found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun import Job, Source, Table
from twinrun.errors import QueryError
from twinrun.results.culprit import Culprit, find_culprit, record_named
from twinrun.session.spark import _quiet_pyspark

SCHEMA = "id STRING NOT NULL, at BIGINT NOT NULL, a INT, b INT, text STRING, big BIGINT"
EVENTS = Source("events", schema=SCHEMA, event_time="at", id=["id"])
OTHERS = Source("others", schema=SCHEMA, event_time="at", id=["id"])
SEEN = (
    "id STRING, at TIMESTAMP, a INT, b INT, text STRING, big BIGINT, _topic STRING, _partition INT, _offset BIGINT, "
    "_kafka_timestamp TIMESTAMP"
)
COUNT = 11
"""Events in each of two partitions; offsets begin at 100, and every third one is missing."""


@pytest.fixture(autouse=True)
def _quiet() -> None:
    _quiet_pyspark()


def events(spark: SparkSession, changed: dict[tuple[int, int], dict[str, Any]], topic: str = "t") -> DataFrame:
    rows = []
    for partition in (0, 1):
        for place in range(COUNT):
            offset = 100 + place + place // 2
            cells = {"a": 4, "b": 2, "text": "2024", "big": 5, **changed.get((partition, place), {})}
            name = f"{partition}-{place}"
            rows.append((name, None, *cells.values(), topic, partition, offset, None))
    at = F.timestamp_millis(F.lit(1_704_067_200_000) + F.col("_offset"))
    return spark.createDataFrame(rows, SEEN).withColumns({"at": at, "_kafka_timestamp": at})


def divided(events: DataFrame) -> DataFrame:
    return events.select(
        "id",
        F.col("a") / F.col("b"),
    )


def as_number(events: DataFrame) -> DataFrame:
    return events.filter(F.col("b") > 0).select("id", F.col("text").cast("int").alias("n"))


def as_date(events: DataFrame) -> DataFrame:
    return events.select("id", F.to_date("text", "yyyy").alias("day"))


def in_sql(events: DataFrame) -> DataFrame:
    return events.selectExpr("id", "a div b AS q")


def summed(events: DataFrame) -> DataFrame:
    return events.groupBy().agg(F.sum("big").alias("big"))


def in_python(events: DataFrame) -> DataFrame:
    inverse = F.udf(lambda b: 1 // b, "int")
    return events.select("id", inverse("b").alias("n"))


def asserted(events: DataFrame) -> DataFrame:
    return events.filter(F.assert_true(F.col("b") != 0, "b is 0").isNull()).select("id")


def of_both(events: DataFrame, others: DataFrame) -> DataFrame:
    same = events.alias("e").join(others.alias("o"), "id")
    return same.select("id", F.col("e.a") / F.col("o.b"))


def of_table(events: DataFrame, rates: DataFrame) -> DataFrame:
    return events.crossJoin(rates.select((F.lit(1) / F.col("rate")).alias("inverse")))


def job(logic: Callable[..., DataFrame], *sources: Source, **more: Any) -> Job:
    return Job(logic, sources=list(sources or (EVENTS,)), keys=["id"], **more)


def line_in(logic: Callable[..., DataFrame], text: str) -> int:
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    first = logic.__code__.co_firstlineno
    return next(number for number in range(first, first + 10) if text in lines[number - 1])


def found(spark: SparkSession, logic: Callable[..., DataFrame], changed: dict[tuple[int, int], Any]) -> Culprit:
    return find_culprit(spark, job(logic), {"events": events(spark, changed)}, {})


@pytest.mark.parametrize(
    ("logic", "cells", "condition", "text"),
    [
        (divided, {"b": 0}, "DIVIDE_BY_ZERO", "/ F.col"),
        (as_number, {"text": "x"}, "CAST_INVALID_INPUT", ".cast"),
        (as_date, {"text": "x"}, "CANNOT_PARSE_TIMESTAMP", ""),
        (in_sql, {"b": 0}, "DIVIDE_BY_ZERO", "a div b"),
        (asserted, {"b": 0}, "USER_RAISED_EXCEPTION", ""),
        (in_python, {"b": 0}, "PYTHON", ""),
    ],
)
def test_the_record_that_fails_alone_is_named_with_its_line(
    logic: Callable[..., DataFrame], cells: dict[str, Any], condition: str, text: str, spark_session: SparkSession
) -> None:
    culprit = found(spark_session, logic, {(1, 4): cells})

    (record,) = culprit.records
    assert (record.place, record.id, record.event_time_ms) == ("t:1:106", '{"id":"1-4"}', 1_704_067_200_106)
    assert culprit.failure is not None
    assert (culprit.failure.condition, culprit.more) == (condition, False)
    assert culprit.runs <= 8
    if text:
        assert culprit.line == line_in(logic, text)


def test_of_several_one_is_named_and_that_there_are_more(spark_session: SparkSession) -> None:
    culprit = found(spark_session, as_number, {(0, 3): {"text": "x"}, (1, 9): {"text": "3000000000"}})

    assert [record.place for record in culprit.records] == ["t:0:104"]
    assert culprit.more


def test_where_no_record_fails_alone_the_first_one_too_many_is_named(spark_session: SparkSession) -> None:
    half = 2**62
    culprit = found(spark_session, summed, {(0, 2): {"big": half}, (1, 1): {"big": half}})

    assert culprit.records == ()
    assert culprit.tipping is not None
    assert (culprit.tipping.place, culprit.before) == ("t:1:101", COUNT + 1)


def test_two_records_that_fail_together_are_both_named(spark_session: SparkSession) -> None:
    frames = {
        "events": events(spark_session, {}),
        "others": events(spark_session, {(0, 7): {"b": 0}}, "o"),
    }
    culprit = find_culprit(spark_session, job(of_both, EVENTS, OTHERS), frames, {})

    assert [record.place for record in culprit.records] == ["t:0:110", "o:0:110"]


def test_no_record_is_blamed_for_a_row_of_a_table(spark_session: SparkSession) -> None:
    rates = spark_session.range(1).select((F.col("id") * 0).alias("rate"))
    with_table = job(of_table, tables=[Table("rates")])
    empty = find_culprit(spark_session, with_table, {"events": events(spark_session, {})}, {"rates": rates})

    assert empty.records == ()
    assert "without any event" in empty.note


def test_no_record_is_blamed_where_nothing_fails(spark_session: SparkSession) -> None:
    culprit = found(spark_session, divided, {})

    assert (culprit.records, culprit.tipping) == ((), None)
    assert "over these events alone" in culprit.note


def told(spark: SparkSession, logic: Callable[..., DataFrame], changed: dict[tuple[int, int], Any]) -> str:
    frames = {"events": events(spark, changed)}
    with (
        pytest.raises(QueryError) as raised,
        record_named(spark, job(logic), "the batch run of x", lambda: (frames, {})),
    ):
        logic(frames["events"]).write.format("noop").mode("overwrite").save()
    return raised.value.sentence()


def test_the_error_is_plain_and_says_what_to_do(spark_session: SparkSession) -> None:
    said = told(spark_session, divided, {(1, 4): {"b": 0}})

    line = line_in(divided, "/ F.col")
    assert said == (
        f"the batch run of x failed in line {line} of test_culprit.py: Division by zero (DIVIDE_BY_ZERO). The function "
        "fails on this record alone: topic t, partition 1, offset 106, event time 2024-01-01T00:00:00.106Z, id "
        '{"id":"1-4"}.\n'
        "  expected: a function that gives a value, or null, for every valid record\n"
        "  to fix: write F.try_divide(a, b) (a changed function needs: twinrun stream divided --new-checkpoint); or "
        "leave the record out of both modes: twinrun quarantine divided --add t:1:106 --why TEXT"
    )


def test_other_failures_pass_as_they_are(spark_session: SparkSession) -> None:
    def unused() -> Any:
        raise AssertionError

    with pytest.raises(ValueError, match="none of it"), record_named(spark_session, job(divided), "x", unused):
        raise ValueError("none of it")


def test_a_search_that_fails_does_not_hide_what_it_is_about(spark_session: SparkSession) -> None:
    def broken() -> Any:
        raise RuntimeError("no Kafka")

    frame = divided(events(spark_session, {(0, 0): {"b": 0}}))
    with (
        pytest.raises(QueryError, match=r"Division by zero.*No record is named: the search for it failed"),
        record_named(spark_session, job(divided), "the batch run of x", broken),
    ):
        frame.write.format("noop").mode("overwrite").save()
