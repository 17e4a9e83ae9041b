"""Parquet without a log is read whole and exactly, or refused with the column's name."""

from __future__ import annotations

import math
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from tests.unit.tables.parquet_files import money, of, put
from twinrun.config.sections import TableBinding
from twinrun.errors import TableError
from twinrun.tables.parquet import ParquetTable, read_parquet, strict_session
from twinrun.tables.static import static_schema

NS = pa.timestamp("ns", "UTC")
HALVES = [0.0, -0.0, 1.5, -2.0, 65504.0, 2**-24, 2**-14, math.inf, -math.inf, math.nan]


def rows_of(table: ParquetTable, *columns: str) -> list[tuple[Any, ...]]:
    return sorted((tuple(row) for row in table.rows.select(*columns).collect()), key=str)


def test_forms_that_spark_does_not_read_are_read_exactly(spark_session: SparkSession, tmp_path: Path) -> None:
    nanos = [1_700_000_000_123_456_000, -1_000, None]
    uuid = pa.ExtensionArray.from_storage(pa.uuid(), of(pa.binary(16), bytes(range(16)), b"\xff" * 16, None))
    put(
        tmp_path,
        "t/x.parquet",
        ns=of(NS, *nanos),
        naive=of(pa.timestamp("ns"), *nanos),
        ms=of(pa.time32("ms"), 86_399_999, 0, None),
        us=of(pa.time64("us"), 86_399_999_000, 0, None),
        tns=of(pa.time64("ns"), 86_399_999_000_000, 1, None),
        id=uuid,
        u64=of(pa.uint64(), 2**64 - 1, 0, None),
    )
    put(tmp_path, "half/x.parquet", h=pa.array([np.float16(each) for each in HALVES], type=pa.float16()))

    table = read_parquet(spark_session, str(tmp_path / "t"))
    seen = table.rows.withColumn("ns", F.unix_micros("ns")).withColumn("naive", F.col("naive").cast("string")).collect()
    assert [row.ns for row in seen] == [1_700_000_000_123_456, -1, None]
    assert [row.naive for row in seen] == ["2023-11-14 22:13:20.123456", "1969-12-31 23:59:59.999999", None]
    times = ["23:59:59.999000000", "00:00:00.000000000", None]
    assert [(row.ms, row.us) for row in seen] == [(time, time) for time in times]
    assert [row.tns for row in seen] == ["23:59:59.999000000", "00:00:00.000000001", None]
    assert seen[0].id == "00010203-0405-0607-0809-0a0b0c0d0e0f"
    assert (seen[1].id, seen[2].id) == ("ffffffff-ffff-ffff-ffff-ffffffffffff", None)
    assert [row.u64 for row in seen] == [Decimal(2**64 - 1), Decimal(0), None]
    assert "column ns is INT64 (TIMESTAMP(NANOS,true)): read as timestamp" in table.facts
    halves = [row.h for row in read_parquet(spark_session, str(tmp_path / "half")).rows.collect()]
    assert [repr(each) for each in halves] == [repr(each) for each in HALVES]


