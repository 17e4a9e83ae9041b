"""Results that go to a topic as well: each row of the table is there, with ids by which copies can be told."""

from __future__ import annotations

import importlib
import json
import uuid
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.integration.conftest import World, click
from tests.integration.shapes import result_of
from twinrun.broker.topics import create_topic
from twinrun.errors import BrokerError, ConfigError, QueryError
from twinrun.external.declared import external_binding
from twinrun.external.verify import verify_external
from twinrun.job.job import Job
from twinrun.results.verdict import Verdict
from twinrun.session.settings import with_settings

LOG = [click(second, page, weight=second / 7) for second in range(5, 200, 15) for page in "ab"]
LATE = click(30, "a", name="late", weight=3.0)
MORE = [click(second, "a", weight=0.5) for second in (210, 220)]


class SinkWorld(World):
    """A world whose results go to topics."""

    def topic_of(self, job: str) -> str:
        return f"{self.topic}-{job}"

    def with_sink(self, job: str) -> None:
        create_topic(self.bootstrap, self.topic_of(job), 1)
        self.overrides[f"sinks.{job}.topic"] = self.topic_of(job)

    def sent(self, job: str) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
        """Key and value of each record, in the order of the topic."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": uuid.uuid4().hex})
        place = TopicPartition(self.topic_of(job), 0, 0)
        consumer.assign([place])
        _, end = consumer.get_watermark_offsets(place, timeout=10)
        found = []
        while len(found) < end:
            record = consumer.poll(10)
            assert record is not None
            assert record.error() is None
            key, value = record.key(), record.value()
            found.append((json.loads(key or b""), None if value is None else json.loads(value)))
        consumer.close()
        return found

    def as_verified(self, job: str) -> Verdict:
        """The topic against the batch, as another engine's would be."""
        declared = {"topic": self.topic_of(job), "key": "json", "time_format": "iso8601", "rows": "latest"}
        declared |= {"ignore": ["record_id"]}
        declared |= {"lateness": "10 seconds"} if self.job(job).windowed else {}
        cfg = self.cfg(**{f"external.{job}.{name}": json.dumps(value) for name, value in declared.items()})
        return verify_external(self.spark, cfg, self.job(job), external_binding(cfg, self.job(job)))


@pytest.fixture(scope="module")
def world(make_world: Any) -> SinkWorld:
    world = SinkWorld(**vars(make_world()))
    world.produce([*LOG[:22], LATE, *LOG[22:]])
    world.ingest()
    return world


def newest(sent: list[tuple[dict[str, Any], dict[str, Any] | None]]) -> dict[str, dict[str, Any]]:
    """What a reader holds who keeps the newest record of each key."""
    latest = {json.dumps(key, sort_keys=True): value for key, value in sent}
    return {key: value for key, value in latest.items() if value is not None}


def held(world: World, kind: str, job: str) -> dict[str, dict[str, Any]]:
    """A table as its records must be: exact numbers, times to the microsecond."""
    rows = result_of(world, kind, job)
    rows = rows.with_columns(
        pl.col(name).dt.convert_time_zone("UTC").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
        for name, dtype in rows.schema.items()
        if isinstance(dtype, pl.Datetime)
    )
    rows = rows.with_columns(
        pl.col(name).cast(pl.Float64) for name, d in rows.schema.items() if isinstance(d, pl.Decimal)
    )
    keys = world.job(job).keys
    found = {json.dumps({key: row[key] for key in keys}, sort_keys=True): row for row in rows.iter_rows(named=True)}
    assert len(found) == rows.height > 0
    return found


