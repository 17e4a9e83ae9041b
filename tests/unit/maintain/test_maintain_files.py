"""Files of old versions go, those of pinned versions stay; a plain VACUUM would take both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from twinrun.errors import TwinrunError
from twinrun.maintain.files import compact, detail_of, interval_ms, inventory, stored, vacuum, without_kept
from twinrun.tables.delta import latest_version, read_table


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        (None, 7 * 86_400_000),
        ("interval 0 seconds", 0),
        ("interval 2 weeks", 14 * 86_400_000),
        ("INTERVAL 36 HOURS", 36 * 3_600_000),
        ("1 day", 86_400_000),
        ("interval 1 month", 0),
    ],
)
def test_a_retention_is_read_as_delta_writes_it_and_an_unknown_one_counts_as_none(text: Any, milliseconds: int) -> None:
    assert interval_ms(text, "delta.deletedFileRetentionDuration") == milliseconds


def table_of_four_versions(spark: SparkSession, folder: Path, retention: str = "interval 0 seconds") -> str:
    """Versions 0 to 2 hold their number in two small files each; version 3 holds 3. Nothing protects old files."""
    ref = str(folder / "it's a table")
    for number in range(4):
        rows = spark.range(0, 2, 1, 2).selectExpr(f"{number} AS n")
        rows.write.format("delta").mode("overwrite").option("delta.deletedFileRetentionDuration", retention).save(ref)
    return ref


def tidied(spark: SparkSession, ref: str, pinned: list[int]) -> int:
    """Remove files with our own vacuum; how many went."""
    location = detail_of(spark, ref).location
    before = stored(inventory(spark, location)).files
    vacuum(spark, ref, without_kept(spark, inventory(spark, location), ref, pinned))
    return before - stored(inventory(spark, location)).files


def numbers(spark: SparkSession, ref: str, version: int) -> list[int]:
    return [row[0] for row in read_table(spark, ref, version).collect()]


def test_a_pinned_version_stays_readable_and_the_others_go(spark_session: SparkSession, tmp_path: Path) -> None:
    ref = table_of_four_versions(spark_session, tmp_path)
    assert compact(spark_session, ref) == 2
    newest = latest_version(spark_session, ref)
    assert tidied(spark_session, ref, [1]) == 6  # of versions 0, 2 and 3, which was compacted
    assert latest_version(spark_session, ref) == newest == 4
    assert numbers(spark_session, ref, 1) == [1, 1]
    assert numbers(spark_session, ref, 4) == [3, 3]
    with pytest.raises(Exception, match="FILE_NOT_EXIST"):
        numbers(spark_session, ref, 0)


def test_a_plain_vacuum_takes_the_pinned_version_too(spark_session: SparkSession, tmp_path: Path) -> None:
    """The negative control; and why RETAIN is no help: Delta goes by the table's retention whatever it says."""
    ref = table_of_four_versions(spark_session, tmp_path)
    DeltaTable.forPath(spark_session, ref).vacuum(1000)
    with pytest.raises(Exception, match="FILE_NOT_EXIST"):
        numbers(spark_session, ref, 1)


def test_the_tables_own_retention_is_never_shortened(spark_session: SparkSession, tmp_path: Path) -> None:
    ref = table_of_four_versions(spark_session, tmp_path, "interval 1 hour")
    assert tidied(spark_session, ref, []) == 0
    assert numbers(spark_session, ref, 0) == [0, 0]


def test_a_pinned_version_that_is_not_there_stops_the_removal(spark_session: SparkSession, tmp_path: Path) -> None:
    ref = table_of_four_versions(spark_session, tmp_path)
    with pytest.raises(TwinrunError):
        tidied(spark_session, ref, [17])
    assert numbers(spark_session, ref, 0) == [0, 0]
