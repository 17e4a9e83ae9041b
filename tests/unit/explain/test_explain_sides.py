"""Which rows a verify compares: those of windows that the stream had to close, and every row without a window."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun import Job, Source
from twinrun.explain.differing import Sides, closed, compare_sides
from twinrun.explain.summary import totals, windows_frame
from twinrun.results.cut import StreamCut

HOUR_MS = 3_600_000
SOURCE = Source("clicks", schema="id STRING NOT NULL, at BIGINT NOT NULL", event_time="at", lateness="1 minute")
HOURLY = Job(lambda clicks: clicks, sources=[SOURCE], keys=["page", "window_start"], window="1 hour", name="hourly")


def results(spark: SparkSession, *rows: tuple[str, int | None, int]) -> DataFrame:
    frame = spark.createDataFrame(list(rows), "page STRING, hour BIGINT, n BIGINT")
    return frame.select("page", F.timestamp_millis(F.col("hour") * HOUR_MS).alias("window_start"), "n")


def test_a_row_of_the_stream_without_a_window_is_compared_and_counted_and_never_taken_as_equal(
    spark_session: SparkSession,
) -> None:
    batch = results(spark_session, ("a", 0, 1), ("a", 1, 1), ("a", 2, 1))
    stream = results(spark_session, ("a", 0, 1), ("a", 1, 1), ("a", None, 7))
    watermark_ms = 2 * HOUR_MS
    ready = Sides(closed(HOURLY, batch, watermark_ms), closed(HOURLY, stream, watermark_ms))
    assert (ready.batch.count(), ready.stream.count()) == (2, 3)

    comparison, different = compare_sides(HOURLY, ready, full=True)
    assert (comparison.rows_different, comparison.audit) == (1, "agrees")
    assert [row["kind"] for row in different.collect()] == ["only_stream"]

    cut = cast(StreamCut, SimpleNamespace(watermark_ms=watermark_ms))
    judged = different.select(
        F.col("window").alias("window_start"),
        F.lit(None).cast("string").alias("batch"),
        F.lit("{}").alias("stream"),
        F.lit("unexplained").alias("verdict"),
        F.create_map().cast("map<string,bigint>").alias("causes"),
    )
    counts = totals(windows_frame(HOURLY, batch, stream, cut, judged)).answer()
    expected: dict[str, Any] = {"compared": 3, "equal": 2, "pending": 1, "rows_unexplained": 1, "rows_compared": 3}
    assert {name: counts[name] for name in expected} == expected
