"""A declared type pairs what two tables hold in two types; no value changes by it in silence."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from twinrun.comparator.schema import changes, offset_s, type_named
from twinrun.comparator.tables import compare_frames
from twinrun.errors import InputError, TableError

SAME = [
    ("'02134'", "2134", "int"),
    ("cast(18446744073709551615 as decimal(20,0))", "'18446744073709551615'", "decimal(20,0)"),
    ("cast(7 as decimal(20,0))", "7L", "bigint"),
    ("7", "7.0D", "double"),
    ("'7'", "7", "string"),
    ("'1.50'", "cast(1.5 as decimal(10,2))", "decimal(10,2)"),
    ("'2013-01-06'", "date'2013-01-06'", "date"),
    ("'2013-01-06T00:00:00.123456Z'", "timestamp'2013-01-06T00:00:00.123456Z'", "timestamp"),
    ("date'2013-01-06'", "timestamp_ntz'2013-01-06 00:00:00'", "timestamp_ntz"),
    ("X'6162'", "'ab'", "string"),
]
CHANGED = [
    ("'x7'", "int", True),
    ("'1.5'", "int", True),
    ("'1.005'", "decimal(10,2)", True),
    ("'1.0500'", "decimal(10,2)", False),
    ("'1e2'", "decimal(10,2)", True),
    ("1.005D", "decimal(10,2)", True),
    ("double('NaN')", "decimal(10,2)", True),
    ("0.1D", "decimal(38,18)", False),
    ("9007199254740993L", "double", True),
    ("9007199254740992L", "double", False),
    ("300", "tinyint", True),
    ("'12:30:00'", "timestamp", True),
    ("'2013-01-06T00:00:00.1234567Z'", "timestamp", True),
    ("'2013-01-06T00:00:00.1234560Z'", "timestamp", False),
    ("'2013-01-06 12:00:00'", "date", True),
    ("timestamp'2013-01-06T12:00:00Z'", "date", True),
    ("timestamp'2013-01-06T00:00:00Z'", "date", False),
    ("'1e400'", "double", True),
    ("'1e-400'", "double", True),
    ("'16777217'", "float", True),
    ("'-1.6777216E+7'", "float", False),
    ("'0.10000000000000000001'", "double", True),
    ("' +0.10'", "double", False),
    ("'-00.0e5'", "double", False),
    ("'1d'", "double", True),
    ("'-Infinity'", "double", False),
    ("'nan'", "float", False),
    ("9223372036854775807L", "double", True),
    ("9.223372036854775807E18D", "bigint", True),
    ("2147483647", "float", True),
    ("cast(2147483648 as float)", "int", True),
    ("2147483647.0D", "int", False),
    ("'2013-01-06T00:00:00+02:00'", "timestamp_ntz", True),
    ("'2013-01-06 00:00:00 Europe/Berlin'", "timestamp_ntz", True),
    ("'2013-01-06T00:00:00Z'", "timestamp_ntz", True),
    ("'2013-01-06T00:00:00.5'", "timestamp_ntz", False),
    ("X'ff'", "string", False),
    ("cast(null as string)", "int", False),
]


def test_values_of_two_types_are_compared_as_the_declared_one(spark_session: SparkSession) -> None:
    types = {f"v{place}": declared for place, (_, _, declared) in enumerate(SAME)}
    left, right = (
        spark_session.sql(f"select 1 as k, {', '.join(f'{each[side]} as v{n}' for n, each in enumerate(SAME))}")
        for side in (0, 1)
    )
    undeclared, _ = compare_frames(left, right, keys=["k"])
    assert [each.name for each in undeclared.schema_differences] == sorted(types)
    found, _ = compare_frames(left, right, keys=["k"], types=types)
    assert (found.verdict, [each.declared for each in found.schema.columns]) == ("equal", [False] + [True] * len(SAME))
    # A declaration hides no difference: every other value is still another one.
    other = right.select("k", *(F.expr(f"cast(null as {each[2]})").alias(f"v{n}") for n, each in enumerate(SAME)))
    assert len(compare_frames(left, other, keys=["k"], types=types)[0].columns) == len(SAME)


def test_a_value_that_would_change_is_seen_and_refused(spark_session: SparkSession) -> None:
    values = spark_session.sql(f"select {', '.join(f'{sql} as v{n}' for n, (sql, _, _) in enumerate(CHANGED))}")
    seen = values.select(
        *(
            changes(F.col(field.name), field.dataType, type_named(declared))
            for field, (_, declared, _) in zip(values.schema, CHANGED, strict=True)
        )
    ).collect()[0]
    assert list(seen) == [changed for _, _, changed in CHANGED]
    left = spark_session.sql("select 1 as k, '1.005' as v union all select 2, '1.00'")
    right = spark_session.sql("select 1 as k, cast(1.01 as decimal(10,2)) as v union all select 2, 1.00")
    with pytest.raises(TableError, match="the column 'v' of the batch table, string, holds 1 value that decimal"):
        compare_frames(left, right, keys=["k"], types={"v": "decimal(10,2)"})


@pytest.mark.parametrize(
    ("held", "declared", "sentence"),
    [
        ("true", "int", "the column 'v' of the batch table is boolean, which cannot be compared as int"),
        ("array(1)", "int", "is array<int>, which cannot be compared as int"),
        ("timestamp_ntz'2013-01-06 00:00:00'", "timestamp", "declare it .--naive-time-zone UTC."),
        ("timestamp'2013-01-06T00:00:00Z'", "bigint", "which cannot be compared as bigint"),
    ],
)
def test_a_type_that_says_something_else_is_refused(
    spark_session: SparkSession, held: str, declared: str, sentence: str
) -> None:
    table = spark_session.sql(f"select 1 as k, {held} as v")
    with pytest.raises(TableError, match=sentence):
        compare_frames(table, table, keys=["k"], types={"v": declared})


def test_naive_times_are_those_of_the_declared_zone(spark_session: SparkSession) -> None:
    naive = spark_session.sql("select 1 as k, timestamp_ntz'1969-12-31 23:59:59.999999' as t")
    instant = spark_session.sql("select 1 as k, timestamp'1969-12-31T23:59:59.999999Z' as t")
    ahead = spark_session.sql("select 1 as k, timestamp'1969-12-31T22:29:59.999999Z' as t")
    assert compare_frames(naive, instant, keys=["k"])[0].verdict == "different"
    assert compare_frames(naive, instant, keys=["k"], naive_time_zone="UTC")[0].verdict == "equal"
    assert compare_frames(ahead, naive, keys=["k"], naive_time_zone="+01:30")[0].verdict == "equal"
    assert compare_frames(naive, instant, keys=["k"], naive_time_zone="-01:00")[0].counts["changed"] == 1
    # Both naive: nothing is to be declared, and nothing moves.
    assert compare_frames(naive, naive, keys=["k"], naive_time_zone="+05:00")[0].verdict == "equal"


def test_names_of_types_and_zones_are_checked_without_spark() -> None:
    assert [type_named(text).simpleString() for text in ("BIGINT", " decimal(20, 2)", "Integer")] == [
        "bigint",
        "decimal(20,2)",
        "int",
    ]
    assert [offset_s(text) for text in ("UTC", "z", "+01:00", "-0530", "UTC+2")] == [0, 0, 3_600, -19_800, 7_200]
    for bad in ("array<int>", "decimal(39,0)", "decimal(2,3)", "char(5)", ""):
        with pytest.raises(InputError, match="is not a type to compare a column as"):
            type_named(bad)
    for bad in ("Europe/Berlin", "", "+25:00", "1"):
        with pytest.raises(InputError, match="is not a zone without clock changes"):
            offset_s(bad)


def test_a_declaration_for_a_column_of_one_table_is_an_error(spark_session: SparkSession) -> None:
    table = spark_session.sql("select 1 as k, 2 as v")
    with pytest.raises(TableError, match="the column 'w' is declared as int but is not in both tables"):
        compare_frames(table, table, keys=["k"], types={"w": "int"})
