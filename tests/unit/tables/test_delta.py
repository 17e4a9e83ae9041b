"""Tables to which several jobs write at the same time: nobody fails for another's commit, and no row is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from twinrun.errors import QueryError
from twinrun.tables.delta import append, read_table, replace_part, replace_rows, rows_written

JOBS = ("a", "b", "c")


def test_jobs_replace_their_own_rows_at_the_same_time_in_a_table_that_none_has_made_before(
    spark_session: SparkSession, tmp_path: Path
) -> None:
    ref = str(tmp_path / "shared")

    def verifies(job: str) -> None:
        for n in range(3):
            replace_part(spark_session.createDataFrame([(job, n)], "job STRING, n INT"), ref, f"job = '{job}'")

    with ThreadPoolExecutor(len(JOBS)) as pool:
        list(pool.map(verifies, JOBS))
    assert sorted(tuple(row) for row in read_table(spark_session, ref).collect()) == [(job, 2) for job in JOBS]


def test_rows_that_a_replaced_part_leaves_as_they_were_are_not_called_written(
    spark_session: SparkSession, tmp_path: Path
) -> None:
    """Delta writes the whole file anew, and counts all of its rows as output."""
    ref = str(tmp_path / "results")
    rows = [(job, n) for n, job in enumerate(JOBS)]
    append(spark_session.createDataFrame(rows, "job STRING, n INT").coalesce(1), ref)
    assert rows_written(spark_session, ref, None) == 3
    replace_part(spark_session.createDataFrame([("b", 7)], "job STRING, n INT"), ref, "job = 'b'")
    assert rows_written(spark_session, ref, 0) == 1
    assert sorted(tuple(row) for row in read_table(spark_session, ref).collect()) == [("a", 0), ("b", 7), ("c", 2)]


def test_what_is_no_conflict_is_not_tried_again(spark_session: SparkSession, tmp_path: Path) -> None:
    ref = str(tmp_path / "shared")
    append(spark_session.createDataFrame([("a", 1)], "job STRING, n INT"), ref)
    other = spark_session.createDataFrame([("a", "text")], "job STRING, m STRING")
    with pytest.raises(QueryError, match="METADATA_MISMATCH"):
        replace_part(other, ref, "job = 'a'")
    with pytest.raises(QueryError, match="job"):  # a row that does not fit what is replaced
        replace_rows(spark_session.createDataFrame([("b", 1)], "job STRING, n INT"), ref, where="job = 'a'")
    assert [tuple(row) for row in read_table(spark_session, ref).collect()] == [("a", 1)]
