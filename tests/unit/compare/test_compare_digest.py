"""The traps of hashing rows: each test first shows that the naive way falls into it."""

from __future__ import annotations

import pytest
from pyspark.errors import ArithmeticException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.comparator.digest import bad_groups, digest, overview, paired_digests, prepare, row_digests, row_hashes
from twinrun.comparator.schema import SchemaPlan, plan_schema

ALIKE = {
    "null first, null last": ("struct<a:int,b:int>", "named_struct('a',1,'b',null)", "named_struct('a',null,'b',1)"),
    "null element moves": ("array<int>", "array(1,null)", "array(null,1)"),
    "null element left out": ("array<int>", "array(1,null)", "array(1)"),
    "empty and null array": ("array<int>", "array()", "null"),
    "array of arrays": ("array<array<int>>", "array(array(1),array(2))", "array(array(1,2))"),
    "struct of nulls and null": ("struct<a:int,b:int>", "named_struct('a',null,'b',null)", "null"),
    "null struct inside an array": ("array<struct<a:int>>", "array(named_struct('a',null))", "array(null)"),
}


def planned(batch: DataFrame, stream: DataFrame, window: str | None = "w") -> tuple[DataFrame, DataFrame, SchemaPlan]:
    plan = plan_schema(batch.schema, stream.schema, ["k"], window, {})
    return prepare(batch, plan, "batch", None, 8), prepare(stream, plan, "stream", None, 8), plan


def rows(spark: SparkSession, *values: str) -> DataFrame:
    return spark.sql(f"select * from values {', '.join(values)} as t(k, w, v)")


@pytest.mark.parametrize("name", ALIKE)
def test_rows_that_xxhash64_takes_for_the_same_are_told_apart(spark_session: SparkSession, name: str) -> None:
    dtype, left, right = ALIKE[name]
    table = spark_session.sql(
        f"select 1 k, v from values (cast({left} as {dtype})), (cast({right} as {dtype})) as t(v)"
    )
    plan = plan_schema(table.schema, table.schema, ["k"], None, {})
    hashes = row_hashes(plan, range(2))
    frame = prepare(table, plan, "batch", None, 8)
    ours, naive = (
        frame.agg(F.count_distinct(hashes[0]), F.count_distinct(hashes[1])).collect()[0],
        naive_hash_count(table),
    )
    assert naive == 1
    assert tuple(ours) == (2, 2)


def naive_hash_count(table: DataFrame) -> int:
    return table.select(F.xxhash64("v")).distinct().count()


def test_nulls_of_two_columns_are_told_apart(spark_session: SparkSession) -> None:
    # 70 columns: the bitmap needs a second word.
    names = [f"v{number}" for number in range(70)]
    sides = [
        spark_session.range(1).select(F.lit(1).alias("k"), *(one(name == hit).alias(name) for name in names))
        for hit in ("v1", "v2", "v68", "v69")
    ]
    union = sides[0].unionByName(sides[1]).unionByName(sides[2]).unionByName(sides[3])
    plan = plan_schema(union.schema, union.schema, ["k"], None, {})
    hashes = row_hashes(plan, range(71))
    assert union.select(F.xxhash64(*names)).distinct().count() == 1
    assert prepare(union, plan, "batch", None, 8).select(hashes[0]).distinct().count() == 4


def one(here: bool) -> Column:
    return F.when(F.lit(here), F.lit(7))


def test_two_copies_of_one_row_are_not_two_copies_of_another(spark_session: SparkSession) -> None:
    batch, stream = rows(spark_session, "(1,1,'a')", "(1,1,'a')"), rows(spark_session, "(1,1,'b')", "(1,1,'b')")
    xors = [side.agg(F.bit_xor(F.xxhash64("k", "w", "v"))).collect()[0][0] for side in (batch, stream)]
    assert xors == [0, 0]
    left, right, plan = planned(batch, stream)
    assert [tuple(row) for row in bad_groups(digest(left, plan), digest(right, plan)).collect()] == [(1, 2, 2)]


def test_sums_do_not_overflow(spark_session: SparkSession) -> None:
    table = spark_session.range(1000).select(F.col("id").alias("k"), F.lit(1).alias("w"), F.lit(0).alias("v"))
    positive = table.where(F.xxhash64("k") > 0)
    with pytest.raises(ArithmeticException):
        positive.agg(F.sum(F.xxhash64("k"))).collect()
    left, right, plan = planned(positive, positive.repartition(3))
    assert bad_groups(digest(left, plan), digest(right, plan)).count() == 0


def test_groups_pair_null_safely_and_digests_add_up(spark_session: SparkSession) -> None:
    batch = rows(spark_session, "(1,1,'a')", "(2,null,'a')", "(3,2,'a')", "(4,4,'x')")
    stream = rows(spark_session, "(2,null,'a')", "(1,1,'a')", "(3,3,'a')", "(4,4,'y')")
    left, right, plan = planned(batch, stream)
    expected = {(2, 1, 0), (3, 0, 1), (4, 1, 1)}
    by_side = bad_groups(digest(left, plan), digest(right, plan))
    by_row = bad_groups(row_digests(left, plan), row_digests(right, plan))
    assert {tuple(row) for row in by_side.collect()} == {tuple(row) for row in by_row.collect()} == expected
    seen = overview(paired_digests(digest(left, plan), digest(right, plan)), plan)
    assert (seen.rows_batch, seen.rows_stream, seen.groups, seen.groups_unequal) == (4, 4, 5, 3)
    assert sorted(seen.unequal) == ["v2", "v3", "v4"]


def test_two_wrongs_that_keep_plain_sums_are_seen(spark_session: SparkSession) -> None:
    # Same count, same sum of every column, per window: only the rows differ.
    batch, stream = rows(spark_session, "(1,1,1)", "(2,1,2)"), rows(spark_session, "(1,1,2)", "(2,1,1)")
    left, right, plan = planned(batch, stream)
    assert bad_groups(digest(left, plan), digest(right, plan)).count() == 1
    left, right, plan = planned(batch, batch.orderBy(F.desc("k")))
    assert bad_groups(digest(left, plan), digest(right, plan)).count() == 0


def test_without_a_window_rows_are_grouped_by_key(spark_session: SparkSession) -> None:
    batch = rows(spark_session, *(f"({number},{number % 3},'a')" for number in range(20)))
    stream = batch.withColumn("v", F.when(F.col("k") == 7, F.lit("b")).otherwise(F.col("v")))
    left, right, plan = planned(batch, stream, window=None)
    bad = bad_groups(digest(left, plan), digest(right, plan)).collect()
    assert len(bad) == 1
    assert digest(left, plan).count() > 1
    assert left.where((F.col("grp") == bad[0]["grp"]) & (F.col("c0") == 7)).count() == 1
