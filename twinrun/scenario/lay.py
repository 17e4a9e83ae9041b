"""Lay plants and ordinary events into micro-batches, each at an event time that does what the plant says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from twinrun.errors import InputError
from twinrun.scenario.arithmetic import Event, dropped_before, late_before
from twinrun.scenario.contract import Contract
from twinrun.scenario.counter import Draws
from twinrun.scenario.encode import as_bytes, event_fields, newer, poison
from twinrun.scenario.model import Planned, behind, key_names
from twinrun.scenario.plants import KINDS, Plant, required_field, rules_of
from twinrun.scenario.timeline import Timeline

# Micro-batches while they are being filled: where there is room, and which event times do what.


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

    def written(self, label: str, number: int, micro_batch: int) -> int:
        """The same, or an older one in time: of a window that is over, and so is written, when the log ends."""
        when = self.timeline
        over_ms = (when.newest_ms[-1] - when.lateness_ms) // when.window_ms * when.window_ms
        now_ms = self.now(label, number, micro_batch)
        if now_ms < over_ms:
            return now_ms
        return self.in_time(f"{label}/written", number, self.late_before(micro_batch) - 1, over_ms - 1)


# Plants that only one kind of operator can take: sessions, a source without copies, a join of two streams.


def _split(laying: Laying, plant: Plant, number: int) -> None:
    """A visit of one event that is emitted, then an event in time that touches it: one visit at rest, two in motion."""
    gap_ms, draws = laying.contract.gap_ms or 1, laying.draws
    inside_ms = 0 if number % 3 == 0 else draws.below(gap_ms, "split/first", number)

    def first_ms(micro_batch: int) -> int:
        return laying.timeline.dropping_ms(micro_batch) - gap_ms - inside_ms

    micro_batch = laying.place(plant, number, 2, 1, lambda each: laying.read_at(first_ms(each)))
    begin_ms = first_ms(micro_batch)
    # After what is dropped, and no later than the gap after the first: both ends are taken too.
    room_ms = gap_ms - inside_ms
    after_ms = draws.chosen((1, room_ms, 1 + draws.below(room_ms, "split/after", number)), "split/which", number)
    again_ms = laying.timeline.dropping_ms(micro_batch) - gap_ms + after_ms
    key = f"{laying.prefix}.visit{number}"
    laying.add("split", f"visit{number}-1", laying.read_at(begin_ms) or 0, begin_ms, key)
    laying.add("split", f"visit{number}-2", micro_batch, again_ms, key)


def _copy(laying: Laying, plant: Plant, number: int) -> None:
    """An id again, with another time: just forgotten by the stream, or remembered for a millisecond more."""
    variant = plant.variant or ("forgotten", "remembered")[number % 2]
    lateness_ms, draws = laying.timeline.lateness_ms, laying.draws
    away_ms = draws.chosen((0, draws.below(max(1, lateness_ms), f"copy-{variant}", number)), "copy/which", number)

    def first_ms(micro_batch: int) -> int:
        edge_ms = laying.timeline.dropping_ms(micro_batch) - lateness_ms
        first = edge_ms - away_ms if variant == "forgotten" else edge_ms + 1 + away_ms
        window_ms = laying.timeline.window_ms
        # Out of a window that is to stay empty: forgotten for longer, or remembered for longer.
        for gap in laying.gaps:
            if gap <= first < gap + window_ms:
                return gap - 1 if variant == "forgotten" else gap + window_ms
        return first

    def earlier(micro_batch: int) -> int | None:
        place = laying.read_at(first_ms(micro_batch))
        return place if place is not None and place < micro_batch else None

    micro_batch = laying.place(plant, number, 2, 1, earlier)
    name, key = f"copy-{variant}{number}", f"{laying.prefix}.again"
    laying.add("copies", name, earlier(micro_batch) or 0, first_ms(micro_batch), key)
    laying.add("copies", name, micro_batch, laying.written(f"copy-{variant}", number, micro_batch), key)


def _unanswered(laying: Laying, plant: Plant, number: int) -> None:
    """An event in time whose answer is read too late: by a millisecond at most in one of three, else by a while."""
    joined, draws = laying.contract.joined, laying.draws
    assert joined is not None
    late_ms = 0 if number % 3 == 0 else draws.below(5_000, "unanswered/late", number)
    apart_ms = draws.chosen((0, joined.within_ms, draws.below(joined.within_ms, "unanswered", number)), "apart", number)

    def asked_ms(micro_batch: int) -> int:
        return laying.timeline.dropping_ms(micro_batch) - late_ms - apart_ms

    micro_batch = laying.place(plant, number, 2, 1, lambda each: laying.read_at(asked_ms(each)))
    event_ms = asked_ms(micro_batch)
    name = f"unanswered{number}"
    laying.add("unanswered", name, laying.read_at(event_ms) or 0, event_ms, laying.key("unanswered", number))
    laying.owed.append((micro_batch, event_ms + apart_ms, f"{laying.prefix}.{name}"))


OPERATOR_PLANTS: dict[str, Callable[[Laying, Plant, int], None]] = {
    "split": _split,
    "copies": _copy,
    "unanswered": _unanswered,
}


_DAY_MS, _HOUR_MS = 86_400_000, 3_600_000


def lay_all(laying: Laying, plants: tuple[Plant, ...]) -> None:
    """Every plant, then the newest event of each micro-batch, then ordinary events up to its size.

    Raises
    ------
    InputError
        There is no room.
    """
    for plant in sorted(plants, key=lambda each: (list(KINDS).index(each.kind), each.variant)):
        if plant.kind in _LAY:
            for number in range(plant.count):
                _LAY[plant.kind](laying, plant, number)
    for micro_batch, newest_ms in enumerate(laying.timeline.newest_ms):
        laying.add("newest", f"newest{micro_batch}", micro_batch, newest_ms, key_names(laying.prefix)[0])
        for number in range(laying.size - len(laying.made[micro_batch])):
            label = f"ordinary{micro_batch}"
            event_ms = laying.now(label, number, micro_batch)
            laying.add("ordinary", f"{label}-{number}", micro_batch, event_ms, laying.key(label, number))


def _filtered(laying: Laying, plant: Plant, number: int) -> None:
    """As late as any, on a key that the job does not want to know of."""
    micro_batch = laying.place(plant, number, 2)
    closed_ms = dropped_before(laying.timeline.dropping_ms(micro_batch), laying.contract)
    back_ms = 1 + laying.draws.below(2 * laying.contract.step_ms, "filtered", number)
    key = f"{laying.prefix}{laying.contract.away}"
    laying.add("filtered", f"filtered{number}", micro_batch, closed_ms - back_ms, key)


def _read_late(laying: Laying, plant: Plant, number: int) -> None:
    """On the slow partition: known when it happened, and read when its window is closed by the other one's events."""
    micro_batch = 2 + (number + laying.draws.below(laying.last, "read_late/first")) % (laying.last - 1)
    closed_ms = dropped_before(laying.timeline.dropping_ms(micro_batch), laying.contract)
    back_ms = 1 + laying.draws.below(laying.contract.step_ms, "read_late", number)
    laying.add_behind(f"behind{number}", micro_batch, closed_ms - back_ms, laying.key("read_late", number))


