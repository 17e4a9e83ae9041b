"""Sessions by hand: what a batch merges of all events, and what a stream emits, forgets and still holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from twinrun.scenario.arithmetic import Event

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
