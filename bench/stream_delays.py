"""When each row of bench/stream.py could be read, and how long after what it waited for was due."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from bench.engine_log import GRACE_MS, T0_MS, WINDOW_MS
from bench.stream_load import SHOPS, at_ms
from twinrun.broker.records import stored_records
from twinrun.broker.topics import offset_ranges

SPEED = 30.0
SUSTAINED = 1.5
"""Sustained: no row is missing, and the last third's median is at most so many times the first's, or a second more."""
Row = tuple[str, int]
"""Shop and start of the window, epoch ms."""
Delay = tuple[float, float]
"""When something was due, from the start of the load, and how long it took from then; seconds."""


@dataclass(frozen=True)
class Load:
    """Orders per second, for how many seconds, of which the first do not count; epoch seconds when it began."""

    rate: float
    seconds: float
    warm_s: float
    start_s: float = 0.0


def closing_s(window_start_ms: int) -> float:
    """Seconds from the start until the order is due that lets a window close."""
    return (window_start_ms + WINDOW_MS + GRACE_MS - T0_MS) / SPEED / 1000


def delays(read_at: dict[Row, float], load: Load) -> tuple[list[Delay], int]:
    """``(closing, delay)`` in seconds of each row whose window closed after the warm-up, and how many never came."""
    found, missing = [], 0
    first = int(load.warm_s * SPEED * 1000 // WINDOW_MS)
    last = int(((load.seconds - 0.5) * SPEED * 1000 - GRACE_MS) // WINDOW_MS)
    for number in range(first, last):
        start_ms = T0_MS + number * WINDOW_MS
        closed_s = closing_s(start_ms)
        for shop in range(SHOPS):
            at_s = read_at.get((f"shop-{shop}", start_ms))
            if at_s is None:
                missing += 1
            else:
                found.append((closed_s, at_s - load.start_s - closed_s))
    return found, missing


def is_sustained(found: Sequence[Delay], missing: int) -> bool:
    """Whether delays stay as they are instead of growing with the backlog."""
    if missing or len(found) < 9:
        return False
    ordered = [delay for _, delay in sorted(found)]
    third = len(ordered) // 3
    first, last = statistics.median(ordered[:third]), statistics.median(ordered[-third:])
    return last <= max(first * SUSTAINED, first + 1.0)


def quantile_ms(found: Sequence[float], share: float) -> float | None:
    """The smallest value that so many of them do not exceed, in milliseconds."""
    ordered = sorted(found)
    if not ordered:
        return None
    return round(ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1000, 1)


def read_delta(table: Path) -> dict[Row, float]:
    """When each row of a Delta table could first be read, epoch seconds: the time of the commit's file."""
    read_at: dict[Row, float] = {}
    for log in sorted((table / "_delta_log").glob("*.json")):
        at_s = log.stat().st_mtime
        for line in log.read_text(encoding="utf-8").splitlines():
            added = json.loads(line).get("add")
            if not added:
                continue
            rows = pq.read_table(table / added["path"], columns=["shop", "window_start"])
            starts = rows.column("window_start").cast("timestamp[ms]").cast("int64").to_pylist()
            for row in zip(rows.column("shop").to_pylist(), starts, strict=True):
                read_at.setdefault(row, at_s)
    return read_at


def read_topic(servers: str, topic: str) -> Iterator[tuple[float, dict[str, Any]]]:
    """When the broker took each record, epoch seconds, and its value."""
    for each in stored_records(servers, topic, offset_ranges(servers, topic)):
        if each.value is not None:
            yield (each.timestamp_ms or 0) / 1000, json.loads(each.value)


def read_closed(servers: str, topic: str) -> dict[Row, float]:
    """When each closed window's row was first in the topic."""
    read_at: dict[Row, float] = {}
    for at_s, row in read_topic(servers, topic):
        read_at.setdefault((row["shop"], int(row["window_start"])), at_s)
    return read_at


def update_delays(servers: str, topic: str, load: Load) -> list[Delay]:
    """Of each changed row: when the last order was due that is in it, and how long it took from then."""
    found = []
    for at_s, row in read_topic(servers, topic):
        shop, start_ms = int(row["shop"].split("-")[1]), _start_ms(row["window_start"])
        due_s = last_due_s(shop, start_ms, int(row["orders"]), load.rate)
        if load.warm_s <= due_s < load.seconds:
            found.append((due_s, at_s - load.start_s - due_s))
    return found


def row_delays(rows: Iterable[tuple[float, dict[str, Any]]], load: Load) -> tuple[list[Delay], int]:
    """Of each order that came as a row of its own: when it was due, and how long it took; and how many never came."""
    read_at: dict[int, float] = {}
    for at_s, row in rows:
        if row["id"].startswith("o"):  # those of before the load have another letter
            read_at.setdefault(int(row["id"][1:]), at_s)
    numbers = range(round(load.warm_s * load.rate), round(load.seconds * load.rate))
    dues = [(number / load.rate, read_at.get(number)) for number in numbers]
    found = [(due_s, at_s - load.start_s - due_s) for due_s, at_s in dues if at_s is not None]
    return found, len(dues) - len(found)


def last_due_s(shop: int, start_ms: int, orders: int, rate: float) -> float:
    """When the last of so many orders of a shop and window was due: a shop's orders come in turn, none is lost."""
    first_s = (start_ms - T0_MS) / SPEED / 1000
    rounds = max(int((first_s * rate - shop) / SHOPS) - 1, 0)
    number = rounds * SHOPS + shop
    while at_ms(number / rate, SPEED) < start_ms:
        number += SHOPS
    return (number + (orders - 1) * SHOPS) / rate


def _start_ms(value: Any) -> int:
    if isinstance(value, int):
        return value
    return round(datetime.fromisoformat(value).timestamp() * 1000)
