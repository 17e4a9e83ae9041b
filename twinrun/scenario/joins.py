"""A join of two streams by hand: which answer each event has at rest, and which in motion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from twinrun.scenario.arithmetic import Event
from twinrun.scenario.contract import Joined

Answers = dict[str, int | None]
"""Event id to the place of its answer in the second log; null where it has none and is a row all the same."""


def common_watermarks(first: Mapping[int, int], second: Mapping[int, int]) -> dict[int, int]:
    """Both sides are judged by the one watermark that is behind: of the same micro-batches of either log."""
    return {micro_batch: min(first[micro_batch], second[micro_batch]) for micro_batch in first}


def in_time(events: Mapping[int, Event], dropping: Mapping[int, int]) -> dict[int, Event]:
    """Those events that a join does not drop: it goes by the event time."""
    return {place: each for place, each in events.items() if each.event_ms > dropping[each.micro_batch]}


def answers(asked: Iterable[Event], given: Mapping[int, Event], joined: Joined) -> Answers:
    """The rows of a join of all these events; a record of the second log has the id that it refers to as its key."""
    by_reference: dict[str, list[int]] = {}
    for place, each in given.items():
        by_reference.setdefault(each.key, []).append(place)
    rows: Answers = {}
    for event in asked:
        until_ms = event.event_ms + joined.within_ms
        fits = [p for p in by_reference.get(event.event_id, []) if event.event_ms <= given[p].event_ms <= until_ms]
        if fits or joined.outer:
            rows[event.event_id] = fits[0] if fits else None
    return rows


def waiting(asked: Iterable[Event], rows: Answers, joined: Joined, watermark_ms: int) -> frozenset[str]:
    """Ids whose row without an answer is not out yet: an answer could still come."""
    return frozenset(
        each.event_id
        for each in asked
        if each.event_id in rows and rows[each.event_id] is None and each.event_ms + joined.within_ms >= watermark_ms
    )
