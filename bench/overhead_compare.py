"""Part e of bench/overhead.py: a comparison of two tables beside a bare scan of both, and exact peers."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from bench import overhead_by_hand as by_hand
from bench.overhead import PEERS, Case, Goal, Work
from twinrun.comparator.tables import compare_frames
from twinrun.session.jars import jar_paths
from twinrun.session.spark import build_session, stop_session
from twinrun.tolerance import rel

KEYS = ["k", "w"]
RELATIVE = {"x": 1e-9, "y": 1e-9}
PER_WINDOW = 1000
GOALS = {"equal": 1.5, "1 % of windows bad, in a cluster": 2.5, "10 % of windows bad, scattered": 4.0}
_PEERS = ("full outer join", "exceptAll both ways", "pyspark-extension", "datacompy")


def comparisons(asked: argparse.Namespace) -> Iterator[Case]:
    """Three pairs of tables, each compared in every way."""
    conf = {
        "spark.driver.memory": asked.driver_memory,
        "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:ReservedCodeCacheSize=256m",
    }
    extension = sorted((PEERS / "pyspark" / "jars").glob("spark-extension_*.jar"))
    if extension:
        conf["spark.jars"] = ",".join(map(str, [*jar_paths("spark"), *extension]))
    with tempfile.TemporaryDirectory(prefix="twinrun-overhead-") as folder:
        spark = build_session("twinrun-overhead", {**conf, "spark.sql.warehouse.dir": f"{folder}/spark"})
        try:
            make_tables(spark, Path(folder), asked.rows)
            for name, most in GOALS.items():
                yield _case(spark, Path(folder), name, most, asked.rows)
        finally:
            stop_session(spark)


def make_tables(spark: SparkSession, folder: Path, rows: int) -> None:
    """The batch's table, and one of the stream per case: laid out by window as well, in another order inside."""
    spark_id = F.col("id")
    base = spark.range(0, rows, 1, 4).select(
        spark_id.cast("int").alias("k"),
        F.timestamp_seconds(F.lit(1_600_000_000) + F.floor(spark_id / PER_WINDOW) * 60).alias("w"),
        F.concat(F.lit("category-"), F.pmod(F.xxhash64("id"), F.lit(50)).cast("string")).alias("text"),
        _number(1, 1_000_000_000_000).alias("n"),
        (_number(2, 1_000_000_007) / F.lit(7.0)).alias("x"),
        (_number(3, 1_000_003) / F.lit(997.0)).alias("y"),
    )
    windows = max(rows // PER_WINDOW, 1)
    window = F.floor(F.col("k") / PER_WINDOW)
    few = max(windows // 100, 1)
    cluster = (window >= windows // 2) & (window < windows // 2 + few) & _one_in(10, "k")
    scattered = (F.pmod(F.xxhash64(window), F.lit(10)) == 0) & _one_in(100, "k")
    base.write.format("delta").save(str(folder / "batch"))
    for name, hit in zip(GOALS, (F.lit(False), cluster, scattered), strict=True):
        # Of the rows that are hit one in five is missing, the others have another number.
        other = base.where(~(hit & (F.col("k") % 5 == 0)))
        other = other.withColumn("n", F.when(hit, F.col("n") + 1).otherwise(F.col("n")))
        ordered = other.repartitionByRange(4, "w").sortWithinPartitions("w", F.xxhash64("k", F.lit(9)))
        ordered.write.format("delta").save(str(folder / _folder(name)))


def _case(spark: SparkSession, folder: Path, name: str, most: float, rows: int) -> Case:
    def left() -> DataFrame:
        return spark.read.format("delta").load(str(folder / "batch"))

    def right() -> DataFrame:
        return spark.read.format("delta").load(str(folder / _folder(name)))

    found: dict[str, Any] = {}

    def scan(_: int) -> None:
        for table in (left(), right()):
            table.write.format("noop").mode("overwrite").save()

    def ours(_: int) -> None:
        tolerances = {column: rel(share) for column, share in RELATIVE.items()}
        compared, _rows = compare_frames(left(), right(), keys=KEYS, window_column="w", tolerances=tolerances)
        found["compare"] = {**compared.counts, "windows_different": compared.windows_different}

    def join(_: int) -> None:
        found["full outer join"] = by_hand.differences(left(), right(), KEYS, RELATIVE).collect()[0].asDict()

    def except_all(_: int) -> None:
        a, b = left(), right()
        found["exceptAll both ways"] = [a.exceptAll(b).count(), b.exceptAll(a).count()]

    def extension(_: int) -> None:
        from gresearch.spark.diff import diff  # type: ignore[import-not-found,unused-ignore]

        counted = diff(left(), right(), *KEYS).groupBy("diff").count().collect()
        found["pyspark-extension"] = {row["diff"]: row["count"] for row in counted}

    def datacompy(_: int) -> None:
        from datacompy.spark import SparkSQLCompare  # type: ignore[import-not-found,unused-ignore]

        compared = SparkSQLCompare(spark, left(), right(), join_columns=KEYS, rel_tol=1e-9)
        compared.report()
        found["datacompy"] = {"matches": compared.matches()}

    works = [
        Work("scan of both", scan),
        Work("compare", ours),
        Work("full outer join", join),
        Work("exceptAll both ways", except_all),
        Work("pyspark-extension", extension),
        Work("datacompy", datacompy, rounds=1),
    ]
    goal = Goal("compare", "scan of both", most, peers=_PEERS)
    return Case("e", f"compare {rows:,} rows: {name}", works, [goal], facts=lambda: found)


def _number(seed: int, below: int) -> Column:
    return F.pmod(F.xxhash64("id", F.lit(seed)), F.lit(below))


def _one_in(many: int, column: str) -> Column:
    return F.pmod(F.xxhash64(column, F.lit(5)), F.lit(many)) == 0


def _folder(name: str) -> str:
    return "stream_" + "".join(each for each in name if each.isalnum())
