"""Records that Kafka deleted before they were read: said with their offsets, before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

import twinrun.tables.kafka
from tests.bad_input.conftest import Place, names, offsets_in, refused, tree

LIMIT_S = 30
pytestmark = pytest.mark.usefixtures("one_session")


@pytest.fixture(scope="module")
def place(make_place: Callable[[], Place], one_session: object) -> Place:
    """Four records that were read, six that wait; of those the first two are deleted."""
    place = make_place()
    place.make_topic()
    place.produce(names(0, 4))
    place.works("ingest clicks", "stream seen")
    place.produce(names(4, 10))
    client = AdminClient({"bootstrap.servers": place.bootstrap})
    asked = client.delete_records([TopicPartition(place.topic, 0, 6)], request_timeout=LIMIT_S)
    assert [done.result(LIMIT_S).low_watermark for done in asked.values()] == [6]
    return place


def written(place: Place) -> dict[str, int]:
    """All files of tables and checkpoints but those of the control table, where leases are noted."""
    files = {**tree(place.root / "wh"), **{f"cp/{name}": size for name, size in tree(place.root / "cp").items()}}
    return {name: size for name, size in files.items() if "control" not in name}


@pytest.mark.parametrize(
    ("command", "fix"),
    [("ingest clicks", "twinrun ingest clicks --accept-loss"), ("stream seen", "stream seen --new-checkpoint")],
)
def test_offsets_that_are_gone_are_named_and_nothing_is_written(command: str, fix: str, place: Place) -> None:
    before = written(place)
    done = place.run(*command.split())
    refused(done, f"no longer has records that were not read yet: {place.topic} partition 0 offsets 4 to 5", fix)
    assert written(place) == before


@pytest.mark.parametrize("command", ["ingest clicks", "stream seen"])
def test_records_deleted_while_a_query_starts_stop_it_too(
    command: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look before the start sees the topic as it was; then the query itself meets the gap, and skips nothing."""
    monkeypatch.setattr(twinrun.tables.kafka, "offset_ranges", lambda *_: {0: (0, 10)})
    refused(place.run(*command.split()), "Kafka no longer has offsets that were not read yet")
    assert offsets_in(Path(place.cfg().table("bronze", topic=place.topic))) == [0, 1, 2, 3]
    assert place.ids("stream") == names(0, 4)


@pytest.mark.slow
def test_the_ways_out_keep_what_was_read_and_take_what_is_left(place: Place) -> None:
    place.works("stream seen --new-checkpoint --from earliest")
    assert place.ids("stream") == names(0, 4)
    assert place.ids("stream", version=2) == names(6, 10)
    place.works("ingest clicks --accept-loss", "ingest clicks --accept-loss", "batch seen")
    assert offsets_in(Path(place.cfg().table("bronze", topic=place.topic))) == [0, 1, 2, 3, 6, 7, 8, 9]
    assert place.ids("batch") == [*names(0, 4), *names(6, 10)]
    # What is new since is landed by the new checkpoint, each record once.
    place.produce(names(10, 11))
    place.works("ingest clicks")
    assert offsets_in(Path(place.cfg().table("bronze", topic=place.topic))) == [0, 1, 2, 3, 6, 7, 8, 9, 10]


def test_a_topic_that_was_made_anew(place: Place) -> None:
    bronze = Path(place.cfg().table("bronze", topic=place.topic))
    held = offsets_in(bronze)
    client = AdminClient({"bootstrap.servers": place.bootstrap})
    client.delete_topics([place.topic], operation_timeout=LIMIT_S)[place.topic].result(LIMIT_S)
    place.make_topic()
    place.produce(names(20, 40))
    for command in ("ingest clicks", "stream seen"):
        refused(place.run(*command.split()), "was deleted and created anew", "its offsets mean other records")
    assert offsets_in(bronze) == held
