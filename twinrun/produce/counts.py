"""Counting what was sent, delivered and refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError

_PROGRESS_EVERY_S = 0.5


@dataclass(frozen=True)
class ProduceSummary:
    """What was sent. At the end ``sent`` = ``acked`` + ``failed``; before it, the rest is under way.

    Parameters
    ----------
    sent : int
        Records handed to the Kafka client.
    acked : int
        Records that the broker has acknowledged.
    failed : int
        Records that were refused or not delivered.
    first_error : str, optional
        Why the first of them failed.
    seconds : float
        Wall-clock time since the start.
    per_partition : dict of int to int
        Acknowledged records by partition; 0 for partitions that got none.
    """

    sent: int
    acked: int
    failed: int
    first_error: str | None
    seconds: float
    per_partition: dict[int, int]


OnProgress = Callable[[ProduceSummary], None]
"""Called with the counts so far."""


@dataclass
class Tally:
    """What has been counted so far; the client's delivery callbacks write into it, in our own thread."""

    per_partition: dict[int, int]
    on_progress: OnProgress | None
    sent: int = 0
    acked: int = 0
    failed: int = 0
    first_error: str | None = None
    broker_lost: bool = False
    started: float = field(default_factory=time.monotonic)
    shown: float = field(default_factory=time.monotonic)

    def delivered(self, error: KafkaError | None, message: Any) -> None:
        """Called by the client once per record."""
        if error is None:
            self.acked += 1
            self.per_partition[message.partition()] = self.per_partition.get(message.partition(), 0) + 1
        else:
            # A record that found no broker for a minute: the others would each wait as long in vain.
            self.broker_lost = self.broker_lost or error.code() == KafkaError._MSG_TIMED_OUT
            self.refused(error)

    def refused(self, error: KafkaError) -> None:
        """Count a record that will not arrive."""
        self.failed += 1
        self.first_error = self.first_error or error.str()

    def summary(self) -> ProduceSummary:
        """The counts as they are now."""
        seconds = time.monotonic() - self.started
        counts = dict(self.per_partition)
        return ProduceSummary(self.sent, self.acked, self.failed, self.first_error, seconds, counts)

    def tick(self) -> None:
        """Report progress if it is time to."""
        now = time.monotonic()
        if self.on_progress is not None and now - self.shown >= _PROGRESS_EVERY_S:
            self.shown = now
            self.on_progress(self.summary())
