"""Another engine's Parquet is read whole, and its folders' values in the types that the result declares."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyspark.sql import SparkSession

from tests.unit.tables.parquet_files import put
from twinrun.config.sections import ExternalBinding
from twinrun.errors import TableError
from twinrun.external.side import External, read_external

JOB: Any = SimpleNamespace(job_name="per_hour")


def test_folders_values_take_the_type_of_the_results_column_or_are_refused(
    spark_session: SparkSession, tmp_path: Path
) -> None:
    whole = spark_session.createDataFrame([], "hour TIMESTAMP, zip INT, origin STRING, v BIGINT, _run_id STRING")

    def read(name: str, **options: Any) -> External:
        binding = ExternalBinding(table=str(tmp_path / name), format="parquet", **options)
        config: Any = None
        return read_external(spark_session, config, JOB, binding, whole)

    put(tmp_path, "t/hour=2013-01-06 14%3A00%3A00/zip=2134/origin=007/x.parquet", v=[1])
    put(tmp_path, "t/hour=2013-01-06 14%3A00%3A00/zip=2134/origin=7/x.parquet", v=[2], extra=[3])
    found = read("t")
    assert found.rows.schema.simpleString() == "struct<v:bigint,extra:bigint,hour:timestamp,zip:int,origin:string>"
    rows = found.rows.selectExpr("v", "cast(hour as string)", "zip", "origin").collect()
    assert sorted(map(tuple, rows)) == [(1, "2013-01-06 14:00:00", 2134, "007"), (2, "2013-01-06 14:00:00", 2134, "7")]
    assert found.facts == (
        "Column extra is in 1 of 2 files (x.parquet), and null elsewhere.",
        "From folders' names: hour (timestamp), zip (int), origin (string).",
    )
    assert read("t", ignore=["extra"]).rows.columns == ["v", "hour", "zip", "origin"]
    put(tmp_path, "padded/zip=02134/x.parquet", v=[1])
    with pytest.raises(TableError, match=r"the folder zip=02134 of .* does not name a value of the result's column"):
        read("padded")
    assert read("padded", ignore=["zip"]).rows.columns == ["v"]
    with pytest.raises(TableError, match="names 'zpi', which neither result has"):
        read("padded", ignore=["zip", "zpi"])


def test_a_folder_of_a_delta_table_is_not_the_result(spark_session: SparkSession, tmp_path: Path) -> None:
    rows = spark_session.range(2).selectExpr("id AS v", "id AS p")
    rows.write.format("delta").partitionBy("p").save(str(tmp_path / "table"))
    whole = rows.limit(0)
    for kind in ("delta", "parquet"):
        binding = ExternalBinding.model_validate({"table": str(tmp_path / "table/p=0"), "format": kind})
        config: Any = None
        with pytest.raises(TableError, match=f"lies inside the Delta table {tmp_path}/table"):
            read_external(spark_session, config, JOB, binding, whole)
