"""What a holder of leases must do around a commit: look before it, number it, and notice that it was not made.

A process that was stopped for longer than its lease wakes up in the middle of its work. So every commit to a data table
carries a number of its lease as Delta's transaction version: once the next holder has committed to the table, Delta
skips the older number, in silence. That silence is broken here: a lease that has ended by the clock is renewed before
and after a commit, and where somebody else has it, the work ends with `CheckpointError` before anything is said.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from twinrun.errors import CheckpointError

_PER_LEASE = 1_000_000
_held: ContextVar[tuple[Lease, ...]] = ContextVar("held", default=())


@dataclass
class Lease:
    """Held leases of one owner, taken, renewed and given back together.

    Attributes
    ----------
    subjects : tuple of str
        What is held; the first one names the others in messages and in transaction ids.
    at_ms : int
        When it was taken (epoch ms); each next holder of a subject has a later one.
    expires_ms : int
        Until when nobody else takes it (epoch ms), as of the last renewal.
    lost : Event
        Set when another process took it over, or it could not be renewed: the holder must then stop writing.
    took_over : bool
        The holder before did not give it back: it may still be at work.
    parting : list of Entry
        Records of the control table that are written in the commit by which the lease is given back, or not at all.
    """

    subjects: tuple[str, ...]
    owner: dict[str, Any]
    at_ms: int
    expires_ms: int
    took_over: bool = False
    lost: threading.Event = field(default_factory=threading.Event)
    lock: threading.RLock = field(default_factory=threading.RLock)
    renew: Callable[[], None] = lambda: None
    unrenewed: bool = False
    commits: int = 0
    parting: list[Any] = field(default_factory=list)

    @property
    def subject(self) -> str:
        """The first of the subjects."""
        return self.subjects[0]

    def check(self) -> None:
        """Go on only as the holder. Two small Spark jobs where the lease has ended by the clock, else none.

        Raises
        ------
        CheckpointError
            Another run took it over.
        """
        if not self.lost.is_set() and time.time() * 1000 >= self.expires_ms:
            self.renew()
        if self.lost.is_set():
            raise lost(self)

    def number(self) -> int:
        """The transaction version of the holder's next commit: above all of those of earlier holders."""
        self.commits += 1
        return self.at_ms * _PER_LEASE + self.commits


def lost(lease: Lease) -> CheckpointError:
    """What to say when work ends since its lease is somebody else's."""
    if lease.unrenewed:
        return CheckpointError(
            f"the lease of {lease.subject} could not be renewed before it ended; this run has stopped.",
            fix="look at the control table's disk or store, then run the command again: nothing is lost",
        )
    return CheckpointError(
        f"{lease.subject} was taken over by another run; this one has stopped.",
        expected="a lease that is renewed in time: a machine that sleeps, or stream.lease_ttl_s too short, loses it",
        fix="let only one scheduler start this job, and run the command again: what this run had not recorded is done "
        "anew",
    )


@contextmanager
def holding(lease: Lease) -> Iterator[None]:
    """Every commit of this thread within the block is one of the holder's."""
    token = _held.set((*_held.get(), lease))
    try:
        yield
    finally:
        _held.reset(token)


def held() -> tuple[Lease, ...]:
    """The leases that this thread's work holds, the newest last."""
    return _held.get()


@contextmanager
def one_commit() -> Iterator[tuple[str, int] | None]:
    """Around exactly one commit to a data table: nothing is written, or said to be, without the leases.

    Yields
    ------
    tuple or None
        Delta's transaction id and version for this commit; None where no lease is held.

    Raises
    ------
    CheckpointError
        A lease was lost before the commit, or before it could be known to be made.
    """
    leases = _held.get()
    for lease in leases:
        lease.check()
    try:
        yield (f"lease:{leases[-1].subject}", leases[-1].number()) if leases else None
    except Exception as error:
        for lease in leases:
            _name_loss(lease, error)
        raise
    for lease in leases:
        lease.check()


def _name_loss(lease: Lease, error: Exception) -> None:
    """A commit that failed since the next holder came first is told as what it is."""
    try:
        lease.check()
    except CheckpointError as gone:
        raise gone from error
    except Exception:  # what ended the work must be seen, not that the lease could not be looked at
        return
