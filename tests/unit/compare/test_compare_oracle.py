"""The comparator against Spark's own exceptAll, and tolerances against Python, on many small random tables at once.

Each random table is one value of ``case``, so that one Spark job tries them all.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.comparator.tables import compare_frames
from twinrun.tolerance import Tolerance, absolute, rel

SCHEMA = (
    "case int, k int, name string, w int, x double, f float, n bigint, text string, raw binary, flag boolean, "
    "xs array<double>, s struct<a:int,b:struct<c:string>>, amount_text string, micros bigint"
)
CASES = 200
Row = tuple[Any, ...]

VALUES: list[Callable[[random.Random], Any]] = [
    lambda r: r.choice([None, 0.0, -0.0, 1.0, math.nextafter(1.0, 2.0), math.nan, math.inf, -math.inf]),
    lambda r: r.choice([None, 0.0, 1.5, math.nan]),
    lambda r: r.choice([None, 0, 2**53, 2**53 + 1]),
    lambda r: r.choice([None, "", "a", "A"]),
    lambda r: r.choice([None, b"", b"\x00", b"\x00\x00"]),
    lambda r: r.choice([None, True, False]),
    lambda r: r.choice([None, [], [None], [1.0, None], [None, 1.0], [math.nan], [-0.0], [0.0]]),
    lambda r: r.choice([None, (None, None), (None, (None,)), (1, ("c",)), (1, None)]),
    lambda r: r.choice([None, "0.01", "12345678901234567890123456789012345678.90"[-30:]]),
    lambda r: r.choice([None, 0, 3_600_000_000]),
]

settings.register_profile("spark", max_examples=2, deadline=None, derandomize=True, database=None)
SPARK = settings(settings.get_profile("spark"), suppress_health_check=[HealthCheck.function_scoped_fixture])


def random_row(r: random.Random, case: int) -> Row:
    # Few values per column, and mostly the first of them, so that rows repeat.
    keys = (case, r.choice([None, 1, 2]), r.choice([None, "x"]), r.choice([None, 1, 2, 3]))
    return (*keys, *(value(r) if r.random() < 0.3 else None for value in VALUES))


def changed(r: random.Random, rows: list[Row], case: int) -> list[Row]:
    """The same rows in another order, and in two of three cases with a fault or two."""
    other = list(rows)
    for _ in range(r.choice([0, 1, 2])):
        fault = r.choice(["drop", "double", "add", "value", "key"])
        if fault == "add" or not other:
            other.append(random_row(r, case))
            continue
        at = r.randrange(len(other))
        if fault == "drop":
            other.pop(at)
        elif fault == "double":
            other.append(other[at])
        else:
            place = r.randrange(1, 4) if fault == "key" else r.randrange(4, 4 + len(VALUES))
            row = random_row(r, case)
            value = row[place] if fault == "key" else VALUES[place - 4](r)
            other[at] = (*other[at][:place], value, *other[at][place + 1 :])
    r.shuffle(other)
    return other


def draw(seed: int) -> tuple[list[Row], list[Row]]:
    r = random.Random(seed)
    batch = {case: [random_row(r, case) for _ in range(r.randrange(0, 7))] for case in range(CASES)}
    stream = [row for case, rows in batch.items() for row in changed(r, rows, case)]
    return [row for rows in batch.values() for row in rows], stream


def typed(spark: SparkSession, rows: list[Row]) -> DataFrame:
    raw = spark.createDataFrame(rows, SCHEMA)
    amount, moment = F.col("amount_text").cast("decimal(38,2)"), F.timestamp_micros("micros")
    return raw.select(*raw.columns[:-2], amount.alias("amount"), moment.alias("ts")).persist()


def surplus(batch: DataFrame, stream: DataFrame) -> dict[str, Counter[int]]:
    """Rows that only one side has, by side and case, as Spark's own multiset difference sees it."""
    only_batch = batch.exceptAll(stream).select("case", F.lit("batch").alias("side"))
    only_stream = stream.exceptAll(batch).select("case", F.lit("stream").alias("side"))
    found: dict[str, Counter[int]] = {"batch": Counter(), "stream": Counter()}
    for row in only_batch.unionByName(only_stream).groupBy("side", "case").count().collect():
        found[row["side"]][row["case"]] = row["count"]
    return found


def unmatched(differences: DataFrame) -> dict[str, Counter[int]]:
    """The same, as the comparator sees it: a changed row is one on either side."""
    found: dict[str, Counter[int]] = {"batch": Counter(), "stream": Counter()}
    for row in differences.groupBy("key.case", "kind").count().collect():
        for side in found:
            if row["kind"] == "changed" or row["kind"].endswith(side):
                found[side][row["case"]] += row["count"]
    return found


