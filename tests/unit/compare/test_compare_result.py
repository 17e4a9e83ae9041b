"""The verdict follows from the numbers alone."""

from __future__ import annotations

from dataclasses import replace

from pyspark.sql import types as T

from twinrun.comparator.result import Comparison
from twinrun.comparator.schema import SchemaDifference, plan_schema

SCHEMA = T.StructType().add("k", T.IntegerType()).add("v", T.IntegerType())
EQUAL = Comparison(
    schema=plan_schema(SCHEMA, SCHEMA, ["k"], None, {}),
    rows_batch=3,
    rows_stream=3,
    pending_batch=0,
    pending_stream=0,
    windows_compared=0,
    windows_equal=0,
    windows_different=0,
    windows_suspected=0,
    keys_repeated_batch=0,
    keys_repeated_stream=0,
    counts={"changed": 0, "only_batch": 0},
    columns=(),
    samples=(),
    audit="not_run",
)


def test_equal_needs_rows() -> None:
    assert EQUAL.verdict == "equal"
    assert replace(EQUAL, rows_batch=0, rows_stream=0).verdict == "nothing_compared"
    assert replace(EQUAL, rows_batch=0, rows_stream=0, pending_batch=5).verdict == "nothing_compared"


def test_any_difference_counts() -> None:
    assert replace(EQUAL, counts={"changed": 1, "only_batch": 0}).verdict == "different"
    assert replace(EQUAL, rows_stream=0).verdict == "different"
    assert replace(EQUAL, audit="disagrees").verdict == "different"
    assert replace(EQUAL, audit="agrees").verdict == "equal"
    changed = replace(EQUAL.schema, differences=(SchemaDifference("v", "missing_in_batch", None, "int"),))
    assert replace(EQUAL, schema=changed).verdict == "different"
    assert replace(EQUAL, schema=changed, rows_batch=0, rows_stream=0).verdict == "different"
