"""Nothing is green over a stream that cannot go on or never did anything, and no topic is taken for another one."""

from __future__ import annotations

import importlib
import time
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from tests.integration.conftest import World, click
from twinrun.broker.topics import create_topic
from twinrun.errors import ConfigError
from twinrun.results.verdict import Verdict

JOB = "single_clicks"


def clicks(count: int, name: str = "e") -> list[Any]:
    return [click(number, name=f"{name}{number}") for number in range(count)]


def said(verdict: Verdict) -> str:
    return "\n".join((*verdict.problems, *verdict.notes))


def delete(world: World) -> None:
    client = AdminClient({"bootstrap.servers": world.bootstrap})
    client.delete_topics([world.topic])[world.topic].result(10)
    time.sleep(2)


def test_a_topic_that_is_gone_or_made_anew_is_no_agreement(make_world: Any) -> None:
    world: World = make_world(**{"verify.max_lag_events": 0})
    assert world.run_all(clicks(40), JOB).outcome == "agree"

    delete(world)
    gone = world.verify(JOB)
    assert (gone.outcome, gone.exit_code) == ("stale", 1)
    assert f"Kafka has no topic {world.topic}" in said(gone)
    assert "did not answer" not in said(gone)

    create_topic(world.bootstrap, world.topic, 1)
    world.produce(clicks(30, "n"))
    anew = world.verify(JOB)
    assert (anew.outcome, anew.exit_code) == ("stale", 1)
    assert f"the topic {world.topic} was deleted and created anew since the stream read it" in said(anew)

    # As many records again, and more: by their number alone nothing would be seen.
    world.produce(clicks(20, "m"))
    assert world.verify(JOB).outcome == "stale"


def test_a_stream_that_has_written_nothing_compares_nothing(make_world: Any) -> None:
    """It ran over an empty topic, and is not there any more when events come."""
    world: World = make_world(**{"verify.max_lag_events": 100})
    world.ingest(JOB)
    world.stream(JOB)
    world.produce(clicks(50))
    world.ingest(JOB)
    world.batch(JOB)
    verdict = world.verify(JOB)
    assert (verdict.outcome, verdict.exit_code) == ("nothing_compared", 1)
    assert "the stream has written no row, and all rows are of events that it has not read" in said(verdict)


def test_a_stream_that_died_before_its_first_micro_batch_grows_old(make_world: Any) -> None:
    world: World = make_world(**{"verify.max_lag_events": 100_000, "verify.max_age_s": 1})
    importlib.import_module("twinrun.streaming.runner")._open(world.spark, world.cfg(), world.job(JOB), None)
    world.produce(clicks(50))
    world.ingest(JOB)
    world.batch(JOB)
    time.sleep(1.5)
    verdict = world.verify(JOB)
    assert verdict.exit_code == 1
    assert verdict.outcome in ("nothing_compared", "stale")
    assert "has done nothing; allowed: 1 s" in said(verdict)
    assert verdict.stream_age_ms is None


def test_two_sources_of_a_job_with_one_topic_are_refused_in_each_mode(make_world: Any) -> None:
    world: World = make_world()
    names = [source.name for source in world.job("both_feeds").sources]
    world.more_topics.update({name: world.topic for name in names if name != "clicks"})
    world.produce(clicks(8))
    for step in (world.stream, world.batch):
        with pytest.raises(ConfigError, match="both read the topic"):
            step("both_feeds")
