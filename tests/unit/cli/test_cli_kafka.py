"""broker and produce: which broker is started, which topic is made, what is sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import twinrun.cli.broker
import twinrun.cli.produce
from twinrun.broker.files import BrokerFiles
from twinrun.broker.process import BrokerInfo
from twinrun.errors import BrokerError
from twinrun.produce.counts import ProduceSummary


class Kafka:
    """Stands for the development broker and the client."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: BrokerInfo | None = None
        self.ports: list[int | None] = []
        self.topics: list[tuple[Any, ...]] = []
        self.sent: list[Any] = []
        self.has_topic = True

    def start(self, folder: Path, *, port: int | None) -> BrokerInfo:
        self.ports.append(port)
        self.running = BrokerInfo(f"127.0.0.1:{port or 50_000}", 77, folder, folder / "broker.log")
        return self.running

    def stop(self, _: Path) -> bool:
        was, self.running = self.running, None
        return was is not None

    def describe(self, *_: Any) -> None:
        if not self.has_topic:
            raise BrokerError("The broker has no topic 'orders'.")

    def send(self, records: Any, topic: str, options: Any, *, speed: Any, on_progress: Any) -> ProduceSummary:
        self.sent.append((topic, speed, options["bootstrap.servers"], list(records)))
        on_progress(ProduceSummary(1, 1, 0, None, 0.1, {0: 1}))
        return ProduceSummary(60, 60, 0, None, 1.25, {0: 60})


@pytest.fixture
def kafka(project: Path, monkeypatch: pytest.MonkeyPatch) -> Kafka:
    fake = Kafka(project / ".data/broker")
    for module in (twinrun.cli.broker, twinrun.cli.produce):
        monkeypatch.setattr(module, "broker_status", lambda _: fake.running)
    monkeypatch.setattr(twinrun.cli.broker, "start_broker", fake.start)
    monkeypatch.setattr(twinrun.cli.broker, "stop_broker", fake.stop)
    monkeypatch.setattr(twinrun.cli.produce, "describe_topic", fake.describe)
    monkeypatch.setattr(twinrun.cli.produce, "create_topic", lambda *given: fake.topics.append(given))
    monkeypatch.setattr(twinrun.cli.produce, "send", fake.send)
    return fake


def test_start_status_stop(run: Any, kafka: Kafka) -> None:
    assert run("broker", "status").code == 1
    assert run("broker", "start").out == "broker at 127.0.0.1:9092, process 77\n"
    assert kafka.ports == [9092]
    assert json.loads(run("broker", "status", "--json").out)["bootstrap_servers"] == "127.0.0.1:9092"
    assert run("broker", "status").code == 0
    assert run("broker", "stop").out == "broker stopped\n"
    done = run("broker", "stop")
    assert (done.code, done.out) == (0, "no broker was running\n")


def test_a_later_start_keeps_the_port_and_says_when_the_configuration_names_another(run: Any, kafka: Kafka) -> None:
    record = BrokerFiles(kafka.folder).record
    record.parent.mkdir(parents=True)
    record.touch()

    done = run("broker", "start")

    assert kafka.ports == [None]
    assert "add --set kafka.bootstrap_servers=127.0.0.1:50000" in done.err
    assert run("broker", "start", "--port", "9092").err == ""
    assert kafka.ports == [None, 9092]


def test_a_file_is_sent_to_a_topic_that_is_made(run: Any, kafka: Kafka) -> None:
    run("broker", "start")
    kafka.has_topic = False
    options = [
        "--file",
        "data/orders.jsonl",
        "--key-field",
        "order_id",
        "--time-field",
        "known_at",
        "--topic",
        "orders",
    ]

    done = run("produce", *options, "--create-topic", "--speed", "60")

    assert done.code == 0
    assert done.out == "60 records delivered to orders in 1.2 s (per partition 0: 60)\n"
    assert kafka.topics == [("127.0.0.1:9092", "orders", 1, {"bootstrap.servers": "127.0.0.1:9092"})]
    [(topic, speed, servers, records)] = kafka.sent
    assert (topic, speed, servers, len(records)) == ("orders", 60.0, "127.0.0.1:9092", 60)
    assert records[0].key == b"o001"
    assert json.loads(run("produce", *options, "--json").out)["acked"] == 60


def test_records_without_a_key_are_counted(run: Any, kafka: Kafka, project: Path) -> None:
    (project / "some.csv").write_text("id,n\na,1\nb,2,3\n,4\n", encoding="utf-8")

    done = run("produce", "--file", "some.csv", "--key-field", "id", "--topic", "orders", "--create-topic")

    [(*_, records)] = kafka.sent
    assert [(each.key, each.value) for each in records] == [
        (b"a", b'{"id":"a","n":1}'),
        (None, b"b,2,3"),
        (None, b'{"id":null,"n":4}'),
    ]
    assert "note: 2 records without a key: no JSON object, or one whose id is missing or null" in done.err


def test_a_topic_that_exists_is_used(run: Any, kafka: Kafka) -> None:
    run("produce", "--file", "data/orders.jsonl", "--key-field", "order_id", "--topic", "orders", "--create-topic")

    assert kafka.topics == []
    assert len(kafka.sent) == 1


def test_no_topic_is_made_on_a_broker_of_somebody_else(run: Any, kafka: Kafka) -> None:
    kafka.has_topic = False
    options = ["--file", "data/orders.jsonl", "--key-field", "order_id", "--topic", "orders", "--create-topic"]

    assert "not the development broker" in run("produce", *options).err
    run("broker", "start")
    done = run("produce", *options, "--set", "kafka.bootstrap_servers=kafka.example:9092")
    assert done.code == 2
    assert "not the development broker" in done.err
    assert kafka.topics == []
    assert kafka.sent == []


def test_flights_go_to_the_topic_of_their_source(run: Any, kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    import twinrun.produce.flights as flights

    asked = []
    monkeypatch.setattr(flights, "flight_records", lambda day, days: asked.append((day.isoformat(), days)))
    monkeypatch.setattr(flights, "flight_events", lambda _: iter(()))

    run("produce", "--dataset", "flights", "--set", "sources.flights.topic=departures")
    run("produce", "--dataset", "flights", "--day", "2013-02-01", "--days", "2", "--topic", "other")

    assert asked == [("2013-01-06", 7), ("2013-02-01", 2)]
    assert [topic for topic, *_ in kafka.sent] == ["departures", "other"]
