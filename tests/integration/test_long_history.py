"""A log of 20,000 micro-batches: still exact, and not slow; compacted, it says the same with fewer files.

And one bad session in it is proven by the few micro-batches that it needs.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from tests.integration.conftest import World, click
from tests.unit.explain.long_log import T0_MS, LongLog, Other, long_log
from twinrun.explain.by_replay import explain_by_replay
from twinrun.explain.used import with_micro_batch
from twinrun.maintain.tidy import tidy
from twinrun.results.cut import StreamCut, stream_cut
from twinrun.results.state import stream_state
from twinrun.tables.delta import append, read_table

pytestmark = pytest.mark.slow

MICRO_BATCHES, EACH, PARTITIONS, COMMITS = 20_000, 25, 3, 50
CUT_S, ASSIGN_S = 20.0, 60.0


@pytest.fixture(scope="module")
def world(make_world: Any) -> World:
    """A short stream whose log also has 20,000 micro-batches of queries before it, in many small commits."""
    world = make_world()
    world.produce([click(s) for s in (5, 70, 71, 72, 130, 131)])
    world.ingest()
    world.stream()
    world.batch()
    ref = world.cfg().table("micro_batches")
    log = read_table(world.spark, ref)
    one = log.limit(1).localCheckpoint()
    step = MICRO_BATCHES // COMMITS
    for commit in range(COMMITS):
        numbers = world.spark.range(step).select(F.col("id").alias("_n"))
        rows = one.crossJoin(numbers).withColumns(
            {"query_id": F.lit(f"before-{commit % 4}"), "micro_batch": F.col("_n") + commit // 4 * step}
        )
        append(rows.drop("_n").coalesce(1), ref)
    return world


def log_files(world: World) -> int:
    return len(read_table(world.spark, world.cfg().table("micro_batches")).inputFiles())


def cut_of(world: World) -> tuple[StreamCut, float]:
    state = stream_state(world.spark, world.cfg(), "per_minute")
    assert state is not None
    began = time.monotonic()
    return stream_cut(world.spark, world.cfg(), world.job(), state), time.monotonic() - began


def test_the_cut_is_the_same_and_as_fast_before_and_after_the_log_is_compacted(world: World) -> None:
    before, took_s = cut_of(world)
    files = log_files(world)
    tidied = tidy(world.spark, world.cfg(), apply=True)
    assert tidied.applied
    after, again_s = cut_of(world)
    assert log_files(world) < files
    assert (before.end, before.watermark_ms, before.missing, before.committed.micro_batch) == (
        after.end,
        after.watermark_ms,
        after.missing,
        after.committed.micro_batch,
    )
    assert before.missing == 0
    assert max(took_s, again_s) < CUT_S, (took_s, again_s)
    print(f"cut: {took_s:.1f} s over {files} files, {again_s:.1f} s after")


def offsets_before(micro_batch: Column) -> Column:
    """How many offsets of a partition the micro-batches before this one read: EACH, EACH + 1, EACH + 2, EACH, ..."""
    return micro_batch * EACH + F.floor(micro_batch / 3) * 3 + F.when(micro_batch % 3 == 2, 1).otherwise(0)


def test_every_event_finds_its_micro_batch_among_twenty_thousand(world: World) -> None:
    """Micro-batch b reads EACH + b % 3 offsets of each partition."""
    cut, _ = cut_of(world)
    number = F.col("id")
    log = world.spark.range(MICRO_BATCHES).select(
        number.alias("micro_batch"),
        (number * 10).alias("watermark_ms"),
        F.lit(0).cast("bigint").alias("started_at_ms"),
        F.array(
            *[
                F.struct(
                    F.lit("t").alias("topic"), F.lit(p).alias("partition"), offsets_before(number + 1).alias("offset")
                )
                for p in range(PARTITIONS)
            ]
        ).alias("end_offsets"),
    )
    long = replace(cut, micro_batches=log.localCheckpoint())
    events = (
        world.spark.range(MICRO_BATCHES)
        .withColumn("_partition", F.explode(F.sequence(F.lit(0), F.lit(PARTITIONS - 1))))
        .withColumn("_in", F.explode(F.sequence(F.lit(0).cast("bigint"), F.lit(EACH) + number % 3 - 1)))
        .select("_partition", (offsets_before(number) + F.col("_in")).alias("_offset"), number.alias("expected"))
    )
    began = time.monotonic()
    marked = with_micro_batch(events, long, "t", dict.fromkeys(range(PARTITIONS), 0))
    wrong_late = F.col("_late_ms") != F.greatest((F.col("expected") - 1) * 10, F.lit(0))
    found = marked.agg(
        F.count("*"), F.count_if(~F.col("_micro_batch").eqNullSafe(F.col("expected")) | wrong_late)
    ).collect()[0]
    took_s = time.monotonic() - began
    total = PARTITIONS * sum(EACH + number % 3 for number in range(MICRO_BATCHES))
    assert tuple(found) == (total, 0)
    assert took_s < ASSIGN_S, took_s
    print(f"assigned {found[0]:,} events in {took_s:.1f} s")


# One page has visits all along; of the one that begins at second 12,000 a click comes 42 s late and is dropped.
BEFORE = [Other(b, 0, b) for b in range(500, 11_900, 100)]
BAD = [Other(12_000, 0, 12_000), Other(12_003, 1, 12_003), Other(12_045, 2, 12_001)]
AFTER = [Other(b, 0, b) for b in range(12_100, 19_900, 100)]


def cpu_s(spark: SparkSession) -> float:
    """CPU of this process and of its JVM, in seconds."""
    jvm: Any = spark._jvm
    stat = Path(f"/proc/{jvm.java.lang.ProcessHandle.current().pid()}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(stat[11]) + int(stat[12])) / 100 + time.process_time()


def verdicts(log: LongLog, stream: list[tuple[float, int]] | None = None) -> tuple[dict[Any, Any], str, list[str]]:
    """Verdict and causes by start of the visit; the note; and what was said meanwhile."""
    said: list[str] = []
    found = explain_by_replay(replace(log.ask(log.sides(stream)), say=said.append))
    start = (F.unix_millis(F.col("key.window_start")) - F.lit(T0_MS)) / 1000
    rows = found.rows.select(start.alias("at_s"), "verdict", "causes").collect()
    return {row["at_s"]: (row["verdict"], row["causes"]) for row in rows}, found.note, said


def test_one_bad_session_among_twenty_thousand_micro_batches_is_proven_by_ten(
    spark_session: SparkSession, tmp_path: Path
) -> None:
    log = long_log(spark_session, tmp_path, MICRO_BATCHES, [*BEFORE, *BAD, *AFTER])
    emitted = log.emitted()
    assert (12_000, 2) in emitted
    assert len(emitted) == len(BEFORE) + 1 + len(AFTER)
    began = cpu_s(spark_session)
    found, note, said = verdicts(log)
    proof = cpu_s(spark_session) - began
    assert (found, note) == ({12_000: ("explained", {"late_dropped": 1})}, "")
    # What moved the watermark before; 12,000; 12,003; 12,045, and 12,044 by which it drops; the last. And in order.
    assert sum("as recorded" in each for each in said) == 6
    assert sum("in order" in each for each in said) <= 4
    began = cpu_s(spark_session)
    log.job.apply({"clicks": log.events.filter("page = 'bad'")}).collect()
    print(f"proof {proof:.1f} CPU s, batch of the page {cpu_s(spark_session) - began:.1f}")
    # The sink holds another row than the stream emitted: no behaviour of the stream explains it.
    wrong = [(at_s, 7 if at_s == 12_000 else n) for at_s, n in emitted]
    assert verdicts(log, wrong)[0] == {12_000: ("unexplained", {})}


def test_a_false_watermark_among_twenty_thousand_proves_nothing(spark_session: SparkSession, tmp_path: Path) -> None:
    log = long_log(spark_session, tmp_path, MICRO_BATCHES, [*BEFORE, *BAD, *AFTER], marks={12_044: 1})
    found, note, _ = verdicts(log)
    assert found == {12_000: ("unexplained", {})}
    assert "watermark differs from the recorded one in micro-batch 12044" in note
