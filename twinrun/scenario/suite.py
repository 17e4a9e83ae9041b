"""Many scenarios in one log, so that one run of a job proves them all."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from twinrun.errors import InputError
from twinrun.produce.records import Record
from twinrun.scenario.answers import NOTHING, answer
from twinrun.scenario.arithmetic import Event
from twinrun.scenario.contract import Contract
from twinrun.scenario.counter import Draws
from twinrun.scenario.encode import BEHIND, TO, as_bytes, event_fields, records_of
from twinrun.scenario.expect import Expectation, expect
from twinrun.scenario.model import Planned, Scenario, behind

FILLER = "filler"


@dataclass(frozen=True)
class Suite:
    """Scenarios of several seeds in one log: tracks one after another, those of a track side by side.

    ``size`` is the number of records per micro-batch; ``lines`` is the log in the order of Kafka, ``second`` that of a
    second source. ``behind`` are the records of a second partition, ``behind_size`` of them in each micro-batch.
    """

    scenarios: tuple[Scenario, ...]
    size: int
    lines: tuple[Planned, ...]
    second: tuple[Planned, ...] = ()
    behind: tuple[Planned, ...] = ()
    behind_size: int = 0

    @property
    def partitions(self) -> int:
        """How many partitions the topic needs."""
        return max(scenario.partitions for scenario in self.scenarios) + bool(self.behind)

    @property
    def per_trigger(self) -> int:
        """Records that a micro-batch reads of all partitions: Spark shares them out by what waits on each."""
        return self.size + self.behind_size

    @property
    def micro_batches(self) -> int:
        """How many micro-batches of ``size`` the log makes."""
        return len(self.lines) // self.size

    def records(self) -> list[Record]:
        """The log as records with one key, so that one partition gets all of them, also broken ones, in order."""
        return _records(self.lines) + [record._replace(key=BEHIND.encode()) for record in _records(self.behind)]

    def second_records(self) -> list[Record]:
        """The same of the second source."""
        return _records(self.second)

    def expect(self, contract: Contract) -> dict[str, Expectation]:
        """What each scenario must lead to in a job over the same source."""
        return expect((*self.lines, *self.behind), self.scenarios, contract, self.second)

    def static_changes(self) -> frozenset[str]:
        """Keys whose row of the static table changes between stream and batch."""
        return frozenset(key for scenario in self.scenarios for key in scenario.static_keys)

    def keys(self) -> tuple[str, ...]:
        """Every key of the log, in order: the rows that a static table must have."""
        return tuple(sorted({line.event.key for line in (*self.lines, *self.behind) if line.event}))


def suite_of(scenarios: Iterable[Scenario]) -> Suite:
    """Put scenarios into one log.

    Raises
    ------
    InputError
        Two have one seed, or scenarios of one track have different timelines, or two tracks lie at the same time.
    """
    given = sorted(scenarios, key=lambda each: (each.timeline.base_ms, each.seed))
    tracks: dict[int, list[Scenario]] = defaultdict(list)
    for scenario in given:
        tracks[scenario.timeline.base_ms].append(scenario)
    for together in tracks.values():
        if len({each.timeline for each in together}) > 1 or len({each.seed for each in together}) < len(together):
            seeds = ", ".join(str(each.seed) for each in together)
            raise InputError(
                f"the scenarios of the seeds {seeds} cannot share a log.",
                expected="seeds that differ, and one window, lateness and number of micro-batches",
            )
    size = max(sum(each.size for each in together) for together in tracks.values())
    lines: list[Planned] = []
    second: list[Planned] = []
    behind_size = _behind_size(given, size)
    slow: list[Planned] = []
    for together in tracks.values():
        start = lines[-1].micro_batch + 1 if lines else 0
        for micro_batch in range(together[0].timeline.micro_batches):
            mine = [line for each in together for line in each.lines if line.micro_batch == micro_batch]
            mine += _filler(together[0], micro_batch, size - len(mine))
            lines += [_moved(line, start) for line in mine]
            late = [line for each in together for line in each.behind if line.micro_batch == micro_batch]
            late += _behind_filler(together[0], micro_batch, behind_size - len(late))
            slow += [_moved(line, start) for line in late]
            if together[0].contract.joined:
                theirs = [line for each in together for line in each.second if line.micro_batch == micro_batch]
                theirs += _second_filler(together[0], micro_batch, size - len(theirs))
                second += [_moved(line, start) for line in theirs]
    return Suite(tuple(given), size, tuple(lines), tuple(second), tuple(slow), behind_size)


def _behind_size(scenarios: list[Scenario], size: int) -> int:
    """How many records of the second partition a micro-batch reads: the least that all fit into and Spark keeps to."""
    wanted: Counter[tuple[int, int]] = Counter()
    for each in scenarios:
        wanted.update((each.timeline.base_ms, line.micro_batch) for line in each.behind)
    if not wanted:
        return 0
    micro_batches = sum(when.micro_batches for when in {each.timeline for each in scenarios})
    least = max(wanted.values())
    return next(many for many in range(least, least + size) if _shared_evenly(size, many, micro_batches))


def _shared_evenly(size: int, behind: int, micro_batches: int) -> bool:
    """Whether Spark, which shares a trigger's records out in floating point, reads so many of each every time."""
    for left in range(micro_batches, 0, -1):
        waiting = float((size + behind) * left)
        shares = [(size + behind) * (each * left / waiting) for each in (size, behind)]
        if [math.ceil(share) if share < 1 else math.floor(share) for share in shares] != [size, behind]:
            return False
    return True


