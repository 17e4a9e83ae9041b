"""What a good engineer would write by hand in plain PySpark, for bench/overhead.py: nothing of twinrun computes here.

As a script it compares two Delta tables in a process of its own, with the session that twinrun would start for them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

SCHEMA = "id string, at bigint, page string, amount decimal(10,2), weight double"
LATENESS = "10 seconds"


def parsed(records: DataFrame) -> DataFrame:
    """Events of Kafka's values, with a time; records without id, time or page are left out."""
    events = records.select(F.from_json(F.col("value").cast("string"), SCHEMA).alias("event")).select("event.*")
    complete = events.where("id is not null and at is not null and page is not null")
    return complete.withColumn("at", F.timestamp_millis("at"))


def per_minute(events: DataFrame) -> DataFrame:
    """Clicks, amount and mean weight per page and minute."""
    grouped = events.groupBy("page", F.window("at", "1 minute")).agg(
        F.count(F.lit(1)).alias("clicks"), F.sum("amount").alias("amount"), F.avg("weight").alias("weight")
    )
    return grouped.select("page", F.col("window.start").alias("window_start"), "clicks", "amount", "weight")


def stream(spark: SparkSession, servers: str, topic: str, per_micro_batch: int, folder: Path) -> None:
    """Read a topic to its end in micro-batches, each appended to Delta once."""
    records = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", servers)
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", per_micro_batch)
        .load()
    )
    results = str(folder / "results")

    def write(rows: DataFrame, micro_batch: int) -> None:
        once = {"txnAppId": str(folder), "txnVersion": str(micro_batch)}
        rows.write.format("delta").mode("append").options(**once).save(results)

    query = (
        per_minute(parsed(records).withWatermark("at", LATENESS))
        .writeStream.outputMode("append")
        .option("checkpointLocation", str(folder / "checkpoint"))
        .foreachBatch(write)
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()


def batch(spark: SparkSession, bronze: str, folder: Path, *, keep_events: bool) -> None:
    """From the raw records in Delta to the results in Delta; with the events in a table between them, or without."""
    events = parsed(spark.read.format("delta").load(bronze))
    if keep_events:
        events.write.format("delta").mode("overwrite").save(str(folder / "events"))
        events = spark.read.format("delta").load(str(folder / "events"))
    per_minute(events).write.format("delta").mode("overwrite").save(str(folder / "results"))


def differences(left: DataFrame, right: DataFrame, keys: Sequence[str], relative: dict[str, float]) -> DataFrame:
    """How many rows only one side has, and how many differ: a full outer join, null-safe; one row."""
    values = [name for name in left.columns if name in right.columns and name not in keys]
    sides = [
        frame.select(*(F.col(name).alias(f"{side}_{name}") for name in [*keys, *values]), F.lit(True).alias(side))
        for side, frame in (("a", left), ("b", right))
    ]
    on = [F.col(f"a_{name}").eqNullSafe(F.col(f"b_{name}")) for name in keys]
    joined = sides[0].join(sides[1], reduce(lambda x, y: x & y, on), "full_outer")
    both = F.col("a").isNotNull() & F.col("b").isNotNull()
    agree = [_agree(F.col(f"a_{name}"), F.col(f"b_{name}"), relative.get(name)) for name in values]
    return joined.agg(
        F.count_if(both).alias("matched"),
        F.count_if(F.col("b").isNull()).alias("only_batch"),
        F.count_if(F.col("a").isNull()).alias("only_stream"),
        F.count_if(both & ~reduce(lambda x, y: x & y, agree)).alias("changed"),
    )


def _agree(left: Column, right: Column, relative: float | None) -> Column:
    same = left.eqNullSafe(right)
    if relative is None:
        return same
    near = F.abs(left - right) <= F.lit(relative) * F.greatest(F.abs(left), F.abs(right))
    return same | F.coalesce(near, F.lit(False))


def compare_results(spark: SparkSession, batch_table: str, stream_table: str) -> dict[str, int]:
    """The counts of two tables of results, by page and minute."""
    left, right = (spark.read.format("delta").load(table) for table in (batch_table, stream_table))
    return differences(left, right, ["page", "window_start"], {"weight": 1e-9}).collect()[0].asDict()


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare two tables of results and print the counts."""
    from twinrun.session.settings import by_size, tables_size
    from twinrun.session.spark import build_session, stop_session

    parser = argparse.ArgumentParser()
    parser.add_argument("batch")
    parser.add_argument("stream")
    asked = parser.parse_args(arguments)
    settings = by_size({}, tables_size([asked.batch, asked.stream]), master="local[2]")
    spark = build_session("by-hand", settings)
    try:
        print(json.dumps(compare_results(spark, asked.batch, asked.stream)))
    finally:
        stop_session(spark)
    return 0


if __name__ == "__main__":
    sys.exit(main())
