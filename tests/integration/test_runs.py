"""The life of one job: poison, a second landing, a stream that lags, a batch that lags, a change of logic."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from pyspark.sql import functions as F

from tests.integration.conftest import World, click
from twinrun.comparator.tables import compare_frames
from twinrun.errors import CheckpointError, TableError
from twinrun.explain.verify import verify
from twinrun.produce.records import Record
from twinrun.report.terminal import render_summary
from twinrun.results.records import LINEAGE
from twinrun.tables.delta import delta_table, latest_version, read_table
from twinrun.tables.lease import held_lease, take_leases

POISON = [
    Record(b"k", b"\xff", 1_357_466_400_000),
    Record(b"k", b'{"id":"x"} tail', 1_357_466_400_000),
    Record(b"k", b'{"id":"x","page":"a"}', 1_357_466_400_000),
    Record(b"k", None, 1_357_466_400_000),
]
FIRST = [*[click(s, p) for s in (1, 61, 121) for p in "ab"], *POISON, *[click(s) for s in (200, 260, 261, 262)]]
SECOND = [*[click(s, p) for s in (270, 330) for p in "ab"], *[click(s) for s in (400, 401, 402, 460)]]


@pytest.fixture(scope="module")
def world(make_world: Any) -> World:
    return make_world(partitions=2, **{"stream.max_offsets_per_trigger": 20})


def test_verify_before_any_run_says_what_to_run(world: World) -> None:
    with pytest.raises(TableError, match="twinrun stream per_minute"):
        world.verify()


def test_poison_is_quarantined_with_its_rule_and_nothing_is_lost(world: World) -> None:
    refused = {"not_utf8": 1, "trailing_bytes": 1, "null_event_time": 1, "empty_value": 1}
    world.produce(FIRST)
    landed = world.ingest()
    assert (landed.events, landed.rows) == (14, 14)
    streamed = world.stream()
    assert (streamed.events, streamed.quarantined) == (10, refused)
    computed = world.batch()
    assert (computed.events, computed.quarantined) == (10, refused)
    table = read_table(world.spark, str(world.table("batch")))
    assert computed.rows == table.count()
    verdict = world.verify()
    assert verdict.exit_code == 0
    assert verdict.rows_unexplained == 0
    assert {q.rule: q.events for q in verdict.quarantine} == refused
    assert (verdict.rows_batch, verdict.rows_pending) == (table.count(), table.count() - verdict.rows_compared)
    assert "refused                    4   records, in no result: " in "\n".join(render_summary(verdict, path=None))
    (audit,) = verdict.audits
    assert (audit.bronze_rows, audit.valid_rows, audit.quarantined_rows) == (14, 10, 4)
    assert audit.ok


def test_a_stream_that_stopped_is_stale(world: World) -> None:
    world.produce(SECOND)
    verdict = world.verify()
    assert (verdict.outcome, verdict.exit_code) == ("stale", 1)


def test_a_batch_that_does_not_cover_the_cut_is_behind(world: World) -> None:
    before = read_table(world.spark, str(world.table("stream"))).count()
    done = world.stream()
    written = read_table(world.spark, str(world.table("stream"))).count() - before
    # The counts are those of this run, though the checkpoint goes on from the first.
    assert (done.events, done.quarantined, done.rows) == (len(SECOND), {}, written)
    assert 1 <= done.micro_batches <= 2
    verdict = world.verify()
    assert (verdict.outcome, verdict.exit_code) == ("input_behind", 1)
    (problem,) = verdict.problems
    assert problem.startswith("the batch has not read what the stream has: it lacks 8 records of clicks (partition 0 ")
    assert problem.endswith("differing rows wait for that and are not judged")
    assert "{" not in problem
    # Rows that it lacks events of are not called unexplained, and nothing is replayed before it has them.
    assert (verdict.rows_unexplained, verdict.rows_explained) == (0, 0)
    assert verdict.rows_behind == len(verdict.samples) > 0
    assert {sample.verdict for sample in verdict.samples} == {"input_behind"}
    assert verdict.windows_behind > 0
    assert sum(point.behind for point in verdict.timeline) == verdict.rows_behind
    assert verdict.rows_compared == verdict.rows_equal
    assert verdict.expectations == ()  # the ledger holds no row of such a verify
    assert not any("withdrawn" in note for note in verdict.notes)
    assert not any("dropped no event" in note for note in verdict.notes), "nobody has looked at what the batch lacks"


def test_without_kafka_a_verify_says_so_first_and_judges_what_was_over_before(world: World) -> None:
    """The same state, no broker, and a row of the stream's first window that somebody changed."""
    table = delta_table(world.spark, str(world.table("stream")))
    version = latest_version(world.spark, str(world.table("stream")))
    first = table.toDF().agg(F.min("window_start")).collect()[0][0]
    table.update((F.col("page") == "a") & (F.col("window_start") == first), {"clicks": F.col("clicks") + 1})
    said: list[str] = []
    cfg = world.cfg(**{"kafka.bootstrap_servers": "127.0.0.1:9"})
    try:
        verdict = verify(
            world.spark, cfg, world.job(), on_step=said.append, on_warning=lambda text: said.append(f"! {text}")
        )
    finally:
        table.restoreToVersion(version)
    assert said[0] == "asking Kafka"
    assert said[1].startswith("! Kafka did not answer: lag and staleness are unknown (No Kafka broker answers at")
    assert verdict.stream_lag_events is None
    assert verdict.notes[0].startswith("Kafka did not answer: lag and staleness are unknown.")
    lines = render_summary(verdict, path=None)
    assert lines[2] == "  ! Kafka did not answer: lag and staleness are unknown"
    assert lines[-1].split(None, 1)[1].startswith("twinrun ingest clicks; twinrun batch per_minute; twinrun verify")
    assert (verdict.outcome, verdict.rows_unexplained, verdict.windows_different) == ("input_behind", 0, 1)
    # Proven without a replay, by the events that both modes have and by Delta's log.
    [changed] = [sample for sample in verdict.samples if sample.verdict == "explained"]
    assert (set(changed.causes), [commit.operation for commit in changed.commits]) == ({"sink_changed"}, ["UPDATE"])


