"""Freshness is worked out from due times and commits: a stall shows, and its parts add up to it."""

from __future__ import annotations

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tests.integration.conftest import JOBS
from twinrun.job.job import Job
from twinrun.job.loader import load_job
from twinrun.measure.freshness import _measured, _with_mover, own_pace_lost, parts_of
from twinrun.measure.lateness import own_pace_needs

START_S = 1_700_000_000.0
START_MS = int(START_S * 1000)
EVENTS, PER_S = 3_000, 100
STALL_FROM_MS, STALL_MS = 10_000, 5_000


@pytest.fixture(scope="module")
def job() -> Job:
    return load_job(JOBS / "per_minute.py")


def committed(spark: SparkSession, stall: bool) -> DataFrame:
    """Events each 10 ms, read each second by a run of 200 ms; while the consumer stands still none begins."""
    due_ms = F.col("id") * (1000 // PER_S)
    began_ms = F.ceil((due_ms + 1) / 1000) * 1000
    if stall:
        standing = (began_ms >= STALL_FROM_MS) & (began_ms < STALL_FROM_MS + STALL_MS)
        began_ms = F.when(standing, STALL_FROM_MS + STALL_MS).otherwise(began_ms)
    return spark.range(EVENTS).select(
        F.lit(0).alias("_partition"),
        F.col("id").alias("_offset"),
        F.timestamp_millis(F.lit(START_MS) + due_ms).alias("at"),
        ((F.lit(START_MS) + due_ms) * 1000).alias("_due_us"),
        (F.lit(START_MS) + began_ms).alias("_began_ms"),
        (F.lit(START_MS) + began_ms + 200).alias("_committed_ms"),
        F.lit(None).cast("bigint").alias("_moved_us"),
        F.lit(False).alias("_lost"),
    )


def test_a_consumer_that_stands_still_for_5_s_shows_in_p99_and_over_time(spark_session: SparkSession, job: Job) -> None:
    calm = _measured(committed(spark_session, stall=False), job, START_S)
    stalled = _measured(committed(spark_session, stall=True), job, START_S)

    assert calm.total is not None
    assert stalled.total is not None
    assert (calm.total.p99, calm.total.max) == pytest.approx((1.19, 1.2), abs=0.02)
    assert stalled.total.p99 > 4.9
    assert stalled.total.max == pytest.approx(6.2, abs=0.01)
    assert stalled.shown == calm.shown == EVENTS
    worst = max(stalled.over_time, key=lambda point: point[2])
    assert 8.5 < worst[0] < 11
    assert len(stalled.over_time) == 40
    assert stalled.machinery is not None
    assert stalled.machinery.p99 == stalled.total.p99


def test_the_parts_add_up_and_the_watermarks_wait_ends_when_the_event_was_due_that_moved_it(
    spark_session: SparkSession,
) -> None:
    rows = [
        # due, moved, began, committed: in seconds of the run
        (0.0, 3.0, 3.5, 4.0),
        (2.0, None, 3.5, 4.0),
        (2.0, 1.0, 3.5, 4.0),  # moved before it was due: nothing waited for the watermark
        (3.6, None, 3.5, 4.0),  # came while the run was under way
        (0.0, 9.0, 3.5, 4.0),  # something else had moved it before
        (1.0, 2.0, None, None),
    ]
    us, ms = (lambda s: None if s is None else int(s * 1e6)), (lambda s: None if s is None else int(s * 1e3))
    frame = spark_session.createDataFrame(
        [(us(due), us(moved), ms(began), ms(done)) for due, moved, began, done in rows],
        "_due_us BIGINT, _moved_us BIGINT, _began_ms BIGINT, _committed_ms BIGINT",
    )

    names = ("_total_s", "_watermark_s", "_trigger_s", "_run_s")
    found = [tuple(row[name] for name in names) for row in parts_of(frame).collect()]

    assert found[:5] == [
        pytest.approx((4.0, 3.0, 0.5, 0.5)),
        pytest.approx((2.0, 0.0, 1.5, 0.5)),
        pytest.approx((2.0, 0.0, 1.5, 0.5)),
        pytest.approx((0.4, 0.0, 0.0, 0.4)),
        pytest.approx((4.0, 3.5, 0.0, 0.5)),
    ]
    assert found[5] == (None, None, None, None)


def test_a_window_is_moved_by_the_first_event_that_closes_it_or_a_later_one(spark_session: SparkSession) -> None:
    windows = spark_session.createDataFrame([(0, 1), (60_000, 4), (120_000, 5)], "_start_ms BIGINT, micro_batch BIGINT")
    movers = spark_session.createDataFrame([(0, 700), (60_000, 500)], "_closes_ms BIGINT, _due_us BIGINT")

    found = {row["_start_ms"]: row["_moved_us"] for row in _with_mover(windows, movers).collect()}

    assert found == {0: 500, 60_000: 500, 120_000: None}


def test_at_its_own_pace_an_event_is_lost_that_comes_after_the_watermark_passed_its_window(
    spark_session: SparkSession, job: Job
) -> None:
    assert (job.window_ms, job.sources[0].lateness_ms) == (60_000, 10_000)
    minute = 60_000
    at_ms = [
        *(10, minute + 9_999),  # the watermark stands at 59,999
        *(20, minute + 10_000),  # ... at 60,000: minute 0 is over, and closed for what comes after
        *(30, minute + 30),
    ]
    frame = spark_session.createDataFrame(
        [(0, number, START_MS // minute * minute + at, number) for number, at in enumerate(at_ms)],
        "_partition INT, _offset BIGINT, at_ms BIGINT, _due_us BIGINT",
    ).withColumn("at", F.timestamp_millis("at_ms"))

    found = {row["_offset"]: row["_lost_alone"] for row in own_pace_lost(frame, job).collect()}

    assert found == {0: False, 1: False, 2: False, 3: False, 4: True, 5: False}
    needs = {row["_offset"]: row["_need_us"] for row in own_pace_needs(frame, job).collect()}
    # Minute 0 ends 10 s before the newest event that comes before offset 4: a lateness of 10 s loses it, more keeps it.
    assert (needs[0], needs[2], needs[4]) == (None, 9_999_000, 10_000_000)
    assert all((need is not None and need >= 10_000_000) is found[offset] for offset, need in needs.items())


def test_where_no_event_has_an_effect_there_are_no_figures(spark_session: SparkSession, job: Job) -> None:
    none = committed(spark_session, stall=False).withColumn("_committed_ms", F.lit(None).cast("bigint"))

    found = _measured(none.withColumn("_lost", F.col("_offset") < 10), job, START_S)

    assert (found.total, found.shown, found.lost, found.waiting) == (None, 0, 10, EVENTS - 10)
