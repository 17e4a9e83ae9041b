"""What is late, microsecond by microsecond around each edge, on real streams: Spark's choice against the product's."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tests.unit.explain.real_streams import T0_US, Event, Streams, source
from twinrun import Job
from twinrun.cli.whatif import lines
from twinrun.events.decode import copies_kept
from twinrun.explain.used import dropped_pairs, event_dropped, late_rows
from twinrun.job.dataflow import LateRule, dataflow
from twinrun.whatif.whatif import NO_LATENESS_MS, Point, WhatIf, newest_before, opened, smallest, unsaid, with_need

SECOND_US = 1_000_000
FILL = "fill"
GAP_US, FINE_US = 5 * SECOND_US, 1_500


def start(column: str) -> Any:
    return F.col(f"{column}.start").alias("window_start")


def tumbling(left: DataFrame) -> DataFrame:
    grouped = left.groupBy("k", F.window("at", "1 second")).agg(F.count("*").alias("n"))
    return grouped.select("k", start("window"), "n")


def sessions(left: DataFrame) -> DataFrame:
    grouped = left.groupBy("k", F.session_window("at", "5 seconds")).agg(F.count("*").alias("n"))
    return grouped.select("k", start("session_window"), "n")


def once(left: DataFrame) -> DataFrame:
    return left.dropDuplicates(["k", "at"]).select("k", "at")


def once_per_key(left: DataFrame) -> DataFrame:
    return left.dropDuplicates(["k"]).select("k", "at")


def fine_windows(left: DataFrame) -> DataFrame:
    """Windows of 1.5 ms inside those of the job: their ends are no whole milliseconds."""
    inner = left.groupBy("k", F.window("at", f"{FINE_US} microseconds")).agg(F.count("*").alias("n"))
    outer = inner.groupBy("k", F.window(F.window_time("window"), "1 second")).agg(F.sum("n").alias("n"))
    return outer.select("k", start("window"), "n")


def passed_on(left: DataFrame) -> DataFrame:
    return left.select("k", "at")


def joined(left: DataFrame, right: DataFrame) -> DataFrame:
    near = F.expr("l.k = r.k AND r.at BETWEEN l.at - INTERVAL 5 SECONDS AND l.at + INTERVAL 5 SECONDS")
    return left.alias("l").join(right.alias("r"), near).select("l.k", F.col("l.at").alias("at"))


LEFT, RIGHT = source("left"), source("right")
KEYS = ["k", "window_start"]
JOBS: dict[str, tuple[Job, int]] = {
    "tumbling": (Job(tumbling, [LEFT], KEYS, window="1 second", name="tumbling"), 0),
    "sessions": (Job(sessions, [LEFT], KEYS, gap="5 seconds", name="sessions"), GAP_US),
    "once": (Job(once, [LEFT], ["k"], name="once"), 0),
    "once per key": (Job(once_per_key, [LEFT], ["k"], name="once_per_key"), 0),
    "windows of 1.5 ms": (Job(fine_windows, [LEFT], KEYS, window="1 second", name="fine"), 0),
    "distinct": (Job(passed_on, [source("left", distinct=["k"])], ["k"], name="distinct"), 0),
    "join": (Job(joined, [LEFT, RIGHT], ["k"], name="join"), 0),
}
"""Each first operator, and how far below the watermark (µs) lies the last event that it drops, or nearly."""
WINDOWS_US = {"tumbling": SECOND_US, "windows of 1.5 ms": FINE_US}


def edges(watermark_us: int, below_us: int, rng: random.Random) -> list[Event]:
    """Events around the edge in steps of one microsecond, and some more; each has a key of its own."""
    near = {*range(-3, 4), -1001, -1000, -999, 999, 1000, 1001, *(rng.randint(-2500, 2500) for _ in range(12))}
    return [(f"e{step}", watermark_us - below_us + step, 0) for step in sorted(near)]


def check(spark: SparkSession, root: Path, name: str, seed: int) -> None:
    """One stream: its watermark, the events that came out, and what the product says of each."""
    rng = random.Random(f"{name} {seed}")
    job, below_us = JOBS[name]
    lateness_us = (LEFT.lateness_ms or 0) * 1000
    newest_us = 100 * SECOND_US + rng.choice((0, 1, 499, 500, 999))
    watermark_us = newest_us // 1000 * 1000 - lateness_us
    given = edges(watermark_us, below_us, rng)
    fill = [(FILL, newest_us, 0)]
    # Everything lies in a short time, but for what closes it in the end.
    last = [[(FILL, newest_us + 500 * SECOND_US, 0)]] * (2 if job.window_column in job.keys else 0)
    files = {"left": [fill, fill, given, *last], "right": [fill, fill, given, *last]}
    streams = Streams(spark, root, files if len(job.sources) == 2 else {"left": files["left"]})
    ran = streams.stream(job)
    assert ran.watermark_ms[1] * 1000 == T0_US + watermark_us, "the watermark is cut down to milliseconds"
    dropped = {key for key, *_ in given} - ran.keys
    assert dropped, "nothing was late: the edge was missed"
    assert dropped != {key for key, *_ in given}
    rules = dataflow(spark, job, {}).rules
    events = streams.events("left").withColumns(
        {
            "_late_ms": F.when(F.col("k") == FILL, 0).otherwise(ran.watermark_ms[1]).cast("bigint"),
            "_micro_batch": F.lit(2).cast("bigint"),
        }
    )
    events = events.filter(F.col("k") != FILL).localCheckpoint()
    rule = rules["left"]
    assert {row["k"] for row in events.filter(event_dropped(LEFT, rule)).collect()} == dropped
    assert {row["k"] for row in dropped_pairs(events, LEFT, rule).collect()} == dropped
    named = late_rows(events.withColumn("_topic", F.col("k")), job.job_name, LEFT, rule, "q").collect()
    assert {row["topic"] for row in named} == dropped
    at_us = {key: at for key, at, _ in given}
    for row in named:
        # Rounded up, so that 0 is said of what ended exactly with the watermark and of nothing else.
        end_us = _end_us(name, at_us[row["topic"]], below_us)
        assert row["late_ms"] == -((end_us - watermark_us) // 1000), row
    needs = with_need(events, LEFT, rule).collect()
    lateness_ms = LEFT.lateness_ms or 0
    assert {row["k"] for row in needs if row["_need_ms"] >= lateness_ms} == dropped, "what-if at the lateness that ran"


def _end_us(name: str, at_us: int, below_us: int) -> int:
    length_us = WINDOWS_US.get(name)
    return at_us + below_us if length_us is None else ((T0_US + at_us) // length_us + 1) * length_us - T0_US


@pytest.mark.parametrize("name", ["sessions", "windows of 1.5 ms", "distinct", "join"])
def test_an_event_is_late_by_the_microsecond_as_in_spark(
    spark_session: SparkSession, tmp_path: Path, name: str
) -> None:
    check(spark_session, tmp_path, name, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", JOBS)
def test_an_event_is_late_by_the_microsecond_in_many_streams(
    spark_session: SparkSession, tmp_path: Path, name: str, seed: int
) -> None:
    check(spark_session, tmp_path, name, seed)


def test_an_id_is_forgotten_by_the_microsecond_as_in_spark(spark_session: SparkSession, tmp_path: Path) -> None:
    job, _ = JOBS["distinct"]
    taken = job.sources[0]
    lateness_us = (taken.lateness_ms or 0) * 1000
    newest_us = 100 * SECOND_US + 500
    watermark_us = newest_us // 1000 * 1000 - lateness_us
    steps = (-1001, -1000, -999, -2, -1, 0, 1, 2, 499, 500, 999, 1000, 1001)
    first = [(f"e{step}", watermark_us - lateness_us + step, 1) for step in steps]
    again = [(f"e{step}", watermark_us + 50 * SECOND_US, 2) for step in steps]
    fill = [(FILL, newest_us, 0)]
    streams = Streams(spark_session, tmp_path, {"left": [[*first, *fill], [("fill2", newest_us, 0)], again]})
    ran = streams.stream(job)
    kept = {row["k"] for row in ran.rows[2]}
    assert kept == {f"e{step}" for step in steps if step <= 0}
    judged = F.when(F.col("v") == 2, ran.watermark_ms[1]).otherwise(0).cast("bigint")
    read = streams.events("left").withColumns({"_late_ms": judged, "_micro_batch": F.col("v").cast("bigint")})
    found = copies_kept(read, taken).join(read, ["_topic", "_partition", "_offset"])
    assert {row["k"] for row in found.collect()} == kept


def test_what_ended_by_1970_is_lost_at_every_lateness(spark_session: SparkSession) -> None:
    """A watermark begins at 1970: the first micro-batch drops by it too, and what-if may not say that they are kept."""
    rows = [(-1, 0), (0, 0), (1, 0), (-1, 5_000), (1, 5_000), (-60 * SECOND_US, 0), (60 * SECOND_US, 0)]
    given = spark_session.createDataFrame(rows, "us BIGINT, _late_ms BIGINT").withColumn("at", F.timestamp_micros("us"))

    def needs(rule: LateRule) -> list[int | None]:
        return [row["_need_ms"] for row in with_need(given, LEFT, rule).collect()]

    never = NO_LATENESS_MS
    assert needs(LateRule("time")) == [never, never, None, never, 14_999, never, None]
    minute = LateRule("window", 60 * SECOND_US, 60 * SECOND_US)
    assert needs(minute) == [never, None, None, never, -45_000, never, None]
    judged = given.filter(event_dropped(LEFT, minute)).select("us").distinct().collect()
    assert {row["us"] for row in judged} == {-1, -60 * SECOND_US}
    minutes = replace(JOBS["tumbling"][0], window="1 minute")
    seen = opened(given.withColumn("_micro_batch", F.lit(0)), minutes, "at").select("end_ms").collect()
    assert sorted(row["end_ms"] for row in seen) == [60_000, 120_000], "no other window ever comes out"
    three = with_need(given, LEFT, minute).select("_need_ms")
    assert smallest(three, 7, keep=0.5) == 0, "three of seven may be lost, and three are"
    assert smallest(three, 7, keep=0.99) is None
    point = Point(10_000, 3, None, None)
    found = WhatIf("j", 2, 7, 10_000, 3, 0, (point,), keep=0.99, enough_ms=None, before_1970=3)
    assert lines(replace(found, keep=0.99999))[-1] == "No lateness keeps 99.999% of the events.", "not 100.00%"
    assert lines(found)[-2:] == [
        "3 events of before 1970 would be lost at any lateness: a stream's watermark begins at 1970-01-01 00:00 UTC.",
        "No lateness keeps 99% of the events.",
    ]


def test_what_a_shorter_lateness_loses_is_told_though_the_watermark_stood_at_1970(
    spark_session: SparkSession, tmp_path: Path
) -> None:
    """A watermark of 1970 does not say how new the events were: they may be as new as the lateness after 1970."""
    near = (-1001, -1000, -999, -1, 0, 1, 999, 1000, 1001)

    def just_after_1970(key: str, at_us: int, micro_batch: int) -> Event:
        return key, at_us - T0_US, micro_batch

    files = [
        [just_after_1970(FILL, 6 * SECOND_US, 0)],
        [just_after_1970(FILL, 8 * SECOND_US, 1)],
        # Judged by the watermark of micro-batch 1, which knows 6 s; the next ones by 8 s.
        [just_after_1970(f"a{step}", 5 * SECOND_US + step, 2) for step in near],
        [just_after_1970(f"b{step}", 7 * SECOND_US + step, 3) for step in near],
    ]
    streams = Streams(spark_session, tmp_path, {"left": files})
    job = Job(once, [LEFT], ["k"], name="once")
    every = {key for each in files for key, *_ in each}
    ran = streams.stream(job)
    assert (ran.keys, {ran.watermark_ms[number] for number in range(4)}) == (every, {0})
    shorter = streams.stream(Job(once, [source("left", "1 second")], ["k"], name="once"))
    lost = every - shorter.keys
    assert lost == {f"{letter}{step}" for letter in "ab" for step in near if step <= 0}

    flow = dataflow(spark_session, job, {})
    used = streams.events("left").withColumns({"_micro_batch": F.col("v").cast("bigint"), "_late_ms": F.lit(0)})
    rule = flow.rules["left"]
    asked = {row["k"] for row in used.filter(unsaid(LEFT, rule)).collect()}
    assert asked == every - {FILL}
    newest = newest_before(spark_session, job, flow, {"left": used})
    needs = with_need(used, LEFT, rule, newest).select("k", "_need_ms").collect()
    assert {row["k"] for row in needs if (row["_need_ms"] or 0) >= 1_000} == lost
    assert all((row["_need_ms"] or 0) < 10_000 for row in needs), "the lateness that ran lost none"
