"""Arrived late or read late: by the order in which Kafka got the events, of each partition and of each source."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun import Source
from twinrun.explain.arrival import Read, arrivals, by_partition, with_arrival, with_behind
from twinrun.explain.judge import Shown, notes_on_lateness, read_late
from twinrun.explain.used import PASSED_FROM
from twinrun.results.verdict import Arrival, PartitionBehind, WatermarkOf

CLICKS = Source("clicks", schema="id STRING, at BIGINT", event_time="at", lateness="10 seconds", id=["id"])
ORDERS = replace(CLICKS, name="orders", lateness="20 seconds")
# partition, offset, event time (s), Kafka timestamp (s), micro-batch
ROWS = [
    (0, 0, 50.0, 50.0, 0),
    (0, 1, 100.0, 100.0, 0),
    (0, 2, 200.0, 200.0, 1),
    (0, 3, 70.0, 99.999, 2),  # stamped before 100 s, though its partition had held that for long
    (1, 0, 10.0, 10.0, 0),
    (1, 1, 60.0, 60.0, 1),
    (1, 2, 70.0, 99.999, 2),
    (1, 3, 71.0, 100.0, 2),
    (2, 0, 65.0, 65.0, 3),
]
LATE = {  # of what ended at 90 s: 100 s is the first event that moves the watermark past it
    (0, 3): "arrived_late",
    (1, 2): "read_late",
    (1, 3): "arrived_late",
    (2, 0): "read_late",
}


def read(spark: SparkSession, source: Source, rows: list[tuple[int, int, float, float, int]]) -> Read:
    frame = spark.createDataFrame(rows, "p INT, o BIGINT, at DOUBLE, k DOUBLE, b BIGINT")
    marked = frame.select(
        F.timestamp_millis((F.col("at") * 1000).cast("bigint")).alias("at"),
        F.timestamp_millis((F.col("k") * 1000).cast("bigint")).alias("_kafka_timestamp"),
        F.lit(source.name).alias("_topic"),
        F.col("p").alias("_partition"),
        F.col("o").alias("_offset"),
        F.col("b").alias("_micro_batch"),
        F.lit(True).alias("_stream_used"),
    )
    return Read(source, source.name, marked.localCheckpoint())


def late(spark: SparkSession, places: list[tuple[int, int]], end_s: float = 90.0) -> DataFrame:
    known = {(p, o): (k, b) for p, o, _, k, b in ROWS}
    rows = [("clicks", p, o, known[p, o][1], int(known[p, o][0] * 1000), int(end_s * 1000)) for p, o in places]
    schema = "topic STRING, partition INT, offset BIGINT, micro_batch BIGINT, known_at_ms BIGINT, window_end_ms BIGINT"
    return spark.createDataFrame(rows, schema).withColumn(PASSED_FROM, F.col("window_end_ms"))


def found(frame: DataFrame) -> dict[tuple[int, int], tuple[str, int | None]]:
    return {(r["partition"], r["offset"]): (r["arrival"], r["passed_at_ms"]) for r in frame.collect()}


def test_an_event_was_read_late_if_it_lay_in_kafka_before_anything_that_passed_its_window(
    spark_session: SparkSession,
) -> None:
    rows = with_arrival(late(spark_session, list(LATE)), [read(spark_session, CLICKS, ROWS)])
    assert found(rows) == {place: (how, 100_000) for place, how in LATE.items()}


def test_ends_far_apart_and_just_beyond_an_event_are_told_apart(spark_session: SparkSession) -> None:
    clicks = read(spark_session, CLICKS, ROWS)
    ends = {0.0: None, 40.0: 50_000, 40.001: 60_000, 60.001: 100_000, 90.001: 200_000, 190.0: 200_000, 190.001: None}
    parts = [late(spark_session, [(2, 0)], end) for end in ends]
    together = parts[0]
    for part in parts[1:]:
        together = together.unionByName(part)
    rows = with_arrival(together, [clicks]).select("window_end_ms", "passed_at_ms", "arrival").collect()
    # At 0 s, which is 1970, no event has moved the watermark there: it begins so. 50 s is the first beyond 40 s.
    assert {row[0] / 1000: row[1] for row in rows} == ends
    assert {row[0] / 1000: row[2] for row in rows}[190.001] == "not_told"


def test_an_end_between_two_milliseconds_is_passed_by_the_later_one(spark_session: SparkSession) -> None:
    """40.0005 s: what lets the watermark reach 40.000 s (at 50 s) has not passed it, what goes beyond (60 s) has."""
    clicks = read(spark_session, CLICKS, ROWS)
    rows = late(spark_session, [(2, 0)], 40.0).withColumn(PASSED_FROM, F.lit(40_001).cast("bigint"))
    judged = with_arrival(rows, [clicks])
    assert PASSED_FROM not in judged.columns
    assert [row["passed_at_ms"] for row in judged.collect()] == [60_000]


def test_of_many_windows_the_same_is_found_without_sending_them_to_every_executor(
    spark_session: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = with_arrival(late(spark_session, list(LATE)), [read(spark_session, CLICKS, ROWS)])
    assert "ResolvedHint (strategy=broadcast)" in plan_of(few)
    monkeypatch.setattr("twinrun.comparator.digest.MOST_SENT", 0)
    many = with_arrival(late(spark_session, list(LATE)), [read(spark_session, CLICKS, ROWS)])
    assert "ResolvedHint" not in plan_of(many)
    assert found(many) == found(few)


def plan_of(frame: DataFrame) -> str:
    return str(frame._jdf.queryExecution().analyzed())  # type: ignore[operator]


def test_of_several_sources_the_last_to_get_there_counts(spark_session: SparkSession) -> None:
    orders = read(spark_session, ORDERS, [(0, 0, 110.0, 150.0, 0), (0, 1, 109.999, 1.0, 0)])
    rows = with_arrival(late(spark_session, [(0, 3), (1, 3)]), [read(spark_session, CLICKS, ROWS), orders])
    # Its own partition had got to 200 s by Kafka's clock, so that 150 s was there before it.
    assert found(rows) == {(0, 3): ("arrived_late", 150_000), (1, 3): ("read_late", 150_000)}


@pytest.fixture
def log(spark_session: SparkSession) -> DataFrame:
    return spark_session.range(4).withColumnRenamed("id", "micro_batch")


def test_a_partition_is_behind_since_it_was_more_than_the_lateness_behind(
    spark_session: SparkSession, log: DataFrame
) -> None:
    class Cut:
        micro_batches = log

    clicks = read(spark_session, CLICKS, ROWS)
    rows = by_partition(clicks, Cut()).collect()  # type: ignore[arg-type]
    since = {(r["partition"], r["micro_batch"]): r["since"] for r in rows}
    assert [since[0, n] for n in range(4)] == [None] * 4
    assert [since[1, n] for n in range(4)] == [0, 0, 0, 0]
    assert [since[2, n] for n in range(4)] == [0, 0, 0, 0]

    named = with_arrival(late(spark_session, list(LATE)), [clicks])
    counted = arrivals(named).answer()
    assert counted == Arrival(2, 2, 0)
    assert with_behind(counted, named, [clicks], Cut()) == Arrival(  # type: ignore[arg-type]
        2,
        2,
        0,
        # Before micro-batch 2 partition 1 had come to 60 s of 200; of partition 2 nothing had been read.
        (PartitionBehind("clicks", 1, 1, 0, 140_000), PartitionBehind("clicks", 2, 1, 0, None)),
    )


def test_events_that_an_older_twinrun_named_are_not_told(spark_session: SparkSession) -> None:
    assert arrivals(late(spark_session, [(1, 2)])).answer() == Arrival(0, 0, 1)


def test_the_note_says_who_was_behind_and_what_helps() -> None:
    one = Arrival(0, 1, 0, (PartitionBehind("clicks", 2, 1, None, None),))
    assert read_late(one) == (
        "1 late event lay in Kafka before anything that moved the watermark past the end of their window, and was read "
        "late. What was read behind the others: partition 2 of clicks (1 event). A longer lateness is not the remedy: "
        "spread the records evenly over the partitions, or read more of them per trigger "
        "(stream.max_offsets_per_trigger), so that all partitions keep up with each other."
    ).replace("end of their window", "end of its window")
    several = Arrival(3, 2, 0, (PartitionBehind("clicks", 2, 2, 4, 185_000),))
    assert read_late(several).startswith("2 of 5 late events lay in Kafka before anything that moved the watermark")
    assert "partition 2 of clicks since micro-batch 4, up to 3 min 5 s behind the newest event" in read_late(several)


def test_notes_name_the_condition_and_what_cannot_be_told() -> None:
    shown = Shown((), (), (), (), (), (WatermarkOf("clicks", 1, "status >= 400"), WatermarkOf("orders", 1, "", False)))
    filtered, not_told = notes_on_lateness(0, shown)
    assert filtered.startswith("The watermark of clicks follows only the events with status >= 400: Spark applies this")
    assert not_told.startswith("The plan does not say which events of orders move its watermark")
    assert notes_on_lateness(0, replace(shown, watermarks=(), events_told=False)) == []
    assert len(notes_on_lateness(1, replace(shown, watermarks=(), events_told=False))) == 1
