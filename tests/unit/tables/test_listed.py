"""Tables whose files are listed once: the same rows as Delta's own reading, at one moment, with fewer Spark jobs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.errors import TwinrunError
from twinrun.tables import listed
from twinrun.tables.delta import append, read_table
from twinrun.tables.listed import list_together, listed_once

KINDS = {
    "plain": {},
    "deletion vectors": {"delta.enableDeletionVectors": "true"},
    "columns by other names in the files": {"delta.columnMapping.mode": "name"},
}


def _rows(spark: SparkSession, low: int, high: int) -> DataFrame:
    return spark.range(low, high, 1, 1).select("id", (F.col("id") % 3).alias("part"), F.lit("x").alias("text"))


def _made(spark: SparkSession, path: Path, properties: dict[str, str]) -> str:
    writer = _rows(spark, 0, 20).write.format("delta").partitionBy("part")
    for name, value in properties.items():
        writer = writer.option(name, value)
    writer.save(str(path))
    append(_rows(spark, 20, 30), str(path))
    DeltaTable.forPath(spark, str(path)).delete("id in (3, 4, 25)")
    return str(path)


@pytest.mark.parametrize("kind", KINDS)
def test_the_rows_are_those_of_delta_at_every_version(spark_session: SparkSession, tmp_path: Path, kind: str) -> None:
    ref = _made(spark_session, tmp_path / "t", KINDS[kind])
    for version in (None, 0, 1, 2):
        wanted = read_table(spark_session, ref, version)
        with listed_once([ref]):
            found = read_table(spark_session, ref, version)
            assert found.schema == wanted.schema
            assert sorted(found.collect()) == sorted(wanted.collect())
            narrow = found.filter("part = 1 and id > 8").select("id")
            assert sorted(narrow.collect()) == sorted(wanted.filter("part = 1 and id > 8").select("id").collect())
            # Two reads of one table are two frames.
            other = read_table(spark_session, ref, version)
            assert found.join(other, found["id"] == other["id"]).count() == wanted.count()


def test_a_query_over_a_listed_table_is_one_spark_job(spark_session: SparkSession, tmp_path: Path) -> None:
    ref = _made(spark_session, tmp_path / "t", {})
    context = spark_session.sparkContext
    with listed_once([ref]):
        read_table(spark_session, ref)
        context.setJobGroup("listed", "queries of a listed table")
        try:
            for _ in range(3):
                read_table(spark_session, ref).filter("id > 5").collect()
        finally:
            context.setLocalProperty("spark.jobGroup.id", None)  # type: ignore[arg-type]
    assert len(context.statusTracker().getJobIdsForGroup("listed")) == 3


def test_all_reads_of_a_block_see_the_moment_of_the_first(spark_session: SparkSession, tmp_path: Path) -> None:
    ref = _made(spark_session, tmp_path / "t", {})
    with listed_once([ref]):
        first = read_table(spark_session, ref).count()
        append(_rows(spark_session, 100, 101), ref)
        assert read_table(spark_session, ref).count() == first
        with listed_once([ref]):
            assert read_table(spark_session, ref).count() == first + 1
    assert read_table(spark_session, ref).count() == first + 1


def test_what_cannot_be_listed_is_read_or_refused_as_ever(
    spark_session: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = _made(spark_session, tmp_path / "t", {})
    with listed_once([ref, str(tmp_path / "none")]):
        with pytest.raises(TwinrunError, match="no Delta table"):
            read_table(spark_session, str(tmp_path / "none"))
        with pytest.raises(TwinrunError, match="99"):
            read_table(spark_session, ref, 99)
    monkeypatch.setattr(listed, "MOST_FILES", 2)
    with listed_once([ref]):
        assert listed.files_once(spark_session, ref, None) is None
        assert read_table(spark_session, ref).count() == 27


def test_several_tables_are_listed_in_one_spark_job(spark_session: SparkSession, tmp_path: Path) -> None:
    one = _made(spark_session, tmp_path / "one", {})
    other = _made(spark_session, tmp_path / "other", KINDS["deletion vectors"])
    empty = str(tmp_path / "empty")
    append(_rows(spark_session, 0, 0), empty)
    context = spark_session.sparkContext
    with listed_once([one, other, empty, str(tmp_path / "none")]):
        context.setJobGroup("together", "listings and queries")
        try:
            wanted = [(one, None), (one, 2), (other, 1), (other, None), (empty, None), (str(tmp_path / "none"), None)]
            list_together(spark_session, wanted)
            assert len(context.statusTracker().getJobIdsForGroup("together")) == 1
            counts = [read_table(spark_session, ref, version).count() for ref, version in wanted[:-1]]
            assert counts == [27, 27, 30, 27, 0]
            assert len(context.statusTracker().getJobIdsForGroup("together")) == 1 + len(counts)
        finally:
            context.setLocalProperty("spark.jobGroup.id", None)  # type: ignore[arg-type]
        with pytest.raises(TwinrunError, match="no Delta table"):
            read_table(spark_session, str(tmp_path / "none"))


def test_a_delta_that_cannot_read_chosen_files_reads_tables_as_ever(
    spark_session: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = _made(spark_session, tmp_path / "t", {})
    listing = listed._listings

    def without_its_method(spark: SparkSession, wanted: Any) -> Any:
        return {key: replace(at, log=object()) for key, at in listing(spark, wanted).items()}

    monkeypatch.setattr(listed, "_listings", without_its_method)
    with listed_once([ref]):
        assert listed.files_once(spark_session, ref, None) is None
        assert read_table(spark_session, ref).count() == 27
