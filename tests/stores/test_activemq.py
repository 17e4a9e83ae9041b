"""A queue of a real ActiveMQ, bridged into Kafka, as the source of a job: the bridge is killed and the server is, and
what comes twice says so where the server is told to keep that mark."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.stores.bridged import MESSAGES, bodies, counted_per_minute, lines, records, started, wait_for
from tests.stores.java import compiled, java_command
from tests.stores.servers import activemq, free_port
from twinrun.broker.process import BrokerInfo
from twinrun.broker.topics import create_topic

pytestmark = pytest.mark.slow
PROGRAMS = ["engines/java/ActiveMqServer.java", "engines/java/ActiveMqBridge.java", "tests/stores/ActiveMqPublish.java"]
FULL = 500
NEVER_S, SOON_S = 600.0, 0.5


@pytest.fixture(scope="module")
def classpath(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compiled("activemq", PROGRAMS, tmp_path_factory.mktemp("classes"))


class Queue:
    """A queue, the topic behind it, and what is run at both; its server may be killed and started on its folder."""

    def __init__(self, classpath: str, broker: BrokerInfo, folder: Path, marks: str) -> None:
        self.classpath, self.broker, self.marks = classpath, broker, marks
        self.name = self.topic = f"activemq-{uuid.uuid4().hex[:8]}"
        self.port, self.data, self.log = free_port(), folder / "activemq", folder / "bridge.log"
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.data.mkdir()
        create_topic(broker.bootstrap_servers, self.topic, 3)

    def server(self) -> AbstractContextManager[subprocess.Popen[bytes]]:
        return activemq(self.classpath, self.data, self.port, self.marks)

    def publish(self, what: str) -> None:
        program = java_command(self.classpath, "ActiveMqPublish", self.address, self.name)
        subprocess.run(program, input=what, text=True, check=True, timeout=60)

    def bridge(self, every_s: float, least: int) -> subprocess.Popen[bytes]:
        """The bridge, once the topic holds so many records."""
        arguments = [self.address, self.name, self.broker.bootstrap_servers, self.topic, str(every_s)]
        process = started(java_command(self.classpath, "ActiveMqBridge", *arguments), self.log)
        wait_for(self.broker, self.topic, least, process, self.log)
        return process

    def drained(self, least: int) -> None:
        """Bridged and acknowledged to its end."""
        process = self.bridge(SOON_S, least)
        time.sleep(2)
        process.terminate()
        process.wait(20)


def killed(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(20)


def second_comings(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    seen: set[str] = set()
    again = []
    for each in found:
        if each["message_id"] in seen:
            again.append(each)
        seen.add(each["message_id"])
    return again


def test_each_message_counts_once_in_both_modes_though_bridge_and_server_were_killed(
    classpath: str, broker: BrokerInfo, tmp_path: Path
) -> None:
    queue = Queue(classpath, broker, tmp_path, "marks")
    with queue.server() as server:
        queue.publish(lines(0, 600))
        # All but the first 500 are in Kafka and not acknowledged.
        killed(queue.bridge(NEVER_S, 600))
        # And the rest is only in the store of the server.
        queue.publish(lines(600, MESSAGES))
        killed(server)
    with queue.server() as server:
        bridge = queue.bridge(NEVER_S, MESSAGES + 600 - FULL)
        killed(server)
        assert bridge.wait(60) == 1
        assert "ActiveMQ is gone" in queue.log.read_text(encoding="utf-8")
    with queue.server():
        queue.drained(MESSAGES + 600 - FULL + MESSAGES - FULL)
        size = len(records(broker, queue.topic))
        queue.publish("no JSON")
        queue.drained(size + 1)

    *stored, last = bodies(broker, queue.topic)
    assert (len(stored), last) == (size, b"no JSON"), "what was acknowledged does not come again"
    found = [json.loads(each) for each in stored]
    assert list(dict.fromkeys(each["id"] for each in found)) == [f"m{n}" for n in range(MESSAGES)]
    assert len({each["message_id"] for each in found}) == MESSAGES
    again = second_comings(found)
    assert len(again) == len(found) - MESSAGES >= MESSAGES - FULL
    assert all(each["redelivered"] for each in again), "whatever came twice is marked"
    assert not any(each["redelivered"] for each in found[:600])
    assert len({each["message_id"] for each in again}) < len(again), "some came three times"

    once = counted_per_minute(tmp_path / "once", broker, queue.topic)
    assert once == [60] * (MESSAGES // 60)
    # Without the dropping of copies the job counts each coming: the messages really came twice.
    each_coming = counted_per_minute(tmp_path / "each", broker, queue.topic, drop_copies=False)
    assert sum(each_coming) == len(found) > MESSAGES


def test_any_body_is_passed_on_and_without_the_setting_a_killed_server_forgets_its_marks(
    classpath: str, broker: BrokerInfo, tmp_path: Path
) -> None:
    queue = Queue(classpath, broker, tmp_path, "forgets")
    objects = [' {"price": 1.10, "name": "münchen"} ', '{"a": "}"}', "{ }"]
    others = ["no JSON", '{"cut": ', "[1]", "0xfffe7b00", "0x", "map:x"]
    count = len(objects) + len(others)
    with queue.server() as server:
        queue.publish("\n".join([*objects, *others]))
        killed(queue.bridge(NEVER_S, count))
        killed(queue.bridge(NEVER_S, 2 * count))
        killed(server)
    with queue.server():
        queue.drained(3 * count)
    found = bodies(broker, queue.topic)
    assert len(found) == 3 * count
    comings = [found[start : start + count] for start in range(0, 3 * count, count)]
    for coming in comings:
        assert coming[0].decode().endswith(', "price": 1.10, "name": "münchen"}')
        assert json.loads(coming[1])["a"] == "}"
        assert json.loads(coming[2]).keys() == {"message_id", "redelivered"}
        assert coming[3:-1] == [b"no JSON", b'{"cut": ', b"[1]", b"\xff\xfe{\x00", b""]
        assert b"name" in coming[-1], "a map, as ActiveMQ sends it"
    marks = [[json.loads(each)["redelivered"] for each in coming[:3]] for coming in comings]
    assert marks == [[False] * 3, [True] * 3, [False] * 3]
