"""Both results of a log, worked out by hand: what a batch and a stream make of it, and why rows differ.

Whole numbers only; none of the product's code takes part.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from twinrun.scenario.arithmetic import Event, dropping_watermarks, lost, windows_of
from twinrun.scenario.contract import Contract
from twinrun.scenario.model import Planned
from twinrun.scenario.operators import (
    Sessions,
    answers,
    common_watermarks,
    first_copies,
    home_of,
    in_time,
    merged,
    remembered_copies,
    streamed,
    waiting,
)

RowKey = tuple[str, int | None]
"""A result row: its key (or event id, for a job with one row per event) and the start of its window or session."""


@dataclass
class Outcome:
    """Rows of both sides, by what they are made of, and what makes each differing row differ.

    Attributes
    ----------
    batch, stream : mapping
        What a row is made of; two rows are equal if it is.
    causes : mapping
        Events by cause of each row that differs.
    blamed : mapping
        By row and cause the places (log, line) of the events that are to blame.
    late : set of (scenario, id, start)
        What the stream drops, as the table ``late_events`` names it.
    """

    batch: Mapping[RowKey, object] = field(default_factory=dict)
    stream: Mapping[RowKey, object] = field(default_factory=dict)
    causes: dict[RowKey, dict[str, int]] = field(default_factory=dict)
    blamed: dict[tuple[RowKey, str], frozenset[tuple[int, int]]] = field(default_factory=dict)
    late: set[tuple[str, str, int | None]] = field(default_factory=set)

    def kind(self, row: RowKey) -> str:
        """How a row differs, as the table ``differences`` says it."""
        if row not in self.stream:
            return "only_batch"
        return "changed" if row in self.batch else "only_stream"

    def equal(self) -> list[RowKey]:
        """Rows that both sides have alike, in order."""
        alike = (row for row in self.batch.keys() & self.stream.keys() if self.batch[row] == self.stream[row])
        return sorted(alike, key=_in_order)

    def blame(self, row: RowKey, cause: str, places: set[tuple[int, int]], count: int | None = None) -> None:
        """Note a cause of a row and the events behind it."""
        self.causes.setdefault(row, {})[cause] = len(places) if count is None else count
        if places:
            self.blamed[row, cause] = frozenset(places)


def _in_order(row: RowKey) -> tuple[str, int]:
    return row[0], row[1] or 0


def row_keys(line: Planned, contract: Contract) -> list[RowKey]:
    """The result rows that an event counts in, where that can be told from the event alone."""
    if line.event is None:
        return []
    name = line.event.event_id if contract.row_per_event else line.event.key
    return [(name, start) for start in windows_of(line.event, contract)]


def outcome_of(lines: Sequence[Planned], contract: Contract, second: Sequence[Planned] = ()) -> Outcome:
    """What both modes make of a whole log, and of the second one where the job joins two."""
    events = {place: event for place, event in _events(lines).items() if contract.counts(event.key)}
    dropping = dropping_watermarks(events.values(), contract.lateness_ms)
    if contract.joined is not None:
        return _of_join(lines, second, contract)
    if contract.gap_ms is not None:
        return _of_sessions(lines, events, dropping, contract)
    return _of_rows(lines, events, dropping, contract)


def _events(lines: Sequence[Planned]) -> dict[int, Event]:
    return {place: line.event for place, line in enumerate(lines) if line.event is not None}


def _of_rows(
    lines: Sequence[Planned], events: Mapping[int, Event], dropping: Mapping[int, int], contract: Contract
) -> Outcome:
    """Windows, running totals and single events: each event counts in rows that it names itself."""
    done = Outcome()
    batch: dict[RowKey, Counter[int]] = defaultdict(Counter)
    stream: dict[RowKey, Counter[int]] = defaultdict(Counter)
    once = first_copies(events) if contract.distinct else frozenset(events)
    kept = remembered_copies(events, dropping, contract.lateness_ms or 0) if contract.distinct else frozenset(events)
    why: dict[tuple[RowKey, str], set[tuple[int, int]]] = defaultdict(set)
    for place, event in events.items():
        line = lines[place]
        dropped = lost(event, dropping[event.micro_batch], contract)
        done.late |= {(line.scenario, event.event_id, start) for start in dropped.named}
        for row in row_keys(line, contract):
            late = row[1] in dropped.rows
            if place in once:
                batch[row][place] += 1
            if place in kept and not late:
                stream[row][place] += 1
            if late and place in once:
                why[row, "late_dropped"].add((0, place))
            elif not late and place in kept and place not in once:
                why[row, "duplicate_event"].add((0, place))
    for (row, cause), places in why.items():
        done.blame(row, cause, places)
    done.batch, done.stream = dict(batch), dict(stream)
    return done


def _of_sessions(
    lines: Sequence[Planned], events: Mapping[int, Event], dropping: Mapping[int, int], contract: Contract
) -> Outcome:
    """Sessions: a row may wait, lack dropped events, or be split since its first part was emitted too early."""
    gap_ms = contract.gap_ms or 0
    lateness = contract.drops_late
    gone = {p for p, e in events.items() if lateness and e.event_ms + gap_ms <= dropping[e.micro_batch]}
    every = merged(events, gap_ms)
    kept = merged({place: event for place, event in events.items() if place not in gone}, gap_ms)
    emitted, held = streamed(events, dropping, gap_ms)
    done = Outcome(_rows(every), _rows(emitted))
    done.late = {(lines[place].scenario, events[place].event_id, events[place].event_ms) for place in gone}
    by_key: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for each in every:
        by_key[each[0]].append(each)
    homes = {row: home_of(row, by_key[row[0]]) for row in {*every, *emitted}}
    parts = Counter(homes[row] for row in emitted)
    for row, home in homes.items():
        if every.get(row) == emitted.get(row) or home is None:
            continue
        dropped = {(0, place) for place in every[home].events & gone}
        waits = row in held and row not in emitted
        if waits:
            done.blame(row, "pending", set(), 1)
        if dropped and kept.get(row) != every.get(row) and not (waits and held[row] != kept.get(row)):
            done.blame(row, "late_dropped", dropped)
        if not waits and emitted.get(row) != kept.get(row):
            done.blame(row, "late_split", set(), max(1, parts[home] - 1))
    return done


def _rows(sessions: Sessions) -> dict[RowKey, object]:
    return {(key, start): session for (key, start), session in sessions.items()}


def _of_join(lines: Sequence[Planned], second: Sequence[Planned], contract: Contract) -> Outcome:
    """A join of two streams: an event or its answer was dropped, or an event without one still waits."""
    joined = contract.joined
    assert joined is not None
    asked, given = _events(lines), _events(second)
    dropping = common_watermarks(
        dropping_watermarks(asked.values(), contract.lateness_ms),
        dropping_watermarks(given.values(), contract.lateness_ms),
    )
    asked_kept, given_kept = in_time(asked, dropping), in_time(given, dropping)
    every = answers(asked.values(), given, joined)
    kept = answers(asked_kept.values(), given_kept, joined)
    waits = waiting(asked_kept.values(), kept, joined, dropping[max(dropping)])
    emitted = {name: made for name, made in kept.items() if name not in waits}
    done = Outcome({(n, None): made for n, made in every.items()}, {(n, None): made for n, made in emitted.items()})
    gone: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for number, (log, all_of, in_time_of) in enumerate(((lines, asked, asked_kept), (second, given, given_kept))):
        for place in all_of.keys() - in_time_of.keys():
            event = all_of[place]
            done.late.add((log[place].scenario, event.event_id, None))
            gone[event.key if number else event.event_id].add((number, place))
    for name in every:
        if name in waits:
            done.blame((name, None), "pending", set(), 1)
        if gone[name] and (name not in kept or kept[name] != every[name]):
            done.blame((name, None), "late_dropped", gone[name])
    return done


def read_late(lines: Sequence[Planned], contract: Contract) -> list[Planned]:
    """The dropped events that lay in Kafka before anything that moves the watermark past what they came too late for.

    An event lay there from its Kafka timestamp on, but not before what was read earlier from its own partition.
    """
    events = {place: event for place, event in _events(lines).items() if contract.counts(event.key)}
    dropping = dropping_watermarks(events.values(), contract.lateness_ms)
    length_ms = contract.inner_ms or contract.window_ms or 0
    late = {}
    for place, event in events.items():
        named = lost(event, dropping[event.micro_batch], contract).named
        if named:
            own = event.event_ms + (contract.gap_ms or 0)
            by_window = contract.late_by == "window" and contract.gap_ms is None
            late[place] = [start + length_ms if by_window and start is not None else own for start in named]
    known = {place: lines[place].known_ms for place in _events(lines)} if late else {}
    newest: dict[tuple[int, int], int] = defaultdict(int)
    for place, at in known.items():
        where = lines[place].partition, lines[place].micro_batch
        newest[where] = max(newest[where], at)
    by_time = sorted((event.event_ms, known[place]) for place, event in events.items()) if late else []
    firsts = [*accumulate((at for _, at in reversed(by_time)), min)][::-1]
    found = []
    for place, ends in late.items():
        line = lines[place]
        before = [at for (part, number), at in newest.items() if part == line.partition and number < line.micro_batch]
        came = max([known[place], *before])
        firsts_of = [bisect_left(by_time, (end + (contract.lateness_ms or 0),)) for end in ends]
        if any(came < firsts[first] for first in firsts_of if first < len(firsts)):
            found.append(line)
    return found
