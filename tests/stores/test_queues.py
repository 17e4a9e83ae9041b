"""A queue of a real RabbitMQ, bridged into Kafka, as the source of a job: killed and started again, it delivers some
messages twice and says so; a stream queue delivers none twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stores.command import make_project, twinrun
from tests.stores.servers import program, rabbitmq
from twinrun.broker.process import BrokerInfo
from twinrun.broker.records import stored_records
from twinrun.broker.topics import create_topic, offset_ranges

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(sys.prefix) / "engines" / "queues" / "bin" / "python"
T0_MS = 1_704_067_200_000
MESSAGES = 900


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    if not program("rabbitmq-server"):
        pytest.skip("RabbitMQ is not on this machine: apt-get install rabbitmq-server, or as your system has it")
    if not PYTHON.exists():
        pytest.skip("the environment of the bridge is not there: make stores makes it")
    with rabbitmq() as port:
        yield port


def publish(port: int, queue: str, kind: str) -> None:
    """Every second one message, with an id of its own."""
    lines = [json.dumps({"id": f"m{n}", "at": T0_MS + 1_000 * n, "points": n % 7}) for n in range(MESSAGES)]
    command = [str(PYTHON), str(Path(__file__).parent / "publish.py"), str(port), queue, kind]
    subprocess.run(command, input="\n".join(lines), text=True, check=True, timeout=60)


def bridged(port: int, broker: BrokerInfo, queue: str, kind: str, topic: str, every_s: float, log: Path) -> Any:
    arguments = [str(port), queue, kind, broker.bootstrap_servers, topic, str(every_s)]
    with log.open("ab") as file:
        return subprocess.Popen(
            [str(PYTHON), str(ROOT / "engines/python/queue_bridge.py"), *arguments], stdout=file, stderr=file
        )


def records(broker: BrokerInfo, topic: str) -> list[dict[str, Any]]:
    found = stored_records(broker.bootstrap_servers, topic, offset_ranges(broker.bootstrap_servers, topic, {}))
    return [json.loads(each.value or b"") for each in sorted(found, key=lambda r: r.offset)]


def wait_for(broker: BrokerInfo, topic: str, least: int, process: Any, log: Path) -> None:
    deadline = time.monotonic() + 60
    while sum(high for _, high in offset_ranges(broker.bootstrap_servers, topic, {}).values()) < least:
        assert process.poll() is None, log.read_text(encoding="utf-8")
        assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
        time.sleep(0.02)


@pytest.mark.parametrize("kind", ["queue", "stream"])
def test_each_message_counts_once_in_both_modes_though_the_bridge_was_killed(
    port: int, broker: BrokerInfo, tmp_path: Path, kind: str
) -> None:
    topic = queue = f"{kind}-{uuid.uuid4().hex[:8]}"
    create_topic(broker.bootstrap_servers, topic, 3)
    publish(port, queue, kind)
    log = tmp_path / "bridge.log"
    # Killed before it has acknowledged anything, however slow the machine is.
    for least, every_s, how in ((50, 60.0, signal.SIGKILL), (MESSAGES, 1.0, signal.SIGTERM)):
        process = bridged(port, broker, queue, kind, topic, every_s, log)
        wait_for(broker, topic, least, process, log)
        if least == MESSAGES:
            time.sleep(2)
        process.send_signal(how)
        process.wait(20)

    found = records(broker, topic)
    ids = [each["message_id"] for each in found]
    # Each of them, and in the order of the queue wherever it comes first.
    assert list(dict.fromkeys(ids)) == [f"m{n}" for n in range(MESSAGES)]
    again = [each["message_id"] for each in found if each["redelivered"]]
    if kind == "stream":
        assert (len(ids), again) == (MESSAGES, [])
    else:
        twice = {name for name in ids if ids.count(name) > 1}
        assert twice
        assert twice <= set(again), "whatever came twice is marked"

    make_project(tmp_path, broker, "messages_per_minute", "messages", topic)
    code, said = twinrun("run", "messages_per_minute", folder=tmp_path)
    assert code == 0, said
    assert "messages_per_minute: AGREE" in said
    code, said = twinrun("show", "messages_per_minute", "--limit", "100", "--json", folder=tmp_path)
    assert code == 0, said
    rows = json.loads(said[said.index("{") :])["rows"]
    assert [row["messages"] for row in rows] == [60] * (MESSAGES // 60)
