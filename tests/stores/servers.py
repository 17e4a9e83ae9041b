"""Servers of this machine, each started in a folder and on a port of its own, and stopped again."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.stores.java import java_command

USER, PASSWORD = "twin", "kept-secret-5291"
_WAIT_S = 60.0


@dataclass(frozen=True)
class Server:
    """A server that answers, and its client: ``run`` gives it statements and returns what it prints."""

    kind: str
    port: int
    client: tuple[str, ...]

    def run(self, sql: str, **env: str) -> str:
        done = subprocess.run(
            [*self.client], input=sql, env={**os.environ, **env}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def table(self, name: str) -> str:
        """The reference of a table."""
        if self.kind == "cassandra":
            return f"cassandra://127.0.0.1:{self.port}/shop#{name}"
        return f"jdbc:{self.kind}://127.0.0.1:{self.port}/shop#{name}"


def program(*names: str) -> str | None:
    """The first of these programs that this machine has; Debian keeps a server's own beside its version."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    folders = os.pathsep.join([*(str(folder) for folder in reversed(versions)), os.environ["PATH"], "/usr/sbin"])
    return next((found for name in names if (found := shutil.which(name, path=folders))), None)


@contextmanager
def postgres() -> Iterator[Server]:
    """A PostgreSQL with a database ``shop``, whose user needs a password."""
    initdb, server, psql = program("initdb"), program("postgres"), program("psql")
    assert initdb is not None
    assert server is not None
    assert psql is not None
    # It refuses to run as root, and its own user cannot read the folders of root's tests.
    owner = "postgres" if os.geteuid() == 0 else None
    with _folder(owner) as folder:
        port, data = free_port(), folder / "data"
        (folder / "password").write_text(PASSWORD, encoding="utf-8")
        if owner:
            shutil.chown(folder / "password", owner)
        made = [initdb, "-D", str(data), "-U", USER, f"--pwfile={folder / 'password'}", "-A", "scram-sha-256"]
        subprocess.run(
            [*made, "-E", "UTF8", "--locale=C"], user=owner, cwd=folder, check=True, capture_output=True, text=True
        )
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(folder),
            "fsync": "off",
            "wal_level": "logical",
        }
        command = [server, "-D", str(data), "-p", str(port)]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        client = (psql, "-h", "127.0.0.1", "-p", str(port), "-U", USER, "-v", "ON_ERROR_STOP=1", "-qAt")
        os.environ["PGPASSWORD"] = PASSWORD
        with _running(command, folder, port, owner):
            Server("postgresql", port, (*client, "-d", "postgres")).run("CREATE DATABASE shop")
            yield Server("postgresql", port, (*client, "-d", "shop"))


