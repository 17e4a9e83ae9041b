"""One planned log for all engines, and an oracle that says what each rule must lose; no code of the product.

The oracle is written a second time from what each engine documents and does, per event and in the order of the log:
whose clock, how far it has come before the event, and which edge it has to reach.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

T0_MS = 1_704_067_200_000
"""2024-01-01 00:00 UTC."""
WINDOW_MS, GRACE_MS = 60_000, 10_000
PARTITIONS = 2
SHOPS = tuple(f"shop-{number:02d}" for number in range(24))
MINUTES = 50
_EDGES = 120
_AGAIN = 12
RowKey = tuple[str, int]
"""Shop and start of the window, epoch ms."""
Sums = tuple[int, int]
"""Orders and cents."""


@dataclass(frozen=True)
class Event:
    """An order. ``partition`` is that of its shop; ``offset`` its place there."""

    name: str
    shop: str
    at_ms: int
    cents: int
    partition: int
    offset: int

    @property
    def row(self) -> RowKey:
        return self.shop, self.at_ms - self.at_ms % WINDOW_MS

    def record(self) -> tuple[bytes, bytes]:
        """Key and value as they stand in the topic."""
        fields = {"id": self.name, "at": self.at_ms, "shop": self.shop, "cents": self.cents}
        return self.shop.encode(), json.dumps(fields).encode()


@dataclass(frozen=True)
class Log:
    """The events in the order in which they are laid; ``half`` of them before the restart."""

    events: tuple[Event, ...]
    half: int

    def half_offsets(self) -> dict[int, int]:
        """By partition the offset of the first event after the restart."""
        counts = dict.fromkeys(range(PARTITIONS), 0)
        for event in self.events[: self.half]:
            counts[event.partition] += 1
        return counts


def planned(size: int = 20_000, minutes: int = MINUTES, seed: int = 7) -> Log:
    """Orders over so many minutes, some of them late by up to three minutes, some exactly on, before and after an edge.

    An edge: an event brings the clock of its shop (and partition) to a window's end and the grace, or up to two
    milliseconds from it, and an event of that window comes right behind; or one whose own time lies there. After half
    of the log come orders of windows that were closed before, the oldest first: a clock that begins anew counts them.
    """
    dice = random.Random(seed)
    span = minutes * WINDOW_MS
    drawn: list[tuple[float, str, int]] = []
    for _ in range(size - 2 * _EDGES - _AGAIN):
        at = dice.randrange(span)
        late = dice.random()
        delay = dice.randrange(3_000) if late > 0.02 else dice.randrange(3_000, 180_000)
        drawn.append((at + delay, dice.choice(SHOPS), T0_MS + at))
    for number in range(_EDGES):
        end = dice.randrange(1, minutes - 1) * WINDOW_MS
        mover = end + GRACE_MS + number // 2 % 4 - 2
        shop = SHOPS[number % len(SHOPS)]
        place = mover + number / (10 * _EDGES)  # nobody comes between the two, nor is newer
        behind = end - 1 - dice.randrange(WINDOW_MS)
        if number % 2:
            mover, behind = mover + 30_000, mover + 30_000 - GRACE_MS + number // 2 % 4 - 2  # its own time is the edge
            place += 30_000
        drawn += [(place, shop, T0_MS + mover), (place + 1e-6, shop, T0_MS + behind)]
    drawn.sort()
    half = size // 2
    seen = max(at for _, _, at in drawn[:half])
    closed = (seen - T0_MS - GRACE_MS) // WINDOW_MS * WINDOW_MS + T0_MS  # the newest end that has been passed
    again = []
    for number in range(_AGAIN):
        # Ascending, so that none of them is late by the new clock: the oldest window first.
        minutes_ago = _AGAIN - number
        again.append((0.0, SHOPS[number % len(SHOPS)], closed - minutes_ago * WINDOW_MS // 2 - 1))
    laid = drawn[:half] + again + drawn[half:]
    counts = dict.fromkeys(range(PARTITIONS), 0)
    events = []
    for number, (_, shop, at) in enumerate(laid):
        partition = _partition(shop)
        events.append(Event(f"o{number:05d}", shop, at, dice.randrange(1, 5_000), partition, counts[partition]))
        counts[partition] += 1
    return Log(tuple(events), half)


def _partition(shop: str) -> int:
    return SHOPS.index(shop) % PARTITIONS


@dataclass
class Lost:
    """What a rule must give.

    ``dropped``: names of the events that count nowhere; ``rows_of_dropped``: their rows, one each. ``counted``: sums
    of all that was not dropped. ``written``: by row the sums of each writing, as the engine's store had them.
    ``waits``: rows of which something was counted that has not been written.
    """

    dropped: set[str] = field(default_factory=set)
    rows_of_dropped: list[RowKey] = field(default_factory=list)
    counted: dict[RowKey, Sums] = field(default_factory=dict)
    written: dict[RowKey, list[Sums]] = field(default_factory=lambda: defaultdict(list))
    waits: set[RowKey] = field(default_factory=set)


def sums_of(events: Sequence[Event]) -> dict[RowKey, Sums]:
    """What the batch must have."""
    found: dict[RowKey, Sums] = {}
    for event in events:
        orders, cents = found.get(event.row, (0, 0))
        found[event.row] = orders + 1, cents + event.cents
    return found


def expected(log: Log, rule: str, grace_ms: int = GRACE_MS, *, one_partition: bool = False) -> Lost:
    """What the engine of a rule must lose and write.

    Parameters
    ----------
    rule : {"kafka-streams", "flink-datastream", "flink-sql", "quix-key", "quix-partition", "bytewax"}
    one_partition : bool
        All events lie in one partition, in the order of the log.
    """
    lost = Lost()
    clocks: dict[object, int] = {}
    open_: dict[object, set[RowKey]] = defaultdict(set)
    held: dict[RowKey, Sums] = {}
    floors: dict[int, int] = {}
    for number, event in enumerate(log.events):
        if rule == "kafka-streams" and number == log.half:
            clocks.clear()  # it is kept in memory
            held = {row: sums for row, sums in held.items() if row[1] >= floors.get(_partition(row[0]), 0)}
        mine: object = event.shop if rule in ("quix-key", "bytewax") else 0 if one_partition else event.partition
        end = event.row[1] + WINDOW_MS
        before = clocks.get(mine)
        if before is not None:
            late = {
                "flink-sql": end - 1 + grace_ms <= before,
                "bytewax": event.at_ms + grace_ms < before,
            }.get(rule, end + grace_ms <= before)
            if rule == "kafka-streams":
                # Stream time takes in the record itself before it judges; a record never makes its own window late.
                late = end + grace_ms <= max(before, event.at_ms)
        else:
            late = False
        clocks[mine] = event.at_ms if before is None else max(before, event.at_ms)
        if late:
            lost.dropped.add(event.name)
            lost.rows_of_dropped.append(event.row)
        else:
            orders, cents = lost.counted.get(event.row, (0, 0))
            lost.counted[event.row] = orders + 1, cents + event.cents
            orders, cents = held.get(event.row, (0, 0))
            held[event.row] = orders + 1, cents + event.cents
            open_[mine].add(event.row)
            # Its store has segments of a minute, and lets go of those older than a window and the grace.
            oldest = (event.row[1] - WINDOW_MS - grace_ms) // WINDOW_MS * WINDOW_MS
            floors[event.partition] = max(floors.get(event.partition, 0), oldest)
        edge = clocks[mine] + (1 if rule == "flink-sql" else 0)
        for row in sorted(r for r in open_[mine] if r[1] + WINDOW_MS + grace_ms <= edge):
            lost.written[row].append(held[row])
            open_[mine].remove(row)
    lost.waits = {row for rows in open_.values() for row in rows}
    return lost