def plain(records: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    assert all("record_id" in value for value in records.values())
    return {key: {n: v for n, v in value.items() if n != "record_id"} for key, value in records.items()}


def test_a_stream_sends_each_closed_window_once_and_its_table_is_verified_as_ever(world: SinkWorld) -> None:
    world.with_sink("per_minute")
    world.stream("per_minute")
    sent = world.sent("per_minute")
    assert plain(newest(sent)) == held(world, "stream", "per_minute")
    ids = [value["record_id"] for _, value in sent if value is not None]
    assert len(ids) == len(set(ids)) == result_of(world, "stream", "per_minute").height

    world.batch("per_minute")
    verdict = world.verify("per_minute")
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("explained", 0, 0)
    assert [(cause.cause, cause.events) for cause in verdict.causes] == [("late_dropped", 1)]


@pytest.mark.slow
def test_a_micro_batch_that_died_after_the_topic_is_sent_again_and_is_in_the_table_once(
    world: SinkWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.with_sink("minutes_so_far")
    sink = importlib.import_module("twinrun.streaming.sink")
    honest, died = sink.publish_micro_batch, []

    def dying(*given: Any) -> None:
        honest(*given)
        if given[-1] == 2 and not died:
            died.append(given[-1])
            raise QueryError("the machine went away")

    monkeypatch.setattr(sink, "publish_micro_batch", dying)
    with pytest.raises(QueryError):
        world.stream("minutes_so_far")
    world.stream("minutes_so_far")
    sent = world.sent("minutes_so_far")
    ids = [value["record_id"] for _, value in sent if value is not None]
    assert len(ids) > len(set(ids)), "the micro-batch was sent twice, with the same ids"
    assert plain(newest(sent)) == held(world, "stream", "minutes_so_far")


def test_of_a_micro_batch_that_fails_no_row_is_sent(make_world: Any) -> None:
    """It may come again without the record that it failed on: rows of the first try would then stand in the topic."""
    world = SinkWorld(**vars(make_world(**{"stream.max_offsets_per_trigger": 400})))
    world.with_sink("amount_per_weight")
    good = [click(second, f"page-{second}", weight=1.0) for second in range(399)]
    world.produce([*good, click(400, "weightless", weight=0.0)])
    # More tasks than cores: the first ones are done with their rows when another one fails.
    settings = with_settings(world.spark, {"spark.sql.shuffle.partitions": "8"})
    with settings, pytest.raises(QueryError, match="Division by zero"):
        world.stream("amount_per_weight")
    assert world.sent("amount_per_weight") == []


@pytest.mark.slow
def test_a_batch_run_sends_what_it_changed_and_nothing_else(world: SinkWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.with_sink("page_totals")
    done = world.batch("page_totals")
    assert "2 records sent" in " ".join(done.notes)
    assert plain(newest(world.sent("page_totals"))) == held(world, "batch", "page_totals")
    again = world.batch("page_totals")
    assert "0 records sent" in " ".join(again.notes)

    # A run that dies before the topic has what it wrote: the next one sends it, though it finds nothing to compute.
    world.produce(MORE)
    world.ingest()
    runner = importlib.import_module("twinrun.batch.runner")
    with monkeypatch.context() as dead:
        dead.setattr(runner, "publish_changes", lambda *_: (_ for _ in ()).throw(QueryError("gone")))
        with pytest.raises(QueryError):
            world.batch("page_totals")
    before = len(world.sent("page_totals"))
    assert "1 record sent" in " ".join(world.batch("page_totals").notes)
    sent = world.sent("page_totals")
    assert [key for key, _ in sent[before:]] == [{"page": "a"}], "page b is as it was"
    assert plain(newest(sent)) == held(world, "batch", "page_totals")


@pytest.mark.slow
def test_a_row_that_is_gone_is_a_tombstone_in_both_modes(world: SinkWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    few: Job = replace(world.job("page_totals"), name="few_only", delete_when="clicks > 14")
    monkeypatch.setattr(SinkWorld, "job", lambda self, name="": few if name == "few_only" else World.job(self, name))
    world.with_sink("few_only")
    world.stream("few_only")
    streamed = world.sent("few_only")
    gone = {key["page"] for key, value in streamed if value is None}
    assert gone == {"a"}
    assert set(plain(newest(streamed))) == set(held(world, "stream", "few_only")) == {'{"page": "b"}'}


@pytest.mark.slow
def test_the_topic_is_verified_like_the_result_of_another_engine(world: SinkWorld) -> None:
    verdict = world.as_verified("page_totals")
    assert (verdict.outcome, verdict.exit_code) == ("agree", 0), verdict.notes
    assert verdict.rows_compared == verdict.rows_equal == 2


def test_a_topic_that_cannot_be_written_to_is_refused_before_anything_is_written(world: SinkWorld) -> None:
    with pytest.raises(ConfigError, match="would come back as events"):
        world.stream("per_minute", **{"sinks.per_minute.topic": world.topic})
    with pytest.raises(BrokerError, match="no_such_topic"):
        world.stream("per_minute", **{"sinks.per_minute.topic": "no_such_topic"})
