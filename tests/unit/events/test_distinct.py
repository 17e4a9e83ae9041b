"""De-duplication that a source declares: which copy the batch keeps, and what the declaration changes."""

from __future__ import annotations

from dataclasses import replace

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from twinrun import Source
from twinrun.events.decode import decoder_fingerprint, distinct_in_batch

PLAIN = Source("s", schema="id STRING, at BIGINT NOT NULL", event_time="at", lateness="10 seconds")
ONCE = replace(PLAIN, distinct=["id"])


def test_the_batch_keeps_the_copy_that_came_first(spark_session: SparkSession) -> None:
    rows = [("a", 5, 0, 7, 300), ("a", 9, 1, 2, 100), ("a", 1, 0, 1, 200), (None, 3, 0, 9, 1), (None, 4, 0, 8, 2)]
    events = spark_session.createDataFrame(
        rows, "id STRING, at BIGINT, _partition INT, _offset BIGINT, _kafka_timestamp BIGINT"
    ).withColumn("_topic", F.lit("t"))
    kept = distinct_in_batch(events, ONCE).select("id", "at").collect()
    assert sorted(tuple(row) for row in kept if row["id"]) == [("a", 9)]
    assert [row["at"] for row in kept if row["id"] is None] == [3]  # null is an id like any other, as in Spark
    assert distinct_in_batch(events, ONCE).columns == events.columns
    assert distinct_in_batch(events, PLAIN) is events


def test_the_declaration_does_not_make_decoded_events_void() -> None:
    assert decoder_fingerprint(PLAIN) == decoder_fingerprint(ONCE)