def _late(laying: Laying, plant: Plant, number: int) -> None:
    """Before the end of the youngest window (or step of one) that is closed for its micro-batch."""
    micro_batch = laying.place(plant, number, 2)
    draws, step_ms = laying.draws, laying.contract.step_ms
    closed_ms = dropped_before(laying.timeline.dropping_ms(micro_batch), laying.contract)
    variant = plant.variant or "tail"
    label = f"late-{variant}"
    if variant == "edge":
        back_ms = draws.chosen((1, step_ms, 1 + draws.below(step_ms, label, number)), f"{label}/which", number)
    elif variant == "hours":
        back_ms = _HOUR_MS * (1 + draws.below(20, f"{label}/hours", number)) + 1 + draws.below(_HOUR_MS, label, number)
    else:
        back_ms = step_ms * draws.halvings(f"{label}/steps", number, 8) + 1 + draws.below(step_ms, label, number)
    laying.add("late", f"{label}{number}", micro_batch, closed_ms - back_ms, laying.key(label, number))


def _duplicate(laying: Laying, plant: Plant, number: int) -> None:
    """The same bytes again, in the same micro-batch or the next, both times in time."""
    reach = 1 + laying.draws.below(2, "duplicate/reach", number)
    micro_batch = laying.place(plant, number, 0, reach)
    event_ms = laying.now("duplicate", number, micro_batch)
    first = laying.add("duplicates", f"twice{number}", micro_batch, event_ms, laying.key("duplicate", number))
    again = micro_batch + reach - 1
    event = Event(f"{laying.prefix}.twice{number}", first.event.key if first.event else "", event_ms, again)
    laying.made[again].append(Planned(first.value, again, laying.prefix, "duplicates", event))


