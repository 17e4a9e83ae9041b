"""Latest rows per key from a topic of another engine: by offset, with deletions, and with committed records only."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.integration.conftest import T0_MS, World, click
from tests.integration.other_engine import Row, send
from tests.integration.test_external import verify
from twinrun.broker.topics import create_topic
from twinrun.errors import TableError

LOG = [click(second, page) for second in (1, 2, 3) for page in "ab"]
Pair = tuple[bytes | None, bytes | None]


@pytest.fixture(scope="module")
def world(make_world: Any) -> World:
    world = make_world()
    world.produce(LOG)
    world.ingest()
    world.batch("page_totals")
    return world


def total(page: str, clicks: int) -> Row:
    amount, newest = f"{1.25 * clicks:.2f}", T0_MS + clicks * 1000
    return {"page": page, "clicks": clicks, "amount": amount, "newest": newest}


def update(page: str, clicks: int) -> Pair:
    return page.encode(), json.dumps(total(page, clicks)).encode()


UPDATES = [update("a", 1), update("b", 1), update("c", 1), update("b", 3), update("a", 3)]


def topic_of(world: World, records: list[Pair]) -> str:
    topic = f"totals-{uuid.uuid4().hex[:8]}"
    create_topic(world.bootstrap, topic, 1)
    send(world.bootstrap, topic, records)
    return topic


@pytest.mark.slow
def test_the_latest_record_per_key_counts_and_a_tombstone_deletes_its_row(world: World) -> None:
    topic = topic_of(world, [*UPDATES, (b"c", None)])
    aborted = Producer({"bootstrap.servers": world.bootstrap, "transactional.id": f"t-{topic}"})
    aborted.init_transactions(20)
    aborted.begin_transaction()
    aborted.produce(topic, key=b"a", value=update("a", 77)[1], partition=0)
    aborted.flush(20)
    aborted.abort_transaction(20)

    verdict = verify(world, "page_totals", topic=topic)

    assert (verdict.outcome, verdict.exit_code, verdict.rows_equal) == ("agree", 0, 2)
    assert verdict.external is not None
    assert (verdict.external.records, verdict.external.superseded, verdict.external.tombstones) == (5, 3, 1)
    assert (verdict.external.rows, verdict.external.malformed) == (2, ())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "kind"),
    [([(b"b", None)], "only_batch"), ([update("b", 2)], "changed")],
    ids=["a row deleted", "an older row last"],
)
def test_a_wrong_latest_row_is_unexplained(world: World, more: list[Pair], kind: str) -> None:
    verdict = verify(world, "page_totals", topic=topic_of(world, [*UPDATES, (b"c", None), *more]))

    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("differ", 1, 1)
    assert [(s.kind, s.key["page"]) for s in verdict.samples] == [(kind, "b")]


@pytest.mark.slow
def test_a_total_without_the_events_before_the_declared_start_is_proven(world: World) -> None:
    newest = T0_MS + 3000
    rows = [{"page": page, "clicks": 2, "amount": "2.50", "newest": newest} for page in "ab"]
    records: list[Pair] = [(json.dumps({"page": row.pop("page")}).encode(), json.dumps(row).encode()) for row in rows]
    topic = topic_of(world, records)

    verdict = verify(world, "page_totals", topic=topic, key="json", start={"clicks": {"0": 2}})

    assert (verdict.outcome, verdict.exit_code) == ("explained", 0)
    assert [(cause.cause, cause.rows, cause.events) for cause in verdict.causes] == [("before_start", 2, 2)]


@pytest.mark.slow
def test_fields_are_held_against_the_columns_unless_they_are_ignored(world: World) -> None:
    records: list[Pair] = []
    for page in "ab":
        row = {name: cell for name, cell in total(page, 3).items() if name != "newest"} | {"engine": "x"}
        records.append((page.encode(), json.dumps(row).encode()))
    topic = topic_of(world, records)

    verdict = verify(world, "page_totals", topic=topic)
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("differ", 1, 2)
    assert "schema: no record has the field newest" in verdict.problems
    assert "schema: 2 records have the field engine, which the result does not have" in verdict.problems

    verdict = verify(world, "page_totals", topic=topic, ignore=["newest", "engine"])
    assert (verdict.outcome, verdict.exit_code, verdict.rows_equal) == ("agree", 0, 2)

    with pytest.raises(TableError, match="names 'engin', which neither result has"):
        verify(world, "page_totals", topic=topic, ignore=["newest", "engin"])
