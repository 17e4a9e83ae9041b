"""Read records of a topic as they lie in Kafka, without a consumer group: for people who look."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, KafkaException, Message, TopicPartition

from twinrun.errors import BrokerError

SILENT_S = 10.0
"""How long a partition that has records may give none."""

_LOOK_S = 0.2
_SILENT = logging.getLogger("twinrun.broker.records")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


@dataclass(frozen=True)
class Stored:
    """One record where it lies.

    Attributes
    ----------
    partition, offset : int
        Its place in the topic; the place of a record never changes.
    timestamp_ms : int or None
        Its Kafka timestamp, UTC epoch milliseconds; None where it has none.
    key, value : bytes or None
        None: it has none; a value of None is a tombstone.
    headers : tuple of (str, bytes or None)
        In their order; a name may repeat.
    """

    partition: int
    offset: int
    timestamp_ms: int | None
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def stored_records(
    bootstrap: str,
    topic: str,
    ranges: Mapping[int, tuple[int, int]],
    options: Mapping[str, str] | None = None,
    *,
    committed: bool = False,
    follow: bool = False,
    ended: Callable[[], bool] = lambda: False,
) -> Generator[Stored]:
    """The records between two offsets of each partition: in order within a partition, in no order across them.

    Nothing is committed, so that no consumer anywhere goes on from another place because somebody looked.

    Parameters
    ----------
    ranges : mapping of int to (int, int)
        For each partition the first offset and the one after the last, as `offset_ranges` gives them.
    committed : bool
        Leave out records of aborted transactions.
    follow : bool
        Do not stop at the ends, but wait for more until ``ended`` says so.
    ended : function, optional
        Asked after each record, and about five times a second while there is none.

    Raises
    ------
    BrokerError
        The broker refuses, or gives none of the records that it should have for `SILENT_S`.
    """
    client = _consumer(bootstrap, options, committed)
    left = {partition: end for partition, (start, end) in ranges.items() if follow or start < end}
    try:
        client.assign([TopicPartition(topic, partition, ranges[partition][0]) for partition in left])
        heard = time.monotonic()
        while left and not ended():
            message = client.poll(_LOOK_S)
            if message is None:
                if not follow and time.monotonic() - heard > SILENT_S:
                    raise BrokerError(
                        f"The broker at {bootstrap} gives no more records of {topic!r}.",
                        expected=f"more of partition {', '.join(map(str, sorted(left)))}",
                        fix="look whether it runs (twinrun doctor), and try again",
                    )
                continue
            heard = time.monotonic()
            at = _offset(message, bootstrap, topic)
            partition = message.partition()
            if partition not in left:
                continue
            if message.error() is None and (follow or at < left[partition]):
                yield _stored(message)
            # The last offsets may hold markers of transactions, which are no records: then only the end is told.
            if not follow and at + (message.error() is None) >= left[partition]:
                del left[partition]
    finally:
        client.close()


def _consumer(bootstrap: str, options: Mapping[str, str] | None, committed: bool) -> Consumer:
    settings: dict[str, Any] = {
        "group.id": "twinrun-looks",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed" if committed else "read_uncommitted",
        "log_level": 0,
        **(options or {}),
        "bootstrap.servers": bootstrap,
    }
    try:
        return Consumer(settings, logger=_SILENT)
    except KafkaException:
        raise BrokerError(
            "The Kafka client refuses its options.", fix="look at the kafka options in conf/*.yaml"
        ) from None


def _offset(message: Message, bootstrap: str, topic: str) -> int:
    """Where a record lies, or of the message that a partition has ended the offset that comes next."""
    error = message.error()
    if error is not None and error.code() != KafkaError._PARTITION_EOF:
        raise BrokerError(f"The broker at {bootstrap} gives no records of {topic!r}: {error.str().rstrip('.')}.")
    return int(message.offset() or 0)


def _stored(message: Message) -> Stored:
    kind, at_ms = message.timestamp()
    headers: list[tuple[str, Any]] = list(message.headers() or [])  # type: ignore[arg-type]
    return Stored(
        int(message.partition() or 0),
        int(message.offset() or 0),
        None if kind == TIMESTAMP_NOT_AVAILABLE else at_ms,
        _bytes(message.key()),
        _bytes(message.value()),
        tuple((name, _bytes(value)) for name, value in headers),
    )


def _bytes(value: Any) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
