"""A scenario: the log, record by record, and what each record is for."""

from __future__ import annotations

import json
from dataclasses import dataclass

from twinrun.produce.records import Record
from twinrun.scenario.arithmetic import Event
from twinrun.scenario.contract import Contract
from twinrun.scenario.counter import Draws
from twinrun.scenario.encode import BEHIND, KNOWN_FIELD, TO_FIELD, as_bytes, event_fields, records_of
from twinrun.scenario.plants import Plant
from twinrun.scenario.timeline import Timeline

KEYS = 4
"""Ordinary keys of a scenario, besides the hot one."""


@dataclass(frozen=True)
class Planned:
    """One record of the log. ``event`` is null for a record that goes to quarantine by ``rule``.

    ``partition``: 0 for the log itself, 1 for the partition that is read behind it.
    """

    value: bytes
    micro_batch: int
    scenario: str
    plant: str
    event: Event | None
    rule: str | None = None
    partition: int = 0

    @property
    def known_ms(self) -> int:
        """When Kafka got it: the timestamp that it is sent with; of a valid event."""
        return int(json.loads(self.value)[KNOWN_FIELD])


@dataclass(frozen=True)
class Scenario:
    """A log and what was planted in it.

    Parameters
    ----------
    size : int
        Records per micro-batch, exactly.
    lines : tuple of Planned
        In the order of Kafka.
    gaps : tuple of int
        Starts of the windows that were kept empty, UTC epoch milliseconds.
    static_keys : tuple of str
        Keys whose row of the static table changes between stream and batch.
    second : tuple of Planned
        The log of the second source, where the job joins two: as many records per micro-batch.
    behind : tuple of Planned
        Records of a second partition, each to be read in its micro-batch: a suite fills it up to equal ones.
    """

    name: str
    seed: int
    plants: tuple[Plant, ...]
    contract: Contract
    size: int
    timeline: Timeline
    lines: tuple[Planned, ...]
    gaps: tuple[int, ...] = ()
    static_keys: tuple[str, ...] = ()
    second: tuple[Planned, ...] = ()
    behind: tuple[Planned, ...] = ()

    @property
    def both(self) -> tuple[Planned, ...]:
        """The records of both partitions."""
        return (*self.lines, *self.behind)

    @property
    def prefix(self) -> str:
        """What the ids and keys of this scenario begin with, before a dot."""
        return prefix_of(self.seed)

    @property
    def partitions(self) -> int:
        """How many partitions the topic needs; one of them gets every record."""
        return 1 + sum(plant.count for plant in self.plants if plant.kind == "idle_partitions")

    def records(self) -> list[Record]:
        """The log as records, in the order of Kafka."""
        return records_of(line.value for line in self.lines)


def behind(contract: Contract, draws: Draws, scenario: str, plant: str, event: Event) -> Planned:
    """A record on the partition that is read behind, known when it happens."""
    fields = event_fields(contract, draws, event.event_id, event.key, event.event_ms, event.event_ms)
    return Planned(as_bytes({**fields, TO_FIELD: BEHIND}), event.micro_batch, scenario, plant, event, None, 1)


def prefix_of(seed: int) -> str:
    """What names a seed's scenario in ids and keys."""
    return f"s{seed}"


def key_names(prefix: str) -> tuple[str, ...]:
    """The ordinary keys of a scenario."""
    return tuple(f"{prefix}.k{number}" for number in range(KEYS))


def prefix_in(name: str) -> str:
    """The scenario that an id or key belongs to."""
    return name.split(".")[0]
