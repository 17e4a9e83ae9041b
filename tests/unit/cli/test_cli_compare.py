"""compare: what is asked reaches the comparator, and its answer reaches people and machines."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import types as T

from twinrun.comparator.references import Asked, Read
from twinrun.comparator.result import ColumnStats, Comparison, Sample
from twinrun.comparator.rows import KINDS
from twinrun.comparator.schema import plan_schema
from twinrun.tolerance import absolute, rel

SCHEMA = T.StructType([T.StructField("k", T.StringType()), T.StructField("v", T.DoubleType())])
RENAMED = T.StructType([T.StructField("k", T.StringType()), T.StructField("w", T.DoubleType())])


def comparison(**changes: Any) -> Comparison:
    values: dict[str, Any] = {
        "schema": plan_schema(SCHEMA, SCHEMA, ["k"], None, {}),
        "rows_batch": 10,
        "rows_stream": 10,
        "pending_batch": 0,
        "pending_stream": 0,
        "windows_compared": 0,
        "windows_equal": 0,
        "windows_different": 0,
        "windows_suspected": 0,
        "keys_repeated_batch": 0,
        "keys_repeated_stream": 0,
        "counts": dict.fromkeys(KINDS, 0),
        "columns": (),
        "samples": (),
        "audit": "not_run",
    }
    return Comparison(**{**values, **changes})


CHANGED = Sample("changed", 1, ("v",), '{"k":"a\\u001b[2J"}', None, '{"k":"a","v":1.5}', '{"k":"a","v":2.0}')
LONE = Sample("only_batch", 1, (), '{"k":null}', None, '{"k":null,"v":1.0}', None)


@pytest.fixture
def comparator(project: Path, spark: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    class Comparator:
        answer = comparison()
        asked: Asked | None = None
        refs: tuple[str, str] | None = None

    for name in ("b", "s"):
        (project / name).mkdir()

    def compare_tables(_: Any, cfg: Any, refs: Any, asked: Asked) -> Any:
        Comparator.asked, Comparator.refs = asked, refs
        return Comparator.answer, (Read("Delta, version 3"), Read("Parquet", ("column a is in 1 of 2 files",)))

    monkeypatch.setattr("twinrun.comparator.references.compare_tables", compare_tables)
    return Comparator


def test_equal_is_0(run: Any, comparator: Any, project: Path) -> None:
    done = run("compare", "b", "s", "--keys", "k")

    assert done.code == 0
    assert done.out.splitlines()[0] == "equal: 10 rows on each side"
    assert comparator.refs == (str(project / "b"), str(project / "s"))


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({"rows_batch": 0, "rows_stream": 0}, "nothing compared: neither table has a row to compare"),
        ({"counts": {**dict.fromkeys(KINDS, 0), "changed": 2}}, "different: 2 rows changed"),
        ({"schema": plan_schema(SCHEMA, RENAMED, ["k"], None, {})}, "different: 2 columns of only one table"),
        ({"audit": "disagrees"}, "different: the exact audit found other rows"),
    ],
)
def test_anything_else_is_1(changes: dict[str, Any], first: str, run: Any, comparator: Any) -> None:
    comparator.answer = comparison(**changes)

    done = run("compare", "./b", "./s", "--keys", "k")

    assert done.code == 1
    assert done.out.startswith(first)


def test_rows_stand_side_by_side(run: Any, comparator: Any) -> None:
    counts = {**dict.fromkeys(KINDS, 0), "changed": 12, "only_batch": 1}
    columns = (ColumnStats("v", 12, 0.5, 0.25),)
    comparator.answer = comparison(counts=counts, columns=columns, samples=(CHANGED, LONE))

    lines = run("compare", "./b", "./s", "--keys", "k").out.splitlines()

    assert lines == [
        "different: 12 rows changed; 1 row only in batch",
        "  batch   ./b  (Delta, version 3)",
        "  stream  ./s  (Parquet)",
        "  rows  batch 10, stream 10",
        "how they were read:",
        "  stream:  column a is in 1 of 2 files",
        "columns that differ:",
        "  v  12 rows  by at most 0.5",
        "rows:",
        "  key       what           column  batch  stream  difference",
        "  a\\x1b[2J  changed        v       1.5    2.0     +0.5",
        "  null      only in batch",
        "  and 11 more rows",
    ]


def test_keys_and_columns_that_differ_look_different(run: Any, comparator: Any) -> None:
    long = "x" * 130
    keys = ["ab", "ab ", "a", "\u0430", f"{long}1", f"{long}2", "one", "two"]
    samples = tuple(Sample("only_batch", 1, (), json.dumps({"k": key}), None, "{}", None) for key in keys)
    fields = [
        T.StructType([T.StructField("k", T.StringType()), T.StructField(name, T.LongType())]) for name in "\u00e9e"
    ]
    fields[1] = T.StructType([T.StructField("k", T.StringType()), T.StructField("e\u0301", T.LongType())])
    counts = {**dict.fromkeys(KINDS, 0), "only_batch": 8}
    schema = plan_schema(*fields, ["k"], None, {})
    comparator.answer = comparison(counts=counts, samples=samples, schema=schema, keys_counted="differing_windows")

    lines = run("compare", "./b", "./s", "--keys", "k").out.splitlines()

    shown = [line.split()[0] for line in lines[-8:]]
    assert [*shown[:4], *shown[6:]] == ["ab", r"ab\x20", "a", r"\u0430", "one", "two"]
    assert (shown[4][-1], shown[5][-1]) == ("1", "2")
    assert [line for line in lines if ": only in" in line] == [
        r"  e\u0301: only in stream",
        r"  \xe9: only in batch",
    ]
    assert "  keys  repeated ones not counted, as the columns of both tables are equal (--full counts them)" in lines


def test_a_text_is_shown_as_it_is_and_a_map_with_all_its_entries(run: Any, comparator: Any) -> None:
    rows = ('{"v":"12:30:00.500000","m":{"a":1}}', '{"v":"12:30:00.700000","m":{"a":1,"a":1}}')
    sample = Sample("changed", 1, ("v", "m"), '{"k":1}', None, *rows)
    comparator.answer = comparison(counts={**dict.fromkeys(KINDS, 0), "changed": 1}, samples=(sample,))

    lines = run("compare", "./b", "./s", "--keys", "k").out.splitlines()

    assert lines[-2].split()[3:5] == ["12:30:00.500000", "12:30:00.700000"]
    assert re.split(r" {2,}", lines[-1])[-3:] == ['{"a": 1}', '[{"a": 1}, {"a": 1}]', "–"]


def test_json_has_the_samples_as_objects(run: Any, comparator: Any) -> None:
    comparator.answer = comparison(
        counts={**dict.fromkeys(KINDS, 0), "changed": 1},
        samples=(CHANGED,),
        schema=plan_schema(SCHEMA, RENAMED, ["k"], None, {}),
    )

    found = json.loads(run("compare", "./b", "./s", "--keys", "k", "--json").out)

    assert found["verdict"] == "different"
    assert found["samples"][0]["stream"] == {"k": "a", "v": 2.0}
    assert {each["name"] for each in found["schema_differences"]} == {"v", "w"}
    assert (found["stream"]["facts"], found["compared_as"]) == (["column a is in 1 of 2 files"], {})


def test_a_decimals_last_digit_is_in_the_text_and_in_the_json(run: Any, comparator: Any) -> None:
    sample = Sample("changed", 1, ("v",), '{"k":1}', None, '{"v":1.000000000000000001}', '{"v":1.000000000000000002}')
    comparator.answer = comparison(counts={**dict.fromkeys(KINDS, 0), "changed": 1}, samples=(sample,))

    text, document = (
        run("compare", "./b", "./s", "--keys", "k").out,
        run("compare", "./b", "./s", "--keys", "k", "--json"),
    )

    assert "1.000000000000000001  1.000000000000000002  +1e-18" in text
    assert json.loads(document.out)["samples"][0]["batch"] == {"v": "1.000000000000000001"}


def test_names_with_commas_quotes_and_equals_signs_can_be_named(run: Any, comparator: Any) -> None:
    run("compare", "b", "s", "--keys", '"a,b", c ,"d ""e"""', "--as", "x=y=decimal(20,0)", "--naive-time-zone", "UTC")

    asked = comparator.asked
    assert (asked.keys, asked.types, asked.naive_time_zone) == (("a,b", "c", 'd "e"'), {"x=y": "decimal(20,0)"}, "UTC")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--keys", '"a'], "cannot be read as names of columns"),
        (["--keys", "k", "--as", "v"], "--as 'v' cannot be read"),
        (["--keys", "k", "--as", "v=list"], "'list' is not a type to compare a column as"),
        (["--keys", "k", "--naive-time-zone", "Europe/Berlin"], "is not a zone without clock changes"),
        (["--keys", "k", "--tolerance", "v=much"], "--tolerance 'v=much' cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_2_before_spark_starts(
    options: list[str], sentence: str, run: Any, comparator: Any, spark: Any
) -> None:
    done = run("compare", "b", "s", *options)

    assert (done.code, spark.started) == (2, [])
    assert sentence in done.err


