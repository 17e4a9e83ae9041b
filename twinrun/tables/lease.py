"""A lease: at most one process works on a checkpoint or a batch table at a time.

It is a record of the control table with an owner and an expiry. A lease left behind by kill -9 ends by its expiry,
or at once when its owner was a process of this machine that no longer exists. A command takes all leases that it needs
in one conditional commit, renews them in one and gives them back in one. What they protect is told in
`twinrun.tables.delta`.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import CheckpointError
from twinrun.tables.control import LEASE as KIND
from twinrun.tables.control import Entry, Record, latest_records, not_ours, try_write
from twinrun.tables.delta import Lease, holding, lost, raise_fence

_POLL_S = 2.0
_ATTEMPTS = 3
_in_use: set[str] = set()
"""Tokens of the leases that this process holds: one of its own that is not here could not be given back."""


def machine_id() -> str:
    """Names this machine and process-id space, so that a process id means something."""
    parts = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            parts.append(os.readlink(path) if "ns" in path else Path(path).read_text(encoding="utf-8").strip())
        except OSError:  # not Linux: the host name must do
            continue
    return "/".join(parts)


def take_leases(spark: SparkSession, cfg: Config, subjects: Sequence[str], doing: str) -> Lease:
    """Take all of the leases or none, or say who holds one. Two small Spark jobs; two to four more after a crash.

    Raises
    ------
    CheckpointError
        Another live process holds one of them.
    """
    owner: dict[str, Any] = {
        "token": uuid.uuid4().hex,
        "machine": machine_id(),
        "pid": os.getpid(),
        "started_s": round(psutil.Process().create_time(), 2),
        "doing": doing,
    }
    _in_use.add(owner["token"])
    lease = None
    try:
        lease = _taken(spark, cfg, tuple(dict.fromkeys(subjects)), owner)
    finally:
        if lease is None:
            _in_use.discard(owner["token"])
    lease.renew = partial(renew_lease, spark, cfg, lease)
    return lease


def _taken(spark: SparkSession, cfg: Config, subjects: tuple[str, ...], owner: dict[str, Any]) -> Lease:
    # Without a look first: as a rule every one of them was given back.
    lease = _new(cfg, subjects, owner, _now_ms())
    released = F.get_json_object("payload", "$.released") == "true"
    if _write(spark, cfg, lease, ~released | (F.col("at_ms") >= lease.at_ms)):
        return lease
    records: dict[tuple[str, str], Record] = {}
    for _ in range(_ATTEMPTS):
        records = latest_records(spark, cfg, [(KIND, subject) for subject in subjects])
        in_the_way = [record for record in records.values() if _is_held(record)]
        if in_the_way:
            raise _held(in_the_way[0].subject, in_the_way[0].payload)
        # Later than what was seen, whatever this machine's clock says.
        at_ms = max([_now_ms(), *(record.at_ms + 1 for record in records.values())])
        lease = _new(cfg, subjects, owner, at_ms)
        lease.took_over = any(not record.payload.get("released") for record in records.values())
        seen = [record.writer for record in records.values()]
        if _write(spark, cfg, lease, ~F.col("writer").isin(*seen) | (F.col("at_ms") >= at_ms)):
            return lease
    subject, record = next(iter(records.items()))
    raise _held(subject[1], record.payload)


def _new(cfg: Config, subjects: tuple[str, ...], owner: dict[str, Any], at_ms: int) -> Lease:
    return Lease(subjects, owner, at_ms, _expiry_ms(cfg))


def renew_lease(spark: SparkSession, cfg: Config, lease: Lease) -> None:
    """Push the expiry out; sets ``lost`` when one of the leases is no longer ours. Two small Spark jobs."""
    with lease.lock:
        expires_ms = _expiry_ms(cfg)
        if _write(spark, cfg, lease, not_ours([lease]), expires_ms=expires_ms):
            lease.expires_ms = expires_ms
        else:
            lease.lost.set()


def release_lease(spark: SparkSession, cfg: Config, lease: Lease) -> None:
    """Give the leases back; sets ``lost`` when one was no longer ours. Two small Spark jobs, none when it was lost.

    Does not raise where the table cannot be written: a lease that stays behind ends with its process. Where it had
    ended by the clock, nobody knows whether the work was done as the holder: then it counts as lost.
    """
    _in_use.discard(lease.owner["token"])
    if lease.lost.is_set():
        return
    with lease.lock:
        try:
            if not _write(spark, cfg, lease, not_ours([lease]), released=True):
                lease.lost.set()
        except Exception:
            if _now_ms() >= lease.expires_ms:
                lease.unrenewed = True
                lease.lost.set()


@contextmanager
def held_lease(
    spark: SparkSession,
    cfg: Config,
    subject: str | Sequence[str],
    doing: str,
    wait_s: float = 0,
    fences: Sequence[str] = (),
) -> Iterator[Lease]:
    """Hold a lease, or several at once, for a block, renewed from a daemon thread; given back at the end, also after an
    error. Commits of this thread within the block are the holder's, see `twinrun.tables.delta`.

    Four small Spark jobs in all, and two for each renewal.

    Parameters
    ----------
    wait_s : float
        How long to wait for another holder, in seconds; then, or at once with 0, it is an error. Four small Spark jobs
        every two seconds.
    fences : sequence of str
        Tables of the holder that the block may leave as they are: of a holder that did not give the lease back, no
        commit reaches them any more.

    Raises
    ------
    CheckpointError
        Another live process holds it; or another run took it over before the end: then nothing of what the block found
        or wrote counts.
    """
    subjects = (subject,) if isinstance(subject, str) else tuple(subject)
    lease = _wait_for_lease(spark, cfg, subjects, doing, wait_s)
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(lease, stop, cfg.stream.heartbeat_s), daemon=True)
    beat.start()

    def give_back() -> None:
        stop.set()
        beat.join(timeout=cfg.stream.heartbeat_s)
        release_lease(spark, cfg, lease)

    try:
        with holding(lease):
            for ref in fences if lease.took_over else ():
                raise_fence(spark, ref)
            yield lease
    except BaseException:
        # The error that ended the work must be seen.
        with suppress(Exception):
            give_back()
        raise
    give_back()
    if lease.lost.is_set():
        raise lost(lease)


def _wait_for_lease(spark: SparkSession, cfg: Config, subjects: Sequence[str], doing: str, wait_s: float) -> Lease:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return take_leases(spark, cfg, subjects, doing)
        except CheckpointError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_POLL_S)


def _beat(lease: Lease, stop: threading.Event, every_s: float) -> None:
    deadline = time.monotonic()
    while not stop.wait(every_s) and not lease.lost.is_set():
        try:
            lease.renew()
            deadline = time.monotonic()
        except Exception:  # one failed heartbeat is no loss; a lease that cannot be renewed until it expires is
            if time.monotonic() - deadline > 3 * every_s:
                lease.unrenewed = True
                lease.lost.set()


def _write(
    spark: SparkSession,
    cfg: Config,
    lease: Lease,
    unless: Column,
    *,
    expires_ms: int | None = None,
    released: bool = False,
) -> bool:
    """One commit for all subjects, unless the newest record of one of them is in the way."""
    payload = {"owner": lease.owner, "expires_at_ms": expires_ms or lease.expires_ms, "released": released}
    at_ms = max(_now_ms(), lease.at_ms)
    entries = [Entry(KIND, subject, payload, lease.owner["token"], at_ms) for subject in lease.subjects]
    entries += lease.parting if released else []
    return try_write(spark, cfg, entries, unless)


def _expiry_ms(cfg: Config) -> int:
    return _now_ms() + cfg.stream.lease_ttl_s * 1000


def _now_ms() -> int:
    return int(time.time() * 1000)


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
        process = psutil.Process(owner["pid"])
        # One that was killed stays a zombie where its parent does not ask for it, as the first of a container may not.
        younger = abs(process.create_time() - owner["started_s"]) > 1.0
        return bool(younger or process.status() == psutil.STATUS_ZOMBIE)
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