@SPARK
@given(seed=st.integers(0, 2**32))
def test_what_differs_is_what_except_all_finds(spark_session: SparkSession, seed: int) -> None:
    rows = draw(seed)
    batch, stream = (typed(spark_session, side) for side in rows)
    expected = surplus(batch, stream)
    assert 0 < len(expected["batch"] | expected["stream"]) < CASES
    keys = ["case", "k", "name"]
    by_window, differences = compare_frames(batch, stream, keys=keys, window_column="w", sample_rows=0, every_key=True)
    assert unmatched(differences) == expected
    repeated = [sum(count > 1 for count in Counter(row[:3] for row in side).values()) for side in rows]
    assert [by_window.keys_repeated_batch, by_window.keys_repeated_stream] == repeated
    batch_once, stream_once = (side.dropDuplicates(keys).persist() for side in (batch, stream))
    expected_once = surplus(batch_once, stream_once)
    joined, differences = compare_frames(batch_once, stream_once, keys=keys, window_column="w")
    assert unmatched(differences) == expected_once
    assert (joined.keys_repeated_batch, joined.counts["duplicate_in_stream"]) == (0, 0)
    assert {json.loads(sample.key)["case"] for sample in joined.samples} <= set(
        expected_once["batch"] | expected_once["stream"]
    )
    by_key, differences = compare_frames(batch, stream, keys=["k", "case"], buckets=5, full=True, sample_rows=0)
    assert unmatched(differences) == expected
    assert by_key.audit == "agrees"
    for once in (batch_once, stream_once):
        once.unpersist()
    batch.unpersist()
    stream.unpersist()


def within(a: float | None, b: float | None, tolerance: Tolerance) -> bool:
    if a is None or b is None or math.isnan(a) or math.isnan(b):
        return a is b or (a is not None and b is not None and math.isnan(a) and math.isnan(b))
    if a == b:
        return True
    bound = tolerance.value * (max(abs(a), abs(b)) if tolerance.relative else 1.0)
    return math.isfinite(a) and math.isfinite(b) and abs(a - b) <= bound


def number(r: random.Random) -> float | None:
    exact = [None, 0.0, -0.0, math.nan, math.inf, -math.inf, 5e-324, 1.7e308, -1.7e308, 1.0, 2.0**53]
    return r.choice(exact) if r.random() < 0.3 else math.ldexp(r.uniform(-1, 1), r.randrange(-60, 60))


def neighbour(r: random.Random, x: float | None, tolerance: Tolerance) -> float | None:
    if x is None or not math.isfinite(x) or r.random() < 0.1:
        return number(r)
    step = tolerance.value * (abs(x) if tolerance.relative else 1.0)
    return x + step * r.choice([0, 0.01, 0.5, 1, 1, 1.0000001, 2, 1e-7]) * r.choice([-1, 1])


@pytest.mark.parametrize("tolerance", [absolute(1e-6), rel(1e-9)], ids=str)
def test_tolerances_are_what_python_works_out(spark_session: SparkSession, tolerance: Tolerance) -> None:
    r = random.Random(7)
    pairs = [(x, neighbour(r, x, tolerance)) for x in (number(r) for _ in range(3000))]
    sides = [
        spark_session.createDataFrame([(at, pair[side]) for at, pair in enumerate(pairs)], "k int, x double")
        for side in (0, 1)
    ]
    comparison, differences = compare_frames(*sides, keys=["k"], tolerances={"x": tolerance}, full=True, buckets=1000)
    found = {row["k"] for row in differences.select("key.k").collect()}
    expected = {at for at, (a, b) in enumerate(pairs) if not within(a, b, tolerance)}
    assert found == expected
    assert 100 < len(expected) < 2900
    assert comparison.audit == "agrees"


def matching(batch: list[float], stream: list[float], bound: float) -> int:
    """How many rows can be paired one to one, by trying augmenting paths."""
    partner: dict[int, int] = {}

    def place(at: int, seen: set[int]) -> bool:
        for other, value in enumerate(stream):
            if abs(batch[at] - value) <= bound and other not in seen:
                seen.add(other)
                if other not in partner or place(partner[other], seen):
                    partner[other] = at
                    return True
        return False

    return sum(place(at, set()) for at in range(len(batch)))


def test_copies_of_a_key_are_equal_if_there_is_any_way_to_pair_them(spark_session: SparkSession) -> None:
    r = random.Random(11)
    cases = [[[r.randrange(0, 12) / 4 for _ in range(r.randrange(1, 5))] for _ in range(2)] for _ in range(300)]
    rows = [[(at, value) for at, case in enumerate(cases) for value in case[side]] for side in (0, 1)]
    sides = [spark_session.createDataFrame(side, "k int, x double") for side in rows]
    comparison, differences = compare_frames(*sides, keys=["k"], tolerances={"x": 1.0}, full=True)
    found = {row["k"] for row in differences.select("key.k").distinct().collect()}
    equal = {
        at for at, (batch, stream) in enumerate(cases) if len(batch) == len(stream) == matching(batch, stream, 1.0)
    }
    assert found == set(range(len(cases))) - equal
    assert equal
    assert comparison.audit == "agrees"
