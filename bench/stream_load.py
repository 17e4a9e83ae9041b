"""The load of bench/stream.py: orders at a fixed rate, due at times that depend on nothing but the schedule.

A process of its own, so that whatever it stalls for shows as lateness and thins out nothing. What it did goes to
standard output as JSON: orders sent, how late the last one was, and its CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import time

from confluent_kafka import Producer

from bench.engine_log import PARTITIONS, T0_MS

SHOPS = 200
_TICK_S = 0.005
_LATE_S = 0.05


def at_ms(due_s: float, speed: float) -> int:
    """The event time of an order that is due so many seconds after the start, which has `T0_MS`."""
    return T0_MS + int(due_s * speed * 1000)


def order(number: int, due_s: float, speed: float) -> bytes:
    """One order as it stands in the topic."""
    shop, cents = number % SHOPS, number * 31 % 5_000
    return b'{"id":"o%d","at":%d,"shop":"shop-%d","cents":%d}' % (number, at_ms(due_s, speed), shop, cents)


def send(servers: str, topic: str, rate: float, seconds: float, start_s: float, speed: float) -> dict[str, float]:
    """Send ``rate`` orders per second from ``start_s`` (epoch seconds) on; what was due while it slept goes at once."""
    client = Producer(
        {"bootstrap.servers": servers, "acks": "1", "linger.ms": 2, "queue.buffering.max.messages": 2_000_000}
    )
    total, number, late = int(rate * seconds), 0, 0
    behind_s = 0.0
    while number < total:
        now_s = time.time() - start_s
        until = min(int(now_s * rate) + 1, total) if now_s >= 0 else 0
        if until <= number:
            time.sleep(_TICK_S)
            client.poll(0)
            continue
        behind_s = now_s - number / rate
        late += (until - number) if behind_s > _LATE_S else 0
        while number < until:
            # By shop, as a keyed producer would: an order's shop decides its partition.
            due_s = number / rate
            value = order(number, due_s, speed)
            try:
                client.produce(topic, value, b"shop-%d" % (number % SHOPS), number % SHOPS % PARTITIONS)
            except BufferError:
                client.poll(0.01)
                continue
            number += 1
        client.poll(0)
    client.flush(60)
    times = os.times()
    return {
        "sent": number,
        "late": late,
        "end_late_s": round(behind_s, 3),
        "seconds": round(time.time() - start_s, 2),
        "cpu_s": round(times.user + times.system, 2),
    }


def main() -> None:
    """Send what the command line says, then tell what was done."""
    parser = argparse.ArgumentParser()
    for name in ("servers", "topic"):
        parser.add_argument(name)
    for name in ("rate", "seconds", "start_s", "speed"):
        parser.add_argument(name, type=float)
    print(json.dumps(send(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
