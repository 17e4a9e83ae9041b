"""Three partitions read unevenly, and a filter: only events that count are late, and it is said why they are."""

from __future__ import annotations

import zlib
from typing import Any

import pytest

from tests.integration.conftest import World, click
from twinrun.produce.records import Record
from twinrun.results.verdict import PartitionBehind
from twinrun.whatif.whatif import what_if

JOB = "costly_per_minute"
PARTITIONS = 3
COSTLY, CHEAP = 4.0, 1.0


def on(partition: int, second: float, name: str, **more: Any) -> Record:
    """A click that goes to a partition: the producer's own choice is CRC32 of the key."""
    key = next(f"{n}" for n in range(100) if zlib.crc32(f"{n}".encode()) % PARTITIONS == partition)
    record = click(second, name=name, **more)
    return record._replace(key=key.encode())


# Twelve records on each partition, two of each per micro-batch. Partitions 0 and 1 go on by a minute per micro-batch,
# partition 2 by 20 seconds. The watermark is 25, 85, 145, 205 s after micro-batches 0 to 3.
LOG = [
    *[on(0, 30 * n, f"fast-{n}", amount=COSTLY) for n in range(11)],
    # It comes when all of its minute has long been there.
    on(0, 20, "slow", amount=COSTLY, known=330),
    *[on(1, 5 + 30 * n, f"more-{n}", amount=COSTLY) for n in range(12)],
    # Micro-batch 4 reads 80 and 90 s, judged by 145 s; micro-batch 5 reads 100 and 110 s, judged by 205 s. Every
    # second one is filtered away by the job.
    *[on(2, 10 * n, f"behind-{n}", amount=CHEAP if n % 2 else COSTLY) for n in range(12)],
]


@pytest.fixture(scope="module")
def world(make_world: Any) -> World:
    world: World = make_world(PARTITIONS, **{"stream.max_offsets_per_trigger": 6})
    world.produce(LOG)
    world.ingest(JOB)
    world.stream(JOB)
    world.batch(JOB)
    return world


@pytest.fixture(scope="module")
def verdict(world: World) -> Any:
    return world.verify(JOB)


def test_only_events_that_would_have_reached_the_window_are_late(verdict: Any) -> None:
    assert {event.id["id"] for event in verdict.late_events} == {"slow", "behind-8", "behind-10"}
    assert [(cause.cause, cause.rows, cause.events) for cause in verdict.causes] == [("late_dropped", 2, 3)]
    assert {sample.window_start_ms % 3_600_000: sample.causes for sample in verdict.samples} == {
        0: {"late_dropped": 1},
        60_000: {"late_dropped": 2},
    }
    assert verdict.rows_unexplained == 0


def test_the_share_of_late_events_is_of_those_that_count(verdict: Any) -> None:
    # 3 of 30: the six cheap ones cannot be lost. Exactly the limit of the job is not beyond it.
    assert (verdict.outcome, verdict.exit_code, verdict.problems) == ("explained", 0, ())


def test_what_lay_in_kafka_in_time_is_told_from_what_came_late(verdict: Any) -> None:
    assert {event.id["id"]: event.arrival for event in verdict.late_events} == {
        "slow": "arrived_late",
        "behind-8": "read_late",
        "behind-10": "read_late",
    }
    found = verdict.arrival
    assert (found.arrived_late, found.read_late, found.not_told) == (1, 2, 0)
    # Before micro-batch 5 the newest of partition 2 was 90 s, that of all 275 s.
    topic = verdict.cut.sources[0].topic
    assert found.behind == (PartitionBehind(topic, 2, 2, since_micro_batch=0, behind_ms=185_000),)
    (note,) = [note for note in verdict.notes if "were read late" in note]
    assert f"partition 2 of {topic} since micro-batch 0, up to 3 min 5 s behind" in note
    named = {event.id["id"]: event.arrival for sample in verdict.samples for event in sample.events}
    assert named == {event.id["id"]: event.arrival for event in verdict.late_events}


def test_the_progress_of_each_partition_is_kept(verdict: Any) -> None:
    last = {point.partition: point.newest_event_ms % 3_600_000 for point in verdict.partitions}
    assert last == {0: 300_000, 1: 335_000, 2: 110_000}


def test_what_the_watermark_follows_is_read_from_the_plan(verdict: Any) -> None:
    (watermark,) = verdict.watermarks
    assert (watermark.source, watermark.told, watermark.only_if) == ("clicks", True, "amount >= 4.00")


def test_another_lateness_is_worked_out_over_the_events_that_count(world: World) -> None:
    found = what_if(world.spark, world.cfg(), world.job(JOB), keep=1.0)
    assert (found.events, found.recorded_lost, found.read_late) == (30, 3, 2)


def test_events_that_an_older_verify_named_are_named_anew(world: World, verdict: Any) -> None:
    late = world.cfg().table("late_events")
    world.spark.read.format("delta").load(late).drop("arrival", "passed_at_ms").write.format("delta").mode(
        "overwrite"
    ).option("overwriteSchema", "true").save(late)

    again = world.verify(JOB)

    assert again.arrival == verdict.arrival
    assert len(again.late_events) == 3
