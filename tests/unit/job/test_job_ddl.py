"""The DDL reader, compared with Spark's own."""

from __future__ import annotations

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from twinrun.job.ddl import DdlError, Field, read_ddl

GOOD = [
    "a INT",
    "a: INT",
    "a INT NOT NULL, b STRING COMMENT 'x, y' , c string not null comment \"it's\"",
    "`a b` struct<x:int, y: array<map<string,decimal(10,2)>>>, c int",
    "a INTEGER, b LONG, c SHORT, d BYTE, e REAL, f NUMERIC(3,1), g DEC, h CHARACTER(3), i VARCHAR(3), j VARIANT",
    "k TIMESTAMP_NTZ, l TIMESTAMP_LTZ, m VOID, n timestamp, o date, p boolean, q binary, r double, s tinyint",
    "a INTERVAL DAY TO SECOND NOT NULL, b interval",
    "a string collate UTF8_LCASE, struct int, date date, from int, 1a int, time time, t time(3)",
    "`a``b` int, a struct<>, c struct<x: int not null comment 'y', z: string>",
    """a INT,
       b array<struct<c: array<int>>>""",
]
BAD = [
    ("", "declares no field"),
    ("a", "has no type"),
    ("int", "has no type"),
    ("a foo", "(FOO)"),
    ("a strin", "did you mean STRING?"),
    ("a int b int", "a comma is missing before 'b'"),
    ("a int,,b int", "a field name is missing"),
    ("a int,", "a field name is missing"),
    ("a int;", "cannot be read"),
    ("a-b int", "cannot be read"),
    ("a decimal(50,2)", "at most 38 digits"),
    ("a decimal(3,5)", "at most 38 digits"),
    ("a decimal(x)", "needs whole numbers"),
    ("a decimal(3,", "needs whole numbers"),
    ("a varchar", "has 0 numbers"),
    ("a array", "'<' is missing after ARRAY"),
    ("a array<int", "'>' is missing"),
    ("a map<string>", "',' is missing"),
    ("a struct<b int", "a comma is missing"),
    ("a int default 3", "a comma is missing"),
]


@pytest.mark.parametrize("text", GOOD)
def test_what_spark_reads_is_read_with_the_same_names_types_and_nullability(
    spark_session: SparkSession, text: str
) -> None:
    theirs = [(field.name, field.dataType.simpleString(), not field.nullable) for field in StructType.fromDDL(text)]
    ours = [(field.name, field.type, field.required) for field in read_ddl(text)]

    assert [(name, required) for name, _, required in ours] == [(name, required) for name, _, required in theirs]
    assert all(full.startswith(first) for (_, first, _), (_, full, _) in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(("text", "says"), BAD)
def test_what_spark_refuses_is_refused_in_words(spark_session: SparkSession, text: str, says: str) -> None:
    with pytest.raises(DdlError) as caught:
        read_ddl(text)
    assert says in str(caught.value)
    if text not in ("", "int"):  # Spark takes these for an empty record and for a bare type
        with pytest.raises(PySparkException):
            StructType.fromDDL(text)


def test_names_that_differ_only_in_case_are_refused() -> None:
    with pytest.raises(DdlError, match="a stands twice"):
        read_ddl("a int, A string")


def test_types_have_sparks_spelling() -> None:
    assert read_ddl("a LONG NOT NULL, b Array<INT>") == (
        Field("a", "bigint", True),
        Field("b", "array", False, ("int",)),
    )
