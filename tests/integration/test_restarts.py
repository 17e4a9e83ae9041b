"""A stream that was stopped, done again in part, and started with other settings: the proof holds over all of it."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from delta.tables import DeltaTable
from deltalake import DeltaTable as DeltaLake
from pyspark.sql import functions as F

from tests.integration.conftest import T0_MS, World, click
from tests.integration.test_operators import CHAIN, counts
from twinrun.heal.heal import apply_heal

JOB = "once_per_minute"


def forget_the_last_commit(world: World) -> int:
    """What a kill leaves between a micro-batch's rows and its commit file: the next start does it again."""
    folder = world.root / "cp" / "stream" / JOB / "v1" / "commits"
    last = max(int(file.name) for file in folder.iterdir() if file.name.isdigit())
    for name in (f"{last}", f".{last}.crc"):
        (folder / name).unlink(missing_ok=True)
    return last


@pytest.mark.slow
def test_a_proof_by_replay_holds_over_restarts_and_falls_with_the_recorded_watermark(make_world: Any) -> None:
    world: World = make_world()
    world.produce(CHAIN[:8])
    world.ingest()
    world.stream(JOB)
    # Micro-batches 0 and 1 have data, 2 has none; it is done twice.
    assert forget_the_last_commit(world) == 2
    world.produce(CHAIN[8:])
    world.ingest()
    world.stream(JOB, **{"stream.max_offsets_per_trigger": 2})
    world.batch(JOB)
    verdict = world.verify(JOB)
    assert [event.micro_batch for event in verdict.late_events] == [3]
    assert counts(verdict) == {"late_dropped": (1, 1)}
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("explained", 0, 0)
    # Another watermark than the events give, behind all that matters: the replay sees it, and proves nothing.
    log = DeltaTable.forPath(world.spark, world.cfg().table("micro_batches"))
    log.update("micro_batch = 1", {"watermark_ms": F.col("watermark_ms") + 1000})
    again = world.verify(JOB)
    assert (again.exit_code, again.rows_unexplained) == (1, 1)
    assert any("watermark differs from the recorded one in micro-batch 1" in note for note in again.notes)


@pytest.mark.slow
def test_a_new_checkpoint_is_proven_by_what_it_read_itself(make_world: Any) -> None:
    world: World = make_world()
    world.produce(CHAIN[:8])
    world.ingest()
    world.stream(JOB)
    # From its own start on nothing that came before is the new query's: the batch has it, and the cause says so.
    world.stream(JOB, fresh="latest")
    world.produce(CHAIN[8:])
    world.ingest()
    world.stream(JOB)
    world.batch(JOB)
    verdict = world.verify(JOB)
    found = counts(verdict)
    assert verdict.rows_unexplained == 0, verdict.notes
    assert set(found) == {"before_start"}
    assert found["before_start"] == (2, 8), "minutes 0 and 1, and the eight clicks that the first query read"
    # The new query's first two micro-batches drop nothing, so that the click that was late is in its minute.
    assert verdict.late_events == ()


@pytest.mark.slow
def test_a_stream_that_begins_anew_at_an_offset_gives_the_same_again_and_what_lies_before_is_proven(
    make_world: Any,
) -> None:
    world: World = make_world()
    world.produce(CHAIN)
    world.ingest()
    world.stream(JOB)
    world.batch(JOB)
    first = rows(world, 1)

    world.stream(JOB, fresh=f"{world.topic}:0:0")
    again = rows(world, 2)
    assert again == first, "from its first offset: the same micro-batches, so the same result"
    assert counts(world.verify(JOB)) == {"late_dropped": (1, 1)}

    for version in (3, 4):
        world.stream(JOB, fresh=f"{world.topic}:0:8")
        verdict = world.verify(JOB)
        assert verdict.rows_unexplained == 0, verdict.notes
        assert counts(verdict)["before_start"] == (2, 8)
        assert f"began at {world.topic}:0:8" in " ".join(verdict.notes)
        assert rows(world, version) != first
    assert rows(world, 3) == rows(world, 4)


