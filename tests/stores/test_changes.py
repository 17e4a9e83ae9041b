"""Changes of a table of a real PostgreSQL and MariaDB, by Debezium's engine into Kafka, as the source of a job in both
modes: what the two hold is what the table holds, also where the engine is killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.stores.command import make_project, twinrun
from tests.stores.java import compiled, java_command
from tests.stores.servers import PASSWORD, USER, Server
from twinrun.broker.process import BrokerInfo
from twinrun.broker.topics import create_topic, offset_ranges

pytestmark = pytest.mark.slow
_QUIET_S = 4.0


@dataclass(frozen=True)
class Database:
    """A server, its engine, and how it says what the test needs."""

    server: Server
    classpath: str
    table: str
    rows: str
    """Name, points and balance of a customer from ``seq``, and where the numbers come from."""
    whole_rows: str
    """What makes it tell the whole row of a deletion."""
    tells_all: bool
    """Whether it tells of a row that an update left as it was."""


@pytest.fixture(params=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    kind = request.param
    server: Server = request.getfixturevalue("pg" if kind == "postgresql" else "maria")
    path = _classpath("debezium" if kind == "postgresql" else "debezium-mariadb", tmp_path)
    if kind == "mariadb":
        rows = "concat('customer ', seq), 0, seq * 1.25 FROM seq_1_to_3000"
        return Database(server, path, "shop.customers", rows, "", tells_all=False)
    rows = "'customer ' || seq, 0, seq * 1.25 FROM generate_series(1, 3000) seq"
    return Database(
        server, path, "public.customers", rows, "ALTER TABLE customers REPLICA IDENTITY FULL;", tells_all=True
    )


def _classpath(jar_set: str, folder: Path) -> str:
    """The engine and the small program around it."""
    return compiled(jar_set, ["engines/java/DebeziumChanges.java"], folder / "classes")


class Engine:
    """Debezium's engine as a process; ``drained`` waits until a while has passed without a change."""

    def __init__(self, database: Database, broker: BrokerInfo, topic: str, folder: Path) -> None:
        self.topic, self.servers, self.log = topic, broker.bootstrap_servers, folder / "engine.log"
        server = database.server
        place = [str(server.port), USER, "shop", database.table, str(folder / "offsets")]
        java = java_command(database.classpath, "DebeziumChanges", server.kind, self.servers, topic, *place)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                java, env={**os.environ, "DATABASE_PASSWORD": PASSWORD}, stdout=log, stderr=log
            )

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
    database: Database, broker: BrokerInfo, tmp_path: Path
) -> None:
    server = database.server
    topic = f"changes-{uuid.uuid4().hex[:8]}"
    create_topic(broker.bootstrap_servers, topic, 3)
    server.run(
        f"""CREATE TABLE customers (id bigint PRIMARY KEY, name text, points bigint, balance numeric(12,2));
        {database.whole_rows}
        INSERT INTO customers SELECT seq, {database.rows}"""
    )
    engine = Engine(database, broker, topic, tmp_path)
    before = engine.drained(3_000)
    engine.stop(signal.SIGTERM)
    engine = Engine(database, broker, topic, tmp_path)
    server.run(
        """UPDATE customers SET points = points + 10 WHERE id % 3 = 0;
        DELETE FROM customers WHERE id % 10 = 0;
        INSERT INTO customers VALUES (10, 'münchen', 7, NULL), (3001, NULL, 1, 0.05)"""
    )
    changed = before + 1_000 + 2 * 300 + 2
    engine.drained(changed)
    engine.stop(signal.SIGKILL)
    server.run("UPDATE customers SET balance = balance * 2 WHERE id <= 20; DELETE FROM customers WHERE id = 7")
    engine = Engine(database, broker, topic, tmp_path)
    try:
        # Deletions have a null value behind them. What had not been noted before the kill would come a second time.
        engine.drained(changed + (19 if database.tells_all else 18) + 2)
    finally:
        engine.stop(signal.SIGTERM)

    make_project(tmp_path, broker, "customers_now", "changes", topic)
    code, said = twinrun("run", "customers_now", folder=tmp_path)
    assert code == 0, said
    assert "customers_now: AGREE (exit code 0)" in said, said
    kept = int(server.run("SELECT count(*) FROM customers").strip())
    assert f"rows compared          {kept:,}" in said
    for mode in ("batch_v1", "stream_v1"):
        path = str(tmp_path / "wh/results/customers_now" / mode)
        asked = ("compare", path, server.table("customers"), "--keys", "id", "--ignore", "gone")
        code, same = twinrun(*asked, folder=tmp_path)
        assert code == 0, same
        assert "equal" in same.lower(), same
    server.run("UPDATE customers SET name = 'somebody else' WHERE id = 3001")
    assert twinrun(*asked, folder=tmp_path)[0] == 1
