"""Numbers in one cell are within the tolerance; noise seldom leaves a cell."""

from __future__ import annotations

import math

import pytest
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from twinrun.comparator.values import hash_terms, same
from twinrun.tolerance import Tolerance, absolute, rel

PAIRS = 40_000


def pairs(spark: SparkSession, spread: float) -> DataFrame:
    """Doubles of all magnitudes and signs, each with a neighbour at most ``spread`` away, as a share."""
    exponent = F.rand(1) * F.lit(60) - F.lit(30)
    left = F.when(F.rand(2) < 0.5, F.lit(-1.0)).otherwise(F.lit(1.0)) * F.pow(F.lit(2.0), exponent)
    numbers = spark.range(0, PAIRS, 1, 2).select(left.alias("x"), F.rand(3).alias("r"))
    # Powers of two and halves of cells are where a logarithm or a rounding would go wrong.
    nice = F.when(F.col("r") < 0.1, F.pow(F.lit(2.0), F.floor(F.log2(F.abs("x"))))).otherwise(F.col("x"))
    other = F.col("a") * (F.lit(1.0) + (F.rand(4) * F.lit(2.0) - F.lit(1.0)) * F.lit(spread))
    return numbers.select(nice.alias("a")).select("a", other.alias("b"))


def one_cell(left: Column, right: Column, dtype: T.DataType, cells: Tolerance) -> Column:
    terms = zip(hash_terms(left, dtype, cells), hash_terms(right, dtype, cells), strict=True)
    agree = F.lit(True)
    for mine, other in terms:
        agree = agree & mine.eqNullSafe(other)
    return agree


@pytest.mark.parametrize(("dtype", "tolerance", "wider"), [
    (T.DoubleType(), absolute(1e-3), absolute(8e-3)),
    (T.DoubleType(), rel(1e-6), rel(8e-6)),
    (T.FloatType(), rel(1e-4), rel(8e-4)),
    (T.DecimalType(38, 6), absolute(3e-3), absolute(0.3)),
    (T.LongType(), absolute(250.0), absolute(25_000.0)),
])  # fmt: skip
def test_one_cell_means_within_the_tolerance(
    spark_session: SparkSession, dtype: T.DataType, tolerance: Tolerance, wider: Tolerance
) -> None:
    spread = max(tolerance.value, 1e-6) if tolerance.relative else 1e-3
    table = pairs(spark_session, 4 * spread).select(
        F.col("a").cast(dtype).alias("a"), F.col("b").cast(dtype).alias("b")
    )
    a, b = F.col("a"), F.col("b")
    within = same(a, b, dtype, tolerance)
    row = table.agg(
        F.count_if(one_cell(a, b, dtype, tolerance) & ~within).alias("wrong"),
        F.count_if(one_cell(a, b, dtype, tolerance)).alias("sharing"),
        F.count_if(one_cell(a, b, dtype, wider) & ~within).alias("wrong_if_wider"),
        F.count_if(within != same(b, a, dtype, tolerance)).alias("asymmetric"),
    ).collect()[0]
    assert (row["wrong"], row["asymmetric"]) == (0, 0)
    assert row["sharing"] > 0
    assert row["wrong_if_wider"] > 0


def test_noise_in_the_last_bit_seldom_leaves_its_cell(spark_session: SparkSession) -> None:
    table = pairs(spark_session, 2.0**-52).where("a != b")
    a, b, double = F.col("a"), F.col("b"), T.DoubleType()
    row = table.agg(
        F.count(F.lit(1)).alias("rows"),
        F.count_if(~one_cell(a, b, double, rel(1e-9))).alias("left"),
        F.count_if(~(F.xxhash64("a") == F.xxhash64("b"))).alias("raw"),
    ).collect()[0]
    assert row["rows"] == row["raw"] > PAIRS / 10
    assert row["left"] < row["rows"] / 1000


def test_raw_values_never_meet_the_numbers_of_cells(spark_session: SparkSession) -> None:
    # With cells of 2^-11, 2^43 is beyond 2^53 cells and hashed raw; 2^32 lies in the cell whose number is 2^43.
    tolerance, double = absolute(2.0**-10), T.DoubleType()
    table = spark_session.sql(
        "select double(v) * pow(2D, 40) as a, double(v) * pow(2D, 29) as b from values (8.0), (16.0) as t(v)"
    )
    row = table.agg(
        F.count_if(one_cell(F.col("a"), F.col("b"), double, tolerance)).alias("same"),
        F.count_if(F.col("a") == F.rint(F.col("b") * F.lit(2.0**11))).alias("meet"),
    ).collect()[0]
    assert row["same"] == 0
    assert row["meet"] == 2


EDGES = (2.0**900, 2.0**1023, 1.7976931348623157e308, 2.0**-1022, 2.0**-1030, 5e-324, 0.0)


@pytest.mark.parametrize("tolerance", [rel(0.9), rel(1e-9), rel(1e-15), absolute(1e300), absolute(1e-300)], ids=str)
def test_no_cell_reaches_too_far_at_the_edges_of_doubles(spark_session: SparkSession, tolerance: Tolerance) -> None:
    """Where scaling overflows or digits run out: also infinities and NaN share no cell with anything else."""
    near = [edge * factor for edge in EDGES for factor in (1.0, 1 - 2**-40, 1 + 2**-40, 1 - 1e-9, 0.5, 0.75, 1.25)]
    values = [*near, *(-each for each in near), math.inf, -math.inf, math.nan]
    table = spark_session.createDataFrame([(value,) for value in values], "a double")
    rows = table.crossJoin(table.withColumnRenamed("a", "b"))
    a, b, double = F.col("a"), F.col("b"), T.DoubleType()
    shared = one_cell(a, b, double, tolerance)
    row = rows.agg(
        F.count_if(shared & ~same(a, b, double, tolerance)).alias("wrong"),
        F.count_if(a.eqNullSafe(b) & ~shared).alias("apart"),
        F.count_if(shared & ~a.eqNullSafe(b)).alias("sharing"),
    ).collect()[0]
    assert (row["wrong"], row["apart"]) == (0, 0)
    # The smallest bounds have no cells among these numbers.
    assert row["sharing"] > 0 or tolerance.value in (1e-15, 1e-300)