def _records(lines: tuple[Planned, ...]) -> list[Record]:
    return [record._replace(key=TO.encode()) for record in records_of(line.value for line in lines)]


def _filler(scenario: Scenario, micro_batch: int, count: int) -> list[Planned]:
    """Events that only fill a micro-batch up, all to one size: as new as its newest, on a key of their own."""
    newest_ms = scenario.timeline.newest_ms[micro_batch]
    draws = Draws(scenario.timeline.track, FILLER)
    made = []
    for number in range(count):
        event = Event(f"{FILLER}.{scenario.timeline.track}-{micro_batch}-{number}", FILLER, newest_ms, micro_batch)
        fields = event_fields(scenario.contract, draws, event.event_id, event.key, newest_ms, newest_ms)
        made.append(Planned(as_bytes(fields), micro_batch, FILLER, FILLER, event))
    return made


def _behind_filler(scenario: Scenario, micro_batch: int, count: int) -> list[Planned]:
    """The same for the second partition: events that are only just in time."""
    when, draws = scenario.timeline, Draws(scenario.timeline.track, FILLER)
    at_ms = max(when.base_ms, when.dropping_ms(micro_batch)) + 1
    events = [Event(f"{FILLER}.behind{when.track}-{micro_batch}-{n}", FILLER, at_ms, micro_batch) for n in range(count)]
    return [behind(scenario.contract, draws, FILLER, FILLER, event) for event in events]


def _second_filler(scenario: Scenario, micro_batch: int, count: int) -> list[Planned]:
    """The same for a second log: records that answer nothing."""
    when, draws = scenario.timeline, Draws(scenario.timeline.track, FILLER)
    events = [
        Event(
            f"{FILLER}.second{when.track}-{micro_batch}-{number}",
            NOTHING,
            when.newest_ms[micro_batch] - when.lag_ms,
            micro_batch,
        )
        for number in range(count)
    ]
    return [answer(scenario.contract, draws, when, FILLER, FILLER, event) for event in events]


def _moved(line: Planned, by: int) -> Planned:
    event = line.event and Event(line.event.event_id, line.event.key, line.event.event_ms, line.event.micro_batch + by)
    return replace(line, micro_batch=line.micro_batch + by, event=event)
