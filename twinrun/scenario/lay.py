"""Lay plants and ordinary events into micro-batches, each at an event time that does what the plant says."""

from __future__ import annotations

from collections.abc import Callable

from twinrun.scenario.arithmetic import Event, dropped_before
from twinrun.scenario.encode import as_bytes, newer, poison
from twinrun.scenario.lay_operators import OPERATOR_PLANTS
from twinrun.scenario.laying import Laying
from twinrun.scenario.model import Planned, key_names
from twinrun.scenario.plants import KINDS, Plant, required_field, rules_of

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
