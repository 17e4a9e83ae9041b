"""Columns are matched by exact name and common type; everything else is said, all at once."""

from __future__ import annotations

import pytest
from pyspark.sql import types as T

from twinrun.comparator.schema import SchemaPlan, plan_schema
from twinrun.comparator.values import common_type
from twinrun.errors import TableError
from twinrun.tolerance import absolute, rel

pytestmark = pytest.mark.usefixtures("spark_session")  # reading DDL takes a session, though no job


def schema(ddl: str) -> T.StructType:
    return T.StructType.fromDDL(ddl)


def kind(ddl: str) -> T.DataType:
    return schema(f"x {ddl}").fields[0].dataType


def plan(batch: str, stream: str, **options: object) -> SchemaPlan:
    given: dict[str, object] = {"keys": ["k"], "window_column": None, "tolerances": {}, **options}
    return plan_schema(schema(batch), schema(stream), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("left", "right", "common"),
    [
        ("int", "bigint", "bigint"),
        ("tinyint", "smallint", "smallint"),
        ("float", "double", "double"),
        ("decimal(10,2)", "decimal(8,4)", "decimal(12,4)"),
        ("decimal(38,0)", "decimal(38,0)", "decimal(38,0)"),
        ("array<int>", "array<bigint>", "array<bigint>"),
        ("struct<a:int,b:float>", "struct<a:bigint,b:double>", "struct<a:bigint,b:double>"),
        ("map<int,float>", "map<bigint,double>", "map<bigint,double>"),
        ("string collate UTF8_LCASE", "string collate UTF8_LCASE", "string"),
        ("time(6)", "time(6)", "time(6)"),
    ],
)
def test_types_that_hold_the_same_values_are_compared_in_the_wider(left: str, right: str, common: str) -> None:
    assert common_type(kind(left), kind(right)) == kind(common)
    assert common_type(kind(right), kind(left)) == kind(common)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("timestamp", "timestamp_ntz"),
        ("timestamp", "date"),
        ("string", "int"),
        ("string", "binary"),
        ("int", "double"),
        ("int", "decimal(10,0)"),
        ("decimal(38,0)", "decimal(38,10)"),
        ("boolean", "tinyint"),
        ("struct<a:int,b:int>", "struct<b:int,a:int>"),
        ("struct<a:int>", "struct<A:int>"),
        ("array<int>", "array<string>"),
        ("map<int,int>", "array<struct<key:int,value:int>>"),
        ("string", "string collate UTF8_LCASE"),
    ],
)
def test_nothing_else_is_coerced(left: str, right: str) -> None:
    assert common_type(kind(left), kind(right)) is None
    assert common_type(kind(right), kind(left)) is None


def test_columns_of_one_side_or_of_two_types_are_differences() -> None:
    found = plan("k int, mean_delay double, v int, same int", "v string, k bigint, meandelay double, same int")
    assert [(d.name, d.kind, d.batch_type, d.stream_type, d.nearest) for d in found.differences] == [
        ("mean_delay", "missing_in_stream", "double", None, "meandelay"),
        ("meandelay", "missing_in_batch", None, "double", "mean_delay"),
        ("v", "type_differs", "int", "string", None),
    ]
    assert [(c.name, c.batch_position, c.stream_position) for c in found.columns] == [("k", 0, 1), ("same", 3, 3)]


def test_order_nullability_and_ignored_columns_are_no_differences() -> None:
    found = plan(
        "k int not null, v int, _batch int", "v int not null, k int, _stream string", ignore=["_batch", "_stream", "_x"]
    )
    assert found.differences == ()
    assert plan("k int, _batch int", "k int").differences != ()


def test_names_are_matched_exactly() -> None:
    awkward = "`a.b` int, `batch.v` int, `V` int, v string, `x y` int, `b``q` int, k int"
    found = plan(awkward, awkward)
    assert len(found.columns) == 7
    assert found.differences == ()
    assert [d.name for d in plan("k int, V int", "k int, v int").differences] == ["V", "v"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keys": []}, "no key column"),
        ({"keys": ["k", "k"]}, "named twice"),
        ({"keys": ["orgin"]}, r"'orgin' is missing in the batch and the stream table"),
        ({"keys": ["b"]}, "'b' is missing in the stream table"),
        ({"window_column": "windowstart"}, "'windowstart' is missing"),
        ({"keys": ["typed"]}, "'typed', which is int in the batch, string in the stream"),
        ({"ignore": ["k"]}, "'k' is missing"),
        ({"tolerances": {"nowhere": 1.0}}, "'nowhere' has a tolerance but is in neither table"),
        ({"tolerances": {"k": 1.0}}, "'k' names rows or windows"),
        ({"tolerances": {"text": 1.0}}, "'text' holds string"),
        ({"tolerances": {"nested": 1.0}}, "'nested' holds array<double>"),
        ({"tolerances": {"amount": rel(1e-37)}}, "'amount' holds decimal"),
    ],
)
def test_what_cannot_be_done_is_an_error_that_lists_the_columns(options: dict[str, object], message: str) -> None:
    both = "k int, origin string, window_start timestamp, text string, nested array<double>, amount decimal(38,2)"
    with pytest.raises(TableError, match=message) as error:
        plan(f"{both}, b int, typed int", f"{both}, s int, typed string", **options)
    assert "batch columns: k, origin" in error.value.expected
    assert "stream columns: k, origin" in error.value.expected


def test_a_near_name_is_offered() -> None:
    with pytest.raises(TableError) as error:
        plan("k int, Origin string", "k int, Origin string", keys=["orgin"])
    assert "'Origin'" in error.value.fix


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(TableError) as error:
        plan("k int, s string", "k int, s string", keys=["a"], window_column="b", tolerances={"c": 1, "s": 1})
    assert all(f"'{name}'" in error.value.found for name in "abcs")


def test_a_column_with_a_tolerance_that_one_table_lost_is_a_difference() -> None:
    found = plan("k int, mean double", "k int, average double", tolerances={"mean": 1e-9})
    assert [d.kind for d in found.differences] == ["missing_in_batch", "missing_in_stream"]


def test_types_that_cannot_be_compared_are_refused_unless_ignored() -> None:
    for bad in ("variant", "array<variant>", "map<int,variant>", "struct<a:variant>", "void"):
        with pytest.raises(TableError, match="cannot be compared"):
            plan(f"k int, bad {bad}", f"k int, bad {bad}")
        assert plan(f"k int, bad {bad}", f"k int, bad {bad}", ignore=["bad"]).differences == ()


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(TableError, match="more than one column named 'v'"):
        plan("k int, v int, v int", "k int, v int")


def test_a_tolerance_of_zero_is_none() -> None:
    found = plan("k int, v double, w decimal(2,2)", "k int, v double, w decimal(2,2)", tolerances={"v": 0, "w": 0.05})
    assert [column.tolerance for column in found.columns] == [None, None, absolute(0.05)]
