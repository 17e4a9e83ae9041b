"""Changes of a table of a real PostgreSQL, by Debezium's engine into Kafka, as the source of a job in both modes: what
the two hold is what the table holds, also where the engine is killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from tests.stores.command import make_project, twinrun
from tests.stores.java import compiled, java_command
from tests.stores.servers import PASSWORD, USER, Server
from twinrun.broker.process import BrokerInfo
from twinrun.broker.topics import create_topic, offset_ranges

pytestmark = pytest.mark.slow
_QUIET_S = 4.0


@pytest.fixture(scope="module")
def classpath(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The engine and the small program around it."""
    return compiled("debezium", ["engines/java/DebeziumChanges.java"], tmp_path_factory.mktemp("classes"))


class Engine:
    """Debezium's engine as a process; ``drained`` waits until a while has passed without a change."""

    def __init__(self, classpath: str, broker: BrokerInfo, topic: str, server: Server, folder: Path) -> None:
        self.topic, self.servers, self.log = topic, broker.bootstrap_servers, folder / "engine.log"
        arguments = [self.servers, topic, str(server.port), USER, "shop", "public.customers", str(folder / "offsets")]
        java = java_command(classpath, "DebeziumChanges", *arguments)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(java, env={**os.environ, "PGPASSWORD": PASSWORD}, stdout=log, stderr=log)

    def size(self) -> int:
        return sum(high for _, high in offset_ranges(self.servers, self.topic, {}).values())

    def drained(self, least: int) -> int:
        deadline, seen, since = time.monotonic() + 90, -1, time.monotonic()
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text(encoding="utf-8")[-2_000:]
            now = self.size()
            if now != seen:
                seen, since = now, time.monotonic()
            if seen >= least and time.monotonic() - since > _QUIET_S:
                return seen
            time.sleep(0.3)
        raise AssertionError(f"{seen} records: {self.log.read_text(encoding='utf-8')[-2_000:]}")

    def stop(self, how: int) -> None:
        self.process.send_signal(how)
        self.process.wait(40)


def test_the_table_its_changes_in_batch_and_in_a_stream_are_one(
    pg: Server, broker: BrokerInfo, classpath: str, tmp_path: Path
) -> None:
    topic = f"changes-{uuid.uuid4().hex[:8]}"
    create_topic(broker.bootstrap_servers, topic, 3)
    pg.run(
        """CREATE TABLE customers (id bigint PRIMARY KEY, name text, points bigint, balance numeric(12,2));
        ALTER TABLE customers REPLICA IDENTITY FULL;
        INSERT INTO customers SELECT n, 'customer ' || n, 0, n * 1.25 FROM generate_series(1, 3000) n"""
    )
    engine = Engine(classpath, broker, topic, pg, tmp_path)
    before = engine.drained(3_000)
    engine.stop(signal.SIGTERM)
    engine = Engine(classpath, broker, topic, pg, tmp_path)
    pg.run(
        """UPDATE customers SET points = points + 10 WHERE id % 3 = 0;
        DELETE FROM customers WHERE id % 10 = 0;
        INSERT INTO customers VALUES (10, 'münchen', 7, NULL), (3001, NULL, 1, 0.05)"""
    )
    changed = before + 1_000 + 2 * 300 + 2
    engine.drained(changed)
    engine.stop(signal.SIGKILL)
    pg.run("UPDATE customers SET balance = balance * 2 WHERE id <= 20; DELETE FROM customers WHERE id = 7")
    engine = Engine(classpath, broker, topic, pg, tmp_path)
    try:
        # Deletions have a null value behind them. What had not been noted before the kill would come a second time.
        engine.drained(changed + 19 + 2)
    finally:
        engine.stop(signal.SIGTERM)

    make_project(tmp_path, broker, "customers_now", "changes", topic)
    code, said = twinrun("run", "customers_now", folder=tmp_path)
    assert code == 0, said
    assert "customers_now: AGREE (exit code 0)" in said, said
    kept = int(pg.run("SELECT count(*) FROM customers").strip())
    assert f"rows compared          {kept:,}" in said
    for mode in ("batch_v1", "stream_v1"):
        path = str(tmp_path / "wh/results/customers_now" / mode)
        asked = ("compare", path, pg.table("customers"), "--keys", "id", "--ignore", "gone")
        code, same = twinrun(*asked, folder=tmp_path)
        assert code == 0, same
        assert "equal" in same.lower(), same
    pg.run("UPDATE customers SET name = 'somebody else' WHERE id = 3001")
    assert twinrun(*asked, folder=tmp_path)[0] == 1
