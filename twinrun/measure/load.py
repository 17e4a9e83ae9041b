"""The load: records on an absolute schedule, sent by a process of its own that never waits for who reads them.

Open loop: when a record is due depends on the schedule alone. A record that was held up, by the producer, the broker or
the machine, keeps the time at which it was due, in a header, and freshness counts from there. So whatever stalls shows
in the figures instead of thinning out the load (the fault called coordinated omission).
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from twinrun.broker.records import Stored, stored_records
from twinrun.broker.topics import offset_ranges
from twinrun.errors import BrokerError, InputError
from twinrun.produce.producer import PACED, connect
from twinrun.produce.records import Record

DUE_HEADER = "twinrun-due-us"
"""Header with the time at which the record was due, epoch microseconds as text. Value, key and time stay untouched."""
LATE_S = 0.01
"""A record that was handed over later than this after it was due counts as late."""
MOST_LATE_END_S, MOST_LATE_END_SHARE = 1.0, 0.05
"""A load whose last record was later than this, in seconds and as a share of its length, did not have its rate."""
SAFE_SHARE = 0.5
"""A rate above this share of what the producer reaches flat out is refused."""

_FLUSH_S = 60.0


@dataclass(frozen=True)
class Due:
    """A record and when it is due, in seconds from the start of the load."""

    due_s: float
    record: Record


@dataclass(frozen=True)
class Sent:
    """What a producer did: records sent and delivered, how late it was itself, and its CPU seconds."""

    sent: int
    delivered: int
    late: int
    most_late_s: float
    end_late_s: float
    seconds: float
    cpu_s: float

    @property
    def kept_pace(self) -> bool:
        """Whether the load had the rate that was asked for."""
        return self.end_late_s <= max(MOST_LATE_END_S, MOST_LATE_END_SHARE * self.seconds)


def schedule(records: Sequence[Record], rate: float) -> tuple[list[Due], float]:
    """When each record is due so that they come at ``rate`` per second on average, in the rhythm of their times.

    Parameters
    ----------
    records : sequence of Record
        In the order of sending. One without a time, or with a time before that of one before it, is due with that one.

    Returns
    -------
    (list of Due, float)
        The speed: seconds of record time per second. 0 where the records' times do not move; they then come evenly.
    """
    times, newest = [], 0
    for record in records:
        newest = max(newest, record.timestamp_ms or 0)
        times.append(newest)
    first = next((at for at in times if at), 0)
    span_s = (times[-1] - first) / 1000 if times else 0.0
    if span_s <= 0:
        return [Due(number / rate, record) for number, record in enumerate(records)], 0.0
    speed = rate * span_s / len(records)
    return [Due(max(at - first, 0) / 1000 / speed, each) for at, each in zip(times, records, strict=True)], speed


def send_on_time(
    dues: Iterable[Due],
    start_s: float,
    send: Callable[[Record, int], None],
    *,
    clock: Callable[[], float] = time.time,
    wait: Callable[[float], None] = time.sleep,
) -> tuple[int, int, float, float]:
    """Send every record when it is due, or at once where that is past; the header always says when it was due.

    Parameters
    ----------
    start_s : float
        When the load begins, epoch seconds.
    send : function of Record and int
        Gets the record and its due time in epoch microseconds.

    Returns
    -------
    (int, int, float, float)
        Records sent, those that were late, the most that one was late, and how late the last one was; seconds.
    """
    sent = late = 0
    most_s = last_s = 0.0
    for each in dues:
        due_s = start_s + each.due_s
        while (left := due_s - clock()) > 0:
            wait(left)
        last_s = clock() - due_s
        late += last_s > LATE_S
        most_s = max(most_s, last_s)
        send(each.record, round(due_s * 1_000_000))
        sent += 1
    return sent, late, most_s, last_s


def write_dues(dues: Iterable[Due], file: Path) -> None:
    """Keep a schedule as a file of JSON lines, for the producer's process."""
    with file.open("w", encoding="ascii") as lines:
        for each in dues:
            record = each.record
            headers = [[name, _text(value)] for name, value in record.headers]
            row = [each.due_s, _text(record.key), _text(record.value), record.timestamp_ms, headers]
            lines.write(json.dumps(row) + "\n")


def read_dues(file: Path) -> Iterator[Due]:
    """Read it again, one record at a time."""
    with file.open(encoding="ascii") as lines:
        for line in lines:
            due_s, key, value, at_ms, headers = json.loads(line)
            named = tuple((name, _bytes(text)) for name, text in headers)
            yield Due(due_s, Record(_bytes(key), _bytes(value), at_ms, named))


@dataclass(frozen=True)
class Order:
    """What a producer's process is told: where to send what, from when on (epoch seconds), and where to answer."""

    servers: str
    topic: str
    dues: str
    start_s: float
    answer: str


