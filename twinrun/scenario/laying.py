"""Micro-batches while they are being filled: where there is room, and which event times do what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from twinrun.errors import InputError
from twinrun.scenario.arithmetic import Event, late_before
from twinrun.scenario.contract import Contract
from twinrun.scenario.counter import Draws
from twinrun.scenario.encode import as_bytes, event_fields
from twinrun.scenario.model import Planned, behind, key_names
from twinrun.scenario.plants import Plant
from twinrun.scenario.timeline import Timeline


@dataclass
class Laying:
    """Micro-batches while they are being filled; a part of each is kept for ordinary events."""

    contract: Contract
    draws: Draws
    timeline: Timeline
    prefix: str
    size: int
    gaps: tuple[int, ...]
    made: list[list[Planned]] = field(default_factory=list)
    owed: list[tuple[int, int, str]] = field(default_factory=list)
    """Records of the second source that are late: micro-batch, event time, and the id that each refers to."""

    behind: list[Planned] = field(default_factory=list)
    """Records of a second partition, which is read behind the first."""

    def __post_init__(self) -> None:
        self.made = [[] for _ in self.timeline.newest_ms]

    @property
    def last(self) -> int:
        """Number of the last micro-batch."""
        return self.timeline.micro_batches - 1

    def late_before(self, micro_batch: int) -> int:
        """Events before this are late in a micro-batch; those at it or after are in time."""
        return late_before(self.timeline.dropping_ms(micro_batch), self.contract)

    def place(
        self, plant: Plant, number: int, first: int, reach: int = 1, earlier: Callable[[int], int | None] | None = None
    ) -> int:
        """A micro-batch from ``first`` on with room for one record, and in the ``reach`` - 1 that follow for one each.

        Parameters
        ----------
        earlier : function, optional
            Gives for a micro-batch an earlier one that must have room too, or None where there is none.

        Raises
        ------
        InputError
            All are full.
        """
        most = self.size - 1 - max(2, self.size // 4)
        count = self.timeline.micro_batches - first - reach + 1
        start = self.draws.below(count, f"{plant}/place", number)
        for step in range(count):
            place = first + (start + step) % count
            needed = [place + more for more in range(reach)] + ([earlier(place)] if earlier else [])
            if all(each is not None and len(self.made[each]) < most for each in needed):
                return place
        raise InputError(
            f"{plant} cannot be planted: there is no room left in micro-batches {first} to {self.last}.",
            expected=f"at most {most} planted records in each of them",
            fix="plant fewer, or make micro-batches larger (--size) or more (--micro-batches)",
        )

    def add(self, kind: str, name: str, micro_batch: int, event_ms: int, key: str) -> Planned:
        """A valid event."""
        event_id = f"{self.prefix}.{name}"
        value = as_bytes(self.fields(event_id, key, event_ms, micro_batch))
        event = Event(event_id, key, event_ms, micro_batch)
        self.made[micro_batch].append(Planned(value, micro_batch, self.prefix, kind, event))
        return self.made[micro_batch][-1]

    def add_behind(self, name: str, micro_batch: int, event_ms: int, key: str) -> None:
        """A valid event on the partition that is read behind; it is known when it happens."""
        event = Event(f"{self.prefix}.{name}", key, event_ms, micro_batch)
        self.behind.append(behind(self.contract, self.draws, self.prefix, "read_late", event))

    def refuse(self, kind: str, micro_batch: int, value: bytes, rule: str) -> None:
        """A record that goes to quarantine."""
        self.made[micro_batch].append(Planned(value, micro_batch, self.prefix, kind, None, rule))

    def fields(self, event_id: str, key: str, event_ms: int, micro_batch: int) -> dict[str, object]:
        """The fields of an event that is known when its micro-batch's newest event is."""
        known_ms = self.timeline.newest_ms[micro_batch]
        return event_fields(self.contract, self.draws, event_id, key, event_ms, known_ms)

    def key(self, label: str, number: int) -> str:
        """One of the ordinary keys."""
        return self.draws.chosen(key_names(self.prefix), f"{label}/key", number)

    def read_at(self, event_ms: int) -> int | None:
        """The micro-batch that an event of this time comes in when nothing delays it; None outside the timeline."""
        if event_ms <= self.timeline.base_ms:
            return None
        return next((n for n, newest in enumerate(self.timeline.newest_ms) if event_ms <= newest), None)

    def in_time(self, label: str, number: int, after_ms: int, until_ms: int) -> int:
        """An event time in (after, until], outside the windows that stay empty; ``until`` where all of it is one."""
        window_ms = self.timeline.window_ms
        pieces, low = [], after_ms + 1
        for gap in self.gaps:
            if gap + window_ms > low and gap <= until_ms:
                pieces.append((low, min(gap - 1, until_ms)))
                low = gap + window_ms
        pieces = [(a, b) for a, b in (*pieces, (low, until_ms)) if a <= b] or [(until_ms, until_ms)]
        place = self.draws.below(sum(b - a + 1 for a, b in pieces), f"{label}/time", number)
        for a, b in pieces:
            if place <= b - a:
                return a + place
            place -= b - a + 1
        return until_ms

    def now(self, label: str, number: int, micro_batch: int) -> int:
        """An event time that is newer than all of the micro-batches before."""
        when = self.timeline
        return self.in_time(label, number, when.opens_ms(micro_batch), when.newest_ms[micro_batch])