def test_an_incremental_batch_equals_a_full_one(world: World) -> None:
    world.ingest()
    done = world.batch()
    assert (done.events, done.quarantined) == (len(SECOND), {})
    assert done.notes == ()
    table = read_table(world.spark, str(world.table("batch")))
    assert 0 < done.rows == table.filter(F.col("_run_id") == done.run_id).count() < table.count()  # type: ignore[operator]
    incremental = table.drop(*LINEAGE).localCheckpoint()
    world.batch(fresh="earliest")
    full = read_table(world.spark, str(world.table("batch"))).drop(*LINEAGE)
    found, _ = compare_frames(incremental, full, keys=["page", "window_start"], window_column="window_start")
    assert found.verdict == "equal"
    assert found.rows_batch > 0
    assert world.verify().exit_code == 0


def test_of_two_runs_at_once_the_second_is_refused(world: World) -> None:
    cfg = world.cfg()
    with held_lease(world.spark, cfg, "stream:per_minute", "a test"), pytest.raises(CheckpointError, match="is held"):
        world.stream()
    take_leases(world.spark, cfg, ["another"], "a test")
    with pytest.raises(CheckpointError, match="is held"):
        take_leases(world.spark, cfg, ["another"], "a test")


def test_a_change_of_logic_is_refused_and_its_way_out_works(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = world.job().__class__(**{**vars(world.job()), "window": "2 minutes", "logic": two_minutes})
    monkeypatch.setattr(world, "job", lambda name="per_minute": changed)
    with pytest.raises(CheckpointError, match="--new-checkpoint"):
        world.stream()
    world.stream(fresh="earliest")
    world.batch(fresh="earliest")
    verdict = world.verify()
    assert verdict.exit_code == 0
    assert verdict.cut.stream_table.endswith("stream_v2")


def two_minutes(clicks: Any) -> Any:
    """The same job over windows of two minutes."""
    module = importlib.import_module("pyspark.sql.functions")
    grouped = clicks.groupBy("page", module.window("at", "2 minutes")).agg(
        module.count(module.lit(1)).alias("clicks"),
        module.sum("amount").alias("amount"),
        module.avg("weight").alias("weight"),
    )
    start = module.col("window.start").alias("window_start")
    return grouped.select("page", start, "clicks", "amount", "weight")


two_minutes.__name__ = "per_minute"
