"""Every rule finds its fault on its line, with its name; what is near it and sound is not blamed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from lint_base import HOURLY, Case, hour, hourly, linted, marked_line, of_rule
from lint_differs_jobs import DIFFERS_CASES, UNMARKED_HOURS, marked_count, of_one_kind
from lint_fails_jobs import FAILS_CASES
from lint_joins_jobs import JOIN_CASES
from lint_order_jobs import ORDER_CASES
from lint_refused_jobs import REFUSED_CASES
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun import Job, Table
from twinrun.lint.lint import Reading, lint_job
from twinrun.lint.result import LintResult
from twinrun.lint.rules import RULES

CASES = [*REFUSED_CASES, *JOIN_CASES, *DIFFERS_CASES, *ORDER_CASES, *FAILS_CASES]
SOUND: dict[Any, LintResult] = {}
"""What was linted already: many rules share a sound job."""

OF_SETTINGS = {"TR212"}
"""What the configuration decides, and no function."""
UNREACHED = {"TR199"}
"""What Spark 4.2 refuses has a rule of its own; this one is for sentences of later versions."""


@contextmanager
def settings(spark: SparkSession, wanted: tuple[tuple[str, str], ...]) -> Iterator[None]:
    before = {key: spark.conf.get(key) for key, _ in wanted}
    for key, value in wanted:
        spark.conf.set(key, value)
    try:
        yield
    finally:
        for key, value in before.items():
            spark.conf.set(key, str(value))


@pytest.fixture(scope="module", autouse=True)
def shops(spark_session: SparkSession) -> Iterator[None]:
    spark_session.sql("CREATE TABLE IF NOT EXISTS lint_shops (kind STRING) USING parquet")
    yield
    spark_session.sql("DROP TABLE lint_shops")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_rule_finds_its_fault_on_its_line(spark_session: SparkSession, case: Case) -> None:
    with settings(spark_session, case.session):
        result = linted(spark_session, case.base, case.bad)

    found = of_rule(result, case.rule)
    assert found, result.findings
    assert {finding.line for finding in found} == {marked_line(case.bad)}
    assert {finding.severity for finding in found} == {RULES[case.rule].severity}
    assert result.exit_code() == (case.rule < "TR2")
    assert spark_session.streams.active == []


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_near_it_and_sound_is_not_blamed(spark_session: SparkSession, case: Case) -> None:
    base = case.good_base or case.base
    if (case.good, id(base)) not in SOUND:
        SOUND[case.good, id(base)] = linted(spark_session, base, case.good)
    result = SOUND[case.good, id(base)]

    assert of_rule(result, case.rule) == []
    assert result.exit_code() == 0


def test_every_rule_has_a_case() -> None:
    assert {case.rule for case in CASES} | UNREACHED | OF_SETTINGS == set(RULES)


def test_records_per_trigger_are_told_of_where_they_come_from_several_partitions(spark_session: SparkSession) -> None:
    def details(reading: Reading | None, base: Job = HOURLY) -> list[str]:
        job = replace(base, logic=marked_count)
        return [each.detail for each in of_rule(lint_job(spark_session, job, {}, reading), "TR212")]

    assert details(Reading(6)) == ["source events, 6 per trigger"]
    assert details(Reading(6, {"events": {0: 5, 1: 4}})) == [
        "source events, 6 per trigger, 9 records wait on 2 partitions"
    ]
    assert details(Reading(9, {"events": {0: 5, 1: 4}})) == []
    assert details(Reading(6, {"events": {0: 9, 1: 0}})) == []
    assert details(None) == []
    assert details(Reading(6), UNMARKED_HOURS) == []


def test_what_spark_applies_before_the_watermark_is_named(spark_session: SparkSession) -> None:
    def at_shops(events: DataFrame, shops: DataFrame) -> DataFrame:
        known = events.join(shops.select("name"), F.col("dest") == F.col("name"))  # here
        return hourly(known.groupBy("kind", hour()).agg(F.count(F.lit(1)).alias("n")), "n")

    (filtered,) = of_rule(linted(spark_session, HOURLY, of_one_kind), "TR203")
    (implied,) = of_rule(linted(spark_session, replace(HOURLY, tables=[Table("shops")]), at_shops), "TR203")

    assert filtered.detail == "source events: (n + 1) > 3"
    assert (implied.line, implied.detail) == (marked_line(at_shops), "source events: dest IS NOT NULL")
