"""The log of a second source: answers to events of the first, in time, just out of range, or owed and late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from twinrun.scenario.arithmetic import Event
from twinrun.scenario.contract import Contract
from twinrun.scenario.counter import Draws
from twinrun.scenario.encode import as_bytes, event_fields
from twinrun.scenario.lay import Laying
from twinrun.scenario.model import Planned
from twinrun.scenario.timeline import Timeline

NOTHING = "none"
"""What a record refers to that answers no event."""


def lay_answers(laying: Laying, lines: Sequence[Planned]) -> tuple[Planned, ...]:
    """As many records per micro-batch as the first log has; every second event of that is answered, or just not."""
    when, draws, joined = laying.timeline, laying.draws, laying.contract.joined
    assert joined is not None
    made: list[list[Planned]] = [[] for _ in when.newest_ms]

    def add(micro_batch: int, plant: str, name: str, event_ms: int, refers: str) -> None:
        event = Event(f"{laying.prefix}.{name}", refers, event_ms, micro_batch)
        made[micro_batch].append(answer(laying.contract, draws, when, laying.prefix, plant, event))

    for number, (micro_batch, event_ms, refers) in enumerate(laying.owed):
        add(micro_batch, "unanswered", f"owed{number}", event_ms, refers)
    for number, newest_ms in enumerate(when.newest_ms):
        add(number, "newest", f"second{number}", newest_ms - when.lag_ms, NOTHING)
    asked = [line.event for line in lines if line.event and line.plant not in ("unanswered", "newest")]
    for number, event in enumerate(asked):
        apart = (0, joined.within_ms, joined.within_ms + 1, -1, draws.below(joined.within_ms, "answer", number))
        event_ms = event.event_ms + draws.chosen(apart, "answer/apart", number)
        place = _read_at(when, event_ms)
        if place is not None and draws.below(2, "answer/wanted", number) and len(made[place]) < laying.size:
            add(place, "answer", f"answer{number}", event_ms, event.event_id)
    for number, records in enumerate(made):
        for more in range(laying.size - len(records)):
            add(number, "ordinary", f"other{number}-{more}", when.newest_ms[number] - when.lag_ms, NOTHING)
    return tuple(line for number, each in enumerate(made) for line in draws.shuffled(each, f"answers/{number}"))


def answer(contract: Contract, draws: Draws, when: Timeline, scenario: str, plant: str, event: Event) -> Planned:
    """A record of the second source; the event's key is the id that it refers to."""
    joined = contract.joined
    assert joined is not None
    shape = replace(contract, fields=joined.fields, id_field=joined.id_field, key_field=joined.refers, ranges=())
    known_ms = when.newest_ms[event.micro_batch]
    fields = event_fields(shape, draws, event.event_id, event.key, event.event_ms, known_ms)
    return Planned(as_bytes(fields), event.micro_batch, scenario, plant, event)


def _read_at(when: Timeline, event_ms: int) -> int | None:
    """The micro-batch of the second log that a record of this time comes in when nothing delays it."""
    if event_ms <= when.base_ms:
        return None
    return next((n for n, newest in enumerate(when.newest_ms) if event_ms <= newest - when.lag_ms), None)
