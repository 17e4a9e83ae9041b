"""One job feeds another through a topic; kill -9 makes the first send again, and the second counts nothing twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from confluent_kafka import Consumer, TopicPartition
from deltalake import write_deltalake

from tests.faults.command import Command
from tests.faults.disk import Sink
from tests.faults.kill import hold_at, kill_at, kill_java
from tests.faults.site import Site, require_clean, require_closed_minutes, wait_until
from twinrun.broker.records import stored_records
from twinrun.broker.topics import create_topic, offset_ranges

pytestmark = pytest.mark.slow
JOBS = Path(__file__).parent / "jobs"
FEED, TOLD = "per_minute", "clicks_of_minutes"


def with_feed(site: Site, second: str) -> str:
    """Let the first job send its minutes to a topic that the second one reads; the topic's name."""
    topic = f"{site.topic}-minutes"
    create_topic(site.servers, topic, 1)
    settings = json.loads(site.conf.read_text(encoding="utf-8"))
    settings["sinks"] = {FEED: {"topic": topic}}
    settings["sources"]["minutes"] = {"topic": topic}
    settings["jobs"][second] = {"path": str(JOBS / f"{second}.py")}
    site.conf.write_text(json.dumps(settings), encoding="utf-8")
    return topic


def sent(site: Site, topic: str) -> list[dict[str, Any]]:
    """The value of each record, in the order of the topic."""
    return [
        json.loads(each.value or b"")
        for each in stored_records(site.servers, topic, offset_ranges(site.servers, topic))
    ]


class End:
    """Where a topic of one partition ends, asked again and again over one connection."""

    def __init__(self, servers: str, topic: str) -> None:
        self._client = Consumer({"bootstrap.servers": servers, "group.id": "faults"})
        self._place = TopicPartition(topic, 0)

    def __call__(self) -> int:
        return int(self._client.get_watermark_offsets(self._place, timeout=10)[1])


def kill_when_sent(site: Site, command: Command, sink: Sink, end: End) -> None:
    """Kill Java when a micro-batch is in the topic and not committed: it will be sent again."""

    def next_record() -> Callable[[], bool]:
        before = end()
        return lambda: end() > before

    facts = hold_at(command, sink, next_record, lambda facts: facts.planned == facts.in_table == facts.committed + 1)
    kill_java(command)
    assert sink.facts() == facts


@pytest.fixture(scope="module")
def site(make_site: Any) -> Site:
    site: Site = make_site()
    site.send(400)
    return site


def test_a_stream_that_is_killed_before_and_after_the_topic_sends_again_with_the_same_ids(site: Site) -> None:
    topic = with_feed(site, TOLD)
    sink = site.sink("stream", FEED)
    with site.start("stream", FEED, keep=True) as command:
        wait_until(lambda: sink.committed() >= 1, command)
        kill_at("after_the_version", command, sink)
    with site.start("stream", FEED, keep=True) as command:
        wait_until(lambda: sink.committed() >= 8, command)
        kill_when_sent(site, command, sink, End(site.servers, topic))
    site.drain("stream", FEED)
    require_closed_minutes(site)
    ids = Counter(each["record_id"] for each in sent(site, topic))
    assert len(ids) == pl.read_delta(str(site.results(FEED))).height
    assert max(ids.values()) == 2, "nothing was sent twice: the moment was not met"


def test_the_job_that_reads_the_topic_counts_each_minute_once_in_both_modes(site: Site) -> None:
    for mode in ("stream", "ingest", "batch"):
        site.run(mode, TOLD)
    table = pl.read_delta(str(site.results(FEED)))
    wanted = sorted(table.group_by("page").agg(pl.len(), pl.col("clicks").sum()).rows())
    told = pl.read_delta(str(site.results(TOLD))).select("page", "minutes", "clicks")
    assert sorted(told.rows()) == wanted
    require_clean(site.verify(TOLD, code=0))


def test_a_minute_that_counts_twice_would_be_seen(site: Site) -> None:
    """The control: one more minute in the second job's table, and a verify that says who wrote it."""
    table = str(site.results(TOLD))
    one_more = pl.col("minutes") + (pl.col("page") == "a").cast(pl.Int64)
    planted = pl.read_delta(table).with_columns(one_more.alias("minutes"))
    write_deltalake(table, planted.to_arrow(), mode="overwrite")
    verdict = site.verify(TOLD, code=1)
    assert [(cause["cause"], cause["rows"]) for cause in verdict["causes"]] == [("sink_changed", 1)]


def test_a_batch_run_that_is_killed_before_the_topic_sends_what_it_wrote_and_another_run_sends_nothing(
    make_site: Any,
) -> None:
    site: Site = make_site()
    topic, second = with_feed(site, "newest_minutes"), "newest_minutes"
    site.send(60)
    for mode in ("ingest", "batch"):
        site.run(mode, FEED)
    before = len(sent(site, topic))
    site.send(60)
    site.run("ingest", FEED)
    log = site.root / "wh" / "results" / FEED / "batch_v1" / "_delta_log"
    versions = len(list(log.glob("*.json")))
    with site.start("batch", FEED) as command:
        wait_until(lambda: len(list(log.glob("*.json"))) > versions, command)
        kill_java(command)
    assert len(sent(site, topic)) == before, "the moment was not met: the run had sent its rows already"
    site.run("batch", FEED)
    assert len(sent(site, topic)) > before
    after = len(sent(site, topic))
    site.run("batch", FEED)
    assert len(sent(site, topic)) == after

    for mode in ("stream", "ingest", "batch"):
        site.run(mode, second)
    fed = pl.read_delta(str(log.parent)).select("page", "window_start", "clicks").rows()
    assert sorted(pl.read_delta(str(site.results(second))).select("page", "window_start", "clicks").rows()) == sorted(
        fed
    )
    require_clean(site.verify(second, code=0))
