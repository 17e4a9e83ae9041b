"""A table that another process makes is seen, also by a session that has asked for it while its log was empty."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from deltalake import write_deltalake
from pyspark.sql import SparkSession

from twinrun.tables.delta import read_table, table_exists


def test_a_table_that_was_being_made_when_it_was_asked_for_is_there_afterwards(
    spark_session: SparkSession, tmp_path: Path
) -> None:
    table = str(tmp_path / "table")
    assert not table_exists(spark_session, table)
    (tmp_path / "table" / "_delta_log").mkdir(parents=True)
    assert not table_exists(spark_session, table)
    write_deltalake(table, pa.table({"a": [1, 2, 3]}))
    assert table_exists(spark_session, table)
    assert read_table(spark_session, table).count() == 3
