"""What each operator gives at rest and in motion, worked out by hand: copies, joins of streams and sessions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from twinrun.scenario.arithmetic import Event
from twinrun.scenario.contract import Joined

# Copies of one event: which of them a batch counts, and which a stream that forgets.


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


# A join of two streams by hand: which answer each event has at rest, and which in motion.


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


# Sessions by hand: what a batch merges of all events, and what a stream emits, forgets and still holds.


SessionKey = tuple[str, int]


@dataclass(frozen=True)
class Session:
    """From its first event to the gap after its last; ``events`` are places in the log."""

    start_ms: int
    end_ms: int
    events: frozenset[int]


Sessions = dict[SessionKey, Session]


def merged(events: Mapping[int, Event], gap_ms: int) -> Sessions:
    """The sessions of all events, in whatever order they came."""
    by_key: dict[str, list[Session]] = defaultdict(list)
    for place, event in events.items():
        by_key[event.key].append(_alone(place, event, gap_ms))
    return {(key, each.start_ms): each for key, all_of in by_key.items() for each in _merge(all_of)}


def streamed(events: Mapping[int, Event], dropping: Mapping[int, int], gap_ms: int) -> tuple[Sessions, Sessions]:
    """What a stream emits, and what it still holds after a last micro-batch without data.

    Micro-batch b takes the events that are not late, merges them with the sessions that are open, then emits and
    forgets those whose end is at or before its own watermark, which is the one that b + 1 drops by.
    """
    arriving: dict[int, list[int]] = defaultdict(list)
    for place, event in events.items():
        arriving[event.micro_batch].append(place)
    held: dict[str, list[Session]] = {}
    emitted: Sessions = {}
    for micro_batch in sorted(dropping)[:-1]:
        for place in arriving[micro_batch]:
            event = events[place]
            if event.event_ms + gap_ms > dropping[micro_batch]:
                held.setdefault(event.key, []).append(_alone(place, event, gap_ms))
        for key, sessions in held.items():
            open_still = []
            for each in _merge(sessions):
                if each.end_ms <= dropping[micro_batch + 1]:
                    emitted[key, each.start_ms] = each
                else:
                    open_still.append(each)
            held[key] = open_still
    return emitted, {(key, each.start_ms): each for key, sessions in held.items() for each in sessions}


def home_of(row: SessionKey, sessions: Iterable[SessionKey]) -> SessionKey | None:
    """The session of the same key that began last at or before a row's start."""
    return max((each for each in sessions if each[0] == row[0] and each[1] <= row[1]), default=None)


def _alone(place: int, event: Event, gap_ms: int) -> Session:
    return Session(event.event_ms, event.event_ms + gap_ms, frozenset({place}))


def _merge(sessions: list[Session]) -> list[Session]:
    """Sessions of one key, those that touch as one."""
    done: list[Session] = []
    for each in sorted(sessions, key=lambda session: session.start_ms):
        if done and each.start_ms <= done[-1].end_ms:
            last = done.pop()
            each = Session(last.start_ms, max(last.end_ms, each.end_ms), last.events | each.events)
        done.append(each)
    return done
