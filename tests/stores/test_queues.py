"""A queue of a real RabbitMQ, bridged into Kafka, as the source of a job: killed and started again, it delivers some
messages twice and says so; a stream queue delivers none twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stores.bridged import MESSAGES, counted_per_minute, lines, records, started, wait_for
from tests.stores.servers import program, rabbitmq
from twinrun.broker.process import BrokerInfo
from twinrun.broker.topics import create_topic

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(sys.prefix) / "engines" / "queues" / "bin" / "python"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    if not program("rabbitmq-server"):
        pytest.skip("RabbitMQ is not on this machine: apt-get install rabbitmq-server, or as your system has it")
    if not PYTHON.exists():
        pytest.skip("the environment of the bridge is not there: make stores makes it")
    with rabbitmq() as port:
        yield port


def publish(port: int, queue: str, kind: str) -> None:
    command = [str(PYTHON), str(Path(__file__).parent / "publish.py"), str(port), queue, kind]
    subprocess.run(command, input=lines(), text=True, check=True, timeout=60)


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
        arguments = [str(port), queue, kind, broker.bootstrap_servers, topic, str(every_s)]
        process = started([str(PYTHON), str(ROOT / "engines/python/queue_bridge.py"), *arguments], log)
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

    assert counted_per_minute(tmp_path / "project", broker, topic) == [60] * (MESSAGES // 60)
