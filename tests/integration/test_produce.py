"""Flights reach a real broker: each acknowledged once, in order, with the instant at which it became known."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, Consumer, Message, TopicPartition

from twinrun.broker.process import BrokerInfo
from twinrun.broker.topics import create_topic, offset_ranges
from twinrun.errors import BrokerError
from twinrun.measure.load import read_topic
from twinrun.produce.flights import FIRST_DAY, flight_events, flight_records
from twinrun.produce.producer import produce
from twinrun.produce.records import Record, file_records

PARTITIONS = 3
LEAST_PER_SECOND = 5_000


@pytest.fixture(scope="module")
def address(broker: BrokerInfo) -> str:
    return broker.bootstrap_servers


@pytest.fixture
def topic(address: str, request: pytest.FixtureRequest) -> str:
    name = str(request.node.name)
    create_topic(address, name, PARTITIONS)
    return name


def read(address: str, topic: str, count: int) -> list[Message]:
    """Up to ``count`` records of all partitions, and one more if there is one."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "test", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
        messages: list[Message] = []
        while len(messages) < count and (got := consumer.consume(min(count - len(messages), 10_000), timeout=10)):
            messages += got
        return messages + consumer.consume(1, timeout=0.5)
    finally:
        consumer.close()


def test_a_week_of_flights(address: str, topic: str) -> None:
    flights = flight_records(date(2013, 1, 6), 7)
    summary = produce(flight_events(flights), topic, {"bootstrap.servers": address})
    assert (summary.sent, summary.acked, summary.failed) == (6_118, 6_118, 0)
    assert sum(summary.per_partition.values()) == 6_118
    assert min(summary.per_partition.values()) > 1_500, "flight ids spread over the partitions"
    arrived = read(address, topic, 6_118)
    sent = {record.key: record for record in flight_events(flights)}
    assert len(arrived) == len(sent) == 6_118
    assert all(m.value() == sent[m.key()].value for m in arrived)
    assert {m.timestamp()[0] for m in arrived} == {TIMESTAMP_CREATE_TIME}
    assert all(m.timestamp()[1] == sent[m.key()].timestamp_ms for m in arrived)
    for partition in range(PARTITIONS):
        known = [m.timestamp()[1] for m in arrived if m.partition() == partition]
        assert known == sorted(known), "the order of a partition is the order of knowing"


def test_the_year_in_bounded_time(address: str, topic: str) -> None:
    summary = produce(flight_events(flight_records(FIRST_DAY, 365)), topic, {"bootstrap.servers": address})
    assert summary.acked == 336_776
    assert summary.acked / summary.seconds > LEAST_PER_SECOND
    # Idempotence: what the broker holds is what was acknowledged, nothing twice.
    ends = {p: end for p, (_, end) in offset_ranges(address, topic).items()}
    assert ends == summary.per_partition
    print(f"{summary.acked / summary.seconds:,.0f} flights/s")


def test_poison_arrives_byte_for_byte(address: str, topic: str, tmp_path: Path) -> None:
    lines = [b'{"id": "a", "t": 1357034400000}', b"\xff\xfe", b"", b'{"id": "b"} trailing', b"null"]
    path = tmp_path / "poison.jsonl"
    path.write_bytes(b"\n".join([*lines, b""]))
    by_hand = [Record(None, None, 1_357_034_400_000), Record(b"\x00", b"\x00\xff", 1, (("why", b"test"),))]
    options = {"bootstrap.servers": address}
    from_file = produce(file_records(path, key_field="id", time_field="t"), topic, options)
    made = produce(by_hand, topic, options)
    assert (from_file.acked, made.acked) == (5, 2)
    expected = [*lines, None, b"\x00\xff"]
    arrived = read(address, topic, len(expected))
    assert sorted(m.value() or b"" for m in arrived) == sorted(value or b"" for value in expected)
    assert sum(m.value() is None for m in arrived) == 1
    assert all(m.timestamp()[1] == 1_357_034_400_000 for m in arrived if m.value() in lines)


def test_what_the_broker_refuses_is_counted(address: str, topic: str) -> None:
    # A broker refuses a time that lies far ahead of its own clock, unless the topic allows it.
    far_ahead = Record(b"future", b"x", 32_503_680_000_000)
    with pytest.raises(BrokerError, match=r"1 of 3 records were not delivered .* 2 were"):
        produce(
            [Record(b"a", b"x", 1), far_ahead, Record(b"b", b"x", 2)],
            topic,
            {"bootstrap.servers": address, "linger.ms": 0, "batch.num.messages": 1},
        )
    assert {m.key() for m in read(address, topic, 2)} == {b"a", b"b"}


def test_a_missing_topic_is_one_sentence(address: str) -> None:
    with pytest.raises(BrokerError, match="has no topic 'absent'"):
        produce([Record(None, b"x")], "absent", {"bootstrap.servers": address})
    with pytest.raises(BrokerError):
        offset_ranges(address, "absent")


def test_a_measurement_takes_its_load_from_a_topic_by_time_and_no_more_than_asked(address: str, topic: str) -> None:
    records = [Record(f"k{each}".encode(), b"{}", 1_000 + each, (("h", b"1"),)) for each in range(50)]
    produce(records, topic, {"bootstrap.servers": address})
    assert read_topic(address, topic, {}, 1_000) == records
    some = read_topic(address, topic, {}, 20)
    assert len(some) == 20
    assert some == sorted(some, key=lambda record: record.timestamp_ms or 0)
    assert set(some) < set(records)
