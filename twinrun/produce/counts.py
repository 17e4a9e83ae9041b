"""Counting what was sent, delivered and refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError

_PROGRESS_EVERY_S = 0.5
_TOO_LARGE = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE)


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
    offsets : dict of int to (int, int)
        Of partitions that got some: where the first and the last of them lie. Records of others may lie between.
    """

    sent: int
    acked: int
    failed: int
    first_error: str | None
    seconds: float
    per_partition: dict[int, int]
    offsets: dict[int, tuple[int, int]] = field(default_factory=dict)


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
    too_large: bool = False
    offsets: dict[int, tuple[int, int]] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    shown: float = field(default_factory=time.monotonic)

    def delivered(self, error: KafkaError | None, message: Any) -> None:
        """Called by the client once per record."""
        if error is None:
            partition, offset = message.partition(), message.offset()
            self.acked += 1
            self.per_partition[partition] = self.per_partition.get(partition, 0) + 1
            self.offsets[partition] = (self.offsets.get(partition, (offset, offset))[0], offset)
        else:
            # A record that found no broker for a minute: the others would each wait as long in vain.
            self.broker_lost = self.broker_lost or error.code() == KafkaError._MSG_TIMED_OUT
            self.refused(error, len(message.value() or b"") + len(message.key() or b""))

    def refused(self, error: KafkaError, size: int) -> None:
        """Count a record that will not arrive; ``size`` is that of its key and value in bytes."""
        self.failed += 1
        large = error.code() in _TOO_LARGE
        self.too_large = self.too_large or large
        words = f"{error.str()}, key and value have {size:,} bytes" if large else error.str()
        self.first_error = self.first_error or words

    def summary(self) -> ProduceSummary:
        """The counts as they are now."""
        seconds = time.monotonic() - self.started
        counts = dict(self.per_partition)
        return ProduceSummary(self.sent, self.acked, self.failed, self.first_error, seconds, counts, dict(self.offsets))

    def tick(self) -> None:
        """Report progress if it is time to."""
        now = time.monotonic()
        if self.on_progress is not None and now - self.shown >= _PROGRESS_EVERY_S:
            self.shown = now
            self.on_progress(self.summary())