def test_a_part_below_a_microsecond_is_refused_and_never_cut(spark_session: SparkSession, tmp_path: Path) -> None:
    fine = of(NS, 1_700_000_000_123_456_789, 1_700_000_000_123_456_000)
    put(tmp_path, "ns/x.parquet", k=[1, 2], t=fine)
    put(tmp_path, "int96/x.parquet", k=[1, 2], t=fine, int96=True)
    put(tmp_path, "whole/x.parquet", t=of(NS, -1_000), int96=True)
    put(tmp_path, "deep/x.parquet", s=pa.array([{"t": 1}], type=pa.struct([("t", NS)])))
    inside = pa.array([{"t": 1}], type=pa.struct([("t", NS)]))
    put(tmp_path, "deep96/x.parquet", k=[1], s=inside, int96=True)

    with pytest.raises(TableError, match=r"the column 't' of .*, INT64 \(TIMESTAMP\(NANOS,true\)\), holds 1 value"):
        read_parquet(spark_session, str(tmp_path / "ns"))
    numbers = read_parquet(spark_session, str(tmp_path / "ns"), as_numbers=["t"])
    assert rows_of(numbers, "t") == [(1_700_000_000_123_456_000,), (1_700_000_000_123_456_789,)]
    with pytest.raises(TableError, match=r"the column 't' of .*int96, INT96, holds 1 value with a part below"):
        read_parquet(spark_session, str(tmp_path / "int96"))
    assert read_parquet(spark_session, str(tmp_path / "int96"), leave=["t"]).left == ("t",)
    whole = read_parquet(spark_session, str(tmp_path / "whole")).rows
    assert whole.select(F.unix_micros("t")).collect()[0][0] == -1
    # Inside a struct Spark reads nanoseconds as numbers, which those without a zone, and plain numbers, would equal.
    with pytest.raises(TableError, match=r"INT64 \(TIMESTAMP\(NANOS,true\)\) inside Spark reads as numbers"):
        read_parquet(spark_session, str(tmp_path / "deep"))
    put(tmp_path, "span/x.parquet", k=[1], s=pa.array([[5]], type=pa.list_(pa.duration("ms"))))
    with pytest.raises(TableError, match="durations by Arrow's note inside Spark reads as numbers"):
        read_parquet(spark_session, str(tmp_path / "span"))
    assert read_parquet(spark_session, str(tmp_path / "span"), leave=["s"]).rows.columns == ["k"]
    with pytest.raises(TableError, match="whose INT96 times inside may have a part below a microsecond"):
        read_parquet(spark_session, str(tmp_path / "deep96"))
    assert read_parquet(spark_session, str(tmp_path / "deep96"), leave=["s"]).rows.columns == ["k"]


def test_files_of_different_types_are_read_as_the_type_that_holds_both(
    spark_session: SparkSession, tmp_path: Path
) -> None:
    put(
        tmp_path,
        "t/a.parquet",
        i=of(pa.int32(), 1),
        f=of(pa.float32(), 0.1),
        d=money(2, "1.25"),
        t=of(NS, 1_700_000_000_123_456_000),
        s=pa.array([{"a": 1}]),
        n=pa.nulls(1),
    )
    put(
        tmp_path,
        "t/b.parquet",
        n=["x"],
        s=pa.array([{"b": 2}]),
        i=of(pa.int64(), 2**40),
        f=of(pa.float64(), 0.1),
        d=money(4, "1.2501"),
        t=of(pa.timestamp("ms", "UTC"), 1_700_000_000_123),
    )

    table = read_parquet(spark_session, str(tmp_path / "t"))
    assert table.rows.schema.simpleString() == (
        "struct<i:bigint,f:double,d:decimal(12,4),t:timestamp,s:struct<a:bigint,b:bigint>,n:string>"
    )
    first, second = table.rows.orderBy("i").withColumn("t", F.unix_micros("t")).collect()
    assert (first.i, second.i, first.f, second.f) == (1, 2**40, float(np.float32(0.1)), 0.1)
    assert (first.d, second.d, first.n, second.n) == (Decimal("1.2500"), Decimal("1.2501"), None, "x")
    assert (first.t, second.t) == (1_700_000_000_123_456, 1_700_000_000_123_000)
    assert (tuple(first.s), tuple(second.s)) == ((1, None), (None, 2))
    assert "column i is int in 1 file (a.parquet), bigint in 1 file (b.parquet): read as bigint" in table.facts
    # The drill-down's filters reach the files.
    assert table.rows.where("i = 1099511627776 and d = 1.2501").count() == 1


