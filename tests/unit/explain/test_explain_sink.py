"""Which faults of the stream's table are told from what its micro-batches emit, to the microsecond."""

from __future__ import annotations

import json

from pyspark.sql import DataFrame, SparkSession

from twinrun import Job, Source
from twinrun.explain.closed_form import Recomputed, _sink_fault
from twinrun.explain.differing import KEY_ID, key_id
from twinrun.explain.used import event_id

SOURCE = Source("clicks", schema="id STRING NOT NULL, at BIGINT NOT NULL", event_time="at")
JOB = Job(lambda clicks: clicks, sources=[SOURCE], keys=["k"], name="keyed")


def rows(spark: SparkSession, *values: tuple[str, str, str]) -> DataFrame:
    frame = spark.createDataFrame(list(values), "k STRING, at STRING, pages STRING")
    return frame.selectExpr(
        "k", "CAST(at AS TIMESTAMP) AS at", "CAST(at AS TIMESTAMP_NTZ) AS local", "split(pages, ',') AS pages"
    )


def test_only_true_copies_of_what_was_emitted_are_called_copies(spark_session: SparkSession) -> None:
    at, next_us = "2024-01-01 10:00:00.000001", "2024-01-01 10:00:00.000002"
    emitted = [(key, at, "x,y") for key in ("copied", "moved", "turned", "lost", "right")]
    held = [
        ("copied", at, "x,y"),
        ("copied", at, "x,y"),
        ("moved", at, "x,y"),
        ("moved", next_us, "x,y"),  # a microsecond apart: no copy
        ("turned", at, "x,y"),
        ("turned", at, "y,x"),  # the same pages in another order: no copy
        ("right", at, "x,y"),
    ]
    replayed, sink = rows(spark_session, *emitted), rows(spark_session, *held)
    recomputed = Recomputed(sink, sink, replayed, replayed, None, replayed, sink, sink, sink, sink)
    found = {json.loads(row[KEY_ID])["k"]: row["_sink"] for row in _sink_fault(JOB, recomputed).collect()}
    assert found == {"copied": "sink_duplicate", "moved": "", "turned": "", "lost": "sink_missing"}


def test_keys_a_microsecond_apart_are_two_keys_with_and_without_a_time_zone(spark_session: SparkSession) -> None:
    frame = rows(spark_session, ("a", "2024-01-01 10:00:00.000001", "x"), ("a", "2024-01-01 10:00:00.000002", "x"))
    for column in ("at", "local"):
        job = Job(lambda clicks: clicks, sources=[SOURCE], keys=[column], name="timed")
        assert len({row["id"] for row in frame.select(key_id(job).alias("id")).collect()}) == 2


def test_ids_a_microsecond_apart_name_two_events(spark_session: SparkSession) -> None:
    frame = rows(spark_session, ("a", "2024-01-01 10:00:00.000001", "x"), ("a", "2024-01-01 10:00:00.000002", "x"))
    for column in ("at", "local"):
        schema = "at TIMESTAMP, local TIMESTAMP_NTZ"
        source = Source("clicks", schema=schema, event_time="at", event_time_format="iso8601", id=[column])
        assert len({row["id"] for row in frame.select(event_id(source).alias("id")).collect()}) == 2