def test_what_is_asked_reaches_the_comparator(run: Any, comparator: Any) -> None:
    options = [
        "--window",
        "h",
        "--ready-until",
        "2013-01-06T00:00:00+01:00",
        "--full",
        "--ignore",
        "x,y",
        "--ignore",
        "z",
    ]
    run("compare", "b", "s", "--keys", "k, l", *options, "--tolerance", "v=1e-9", "--tolerance", "a=b=rel:1e-6")

    asked = comparator.asked
    assert asked.keys == ("k", "l")
    assert asked.tolerances == {"v": absolute(1e-9), "a=b": rel(1e-6)}
    assert asked.ignore == ("x", "y", "z", "_run_id", "_written_at", "_micro_batch")
    assert (asked.window, asked.full) == ("h", True)
    assert asked.ready_until.isoformat() == "2013-01-05T23:00:00+00:00"


def test_no_configuration_is_needed(
    run: Any, comparator: Any, spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, project: Path
) -> None:
    empty = tmp_path / "elsewhere"
    empty.mkdir()
    monkeypatch.chdir(empty)

    assert run("compare", str(project / "b"), str(project / "s"), "--keys", "k").code == 0
    (started,) = spark.started
    assert (started["name"], started["master"]) == ("twinrun compare", "local[2]")
    # Nothing is there, which is little.
    assert started["spark.sql.codegen.wholeStage"] == "false"
    assert "there is no conf/local.yaml here" in run("compare", "b", "s", "--keys", "k", "--set", "a=b").err
    assert "cannot be read" in run("compare", "b", "s", "--keys", "k", "--conf", "none.yaml").err