def test_types_with_none_in_common_are_refused_with_files_and_a_way_out(
    spark_session: SparkSession, tmp_path: Path
) -> None:
    cases = {
        "text": (of(pa.int32(), 1), ["x"], r"int in 1 file \(a.parquet\), string in 1 file \(b.parquet\)"),
        "zone": (of(pa.timestamp("us", "UTC"), 1), of(pa.timestamp("us"), 1), r"timestamp in 1 .*, timestamp_ntz in 1"),
        "nested": (pa.array([[1]], pa.list_(pa.int32())), [[1]], r"array<int> in 1 .*, array<bigint> in 1"),
        "digits": (money(0, "1"), pa.array([Decimal("0.1")], pa.decimal128(38, 38)), r"decimal\(10,0\) in 1"),
    }
    for name, (left, right, sentence) in cases.items():
        put(tmp_path, f"{name}/a.parquet", k=[1], v=left)
        put(tmp_path, f"{name}/b.parquet", k=[2], v=right)
        with pytest.raises(TableError, match=f"the column 'v' in types that have none in common: {sentence}") as error:
            read_parquet(spark_session, str(tmp_path / name))
        assert "(--ignore v)" in error.value.fix
    assert read_parquet(spark_session, str(tmp_path / "text"), leave=["v"]).rows.count() == 2


def test_folders_names_are_text_with_their_escapes_undone(spark_session: SparkSession, tmp_path: Path) -> None:
    values = ["007", "7", "a/b", "a=b", "50%", "é ü", "+", "2013-01-06 00:00:00", "", None]
    rows = spark_session.createDataFrame([(n, value) for n, value in enumerate(values)], "k INT, `p q` STRING")
    rows.coalesce(1).write.partitionBy("p q").parquet(str(tmp_path / "spark"))
    put(tmp_path, "arrow/day=2013-01-06/hour=01/p q=%C3%A9/a b.parquet", k=[1])

    table = read_parquet(spark_session, str(tmp_path / "spark"))
    # Spark itself writes an empty text as null.
    assert rows_of(table, "k", "`p q`") == [(n, value or None) for n, value in enumerate(values)]
    assert table.partitions == ("p q",)
    arrow = read_parquet(spark_session, str(tmp_path / "arrow"))
    assert rows_of(arrow, "k", "day", "hour", "`p q`") == [(1, "2013-01-06", "01", "é")]
    one = read_parquet(spark_session, str(tmp_path / "arrow/day=2013-01-06/hour=01"), leave=["p q"])
    assert (one.rows.columns, one.left, one.partitions) == (["k"], ("p q",), ())


def test_settings_of_the_session_neither_count_nor_change(spark_session: SparkSession, tmp_path: Path) -> None:
    put(tmp_path, "t/a.parquet", k=[1], s=["x"])
    broken = put(tmp_path, "t/b.parquet", k=[2], s=["y"])
    loose = strict_session(spark_session)
    loose.conf.set("spark.sql.files.ignoreCorruptFiles", "true")
    loose.conf.set("spark.sql.files.ignoreMissingFiles", "true")
    loose.conf.set("spark.sql.caseSensitive", "false")
    loose.conf.set("spark.sql.parquet.datetimeRebaseModeInRead", "LEGACY")
    put(tmp_path, "old/x.parquet", d=of(pa.date32(), date(1500, 1, 1)))
    assert rows_of(read_parquet(loose, str(tmp_path / "old")), "d") == [(date(1500, 1, 1),)]
    table = read_parquet(loose, str(tmp_path / "t"))
    assert table.rows.count() == 2
    broken.unlink()
    with pytest.raises(Exception, match=r"b\.parquet"):
        table.rows.count()
    assert spark_session.conf.get("spark.sql.caseSensitive") == "false"
    assert spark_session.conf.get("spark.sql.legacy.parquet.nanosAsLong") == "false"
    put(tmp_path, "case/x.parquet", Id=[1], id=[2])
    with pytest.raises(TableError, match=r"the columns Id and id of .* differ in upper and lower case alone"):
        read_parquet(spark_session, str(tmp_path / "case"))
    assert rows_of(read_parquet(spark_session, str(tmp_path / "case"), leave=["id"]), "Id") == [(1,)]


def test_a_static_tables_folders_are_text_too(spark_session: SparkSession, tmp_path: Path) -> None:
    put(tmp_path, "codes/zip=02134/x.parquet", name=["Allston"])
    binding = TableBinding(path=str(tmp_path / "codes"), format="parquet")
    assert static_schema(spark_session, binding).simpleString() == "struct<name:string,zip:string>"
