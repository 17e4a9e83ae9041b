"""compare reads Delta and Parquet, by path and by catalog name, and says which version it read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from twinrun.comparator.references import Asked, compare_tables
from twinrun.errors import TableError

ASKED = Asked(keys=("k",), window=None, ready_until=None, tolerances={}, ignore=("_run_id",), full=False)


@pytest.fixture
def tables(spark_session: SparkSession, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Equal rows in four kinds of table, and one with another value; the lineage columns differ everywhere."""
    rows = spark_session.createDataFrame([("a", 1, "r1"), ("b", 2, "r1")], "k STRING, v INT, _run_id STRING")
    other = spark_session.createDataFrame([("a", 1, "r2"), ("b", 3, "r2")], "k STRING, v INT, _run_id STRING")
    for kind in ("delta", "parquet"):
        rows.coalesce(1).write.format(kind).save(str(tmp_path / kind))
        rows.coalesce(1).write.format(kind).option("path", str(tmp_path / f"named_{kind}")).saveAsTable(f"cli_{kind}")
    other.coalesce(1).write.format("delta").mode("overwrite").save(str(tmp_path / "other"))
    yield {kind: str(tmp_path / kind) for kind in ("delta", "parquet", "other")}
    for kind in ("delta", "parquet"):
        spark_session.sql(f"DROP TABLE cli_{kind}")


def test_every_kind_of_table(spark_session: SparkSession, tables: dict[str, str]) -> None:
    def compared(batch: str, stream: str) -> Any:
        found, notes = compare_tables(spark_session, None, (batch, stream), ASKED)
        assert all(each.facts == ("column _run_id is not compared",) for each in notes)
        return found.verdict, *(each.note for each in notes)

    plain = "Parquet, 1 file, no versions"
    assert compared(tables["delta"], tables["parquet"]) == ("equal", "Delta, version 0", plain)
    named = ("spark_catalog.default.cli_delta", "spark_catalog.default.cli_parquet")
    assert compared(*named) == ("equal", "Delta, version 0", "no versions")
    assert compared(f"file:{tables['delta']}", tables["other"])[0] == "different"
    for form in ("file:", "file://"):
        assert compared(f"{form}{tables['parquet']}", tables["delta"])[0] == "equal"


def test_what_cannot_be_read_is_one_sentence(
    spark_session: SparkSession, tables: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(TableError, match="no Delta table at spark_catalog"):
        compare_tables(spark_session, None, (tables["delta"], "spark_catalog.default.none"), ASKED)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TableError, match="there is no Parquet file in"):
        compare_tables(spark_session, None, (tables["delta"], str(tmp_path / "empty")), ASKED)
