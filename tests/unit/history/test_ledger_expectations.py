"""Thresholds on the ledger are expectations of Great Expectations, and are broken by what should break them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from pyspark.sql import DataFrame, SparkSession

from twinrun.quality.expect import check_expectations, check_ledger

COLUMNS = "window_start string, verdict string, rows bigint, rows_equal bigint, rows_unexplained bigint"


def windows(spark: SparkSession, *rows: tuple[str, int, int, int]) -> DataFrame:
    named = [(f"w{place}", *row) for place, row in enumerate(rows)]
    return spark.createDataFrame(named, COLUMNS)


SOUND = (("equal", 998, 998, 0), ("explained", 2, 1, 0), ("pending", 40, 0, 0))


def test_999_of_1000_rows_are_complete_enough_and_998_are_not(spark_session: SparkSession) -> None:
    enough = check_ledger(windows(spark_session, *SOUND), 0.999)
    assert [found.success for found in enough] == [True, True]
    less = check_ledger(windows(spark_session, ("equal", 998, 998, 0), ("explained", 2, 0, 0)), 0.999)
    assert [found.success for found in less] == [True, False]
    assert less[1].observed == "observed 0.998"
    assert {found.table for found in less} == {"ledger"}


def test_one_unexplained_row_breaks_its_expectation_however_many_are_equal(spark_session: SparkSession) -> None:
    (found,) = check_ledger(windows(spark_session, *SOUND, ("unexplained", 1, 0, 1)), None)
    assert (found.success, found.expectation) == (
        False,
        "rows_unexplained is 0",
    )


@pytest.mark.parametrize("rows", [(), (("pending", 5, 0, 0),)], ids=["no window", "only open windows"])
def test_nothing_compared_is_never_complete(
    spark_session: SparkSession, rows: tuple[tuple[str, int, int, int]]
) -> None:
    found = check_ledger(windows(spark_session, *rows), 0.5)
    assert [each.success for each in found] == [True, False]


def test_a_suite_is_a_few_aggregates_over_a_table_and_keeps_its_order(spark_session: SparkSession) -> None:
    """Also where one stands twice; only what fails is asked for examples."""

    def wanted() -> list[Any]:
        from great_expectations import expectations as gxe

        one = gxe.ExpectColumnValuesToNotBeNull(column="verdict")
        return [
            one,
            gxe.ExpectColumnMaxToBeBetween(column="rows", min_value=0, max_value=2_000),
            gxe.ExpectTableRowCountToBeBetween(min_value=0),
            gxe.ExpectColumnValuesToBeBetween(column="rows", min_value=0, max_value=2_000),
            gxe.ExpectColumnValuesToBeInSet(column="verdict", value_set=["equal", "explained"], mostly=0.5),
            one,
        ]

    job = cast(Any, SimpleNamespace(expect=wanted, job_name="j"))
    frame = windows(spark_session, *SOUND).localCheckpoint()
    tracker = spark_session.sparkContext.statusTracker()
    spark_session.sparkContext.setJobGroup("expectations", "expectations")
    try:
        found = check_expectations(job, {"batch": frame})
        jobs = len(tracker.getJobIdsForGroup("expectations"))
    finally:
        spark_session.sparkContext._jsc.clearJobGroup()
    assert [each.observed for each in found] == [
        "0 of 3 rows do not hold",
        "observed 998",
        "observed 3",
        "0 of 3 rows do not hold",
        "1 of 3 rows do not hold, such as ['pending']",
        "0 of 3 rows do not hold",
    ]
    assert all(each.success for each in found)
    # Three for all of them, and the rest for the one that may fail for some rows.
    assert jobs <= 8, jobs


def test_what_cannot_be_evaluated_says_so_and_why(spark_session: SparkSession) -> None:
    """A misspelt column, of an expectation on the whole column and of one on each row."""

    def wanted() -> list[Any]:
        from great_expectations import expectations as gxe

        return [
            gxe.ExpectColumnMaxToBeBetween(column="rwos", min_value=0, max_value=2_000),
            gxe.ExpectColumnValuesToNotBeNull(column="rwos"),
        ]

    job = cast(Any, SimpleNamespace(expect=wanted, job_name="j"))
    found = check_expectations(job, {"batch": windows(spark_session, *SOUND)})
    assert [each.success for each in found] == [False, False]
    for each in found:
        assert each.observed.startswith("could not be checked: "), each.observed
        assert "rwos" in each.observed
