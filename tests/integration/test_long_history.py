"""A log of 20,000 micro-batches: still exact, and not slow; compacted, it says the same with fewer files."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from pyspark.sql import Column
from pyspark.sql import functions as F

from tests.integration.conftest import World, click
from twinrun.explain.assign import with_micro_batch
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
