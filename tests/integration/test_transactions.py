"""Topics of exactly-once producers, and topics that lost records: what bronze covers, by a real broker."""

from __future__ import annotations

import importlib
import time
import uuid
from collections.abc import Iterable
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from delta.tables import DeltaTable

from tests.integration.conftest import World, click
from twinrun.broker.topics import offset_ranges
from twinrun.errors import CheckpointError, DataLossError
from twinrun.produce.records import Record
from twinrun.tables.control import latest_record
from twinrun.tables.landed import landed_of, recorded_landing

JOB = "page_totals"


def transaction(world: World, records: Iterable[Record], *, commit: bool = True) -> None:
    """One transaction of a producer of its own: its records, and one marker in each partition that it wrote."""
    producer = begun(world, records)
    end = producer.commit_transaction if commit else producer.abort_transaction
    end(60)


def begun(world: World, records: Iterable[Record]) -> Producer:
    """A transaction that is still open, with its records in Kafka."""
    name = f"twinrun-{uuid.uuid4().hex[:8]}"
    options = {"bootstrap.servers": world.bootstrap, "transactional.id": name, "transaction.timeout.ms": 600_000}
    producer = Producer(options)
    producer.init_transactions(60)
    producer.begin_transaction()
    for record in records:
        producer.produce(world.topic, record.value, record.key, partition=0, timestamp=record.timestamp_ms)
    producer.flush(60)
    return producer


def delete_records(world: World, below: int) -> None:
    """What a topic's retention does: everything before an offset is gone."""
    client = AdminClient({"bootstrap.servers": world.bootstrap})  # as long as it is asked: no answer comes without it
    for answer in client.delete_records([TopicPartition(world.topic, 0, below)]).values():
        answer.result(30)


def ends(world: World) -> tuple[int, int]:
    return offset_ranges(world.bootstrap, world.topic)[0]


def run(world: World, job: str = JOB, **more: Any) -> Any:
    world.ingest(job)
    world.stream(job)
    world.batch(job)
    return world.verify(job, **more)


def ingest(world: World, *, accept_loss: bool = False) -> Any:
    source = world.job(JOB).sources[0]
    runner = importlib.import_module("twinrun.streaming.ingest")
    return runner.run(world.spark, world.cfg(), source, accept_loss=accept_loss)