@contextmanager
def mariadb() -> Iterator[Server]:
    """A MariaDB with a database ``shop``, whose user needs a password."""
    install, server = program("mariadb-install-db", "mysql_install_db"), program("mariadbd", "mysqld")
    client = program("mariadb", "mysql")
    assert install is not None
    assert server is not None
    assert client is not None
    who = [f"--user={'root' if os.geteuid() == 0 else os.environ.get('USER', '')}"]
    with _folder(None) as folder:
        port, data = free_port(), folder / "data"
        made = [install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal", *who]
        subprocess.run(made, check=True, capture_output=True, text=True)
        places = [f"--datadir={data}", f"--socket={folder / 's'}", f"--pid-file={folder / 'pid'}"]
        address = [f"--port={port}", "--bind-address=127.0.0.1", "--default-time-zone=+05:45"]
        address += ["--log-bin=log", "--binlog-format=ROW", "--server-id=1"]
        base = (client, "--no-defaults", f"--socket={folder / 's'}", "-N", "-B", "--default-character-set=utf8mb4")
        with _running([server, "--no-defaults", *places, *address, *who], folder, port, None):
            Server("mariadb", port, (*base, "-u", "root")).run(
                "CREATE DATABASE shop CHARACTER SET utf8mb4;"
                f"CREATE USER {USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';"
                f"GRANT ALL ON shop.* TO {USER}@'127.0.0.1';"
                f"GRANT REPLICATION SLAVE, BINLOG MONITOR, RELOAD ON *.* TO {USER}@'127.0.0.1'"
            )
            yield Server("mariadb", port, (*base, "-u", "root", "shop"))


_CASSANDRA_YAML = """
cluster_name: twinrun
num_tokens: 4
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{{seeds: "127.0.0.1:{storage}"}}]
listen_address: 127.0.0.1
rpc_address: 127.0.0.1
storage_port: {storage}
native_transport_port: {port}
endpoint_snitch: SimpleSnitch
authenticator: PasswordAuthenticator
authorizer: CassandraAuthorizer
commitlog_sync: periodic
commitlog_sync_period: 10s
hints_directory: {folder}/hints
data_file_directories: ["{folder}/data"]
commitlog_directory: {folder}/commitlog
saved_caches_directory: {folder}/caches
"""
# What Cassandra looks into of Java's own; its start script opens these, and more.
_CASSANDRA_OPENS = """java.base/java.io java.base/java.lang java.base/java.nio java.base/java.util
    java.base/java.util.concurrent java.base/jdk.internal.misc java.base/jdk.internal.ref java.base/sun.nio.ch
    java.rmi/sun.rmi.transport.tcp java.rmi/sun.rmi.registry java.rmi/sun.rmi.server java.sql/java.sql
    java.management/com.sun.jmx.remote.security java.management.rmi/com.sun.jmx.remote.internal.rmi"""


@contextmanager
def cassandra(java: Path, jars: Sequence[Path], driver: Sequence[Path]) -> Iterator[Server]:
    """A Cassandra of one node with a keyspace ``shop``, whose user needs a password.

    ``jars`` are the server's, ``driver`` those of the client, `engines/java/Cql.java`.
    """
    with _folder(None) as folder:
        port, storage = free_port(), free_port()
        text = _CASSANDRA_YAML.format(folder=folder, port=port, storage=storage)
        (folder / "cassandra.yaml").write_text(text, encoding="utf-8")
        (folder / "logback.xml").write_text('<configuration><root level="OFF"/></configuration>', encoding="utf-8")
        path = os.pathsep.join(str(each) for each in (folder, *jars))
        opened = [
            f"--add-{how}={each}=ALL-UNNAMED" for each in _CASSANDRA_OPENS.split() for how in ("opens", "exports")
        ]
        properties = {
            "jdk.attach.allowAttachSelf": "true",
            "cassandra.config": f"file://{folder}/cassandra.yaml",
            "cassandra.storagedir": folder,
            "cassandra-foreground": "yes",
            "cassandra.skip_wait_for_gossip_to_settle": 0,
            "cassandra.ring_delay_ms": 1,
            "cassandra.superuser_setup_delay_ms": 0,
            "cassandra.native.epoll.enabled": "false",
        }
        command = [str(java), "-Xmx384m", "-XX:+UseSerialGC", *opened, "-cp", path]
        command += [f"-D{name}={value}" for name, value in properties.items()]
        source = Path(__file__).resolve().parents[2] / "engines/java/Cql.java"
        path = os.pathsep.join(str(each) for each in (folder, *driver, *jars))
        client = (str(java), "-cp", path, str(source), str(port))
        with _running([*command, "org.apache.cassandra.service.CassandraDaemon"], folder, port, None):
            made = (
                "CREATE KEYSPACE shop WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1};\n"
                f"CREATE ROLE {USER} WITH PASSWORD = '{PASSWORD}' AND LOGIN = true;\n"
                f"GRANT ALL ON KEYSPACE shop TO {USER}"
            )
            _once_it_can(lambda: Server("cassandra", port, (*client, "cassandra")).run(made, CQLPASSWORD="cassandra"))
            os.environ["CQLPASSWORD"] = PASSWORD
            yield Server("cassandra", port, (*client, USER))


@contextmanager
def _folder(owner: str | None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="twinrun-store-"))
    try:
        if owner:
            shutil.chown(folder, owner)
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _once_it_can(work: Callable[[], object]) -> None:
    """Its first user is there a while after its port."""
    for _ in range(5):
        with suppress(AssertionError):
            work()
            return
        time.sleep(2)
    work()


@contextmanager
def _running(
    command: list[str], folder: Path, port: int, owner: str | None, more: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    env = {**os.environ, **(more or {})}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=env, user=owner, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            deadline = time.monotonic() + _WAIT_S
            while not _answers(port):
                assert process.poll() is None, (folder / "server.log").read_text(encoding="utf-8")
                assert time.monotonic() < deadline, "it does not answer"
                time.sleep(0.2)
            yield process
        finally:
            process.terminate()
            process.wait(30)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def rabbitmq() -> Iterator[int]:
    """A RabbitMQ without users; its port."""
    installed = sorted(Path("/usr/lib/rabbitmq").glob("bin/rabbitmq-server"))
    server = str(installed[0]) if installed else program("rabbitmq-server")
    assert server is not None
    with _folder(None) as folder:
        port, dist = free_port(), free_port()
        (folder / "plugins").write_text("[].\n", encoding="utf-8")
        env = {
            "HOME": str(folder),
            "RABBITMQ_NODENAME": f"twinrun-{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(dist),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "none"),
            "ERL_EPMD_PORT": str(free_port()),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        try:
            with _running([server], folder, port, None, env):
                yield port
        finally:
            # Erlang's name server outlives the node that started it.
            names = program("epmd")
            if names:
                subprocess.run([names, "-port", env["ERL_EPMD_PORT"], "-kill"], check=False, capture_output=True)


@contextmanager
def activemq(classpath: str, folder: Path, port: int, marks: str) -> Iterator[subprocess.Popen[bytes]]:
    """An ActiveMQ on what its folder holds; its process, which may be killed."""
    with _running(
        java_command(classpath, "ActiveMqServer", str(port), str(folder), marks), folder, port, None
    ) as process:
        yield process
