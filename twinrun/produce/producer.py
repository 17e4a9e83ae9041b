"""Send records to a Kafka topic, at full speed or in the rhythm of their timestamps, and count what arrived."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import KafkaException, Producer

from twinrun.errors import BrokerError, InputError
from twinrun.produce.counts import OnProgress, ProduceSummary, Tally
from twinrun.produce.records import Record, check_time
from twinrun.wording import plural

ANSWER_LIMIT_S = 10.0
"""How long the broker may take to answer before the first record is sent."""

_ALWAYS = {"enable.idempotence": True, "acks": "all"}
_FULL_SPEED = {"linger.ms": 50, "compression.type": "lz4", "batch.num.messages": 50_000}
PACED = {"linger.ms": 5, "compression.type": "lz4"}
_UNLESS_SAID = {"message.timeout.ms": 60_000, "queue.buffering.max.messages": 200_000}
_POLL_EVERY_RECORDS = 1_000
_WAIT_STEP_S = 0.25

LOG = logging.getLogger("twinrun.kafka")
# The client repeats itself many times a second while no broker answers; what matters is in our own errors.
LOG.addHandler(logging.NullHandler())
LOG.propagate = False


def produce(
    records: Iterable[Record],
    topic: str,
    client_options: Mapping[str, Any],
    *,
    speed: float | None = None,
    on_progress: OnProgress | None = None,
) -> ProduceSummary:
    """Send records in order, idempotently and acknowledged by all replicas. Returns when all are delivered.

    Order holds per key. Memory is bounded by the client's queue, whatever the number of records.

    Parameters
    ----------
    records : iterable of Record
        Read once, never held.
    topic : str
        An existing topic; it is never created here.
    client_options : mapping
        Options of the Kafka client, at least ``bootstrap.servers``. They win over the defaults for linger,
        compression, batching and time-out, not over idempotence and acks.
    speed : float, optional
        Seconds of record time per second: 1 is real time, 3600 an hour per second. Each record has a deadline
        counted from the first one's, so that a slow moment is caught up. A record without timestamp is due at
        once. None: full speed.
    on_progress : function of ProduceSummary, optional
        Called about twice a second, and at the end.

    Returns
    -------
    ProduceSummary
        With ``failed`` 0.

    Raises
    ------
    InputError
        ``speed`` is not a positive number; or a record has a time that Kafka cannot hold. What stands before it
        has been sent, and the sentence says how much.
    BrokerError
        The broker does not answer, the topic is missing, or records were not delivered (with their number and
        the first reason).
    """
    if speed is not None and not (0 < speed < math.inf):
        raise InputError(f"The speed {speed} cannot be used.", expected="a number over 0, such as 3600")
    seen: list[str] = []
    client = connect(client_options, _FULL_SPEED if speed is None else PACED, seen)
    where = str(client_options.get("bootstrap.servers", "no address"))
    tally = Tally(_partitions(client, topic, where, seen), on_progress)
    try:
        _send_all(client, topic, records, speed, tally)
        while len(client) and not tally.broker_lost:
            client.flush(_WAIT_STEP_S)
            tally.tick()
    except KafkaException as error:
        _stop(client)
        raise BrokerError(
            f"The Kafka client stopped after {tally.acked} delivered records: {error.args[0].str()}."
        ) from None
    except InputError as error:
        while len(client) and not tally.broker_lost:
            client.flush(_WAIT_STEP_S)
        _stop(client)
        before = plural(tally.acked, "record")
        raise InputError(
            f"{error.found} Neither it nor what follows was sent; delivered before it: {before}.",
            expected=error.expected,
            fix=error.fix,
        ) from None
    except BaseException:
        _stop(client)
        raise
    if tally.broker_lost:
        _stop(client)
    return _finish(tally, topic, where)


def connect(client_options: Mapping[str, Any], defaults: Mapping[str, Any], seen: list[str]) -> Producer:
    """An idempotent producer, silent but for ``seen``, to which the client's own complaints are added.

    Raises
    ------
    BrokerError
        The client refuses its options; no value of theirs is shown.
    """
    options = {**_UNLESS_SAID, **defaults, **client_options, **_ALWAYS}
    options["error_cb"] = lambda error: seen.append(error.str())
    try:
        return Producer(options, logger=LOG)
    except KafkaException as error:
        # The client names the option, but sometimes its value too, which may be a secret.
        reason = error.args[0].str()
        for value in client_options.values():
            reason = reason.replace(str(value), "***") if len(str(value)) > 1 else reason
        raise BrokerError(f"The Kafka client refuses its options: {reason}.", fix="correct kafka.* in conf") from None


def _partitions(client: Producer, topic: str, where: str, seen: list[str]) -> dict[int, int]:
    """A zero per partition of the topic; fails when the broker or the topic is not there."""
    try:
        # All topics: asking for one by name would create it on a broker that allows that.
        topics = client.list_topics(timeout=ANSWER_LIMIT_S).topics
    except KafkaException as error:
        client.poll(0)
        raise BrokerError(
            f"No Kafka broker answers at {where}: {seen[0] if seen else error.args[0].str()}.",
            expected="a broker that answers within 10 s",
            fix="start one (twinrun broker start) or correct kafka.bootstrap_servers",
        ) from None
    if topic not in topics:
        names = ", ".join(sorted(name for name in topics if not name.startswith("__"))[:10])
        raise BrokerError(
            f"The broker at {where} has no topic {topic!r}.",
            expected=f"one of its topics: {names or 'it has none'}",
            fix="create the topic, or name another one",
        )
    return dict.fromkeys(sorted(topics[topic].partitions), 0)


def _send_all(client: Producer, topic: str, records: Iterable[Record], speed: float | None, tally: Tally) -> None:
    first_ms: int | None = None
    for record in records:
        if record.timestamp_ms is not None:
            check_time(record.timestamp_ms, f"Record {tally.sent + 1}")
        if speed is not None and record.timestamp_ms is not None:
            first_ms = record.timestamp_ms if first_ms is None else first_ms
            _wait_until(tally.started + (record.timestamp_ms - first_ms) / 1000 / speed, client, tally)
        _send(client, topic, record, tally)
        if tally.sent % _POLL_EVERY_RECORDS == 0:
            client.poll(0)
            tally.tick()
        if tally.broker_lost:
            return


def _wait_until(deadline: float, client: Producer, tally: Tally) -> None:
    while (left := deadline - time.monotonic()) > 0 and not tally.broker_lost:
        client.poll(min(left, _WAIT_STEP_S))
        tally.tick()


def _send(client: Producer, topic: str, record: Record, tally: Tally) -> None:
    tally.sent += 1
    headers: list[tuple[str, str | bytes | None]] | None = list(record.headers) or None
    while True:
        try:
            client.produce(
                topic,
                record.value,
                record.key,
                on_delivery=tally.delivered,
                timestamp=record.timestamp_ms or 0,
                headers=headers,
            )
            return
        except BufferError:
            # The queue is full: give deliveries time to empty it.
            client.poll(_WAIT_STEP_S)
            tally.tick()
        except KafkaException as error:
            if error.args[0].fatal():
                raise
            tally.refused(error.args[0], len(record.value or b"") + len(record.key or b""))
            return


def _stop(client: Producer) -> None:
    """Drop what is queued, so that nothing blocks at exit."""
    client.purge()
    client.flush(1)


def _finish(tally: Tally, topic: str, where: str) -> ProduceSummary:
    summary = tally.summary()
    if tally.on_progress is not None:
        tally.on_progress(summary)
    if summary.failed == 0:
        return summary
    fix = "start the broker again" if tally.broker_lost else "correct or leave out the records, then send them"
    if tally.too_large:
        fix = "make the record smaller, or raise kafka.options.message.max.bytes and max.message.bytes of the topic"
    raise BrokerError(
        f"{summary.failed} of {plural(summary.sent, 'record')} were not delivered to topic {topic!r} at {where}, "
        f"{summary.acked} were; the first failed with: {summary.first_error}.",
        expected="every record delivered",
        fix=fix,
    )
