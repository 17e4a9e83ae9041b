"""A lease: at most one process works on a checkpoint or a batch table at a time.

It is a record of the control table with an owner and an expiry. A lease left behind by kill -9 ends by its expiry,
or at once when its owner was a process of this machine that no longer exists.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from pyspark.sql import SparkSession

from twinrun.config.model import Config
from twinrun.errors import CheckpointError
from twinrun.tables.control import Record, latest_record, offer, try_append

KIND = "lease"
_POLL_S = 2.0
_in_use: set[str] = set()
"""Tokens of the leases that this process holds: one of its own that is not here could not be given back."""


@dataclass
class Lease:
    """A held lease. ``lost`` is set when another process took it over: the holder must then stop writing."""

    subject: str
    owner: dict[str, Any]
    seq: int
    lost: threading.Event


def machine_id() -> str:
    """Names this machine and process-id space, so that a process id means something."""
    parts = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            parts.append(os.readlink(path) if "ns" in path else Path(path).read_text(encoding="utf-8").strip())
        except OSError:  # not Linux: the host name must do
            continue
    return "/".join(parts)


def take_lease(spark: SparkSession, cfg: Config, subject: str, doing: str) -> Lease:
    """Take the lease or say who holds it. About three small Spark jobs.

    Raises
    ------
    CheckpointError
        Another live process holds it.
    """
    owner: dict[str, Any] = {
        "token": uuid.uuid4().hex,
        "machine": machine_id(),
        "pid": os.getpid(),
        "started_s": round(psutil.Process().create_time(), 2),
        "doing": doing,
    }
    newest = latest_record(spark, cfg, KIND, subject)
    if newest and _is_held(newest):
        raise _held(subject, newest.payload)
    seq = newest.seq + 1 if newest else 1
    _in_use.add(owner["token"])
    won = False
    try:
        won = try_append(spark, cfg, KIND, subject, seq, _payload(cfg, owner))
    finally:
        if not won:
            _in_use.discard(owner["token"])
    if not won:
        winner = latest_record(spark, cfg, KIND, subject)
        raise _held(subject, winner.payload if winner else {})
    return Lease(subject, owner, seq, threading.Event())


def renew_lease(spark: SparkSession, cfg: Config, lease: Lease) -> None:
    """Push the expiry out; sets ``lost`` when the lease is no longer ours."""
    if try_append(spark, cfg, KIND, lease.subject, lease.seq + 1, _payload(cfg, lease.owner)):
        lease.seq += 1
    else:
        lease.lost.set()


def release_lease(spark: SparkSession, cfg: Config, lease: Lease) -> None:
    """Give the lease back; does nothing when it was lost.

    Never raises: the error that ended the work must be seen, not that the table could not be written once more. A
    lease that stays behind ends with its process.
    """
    _in_use.discard(lease.owner["token"])
    if not lease.lost.is_set():
        with suppress(Exception):
            offer(spark, cfg, KIND, lease.subject, lease.seq + 1, {**_payload(cfg, lease.owner), "released": True})


@contextmanager
def held_lease(spark: SparkSession, cfg: Config, subject: str, doing: str, wait_s: float = 0) -> Iterator[Lease]:
    """Hold the lease for a block, renewing it from a daemon thread; released at the end, also after an error.

    Parameters
    ----------
    wait_s : float
        How long to wait for another holder, in seconds; then, or at once with 0, it is an error. One small Spark job
        every two seconds.
    """
    lease = _wait_for_lease(spark, cfg, subject, doing, wait_s)
    stop = threading.Event()
    beat = threading.Thread(
        target=_beat, args=(lambda: renew_lease(spark, cfg, lease), lease, stop, cfg.stream.heartbeat_s), daemon=True
    )
    beat.start()
    try:
        yield lease
    finally:
        stop.set()
        beat.join(timeout=cfg.stream.heartbeat_s)
        release_lease(spark, cfg, lease)


def _wait_for_lease(spark: SparkSession, cfg: Config, subject: str, doing: str, wait_s: float) -> Lease:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return take_lease(spark, cfg, subject, doing)
        except CheckpointError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_POLL_S)


def _beat(renew: Callable[[], None], lease: Lease, stop: threading.Event, every_s: float) -> None:
    deadline = time.monotonic()
    while not stop.wait(every_s) and not lease.lost.is_set():
        try:
            renew()
            deadline = time.monotonic()
        except Exception:  # one failed heartbeat is no loss; a lease that cannot be renewed until it expires is
            if time.monotonic() - deadline > 3 * every_s:
                lease.lost.set()


def _payload(cfg: Config, owner: dict[str, Any]) -> dict[str, Any]:
    expires_ms = int((time.time() + cfg.stream.lease_ttl_s) * 1000)
    return {"owner": owner, "expires_at_ms": expires_ms, "released": False}


def _is_held(record: Record) -> bool:
    payload = record.payload
    if payload.get("released") or payload["expires_at_ms"] <= time.time() * 1000:
        return False
    return not _owner_is_dead(payload["owner"])


def _owner_is_dead(owner: dict[str, Any]) -> bool:
    """Certain only for a process of this machine: its id is free, was given to a younger one, or the lease is not ours.

    Only this process knows whether it still uses a lease that names it.
    """
    if owner.get("machine") != machine_id():
        return False
    try:
        if owner["pid"] == os.getpid() and owner["token"] not in _in_use:
            return True
        return bool(abs(psutil.Process(owner["pid"]).create_time() - owner["started_s"]) > 1.0)
    except psutil.NoSuchProcess:
        return True


def _held(subject: str, payload: dict[str, Any]) -> CheckpointError:
    owner = payload.get("owner", {})
    left_s = max(0, int((payload.get("expires_at_ms", 0) - time.time() * 1000) / 1000))
    host = str(owner.get("machine", "another machine")).split("/", 1)[0]
    return CheckpointError(
        f"{subject} is held by another run: process {owner.get('pid', '?')} on {host} ({owner.get('doing', '?')}).",
        expected="one run at a time on a checkpoint or table",
        fix=f"stop that run, or wait: its lease ends in {left_s} s unless it is renewed",
    )
