"""The query of bench/stream.py as one would write it in plain PySpark: from Kafka's JSON to Delta, or to Kafka.

Runs until it is ended by SIGTERM. Nothing of twinrun computes here; the session has the settings that twinrun's has.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun.session.spark import build_session, stop_session

SCHEMA = "id string, at bigint, shop string, cents bigint"
LATENESS = "10 seconds"
REAL_TIME = "5 minutes"
"""How often the real-time trigger writes its offsets down; rows come meanwhile."""


def per_minute(orders: DataFrame) -> DataFrame:
    """Orders and cents per shop and minute."""
    grouped = orders.groupBy("shop", F.window("at", "1 minute")).agg(
        F.count(F.lit(1)).alias("orders"), F.sum("cents").alias("cents")
    )
    return grouped.select("shop", F.col("window.start").alias("window_start"), "orders", "cents")


def single(orders: DataFrame) -> DataFrame:
    """Orders with their minute."""
    return orders.select("id", "shop", F.date_trunc("minute", "at").alias("minute"), "cents")


def main() -> None:
    """Start the query, and end it on SIGTERM."""
    parser = argparse.ArgumentParser()
    for name in ("servers", "topic", "out", "checkpoint"):
        parser.add_argument(name)
    parser.add_argument("--kafka", action="store_true", help="OUT is a topic, and each row goes there when it changes")
    parser.add_argument("--rows", action="store_true", help="each order as a row of its own, instead of windows")
    parser.add_argument("--real-time", action="store_true", help="with Spark's real-time trigger")
    asked = parser.parse_args()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    # The real-time trigger runs the tasks of all partitions at the same time: it asks for slots, not for cores.
    master = "local[6]" if asked.real_time else "local[2]"
    spark = build_session("by-hand", {"spark.driver.memory": "2g"}, master=master)
    records = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", asked.servers)
        .option("subscribe", asked.topic)
        .option("startingOffsets", "earliest")
        .load()
    )
    orders = records.select(F.from_json(F.col("value").cast("string"), SCHEMA).alias("o")).select("o.*")
    orders = orders.where("id is not null and at is not null and shop is not null")
    timed = orders.withColumn("at", F.timestamp_millis("at"))
    rows = single(timed) if asked.rows else per_minute(timed.withWatermark("at", LATENESS))
    if asked.kafka:
        rows = rows.select(F.to_json(F.struct("*")).alias("value"))
        writer = rows.writeStream.format("kafka").option("kafka.bootstrap.servers", asked.servers)
        writer = writer.option("topic", asked.out).outputMode("update")
    else:
        writer = rows.writeStream.format("delta").outputMode("append").option("path", asked.out)
    if asked.real_time:
        writer = writer.trigger(realTime=REAL_TIME)
    query = writer.option("checkpointLocation", asked.checkpoint).start()
    while not ended.wait(0.5) and query.isActive:
        pass
    failed = query.exception()
    query.stop()
    stop_session(spark)
    if failed is not None:
        sys.exit(str(failed)[:2000])


if __name__ == "__main__":
    main()