@pytest.mark.slow
def test_a_topic_of_transactions_is_covered_though_its_last_offset_is_a_marker(
    make_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world: World = make_world(**{"sources.clicks.isolation_level": "read_committed"})
    transaction(world, [click(s) for s in (1, 2)])
    transaction(world, [click(s) for s in (3, 4)])
    transaction(world, [click(s) for s in (5, 6)], commit=False)
    transaction(world, [click(s) for s in (7, 8)])
    assert ends(world) == (0, 12)
    began = time.monotonic()
    verdict = run(world, wait_s=600)
    assert (verdict.outcome, verdict.exit_code, verdict.problems) == ("agree", 0, ())
    assert time.monotonic() - began < 600, "nothing had to be waited for"
    [source], [audit] = verdict.cut.sources, verdict.audits
    assert source.end == source.batch_end == source.bronze_end == source.broker_end == {0: 12}
    assert (audit.bronze_rows, audit.missing_offsets, audit.empty_offsets) == (6, 0, 6)
    assert (source.events_in_cut, source.events_batch) == (6, 6)
    assert not any("aborted" in note for note in verdict.notes)

    # Nothing but an aborted transaction, and none of it is read: micro-batches without a record move the ends.
    transaction(world, [click(9)], commit=False)
    later = run(world)
    assert (later.outcome, later.audits[0].empty_offsets) == ("agree", 8)
    assert later.cut.sources[0].end == later.cut.sources[0].batch_end == {0: 14}

    # A table from before this was recorded: the checkpoint says as much, and the next ingest asks Kafka.
    monkeypatch.setattr("twinrun.tables.landed.KIND", "landed-since")
    assert landed_of(world.spark, world.cfg(), world.topic).ends == {0: 14}
    assert [audit.missing_offsets for audit in world.verify(JOB).audits] == [8]
    ingest(world)
    again = world.verify(JOB)
    assert (again.outcome, again.audits[0].empty_offsets) == ("agree", 8)

    # The negative control: a record that is gone from bronze is no marker.
    DeltaTable.forPath(world.spark, world.cfg().table("bronze", topic=world.topic)).delete("offset = 1")
    assert [(audit.ok, audit.missing_offsets) for audit in world.verify(JOB).audits] == [(False, 1)]


@pytest.mark.slow
def test_records_of_aborted_transactions_that_count_are_told_and_two_levels_are_noticed(make_world: Any) -> None:
    world: World = make_world()
    transaction(world, [click(1, amount=1), click(2, amount=1)])
    transaction(world, [click(3, amount=999)], commit=False)
    verdict = run(world)
    assert (verdict.outcome, verdict.cut.sources[0].batch_end) == ("agree", {0: 5})
    told = [note for note in verdict.notes if "aborted" in note]
    assert len(told) == 1
    assert told[0].startswith(f"1 record of aborted transactions in {world.topic} is read and counts in both modes")
    assert [audit.ok for audit in verdict.audits] == [True]

    world.overrides["sources.clicks.isolation_level"] = "read_committed"
    with pytest.raises(CheckpointError, match="isolation level read_uncommitted so far"):
        world.ingest(JOB)
    world.stream(JOB, fresh="earliest")
    differs = world.verify(JOB)
    assert (differs.outcome, differs.exit_code) == ("differ", 1)
    assert any("landed by isolation level read_uncommitted, and the stream" in each for each in differs.problems)


@pytest.mark.slow
def test_a_transaction_that_was_open_is_asked_about_when_it_has_ended(make_world: Any) -> None:
    world: World = make_world()
    transaction(world, [click(1, amount=1), click(2, amount=1)])
    transaction(world, [click(3, amount=999)], commit=False)
    open_one = begun(world, [click(4, amount=5)])
    ingest(world)
    [survey] = [recorded_landing(world.spark, world.cfg(), world.topic).survey]
    assert (survey.ends, survey.aborted, survey.empty) == ({0: 5}, {0: 1}, {0: 2})
    open_one.abort_transaction(60)
    verdict = run(world)
    assert (verdict.outcome, verdict.cut.sources[0].batch_end) == ("agree", {0: 7})
    [told] = [note for note in verdict.notes if "aborted" in note]
    assert told.startswith(f"2 records of aborted transactions in {world.topic} are read and count in both modes")


@pytest.mark.slow
def test_what_kafka_removed_before_the_ingest_is_said_and_proves_nothing(make_world: Any) -> None:
    world: World = make_world()
    world.produce([click(s, name=f"e{s}") for s in range(11)])
    world.stream(JOB)
    delete_records(world, 5)
    ingest(world)
    world.batch(JOB)
    verdict = world.verify(JOB)
    assert (verdict.outcome, verdict.exit_code) == ("differ", 1)
    assert {sample.verdict for sample in verdict.samples} == {"evidence_expired"}
    [audit], [source] = verdict.audits, verdict.cut.sources
    assert (audit.ok, audit.lost_offsets, audit.bronze_rows) == (False, 5, 6)
    assert (
        "5 offsets that Kafka removed before the ingest and the stream read (partition 0 offsets 0 to 4)" in audit.note
    )
    assert (source.bronze_start, source.events_in_cut, source.events_batch) == ({0: 5}, 11, 6)
    assert not any("unexplained" in problem for problem in verdict.problems)

    # A stream that begins where bronze begins has lost nothing.
    world.stream(JOB, fresh="earliest")
    whole = world.verify(JOB)
    assert (whole.outcome, [audit.ok for audit in whole.audits]) == ("agree", [True])


@pytest.mark.slow
def test_an_ingest_goes_on_after_a_loss_when_somebody_says_so_and_the_hole_is_known(make_world: Any) -> None:
    world: World = make_world()
    world.produce([click(s, name=f"e{s}") for s in range(11)])
    delete_records(world, 5)
    assert run(world).outcome == "agree"
    # Records that were not landed yet are removed: nothing is skipped unless somebody says so.
    world.produce([click(s, name=f"e{s}") for s in range(11, 16)])
    world.stream(JOB)
    delete_records(world, 14)
    with pytest.raises(DataLossError, match="partition 0 offsets 11 to 13") as caught:
        ingest(world)
    assert "twinrun ingest clicks --accept-loss" in str(caught.value)
    done = ingest(world, accept_loss=True)
    # Both holes: what retention had taken before the first ingest is accepted with the new one.
    [told] = [note for note in done.notes if "had removed" in note]
    assert f"8 offsets of {world.topic}" in told
    assert "(partition 0 offsets 0 to 4; partition 0 offsets 11 to 13)" in told
    landed = recorded_landing(world.spark, world.cfg(), world.topic)
    assert (landed.version, landed.ends) == (2, {0: 16})
    assert [(loss.partition, loss.start, loss.end) for loss in landed.losses] == [(0, 0, 5), (0, 11, 14)]
    assert latest_record(world.spark, world.cfg(), "ingest", world.topic).payload["version"] == 2
    world.batch(JOB)
    hole = world.verify(JOB)
    assert hole.exit_code == 1
    assert {sample.verdict for sample in hole.samples} == {"evidence_expired"}
    assert [(audit.ok, audit.lost_offsets, audit.missing_offsets) for audit in hole.audits] == [(True, 3, 0)]
    assert "a hole on record" in hole.audits[0].note

    # It goes on from there, each record once.
    world.produce([click(20, name="e20")])
    assert ingest(world).events == 1
    rows = world.spark.read.format("delta").load(world.cfg().table("bronze", topic=world.topic))
    assert sorted(row[0] for row in rows.select("offset").collect()) == [5, 6, 7, 8, 9, 10, 14, 15, 16]
