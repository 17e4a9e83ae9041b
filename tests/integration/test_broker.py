"""The development broker is a real one: it keeps its data, and it never outlives its stop."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from twinrun.broker import topics
from twinrun.broker.child import Identity, end, is_running
from twinrun.broker.process import BrokerInfo, _new_cluster_id, broker_status, start_broker, stop_broker
from twinrun.broker.topics import cluster_id, create_topic, describe_topic, offset_ranges
from twinrun.errors import BrokerError

NOBODY = "127.0.0.1:1"
LIMIT_S = 10


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerInfo]:
    folder = tmp_path_factory.mktemp("broker")
    yield start_broker(folder)
    stop_broker(folder)


def send(address: str, topic: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": address, "acks": "all"})
    for number in range(count):
        producer.produce(topic, str(number).encode(), partition=number % 2)
    assert producer.flush(30) == 0


def test_a_running_broker_is_found_and_not_started_twice(broker: BrokerInfo) -> None:
    assert broker_status(broker.data_dir) == broker
    assert start_broker(broker.data_dir) == broker
    with pytest.raises(BrokerError, match="not on 1"):
        start_broker(broker.data_dir, port=1)


def test_it_listens_on_loopback_only(broker: BrokerInfo) -> None:
    listening = [c for c in psutil.Process(broker.pid).net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    # A dual-stack socket shows an IPv4 address as ::ffff:127.0.0.1.
    assert {c.laddr.ip.removeprefix("::ffff:") for c in listening} == {"127.0.0.1"}


def test_an_input_topic_keeps_the_producers_time_and_its_events(broker: BrokerInfo) -> None:
    made = create_topic(broker.bootstrap_servers, "flights", 3)
    assert made == describe_topic(broker.bootstrap_servers, "flights")
    assert (made.partitions, len(made.topic_id)) == (3, 22)
    assert made.config == {
        "cleanup.policy": "delete",
        "message.timestamp.type": "CreateTime",
        "retention.ms": "-1",
    }


def test_a_topic_can_be_made_otherwise(broker: BrokerInfo) -> None:
    made = create_topic(
        broker.bootstrap_servers, "latest", 1, config={"cleanup.policy": "compact", "retention.ms": "1000"}
    )
    assert (made.config["cleanup.policy"], made.config["retention.ms"]) == ("compact", "1000")
    with pytest.raises(BrokerError, match=r"refused the request for 'odd'.*no\.such\.setting"):
        create_topic(broker.bootstrap_servers, "odd", 1, config={"no.such.setting": "1"})


def test_offsets_are_those_of_the_records(broker: BrokerInfo) -> None:
    create_topic(broker.bootstrap_servers, "counted", 3)
    assert offset_ranges(broker.bootstrap_servers, "counted") == {0: (0, 0), 1: (0, 0), 2: (0, 0)}
    send(broker.bootstrap_servers, "counted", 5)
    assert offset_ranges(broker.bootstrap_servers, "counted") == {0: (0, 3), 1: (0, 2), 2: (0, 0)}


@pytest.mark.parametrize(("times", "asked"), [(2, 4), (99, 21)])
def test_a_partition_without_leader_is_asked_again_and_then_named(
    broker: BrokerInfo, monkeypatch: pytest.MonkeyPatch, times: int, asked: int
) -> None:
    create_topic(broker.bootstrap_servers, f"moving{times}", 1)
    real, calls = topics._offsets_now, list[int]()

    def moving(client: Any, bootstrap: str, name: str, *more: Any) -> dict[int, int]:
        calls.append(1)
        if len(calls) <= times:
            no_leader = KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION)  # type: ignore[attr-defined]
            raise topics._sentence(bootstrap, name, KafkaException(no_leader))
        return real(client, bootstrap, name, *more)

    monkeypatch.setattr(topics, "_offsets_now", moving)
    if times == 2:
        assert offset_ranges(broker.bootstrap_servers, f"moving{times}") == {0: (0, 0)}
    else:
        with pytest.raises(BrokerError, match=f"A partition of 'moving{times}' has no leader at .* right now"):
            offset_ranges(broker.bootstrap_servers, f"moving{times}")
    assert len(calls) == asked


def test_a_missing_topic_and_one_too_many_are_one_sentence(broker: BrokerInfo) -> None:
    with pytest.raises(BrokerError, match=r"has no topic 'absent'\."):
        describe_topic(broker.bootstrap_servers, "absent")
    with pytest.raises(BrokerError, match=r"has no topic 'absent'\."):
        offset_ranges(broker.bootstrap_servers, "absent")
    create_topic(broker.bootstrap_servers, "once", 1)
    with pytest.raises(BrokerError, match=r"already has a topic 'once'\."):
        create_topic(broker.bootstrap_servers, "once", 1)


def test_a_missing_broker_is_one_sentence_within_ten_seconds(capfd: pytest.CaptureFixture[str]) -> None:
    before = time.monotonic()
    with pytest.raises(BrokerError, match=r"No Kafka broker answers at 127\.0\.0\.1:1\.") as caught:
        offset_ranges(NOBODY, "flights")
    assert time.monotonic() - before < LIMIT_S
    assert "twinrun broker start" in caught.value.fix
    assert capfd.readouterr() == ("", "")


def test_client_options_are_used_and_never_shown(broker: BrokerInfo) -> None:
    secret = "hush-4711"
    login = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "me"}
    with pytest.raises(BrokerError) as caught:
        cluster_id(broker.bootstrap_servers, {**login, "sasl.password": secret}, limit_s=3)
    assert secret not in str(caught.value)
    with pytest.raises(BrokerError, match=r"refuses its options, first 'security\.protocol'") as caught:
        cluster_id(broker.bootstrap_servers, {"security.protocol": secret})
    assert secret not in str(caught.value)


def test_a_second_start_keeps_port_topics_and_records(tmp_path: Path) -> None:
    first = start_broker(tmp_path)
    try:
        known = create_topic(first.bootstrap_servers, "kept", 2)
        send(first.bootstrap_servers, "kept", 4)
        assert stop_broker(tmp_path)
        assert not psutil.pid_exists(first.pid)
        assert (broker_status(tmp_path), stop_broker(tmp_path)) == (None, False)
        second = start_broker(tmp_path)
        assert (second.bootstrap_servers, second.pid != first.pid) == (first.bootstrap_servers, True)
        assert describe_topic(second.bootstrap_servers, "kept") == known
        assert offset_ranges(second.bootstrap_servers, "kept") == {0: (0, 2), 1: (0, 2)}
        psutil.Process(second.pid).send_signal(signal.SIGKILL)
        psutil.Process(second.pid).wait(LIMIT_S)
        assert broker_status(tmp_path) is None
    finally:
        stop_broker(tmp_path)
    assert second.log_file.read_text(encoding="utf-8").count("Kafka Server started") == 2


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(BrokerError, match=f"Port {port} on 127.0.0.1 is taken"):
            start_broker(tmp_path, port=port)
    assert broker_status(tmp_path) is None


def test_a_broker_that_cannot_start_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match=r"could not be prepared with Java .*heap") as caught:
        start_broker(tmp_path, heap="1k")
    assert str(tmp_path / "broker.log") in caught.value.fix
    assert broker_status(tmp_path) is None


def test_only_the_recorded_process_is_ever_ended() -> None:
    with subprocess.Popen(["sleep", "60"]) as bystander:
        created_s = psutil.Process(bystander.pid).create_time()
        other = Identity(bystander.pid, created_s - 60)
        assert not is_running(other)
        assert not end(other)
        assert bystander.poll() is None
        # The control: with its own creation time it is ended.
        assert end(Identity(bystander.pid, created_s))
        assert bystander.poll() is not None


def test_a_process_whose_parent_never_asks_for_it_is_ended_and_not_waited_for() -> None:
    # As in a container whose first process reaps nothing, or where one worker starts a broker and another ends it.
    script = "import subprocess, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        identity = Identity(pid, psutil.Process(pid).create_time())
        started = time.monotonic()
        assert end(identity)
        assert time.monotonic() - started < LIMIT_S
        assert psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        assert (is_running(identity), end(identity)) == (False, False)
        parent.kill()


def test_a_damaged_record_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "broker.json").write_text(json.dumps({"port": 1}), encoding="utf-8")
    with pytest.raises(BrokerError, match=r"broker\.json is damaged"):
        broker_status(tmp_path)


def test_a_cluster_id_is_never_taken_for_an_option() -> None:
    made = [_new_cluster_id() for _ in range(500)]
    assert {len(letters) for letters in made} == {22}
    # One in 64 would begin with a dash.
    assert not [letters for letters in made if letters.startswith("-")]


def test_the_librarys_own_time_limit_comes_before_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that is freed while its thread still delivers the answer ends the process (seen: SIGABRT)."""
    seen: list[type[BaseException]] = []
    sentence = topics._sentence

    def noted(bootstrap: str, topic: str, error: Exception) -> BrokerError:
        seen.append(type(error))
        return sentence(bootstrap, topic, error)

    monkeypatch.setattr(topics, "_sentence", noted)
    with pytest.raises(BrokerError):
        cluster_id(NOBODY, limit_s=0.5)
    assert seen == [KafkaException]
