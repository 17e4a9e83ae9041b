"""What the development broker keeps in its data folder: settings, the port, its process, its log."""

from __future__ import annotations

import json
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from twinrun.errors import BrokerError
from twinrun.session.settings import write_atomically

LOOPBACK = "127.0.0.1"
NODE_ID = 1

_SERVER = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={node}@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={logs}
num.partitions=1
num.network.threads=2
num.io.threads=2
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.retention.ms=-1
log.cleaner.dedupe.buffer.size=4194304
"""

_LOGGING = """\
status = error
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
logger.kafka.name = kafka.server
logger.kafka.level = info
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSS}{UTC}Z %p %c{1}: %m%n
"""


@dataclass(frozen=True)
class BrokerRecord:
    """The content of ``broker.json``.

    Attributes
    ----------
    port : int
        The client port; kept for the life of the data folder.
    cluster_id : str
        Says which broker answers on a port.
    pid : int
        0 when no broker was left running.
    created_s : float
        When the process was created, in seconds since 1970 (UTC): a later process may get the same pid.
    """

    port: int
    cluster_id: str
    pid: int = 0
    created_s: float = 0.0


@dataclass(frozen=True)
class BrokerFiles:
    """The paths below a data folder."""

    data_dir: Path

    @property
    def record(self) -> Path:
        """JSON with the port, the cluster id and the process."""
        return self.data_dir / "broker.json"

    @property
    def server(self) -> Path:
        """Kafka's settings, written anew at each start."""
        return self.data_dir / "server.properties"

    @property
    def logging(self) -> Path:
        """The log settings, written anew at each start."""
        return self.data_dir / "log4j2.properties"

    @property
    def log(self) -> Path:
        """What the broker says; appended to, never cut."""
        return self.data_dir / "broker.log"

    @property
    def lock(self) -> Path:
        """Held while a broker is started or stopped."""
        return self.data_dir / "broker.lock"

    @property
    def logs(self) -> Path:
        """Kafka's own data: the topics."""
        return self.data_dir / "topics"


def read_record(files: BrokerFiles) -> BrokerRecord | None:
    """What the last start left; None where no broker was ever started.

    Raises
    ------
    BrokerError
        The file is damaged.
    """
    try:
        values = json.loads(files.record.read_text(encoding="utf-8"))
        return BrokerRecord(
            int(values["port"]), str(values["cluster_id"]), int(values["pid"]), float(values["created_s"])
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise BrokerError(
            f"{files.record} is damaged, so the broker's process is not known.",
            fix=f"see whether a broker runs, then delete the folder {files.data_dir}",
        ) from None


def write_record(files: BrokerFiles, record: BrokerRecord) -> None:
    """Replace ``broker.json`` in one step."""
    write_atomically(files.record, json.dumps(asdict(record)) + "\n")


def write_settings(files: BrokerFiles, port: int, controller_port: int) -> None:
    """Write Kafka's settings and its log settings; everything listens on loopback only."""
    server = _SERVER.format(node=NODE_ID, host=LOOPBACK, port=port, controller_port=controller_port, logs=files.logs)
    write_atomically(files.server, server)
    write_atomically(files.logging, _LOGGING)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that are free now; all are held until all are known, so that they differ."""
    holders = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    try:
        return [int(holder.getsockname()[1]) for holder in holders]
    finally:
        for holder in holders:
            holder.close()


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback interface."""
    try:
        socket.create_server((LOOPBACK, port)).close()
    except OSError:
        return False
    return True