def _disorder(laying: Laying, plant: Plant, number: int) -> None:
    """Older than what came before, but in time; one in three as old as it can be."""
    micro_batch = laying.place(plant, number, 1)
    when = laying.timeline
    oldest_ms = max(when.base_ms, laying.late_before(micro_batch) - 1)
    until_ms = when.newest_ms[micro_batch - 1]
    event_ms = laying.in_time("disorder", number, oldest_ms, until_ms if number % 3 else min(oldest_ms + 1, until_ms))
    laying.add("disorder", f"disorder{number}", micro_batch, event_ms, laying.key("disorder", number))


def _hot(laying: Laying, plant: Plant, number: int) -> None:
    micro_batch = laying.place(plant, number, 0)
    laying.add("hot_keys", f"hot{number}", micro_batch, laying.now("hot", number, micro_batch), f"{laying.prefix}.hot")


def _poison(laying: Laying, plant: Plant, number: int) -> None:
    rules = rules_of(laying.contract)
    rule = plant.variant or rules[(number + laying.draws.below(len(rules), "poison/first")) % len(rules)]
    micro_batch = laying.place(plant, number, 0)
    label = f"poison-{rule}"
    fields = laying.fields(
        f"{laying.prefix}.{label}{number}",
        laying.key(label, number),
        laying.now(label, number, micro_batch),
        micro_batch,
    )
    laying.refuse("poison", micro_batch, poison(rule, laying.contract, fields), rule)


def _skewed(laying: Laying, plant: Plant, number: int) -> None:
    """Ahead of the record's Kafka timestamp by more than is allowed: by 1 ms, or by up to a day."""
    micro_batch = laying.place(plant, number, 0)
    more_ms = 1 + (laying.draws.below(_DAY_MS, "skew", number) if number % 2 else 0)
    event_ms = laying.timeline.newest_ms[micro_batch] + (laying.contract.max_ahead_ms or 0) + more_ms
    fields = laying.fields(f"{laying.prefix}.ahead{number}", laying.key("skew", number), event_ms, micro_batch)
    laying.refuse("clock_skew", micro_batch, as_bytes(fields), "event_time_ahead")


def _newer(laying: Laying, plant: Plant, number: int) -> None:
    """From the middle of the log on, as a producer that was updated there would write it."""
    able = ("added", "removed", "retyped") if required_field(laying.contract) else ("added", "retyped")
    variant = plant.variant or able[number % len(able)]
    micro_batch = laying.place(plant, number, laying.timeline.micro_batches // 2)
    label = f"newer-{variant}"
    event_id, key = f"{laying.prefix}.{label}{number}", laying.key(label, number)
    event_ms = laying.now(label, number, micro_batch)
    value, rule = newer(variant, laying.contract, laying.fields(event_id, key, event_ms, micro_batch))
    event = None if rule else Event(event_id, key, event_ms, micro_batch)
    laying.made[micro_batch].append(Planned(value, micro_batch, laying.prefix, "schema_change", event, rule))


_LAY: dict[str, Callable[[Laying, Plant, int], None]] = {
    "late": _late,
    "filtered": _filtered,
    "read_late": _read_late,
    "duplicates": _duplicate,
    "disorder": _disorder,
    "hot_keys": _hot,
    "poison": _poison,
    "clock_skew": _skewed,
    "schema_change": _newer,
    **OPERATOR_PLANTS,
}
