"""What a verify of a job must say about a log, stated before anything has run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from twinrun.scenario.contract import Contract
from twinrun.scenario.faults import sink_faults
from twinrun.scenario.model import Planned, Scenario, prefix_in
from twinrun.scenario.outcome import Outcome, RowKey, outcome_of, read_late, row_keys
from twinrun.scenario.plants import SINK

MAY_BE_PROVEN = {"sink_delete": "sink_missing", "sink_double": "sink_duplicate", "sink_change": "sink_changed"}
"""Faults of the sink that a verify may also prove, by a recomputation and Delta's log; else they are unexplained."""


@dataclass(frozen=True)
class ExpectedRow:
    """One row that must differ.

    Parameters
    ----------
    kind : str
        As in the table ``differences``: changed, only_batch, only_stream or duplicate_in_stream.
    causes : mapping of str to int
        Blamed events by cause; or the one fault in the sink: such a row must be unexplained, unless its own cause is
        proven.
    """

    kind: str
    causes: Mapping[str, int]

    @property
    def explainable(self) -> bool:
        """Whether the row must be explained."""
        return not any(cause in SINK for cause in self.causes)


@dataclass(frozen=True)
class Expectation:
    """What one scenario must lead to in one job.

    Parameters
    ----------
    rows : mapping
        Every row that must differ; no other may.
    late_pairs : frozenset of (str, int or None)
        Event id and window start of what the stream drops; null where the first operator goes by the event time.
    quarantined : mapping of int to str
        Place in the log (the Kafka offset where one partition holds it from 0 on) to rule.
    duplicates : mapping of str to int
        Event id to copies, of ids that stand at several offsets.
    blamed : mapping of str to int
        By cause that is about events: how many of them the rows blame, each once.
    read_late : frozenset of str or None
        Ids of the dropped events that lay in Kafka in time; null where that is not worked out (joins of streams).
    filtered : frozenset of str
        Ids of late events that this job filters away, of which nothing may be said.
    """

    scenario: str
    job: str
    rows: Mapping[RowKey, ExpectedRow] = field(default_factory=dict)
    late_pairs: frozenset[tuple[str, int | None]] = frozenset()
    quarantined: Mapping[int, str] = field(default_factory=dict)
    duplicates: Mapping[str, int] = field(default_factory=dict)
    blamed: Mapping[str, int] = field(default_factory=dict)
    read_late: frozenset[str] | None = frozenset()
    filtered: frozenset[str] = frozenset()

    @property
    def late_events(self) -> int:
        """How many events the stream drops, each counted once."""
        return len({name for name, _ in self.late_pairs})

    @property
    def unexplained_rows(self) -> int:
        """How many rows stay unexplained where the product proves no cause of the sink."""
        return sum(not row.explainable for row in self.rows.values())

    def to_dict(self) -> dict[str, Any]:
        """Counts by cause, as a plan prints them."""
        by_cause: dict[str, dict[str, int]] = {}
        for cause, count in sorted(Counter(c for row in self.rows.values() for c in row.causes).items()):
            by_cause[cause] = {"rows": count}
        if self.late_pairs:
            late = by_cause.get("late_dropped", {})
            pairs = len(self.late_pairs)
            by_cause["late_dropped"] = {"events": self.late_events, **late, "event_window_pairs": pairs}
            if self.read_late:
                by_cause["late_dropped"]["events_read_late"] = len(self.read_late)
        return {
            "differing_rows": len(self.rows),
            "causes": by_cause,
            "unexplained_rows": self.unexplained_rows,
            "quarantined": dict(sorted(Counter(self.quarantined.values()).items())),
            "duplicate_ids": len(self.duplicates),
            "late_events_filtered_away": len(self.filtered),
        }


def expect(
    lines: Sequence[Planned], scenarios: Iterable[Scenario], contract: Contract, second: Sequence[Planned] = ()
) -> dict[str, Expectation]:
    """The expectation of every scenario of a log in one job, by the scenario's prefix.

    Rows that belong to no scenario, such as a session of fillers that still waits, have an expectation of their own.

    Parameters
    ----------
    lines : sequence of Planned
        The whole log, in the order of Kafka: all of it moves the watermark.
    second : sequence of Planned
        The log of the second source, where the job has one.
    """
    done = outcome_of(lines, contract, second)
    rows, blamed = _rows_by_scenario(done)
    slow: dict[str, set[str]] = defaultdict(set)
    for line in read_late(lines, contract) if contract.joined is None else ():
        slow[line.scenario].add(line.event.event_id if line.event else "")
    pairs: dict[str, set[tuple[str, int | None]]] = defaultdict(set)
    for scenario, name, start in done.late:
        pairs[scenario].add((name, start))
    quarantined: dict[str, dict[int, str]] = defaultdict(dict)
    copies: dict[str, Counter[str]] = defaultdict(Counter)
    away: dict[str, set[str]] = defaultdict(set)
    for offset, line in enumerate(lines):
        if line.event is None:
            quarantined[line.scenario][offset] = line.rule or ""
        else:
            copies[line.scenario][line.event.event_id] += 1
            if line.plant == "filtered" and not contract.counts(line.event.key):
                away[line.scenario].add(line.event.event_id)
    for each in scenarios:
        rows[each.prefix] |= _planted_elsewhere(each, contract)
    return {
        prefix: Expectation(
            scenario=prefix,
            job=contract.name,
            rows=rows[prefix],
            late_pairs=frozenset(pairs[prefix]),
            quarantined=quarantined[prefix],
            duplicates={name: count for name, count in copies[prefix].items() if count > 1},
            blamed=blamed[prefix],
            read_late=None if contract.joined else frozenset(slow[prefix]),
            filtered=frozenset(away[prefix]),
        )
        for prefix in list(rows)
    }


def _rows_by_scenario(done: Outcome) -> tuple[dict[str, dict[RowKey, ExpectedRow]], dict[str, dict[str, int]]]:
    rows: dict[str, dict[RowKey, ExpectedRow]] = defaultdict(dict)
    for row, causes in done.causes.items():
        rows[prefix_in(row[0])][row] = ExpectedRow(done.kind(row), causes)
    places: dict[tuple[str, str], set[tuple[int, int]]] = defaultdict(set)
    for (row, cause), found in done.blamed.items():
        places[prefix_in(row[0]), cause] |= found
    blamed: dict[str, dict[str, int]] = defaultdict(dict)
    for (prefix, cause), all_of in places.items():
        blamed[prefix][cause] = len(all_of)
    return rows, blamed


def _planted_elsewhere(scenario: Scenario, contract: Contract) -> dict[RowKey, ExpectedRow]:
    """Rows that differ for what is not in the log: another version of the static table, a fault in the sink."""
    rows: dict[RowKey, ExpectedRow] = {}
    if contract.table is not None:
        for line in scenario.lines:
            if line.event and line.event.key in scenario.static_keys:
                rows |= {row: ExpectedRow("changed", {"static_version": 0}) for row in row_keys(line, contract)}
    for fault in sink_faults(scenario, contract):
        rows[fault.row] = ExpectedRow(SINK[fault.kind], {fault.kind: 0})
    return rows
