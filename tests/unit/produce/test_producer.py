"""The producer counts every record once, whatever happens; against librdkafka's own mock broker."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from twinrun.errors import BrokerError, InputError
from twinrun.produce.counts import ProduceSummary
from twinrun.produce.producer import produce
from twinrun.produce.records import Record

NOBODY = "127.0.0.1:1"


class MockBroker:
    """A broker inside librdkafka, alive as long as the client that made it."""

    def __init__(self) -> None:
        self.owner: Producer | None = Producer(
            {"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "log_level": 0}
        )
        broker = next(iter(self.owner.list_topics(timeout=10).brokers.values()))
        self.address = f"{broker.host}:{broker.port}"
        self.options = {"bootstrap.servers": self.address}

    def make_topic(self, name: str) -> None:
        """The mock makes a topic of four partitions when it is asked for by name."""
        assert self.owner is not None
        self.owner.list_topics(name, timeout=10)

    def stop(self) -> None:
        self.owner = None

    def read(self, topic: str, count: int) -> list[Message]:
        consumer = Consumer({**self.options, "group.id": "test", "auto.offset.reset": "earliest"})
        try:
            consumer.assign([TopicPartition(topic, partition, 0) for partition in range(4)])
            messages: list[Message] = []
            until = time.monotonic() + 20
            while len(messages) < count and time.monotonic() < until:
                messages += consumer.consume(count - len(messages), timeout=1)
            return messages + consumer.consume(1, timeout=0.2)
        finally:
            consumer.close()


@pytest.fixture
def broker() -> Iterator[MockBroker]:
    mock = MockBroker()
    mock.make_topic("events")
    yield mock
    mock.stop()


def test_arbitrary_bytes_keys_headers_and_times_arrive(broker: MockBroker) -> None:
    records = [
        Record(b"k", b'{"a":1}', 1_357_034_400_000, (("h", b"1"), ("h", None), ("bin", b"\x00\xff"))),
        Record(b"k", b"\xff\xfe\x00not json", 1_357_034_400_001),
        Record(None, b"", 1_357_034_400_002),
        Record(b"", None, 1_357_034_400_003),
    ]
    summary = produce(records, "events", broker.options)
    assert (summary.sent, summary.acked, summary.failed, summary.first_error) == (4, 4, 0, None)
    arrived = sorted(broker.read("events", 4), key=lambda message: message.timestamp()[1])
    assert [message.value() for message in arrived] == [record.value for record in records]
    assert [message.key() for message in arrived] == [b"k", b"k", None, b""]
    assert [message.timestamp()[1] for message in arrived] == [record.timestamp_ms for record in records]
    assert arrived[0].headers() == [("h", b"1"), ("h", None), ("bin", b"\x00\xff")]


def test_records_of_one_key_keep_their_order_and_every_partition_is_counted(broker: MockBroker) -> None:
    records = [Record(b"%d" % (n % 7), b"%d" % n, n + 1) for n in range(5_000)]
    summary = produce(iter(records), "events", broker.options)
    arrived = broker.read("events", 5_000)
    assert len(arrived) == 5_000
    assert {p: sum(m.partition() == p for m in arrived) for p in range(4)} == summary.per_partition
    for key in {record.key for record in records}:
        values = [int(m.value() or b"") for m in arrived if m.key() == key]
        assert values == sorted(values)


def test_a_small_queue_only_slows_it_down(broker: MockBroker) -> None:
    options = {**broker.options, "queue.buffering.max.messages": 10}
    assert produce((Record(None, b"x") for _ in range(500)), "events", options).acked == 500


def test_idempotence_is_not_negotiable(broker: MockBroker) -> None:
    # With idempotence off the client would accept this; it names it as impossible together with idempotence.
    options = {**broker.options, "enable.idempotence": "false", "acks": "0", "max.in.flight": "100"}
    with pytest.raises(BrokerError, match=r"max\.in\.flight"):
        produce([], "events", options)
    assert produce([Record(None, b"x")], "events", {**options, "max.in.flight": "5"}).acked == 1


def test_refused_records_are_counted_and_the_rest_is_sent(broker: MockBroker) -> None:
    seen: list[ProduceSummary] = []
    records = [Record(None, b"x"), Record(None, b"x" * 2_000_000), Record(None, b"y")]
    with pytest.raises(BrokerError, match=r"1 of 3 records were not delivered .* 2 were; .*too large"):
        produce(records, "events", broker.options, on_progress=seen.append)
    last = seen[-1]
    assert (last.sent, last.acked, last.failed) == (3, 2, 1)
    assert len(broker.read("events", 2)) == 2


def test_a_broker_that_goes_away_ends_it_soon(broker: MockBroker) -> None:
    def records() -> Iterator[Record]:
        for number in range(10_000_000):
            if number == 100:
                broker.stop()
            yield Record(None, b"x")

    seen: list[ProduceSummary] = []
    options = {**broker.options, "message.timeout.ms": 1_500, "queue.buffering.max.messages": 1_000}
    started = time.monotonic()
    with pytest.raises(BrokerError, match="start the broker again"):
        produce(records(), "events", options, on_progress=seen.append)
    assert time.monotonic() - started < 20
    assert seen[-1].sent == seen[-1].acked + seen[-1].failed
    assert seen[-1].failed > 0


def test_speed_follows_the_timestamps_with_absolute_deadlines(broker: MockBroker) -> None:
    sent_at: list[float] = []

    def records() -> Iterator[Record]:
        for seconds in (0, 60, 30, 120, 120):
            sent_at.append(time.monotonic())
            yield Record(None, b"x", 1_000_000 + seconds * 1000)

    started = time.monotonic()
    summary = produce(records(), "events", broker.options, speed=100.0)
    assert summary.acked == 5
    # The record of 120 s is due at 1.2 s; the one of 30 s is overdue and must not be waited for.
    assert 1.2 <= time.monotonic() - started < 6
    assert sent_at[2] - sent_at[1] >= 0.55
    assert sent_at[3] - sent_at[2] < 0.3
    fast = produce((Record(None, b"x", 1 + n * 3_600_000) for n in range(10)), "events", broker.options)
    assert fast.seconds < 5, "without speed the timestamps do not matter"


@pytest.mark.parametrize("speed", [0, -1, float("nan"), float("inf")])
def test_an_impossible_speed_is_refused(speed: float) -> None:
    with pytest.raises(InputError, match="speed"):
        produce([], "events", {"bootstrap.servers": NOBODY}, speed=speed)


def test_a_missing_topic_is_named_and_not_created(broker: MockBroker) -> None:
    for _ in range(2):
        with pytest.raises(BrokerError, match="no topic 'evnets'") as caught:
            produce([Record(None, b"x")], "evnets", broker.options)
    assert "events" in caught.value.expected


def test_a_missing_broker_is_one_sentence_within_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinrun.produce.producer.ANSWER_LIMIT_S", 1.0)
    with pytest.raises(BrokerError, match=r"No Kafka broker answers at 127\.0\.0\.1:1"):
        produce([Record(None, b"x")], "events", {"bootstrap.servers": NOBODY})


@pytest.mark.parametrize("wrong", [{"no.such.option": "canary-secret"}, {"security.protocol": "canary-secret"}])
def test_a_wrong_option_is_named_without_any_value(wrong: dict[str, str]) -> None:
    with pytest.raises(BrokerError, match="refuses its options") as caught:
        produce([], "events", {"bootstrap.servers": NOBODY, **wrong})
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_error_in_the_records_is_not_swallowed(broker: MockBroker) -> None:
    def records() -> Iterator[Record]:
        yield Record(None, b"x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        produce(records(), "events", broker.options)


@pytest.mark.parametrize("time_ms", [0, -1, 2**63])
def test_a_time_that_kafka_cannot_hold_ends_it_and_says_what_was_delivered(broker: MockBroker, time_ms: int) -> None:
    records = [Record(None, b"1", 5), Record(None, b"2", 6), Record(None, b"3", time_ms), Record(None, b"4", 7)]
    with pytest.raises(InputError, match=f"Record 3 has the record time {time_ms} ms.*before it: 2 records"):
        produce(records, "events", broker.options)
    assert sorted(message.timestamp()[1] for message in broker.read("events", 2)) == [5, 6]
