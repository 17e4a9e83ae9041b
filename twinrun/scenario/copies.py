"""Copies of one event: which of them a batch counts, and which a stream that forgets."""

from __future__ import annotations

from collections.abc import Mapping

from twinrun.scenario.arithmetic import Event


def first_copies(events: Mapping[int, Event]) -> frozenset[int]:
    """Places of what a batch keeps: the first copy of each id in the log."""
    first: dict[str, int] = {}
    for place in sorted(events):
        first.setdefault(events[place].event_id, place)
    return frozenset(first.values())


def remembered_copies(events: Mapping[int, Event], dropping: Mapping[int, int], lateness_ms: int) -> frozenset[int]:
    """Places of what a stream keeps.

    A late event is dropped. Any other is a copy if one of its id was kept in the same micro-batch, or one whose event
    time and lateness are still after the watermark; otherwise it is kept, and remembered in the other's place.
    """
    kept, last = set(), dict[str, Event]()
    for place in sorted(events):
        event = events[place]
        dropping_ms = dropping[event.micro_batch]
        if event.event_ms <= dropping_ms:
            continue
        before = last.get(event.event_id)
        same = before is not None and before.micro_batch == event.micro_batch
        if before is None or not (same or before.event_ms + lateness_ms > dropping_ms):
            last[event.event_id] = event
            kept.add(place)
    return frozenset(kept)