def rows(world: World, version: int) -> list[tuple[Any, ...]]:
    """A version of the stream's result without its lineage, read by another engine."""
    folder = world.root / "wh" / "results" / JOB / f"stream_v{version}"
    found = pl.from_arrow(DeltaLake(folder).to_pyarrow_table())
    assert isinstance(found, pl.DataFrame)
    return sorted(found.select(name for name in found.columns if not name.startswith("_")).rows())


@pytest.mark.slow
def test_what_is_late_after_a_heal_is_proven_beside_what_was_healed(make_world: Any) -> None:
    world: World = make_world()
    assert counts(world.run_all(CHAIN, JOB)) == {"late_dropped": (1, 1)}
    plan, healed = apply_heal(world.spark, world.cfg(), world.job(JOB))
    assert healed is not None
    assert plan.rows == 1
    clean = world.verify(JOB)
    assert (clean.outcome, clean.windows_different, clean.rows_unexplained) == ("agree", 0, 0)
    world.produce([*[click(s, name=f"c5-{s}") for s in (255, 256, 257)], click(135, name="c5-late"), click(320)])
    world.produce([click(s, name=f"c6-{s}") for s in (321, 322, 400, 401, 402, 403)])
    world.ingest()
    world.stream(JOB)
    world.batch(JOB)
    verdict = world.verify(JOB)
    assert verdict.rows_unexplained == 0
    assert counts(verdict) == {"late_dropped": (1, 1)}, "the healed minute agrees; the one after it is explained"
    assert {event.id["id"] for event in verdict.late_events} == {"c2-late-for-distinct", "c5-late"}


@pytest.mark.slow
def test_a_proof_of_two_sources_holds_where_a_start_forgot_how_far_one_was(make_world: Any) -> None:
    job = "both_feeds"
    world: World = make_world()
    world.add_topic("orders")

    def run(clicks: list[int], orders: list[int]) -> None:
        world.produce(click(s, name=f"k{s}") for s in clicks)
        world.produce((click(s, name=f"o{s}") for s in orders), "orders")
        world.ingest(job)
        world.stream(job)

    # Orders lead by far: the watermark is 70 s by the clicks. Micro-batch 1 has orders only and moves nothing, so that
    # none without data follows. A stream that ran on would then go to 130 s by the clicks of the next one.
    run([5, 20, 35, 80], [2, 30, 45, 150, 151])
    run([140], [])
    # By 70 s the first is too late and the second is not, as it would be by 130 s.
    run([50, 71], [])
    run([300], [300])
    world.batch(job)
    log = world.spark.read.format("delta").load(world.cfg().table("micro_batches")).filter("job = 'both_feeds'")
    marks = [(row[0] - T0_MS) // 1000 for row in log.orderBy("micro_batch").select("watermark_ms").collect()[1:]]
    assert marks == [70, 70, 70, 70, 290]
    verdict = world.verify(job)
    assert verdict.rows_unexplained == 0, verdict.notes
    assert [event.id["id"] for event in verdict.late_events] == ["k50"]
    assert counts(verdict) == {"late_dropped": (1, 1)}
    assert (verdict.outcome, verdict.exit_code) == ("explained", 0)
    # A row that the sink lost is told apart from it, and a watermark that no start can give proves nothing.
    DeltaTable.forPath(world.spark, str(world.table("stream", job))).delete("window_start = '2013-01-06 10:02:00'")
    again = world.verify(job)
    assert (again.exit_code, again.rows_unexplained) == (1, 0)
    assert counts(again) == {"late_dropped": (1, 1), "sink_missing": (1, None)}
    marked = DeltaTable.forPath(world.spark, world.cfg().table("micro_batches"))
    marked.update("job = 'both_feeds' AND micro_batch = 3", {"watermark_ms": F.col("watermark_ms") + 70_000})
    beside = world.verify(job)
    assert beside.exit_code == 1
    assert beside.rows_unexplained > 0
    assert any("watermark differs from the recorded one in micro-batch 3" in note for note in beside.notes)
