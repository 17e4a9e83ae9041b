"""Start and stop one real Kafka broker (KRaft, one node) as a process of its own, for development and tests."""

from __future__ import annotations

import base64
import fcntl
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from twinrun.broker.child import Identity, end, is_running, spawn
from twinrun.broker.files import (
    LOOPBACK,
    BrokerFiles,
    BrokerRecord,
    free_ports,
    port_is_free,
    read_record,
    write_record,
    write_settings,
)
from twinrun.broker.topics import cluster_id
from twinrun.errors import BrokerError
from twinrun.session.jars import jar_paths
from twinrun.session.java import JavaHome, find_java

READY_LIMIT_S = 90
_FORMAT_LIMIT_S = 90
_ASK_S = 2.0


@dataclass(frozen=True)
class BrokerInfo:
    """A running development broker.

    Attributes
    ----------
    bootstrap_servers : str
        ``127.0.0.1:PORT``.
    pid : int
        The broker's process.
    data_dir : Path
        Its folder.
    log_file : Path
        What it says.
    """

    bootstrap_servers: str
    pid: int
    data_dir: Path
    log_file: Path


def start_broker(data_dir: Path, *, port: int | None = None, heap: str = "384m") -> BrokerInfo:
    """Start the broker of a data folder and wait until it answers; one that runs already is returned.

    Parameters
    ----------
    data_dir : Path
        Created when absent. A second start on it keeps the port and the topics.
    port : int, optional
        The client port on 127.0.0.1; by default the one of the last start, else any that is free.
    heap : str
        Java heap of the broker, such as ``384m``.

    Returns
    -------
    BrokerInfo
        Its process outlives this one: end it with ``stop_broker``.

    Raises
    ------
    BrokerError
        The port is taken, or the broker ended or did not answer in time; the broker's own last error is quoted.
    MachineError
        Java or the broker's jars are missing.
    """
    files = BrokerFiles(data_dir.absolute())
    files.data_dir.mkdir(parents=True, exist_ok=True)
    with _only_one(files):
        running = _running(files)
        if running and port in (None, running.port):
            return _info(files, running)
        if running:
            raise BrokerError(
                f"The broker of {data_dir} runs on port {running.port}, not on {port}.",
                fix="stop it first: twinrun broker stop",
            )
        return _start(files, port, heap)


def stop_broker(data_dir: Path) -> bool:
    """Stop the broker of a data folder; the topics, the port and the log are kept.

    Only the process that ``start_broker`` recorded is ended, never one that got its pid later.

    Returns
    -------
    bool
        Whether one was running.
    """
    files = BrokerFiles(data_dir.absolute())
    if not files.record.exists():
        return False
    with _only_one(files):
        record = read_record(files)
        if record is None:
            return False
        was_running = end(_identity(record))
        write_record(files, replace(record, pid=0, created_s=0.0))
        return was_running


def broker_status(data_dir: Path) -> BrokerInfo | None:
    """The running broker of a data folder, None when it does not run; reads one small file, asks no broker."""
    files = BrokerFiles(data_dir.absolute())
    running = _running(files)
    return _info(files, running) if running else None


def _start(files: BrokerFiles, port: int | None, heap: str) -> BrokerInfo:
    java = find_java()
    classpath = os.pathsep.join(str(jar) for jar in jar_paths("broker"))
    known = read_record(files)
    client_port, controller_port = free_ports(2)
    record = known or BrokerRecord(client_port, _new_cluster_id())
    record = replace(record, port=port or record.port)
    if not port_is_free(record.port):
        raise BrokerError(
            f"Port {record.port} on {LOOPBACK} is taken by another process.",
            fix="end that process, or name another port: twinrun broker start --port PORT",
        )
    write_settings(files, record.port, controller_port)
    already_said = files.log.stat().st_size if files.log.exists() else 0
    base = [str(java.binary), "-Xms64m", f"-Xmx{heap}", "-XX:+UseSerialGC", "-Djava.awt.headless=true"]
    base += [f"-Dlog4j2.configurationFile={files.logging.as_uri()}", "-cp", classpath]
    with files.log.open("ab") as log:
        if not (files.logs / "meta.properties").exists():
            _format(files, base, record, java, log.fileno(), already_said)
        process = spawn([*base, "kafka.Kafka", str(files.server)], files.data_dir, log)
    record = replace(record, pid=process.pid, created_s=process.created_s)
    write_record(files, record)
    try:
        _wait_until_ready(files, record, already_said)
    except BaseException:
        end(process)
        write_record(files, replace(record, pid=0, created_s=0.0))
        raise
    return _info(files, record)


def _format(
    files: BrokerFiles, base: list[str], record: BrokerRecord, java: JavaHome, log: int, already_said: int
) -> None:
    # A process of one second is not worth the optimising compiler.
    command = [base[0], "-XX:TieredStopAtLevel=1", *base[1:], "kafka.tools.StorageTool", "format"]
    command += ["--cluster-id", record.cluster_id, "--config", str(files.server)]
    try:
        status = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=_FORMAT_LIMIT_S, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        status = -1
    if status:
        raise BrokerError(
            f"The broker's storage could not be prepared with Java {java.version}: {_last_error(files, already_said)}.",
            fix=f"read {files.log}",
        )


def _wait_until_ready(files: BrokerFiles, record: BrokerRecord, already_said: int) -> None:
    address = _info(files, record).bootstrap_servers
    deadline = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < deadline:
        if not is_running(_identity(record)):
            raise BrokerError(
                f"The broker ended while it started: {_last_error(files, already_said)}.", fix=f"read {files.log}"
            )
        try:
            if cluster_id(address, limit_s=_ASK_S) == record.cluster_id:
                return
        except BrokerError:
            time.sleep(0.1)
    raise BrokerError(
        f"The broker did not answer within {READY_LIMIT_S} s: {_last_error(files, already_said)}.",
        fix=f"read {files.log}",
    )


def _last_error(files: BrokerFiles, already_said: int) -> str:
    """The last line of the log since this start that names an error, else its last line."""
    with files.log.open("rb") as log:
        log.seek(already_said)
        lines = [line.strip() for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines if (" ERROR " in line or "Exception" in line or "rror:" in line)]
    own = [line for line in errors if not line.startswith("at ")]
    return (own or lines or ["it said nothing"])[-1].rstrip(".")


def _running(files: BrokerFiles) -> BrokerRecord | None:
    record = read_record(files)
    return record if record and record.pid and is_running(_identity(record)) else None


def _identity(record: BrokerRecord) -> Identity:
    return Identity(record.pid, record.created_s)


@contextmanager
def _only_one(files: BrokerFiles) -> Iterator[None]:
    """Two commands at once on one data folder wait for each other; the lock dies with its process."""
    with files.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _info(files: BrokerFiles, record: BrokerRecord) -> BrokerInfo:
    return BrokerInfo(f"{LOOPBACK}:{record.port}", record.pid, files.data_dir, files.log)


def _new_cluster_id() -> str:
    """22 letters of URL-safe base64; Kafka's tools take a leading dash for an option."""
    while True:
        letters = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not letters.startswith("-"):
            return letters
