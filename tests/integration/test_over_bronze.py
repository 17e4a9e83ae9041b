"""A stream that reads bronze in place of the topic: its log, its proofs and its refusals are those of any stream."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from delta.tables import DeltaTable

from tests.integration.commands import on_session
from tests.integration.conftest import World, click
from tests.integration.shapes import result_of
from tests.integration.test_refused_by_logic import command, priced
from tests.integration.test_transactions import transaction
from twinrun.broker.topics import offset_ranges
from twinrun.errors import CheckpointError, ConfigError, QueryError, TableError, TwinrunError
from twinrun.maintain.erase import erase
from twinrun.produce.records import Record
from twinrun.results.cut import stream_cut
from twinrun.results.state import stream_state

OVER = {"stream.reads": "bronze", "stream.max_offsets_per_trigger": "null"}
FIRST = [click(s, page) for s in (5, 25, 65, 85, 125, 145) for page in "ab"]
SECOND = [
    click(200, "a"),
    # Dropped: their minutes are over. Of page c there is no other click, so that the stream has no such row.
    click(30, "a", name="late-a"),
    click(31, "c", name="late-c"),
    Record(b"k", b"{broken", None),
]
THIRD = [click(s, page) for s in (210, 300) for page in "ab"]


def land(world: World, records: list[Record], job: str = "per_minute", *, read: bool = True) -> None:
    """One more version of bronze, which the stream reads at once or with the next."""
    world.produce(records)
    world.ingest(job)
    if read:
        world.stream(job)


def ends(world: World) -> dict[int, int]:
    return {partition: high for partition, (_, high) in offset_ranges(world.bootstrap, world.topic).items()}


def logged_ends(world: World, job: str = "per_minute") -> list[dict[int, int]]:
    """The end offsets of each micro-batch, each kept once."""
    cfg, spark = world.cfg(), world.spark
    state = stream_state(spark, cfg, job)
    assert state is not None
    rows = stream_cut(spark, cfg, world.job(job), state).micro_batches.orderBy("micro_batch").collect()
    found = [{end["partition"]: end["offset"] for end in row["end_offsets"]} for row in rows]
    return [each for place, each in enumerate(found) if not place or each != found[place - 1]]


@pytest.fixture(scope="module")
def world(make_world: Any) -> World:
    """Three parts of a topic of two partitions; the second is read together with an empty look at bronze."""
    world: World = make_world(partitions=2, **OVER)
    world.reached = []  # type: ignore[attr-defined]
    for part in (FIRST, SECOND, THIRD):
        land(world, part)
        world.reached.append(ends(world))  # type: ignore[attr-defined]
    world.batch()
    return world


def test_what_it_dropped_is_named_and_its_log_speaks_of_offsets(world: World) -> None:
    verdict = world.verify()
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("explained", 0, 0)
    assert [(cause.cause, cause.events) for cause in verdict.causes] == [("late_dropped", 2)]
    [source], [audit] = verdict.cut.sources, verdict.audits
    assert source.end == source.batch_end == source.bronze_end == source.broker_end == ends(world)
    assert (audit.ok, audit.quarantined_rows, source.events_in_cut) == (True, 1, len(FIRST + SECOND + THIRD))
    assert logged_ends(world) == world.reached  # type: ignore[attr-defined]


def test_versions_that_the_ingest_forgot_are_told_by_the_records(world: World, monkeypatch: Any) -> None:
    (world.root / "wh" / "twinrun" / "micro_batches").rename(world.root / "log-elsewhere")
    module = importlib.import_module("twinrun.tables.bronze")
    try:
        assert logged_ends(world) == world.reached  # type: ignore[attr-defined]
        monkeypatch.setattr(module, "planned_ends", lambda *_: {})
        assert logged_ends(world) == world.reached  # type: ignore[attr-defined]
    finally:
        (world.root / "log-elsewhere").rename(world.root / "wh" / "twinrun" / "micro_batches")


def test_it_goes_on_from_what_it_reads_and_begins_with_all_that_was_landed(world: World) -> None:
    with pytest.raises(CheckpointError, match=r"was made with stream.reads: bronze, and it is topic now"):
        world.stream(**{"stream.reads": "topic"})
    with pytest.raises(ConfigError, match="a stream over bronze cannot begin at latest"):
        world.stream(fresh="latest")
    with pytest.raises(ConfigError, match=r"stream.max_offsets_per_trigger counts records of Kafka"):
        world.cfg(**{"stream.max_offsets_per_trigger": 10})


def test_nothing_landed_is_said(make_world: Any) -> None:
    world: World = make_world(**OVER)
    with pytest.raises(TableError, match=r"there is no bronze table of .* which the stream is to read"):
        world.stream()


@pytest.mark.slow
def test_records_that_are_landed_and_not_read_make_it_stale(make_world: Any) -> None:
    world: World = make_world(**OVER)
    land(world, FIRST)
    land(world, SECOND, read=False)
    world.batch()
    verdict = world.verify()
    assert (verdict.outcome, verdict.exit_code) == ("stale", 1)
    [source] = verdict.cut.sources
    assert source.end == {0: len(FIRST)}
    assert source.batch_end == {0: len(FIRST + SECOND)}


@pytest.mark.slow
def test_updates_count_each_event_once_and_agree(make_world: Any) -> None:
    world: World = make_world(**OVER)
    land(world, FIRST, "minutes_so_far", read=False)
    first = world.stream("minutes_so_far")
    assert (first.events, first.quarantined) == (len(FIRST), {})
    land(world, SECOND, "minutes_so_far", read=False)
    second = world.stream("minutes_so_far")
    assert (second.events, second.quarantined) == (len(SECOND) - 1, {"not_json": 1})
    world.batch("minutes_so_far")
    verdict = world.verify("minutes_so_far")
    assert (verdict.outcome, verdict.rows_unexplained) == ("explained", 0)
    assert [(cause.cause, cause.events) for cause in verdict.causes] == [("late_dropped", 2)]


@pytest.mark.slow
def test_the_last_offset_of_a_transaction_is_reached(make_world: Any) -> None:
    world: World = make_world(**OVER, **{"sources.clicks.isolation_level": "read_committed"})
    for seconds in ((1, 2), (3, 4)):
        transaction(world, [click(s) for s in seconds])
        world.ingest("page_totals")
        world.stream("page_totals")
    transaction(world, [click(5)], commit=False)
    world.ingest("page_totals")
    world.stream("page_totals")
    world.batch("page_totals")
    verdict = world.verify("page_totals")
    assert (verdict.outcome, verdict.exit_code, verdict.problems) == ("agree", 0, ())
    # The last one brought bronze no record, and a version.
    assert verdict.cut.sources[0].end == verdict.cut.sources[0].broker_end == {0: 8}
    assert logged_ends(world, "page_totals") == [{0: 3}, {0: 6}, {0: 8}]


@pytest.mark.slow
def test_two_sources_are_told_apart_though_one_begins_later(make_world: Any) -> None:
    world: World = make_world(**OVER)
    world.add_topic("orders")
    job = "both_feeds"
    clicks = [click(s, "a") for s in (5, 25, 65, 85, 125)], [click(200, "a")], [click(20, "a", name="late"), click(260)]
    orders = [click(6, "o")], [click(s, "o") for s in (66, 190, 205)], [click(270, "o")]
    for some, others in zip(clicks, orders, strict=True):
        world.produce(some)
        world.produce(others, "orders")
        world.ingest(job)
        world.stream(job)
    world.batch(job)
    verdict = world.verify(job)
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("explained", 0, 0)
    assert [event.id["id"] for event in verdict.late_events] == ["late"]
    ends = {source.source: source.end for source in verdict.cut.sources}
    assert ends == {"clicks": {0: 8}, "orders": {0: 5}}


@pytest.mark.slow
def test_a_proof_by_replay_holds_over_bronze(make_world: Any) -> None:
    world: World = make_world(**OVER)
    job = "sessions_by_page"
    land(world, [click(s, "a") for s in (5, 8, 40, 45)], job)
    land(world, [click(100, "a"), click(103, "a")], job)
    land(world, [click(12, "a", name="late"), click(200, "a")], job)
    world.batch(job)
    verdict = world.verify(job)
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("explained", 0, 0)
    assert [event.id["id"] for event in verdict.late_events] == ["late"]


@pytest.mark.slow
def test_commits_that_bring_no_record_are_passed_over(make_world: Any) -> None:
    world: World = make_world(**OVER)
    job = "cents_of_a"
    secret = "somebody-4711"
    land(world, [click(s, "a", name=f"n{s}") for s in (5, 15)], job)
    land(world, [click(25, "a", name=secret)], job)
    world.batch(job)
    bronze = DeltaTable.forPath(world.spark, world.cfg().table("bronze", topic=world.topic))
    bronze.optimize().executeCompaction()
    world.stream(job)
    assert world.verify(job).outcome == "agree"

    (source,) = world.job(job).sources
    erase(world.spark, world.cfg(), source, "id", secret, results=True, apply=True)
    land(world, [click(35, "a", name="n35")], job)
    world.batch(job)
    verdict = world.verify(job)
    assert (verdict.outcome, verdict.exit_code) == ("agree", 0)
    assert sorted(result_of(world, "stream", job)["id"].to_list()) == ["n15", "n35", "n5"]

    # Whoever starts anew reads what is there now.
    world.stream(job, fresh="earliest")
    world.batch(job, fresh="full")
    assert world.verify(job).outcome == "agree"
    assert logged_ends(world, job) == [{0: 4}]


@pytest.mark.slow
def test_a_micro_batch_that_died_is_done_again(make_world: Any, monkeypatch: Any) -> None:
    world: World = make_world(**OVER)
    job = "minutes_so_far"
    land(world, FIRST, job)
    sink = importlib.import_module("twinrun.streaming.sink")
    whole = sink.merge_updates

    def dies(*given: Any) -> None:
        whole(*given)
        msg = "killed behind the table's commit"
        raise RuntimeError(msg)

    land(world, SECOND, job, read=False)
    monkeypatch.setattr(sink, "merge_updates", dies)
    with pytest.raises(QueryError):
        world.stream(job)
    monkeypatch.setattr(sink, "merge_updates", whole)
    land(world, THIRD, job)
    world.batch(job)
    verdict = world.verify(job)
    assert (verdict.outcome, verdict.rows_unexplained) == ("explained", 0)
    assert logged_ends(world, job) == [{0: 12}, {0: 16}, {0: 20}]


@pytest.mark.slow
def test_a_record_that_the_function_fails_on_is_named_and_left_out(make_world: Any) -> None:
    world: World = make_world(**OVER)
    job = "price_per_part"
    land(world, [priced(10), priced(20)], job)
    land(world, [priced(65), priced(66, 0, "no-parts"), priced(300)], job, read=False)
    with pytest.raises(QueryError) as stopped:
        world.stream(job)
    assert f"topic {world.topic}, partition 0, offset 3" in str(stopped.value)
    with on_session(world.spark):
        command(world, "quarantine", "--add", f"{world.topic}:0:3", "--why", "no parts")
    world.stream(job)
    world.batch(job)
    verdict = world.verify(job)
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("agree", 0, 0)
    assert logged_ends(world, job) == [{0: 2}, {0: 5}]


@pytest.mark.slow
def test_a_bronze_that_lost_files_is_an_error_and_not_a_shorter_result(make_world: Any) -> None:
    world: World = make_world(**OVER)
    land(world, FIRST)
    land(world, SECOND, read=False)
    files = Path(world.cfg().table("bronze", topic=world.topic)).glob("*.parquet")
    max(files, key=lambda file: file.stat().st_mtime).unlink()
    with pytest.raises(TwinrunError):
        world.stream()
    assert logged_ends(world) == [{0: len(FIRST)}]
