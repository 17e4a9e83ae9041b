"""Every rule finds its fault on its line, with its name; what is near it and sound is not blamed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from lint_base import Case, linted, marked_line, of_rule
from lint_differs_jobs import DIFFERS_CASES
from lint_joins_jobs import JOIN_CASES
from lint_order_jobs import ORDER_CASES
from lint_refused_jobs import REFUSED_CASES
from pyspark.sql import SparkSession

from twinrun.lint.result import LintResult
from twinrun.lint.rules import RULES

CASES = [*REFUSED_CASES, *JOIN_CASES, *DIFFERS_CASES, *ORDER_CASES]
SOUND: dict[Any, LintResult] = {}
"""What was linted already: many rules share a sound job."""

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
    assert {case.rule for case in CASES} | UNREACHED == set(RULES)