class Load:
    """A running producer process."""

    def __init__(self, order: Order, folder: Path) -> None:
        self._answer = Path(order.answer)
        file = folder / "order.json"
        file.write_text(json.dumps(asdict(order)), encoding="utf-8")
        with (folder / "producer.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "twinrun.measure.load", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONWARNINGS": "ignore"},
            )

    @property
    def over(self) -> bool:
        """Whether all was sent, or the process failed.

        The process is looked at, and not yet reaped: from then on its CPU would count as that of this one.
        """
        if self.process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def result(self) -> Sent:
        """What was sent, once it is over.

        Raises
        ------
        BrokerError
            The process failed; its last line.
        """
        if self.process.wait() != 0 or not self._answer.exists():
            log = (self._answer.parent / "producer.log").read_text(encoding="utf-8", errors="replace").strip()
            raise BrokerError(f"The producer of the load failed: {(log.splitlines() or ['it said nothing'])[-1]}")
        return Sent(**json.loads(self._answer.read_text(encoding="utf-8")))

    def stop(self) -> None:
        """End it, if it runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def fastest(servers: str, topic: str, dues: Sequence[Due], seconds: float = 1.0) -> float:
    """Records per second that one producer reaches flat out with these records, measured for about a second."""
    sent = 0
    client = _producer(servers)
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        for each in dues[:1000]:
            _send(client, topic, each.record, 0)
        sent += min(len(dues), 1000)
    client.flush(_FLUSH_S)
    return sent / (time.monotonic() - began)


def check_rate(rate: float, reached: float) -> None:
    """Refuse a rate that the producer cannot make beside all else on this machine.

    Raises
    ------
    InputError
        The rate is over `SAFE_SHARE` of what it reaches alone.
    """
    if rate > reached * SAFE_SHARE:
        raise InputError(
            f"the producer cannot make {rate:,.0f} events/s here: alone and flat out it reaches {reached:,.0f}.",
            expected=f"at most half of that, {reached * SAFE_SHARE:,.0f} events/s, since it shares the machine",
            fix="give a lower --rate",
        )


def read_topic(servers: str, topic: str, options: Mapping[str, str], most: int) -> list[Record]:
    """Up to so many records of a topic, from its beginning, by their times. Nothing is committed.

    Raises
    ------
    BrokerError
        The broker does not answer, or stops answering.
    """
    ranges = offset_ranges(servers, topic, options)
    with closing(stored_records(servers, topic, ranges, options)) as stored:
        found = [_record(each) for each in islice(stored, most)]
    return sorted(found, key=lambda record: record.timestamp_ms or 0)


def _record(stored: Stored) -> Record:
    at_ms = stored.timestamp_ms
    return Record(stored.key, stored.value, at_ms if at_ms and at_ms > 0 else None, stored.headers)


def _producer(servers: str) -> Producer:
    # As long as Kafka's client waits by default: a broker that stands still for a time is measured, not given up.
    return connect({"bootstrap.servers": servers, "message.timeout.ms": 300_000}, PACED, [])


def _send(client: Producer, topic: str, record: Record, due_us: int, on_delivery: Any = None) -> None:
    headers: list[tuple[str, str | bytes | None]] = [*record.headers, (DUE_HEADER, str(due_us).encode())]
    while True:
        try:
            client.produce(
                topic, record.value, record.key, on_delivery=on_delivery, timestamp=record.timestamp_ms or 0,
                headers=headers,
            )  # fmt: skip
            return
        except BufferError:
            client.poll(0.05)


def main(argv: Sequence[str]) -> int:
    """The producer's process: send what the order says, then answer with `Sent`."""
    order = Order(**json.loads(Path(argv[0]).read_text(encoding="utf-8")))
    client, delivered = _producer(order.servers), [0]

    def counted(error: Any, _: Any) -> None:
        delivered[0] += error is None

    def send(record: Record, due_us: int) -> None:
        _send(client, order.topic, record, due_us, counted)
        client.poll(0)

    def wait(left: float) -> None:
        client.poll(min(left, 0.2))

    sent, late, most_s, end_s = send_on_time(read_dues(Path(order.dues)), order.start_s, send, wait=wait)
    client.flush(_FLUSH_S)
    told = Sent(sent, delivered[0], late, most_s, end_s, time.time() - order.start_s, time.process_time())
    if delivered[0] < sent:
        print(f"{sent - delivered[0]} of {sent} records were not delivered")
        return 1
    Path(order.answer).write_text(json.dumps(asdict(told)), encoding="utf-8")
    return 0


def _text(value: bytes | str | None) -> str | None:
    raw = value.encode() if isinstance(value, str) else value
    return None if raw is None else base64.b64encode(raw).decode("ascii")


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
