"""What a verify of a job must say about a log, stated before anything has run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from twinrun.scenario.arithmetic import dropping_watermarks, lost
from twinrun.scenario.contract import Contract
from twinrun.scenario.faults import RowKey, row_keys, sink_faults
from twinrun.scenario.model import Planned, Scenario
from twinrun.scenario.plants import SINK

MAY_BE_PROVEN = {"sink_delete": "sink_missing", "sink_double": "sink_duplicate"}
"""Faults of the sink that a verify may also prove by replaying the stream; without it they are unexplained."""


@dataclass(frozen=True)
class ExpectedRow:
    """One row that must differ.

    Parameters
    ----------
    kind : str
        As in the table ``differences``: changed, only_batch or duplicate_in_stream.
    cause : str
        The cause, or the kind of the fault in the sink: such a row must be unexplained, unless its own cause is proven.
    events : int
        Blamed events of this row.
    """

    kind: str
    cause: str
    events: int = 0

    @property
    def explainable(self) -> bool:
        """Whether the row must be explained."""
        return self.cause not in SINK


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
    """

    scenario: str
    job: str
    rows: Mapping[RowKey, ExpectedRow] = field(default_factory=dict)
    late_pairs: frozenset[tuple[str, int | None]] = frozenset()
    quarantined: Mapping[int, str] = field(default_factory=dict)
    duplicates: Mapping[str, int] = field(default_factory=dict)

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
        for cause, count in sorted(Counter(row.cause for row in self.rows.values()).items()):
            by_cause[cause] = {"rows": count}
        if self.late_pairs:
            late = by_cause.get("late_dropped", {})
            pairs = len(self.late_pairs)
            by_cause["late_dropped"] = {"events": self.late_events, **late, "event_window_pairs": pairs}
        return {
            "differing_rows": len(self.rows),
            "causes": by_cause,
            "unexplained_rows": self.unexplained_rows,
            "quarantined": dict(sorted(Counter(self.quarantined.values()).items())),
            "duplicate_ids": len(self.duplicates),
        }


def expect(lines: Sequence[Planned], scenarios: Iterable[Scenario], contract: Contract) -> dict[str, Expectation]:
    """The expectation of every scenario of a log in one job, by the scenario's prefix.

    Parameters
    ----------
    lines : sequence of Planned
        The whole log, in the order of Kafka: all of it moves the watermark.
    """
    dropping = dropping_watermarks((line.event for line in lines if line.event), contract.lateness_ms)
    lacking: dict[str, Counter[RowKey]] = defaultdict(Counter)
    used: dict[str, set[RowKey]] = defaultdict(set)
    pairs: dict[str, set[tuple[str, int | None]]] = defaultdict(set)
    quarantined: dict[str, dict[int, str]] = defaultdict(dict)
    copies: dict[str, Counter[str]] = defaultdict(Counter)
    for offset, line in enumerate(lines):
        if line.event is None:
            quarantined[line.scenario][offset] = line.rule or ""
            continue
        copies[line.scenario][line.event.event_id] += 1
        dropped = lost(line.event, dropping[line.micro_batch], contract)
        pairs[line.scenario] |= {(line.event.event_id, start) for start in dropped.named}
        for row in row_keys(line, contract):
            if row[1] in dropped.rows:
                lacking[line.scenario][row] += 1
            else:
                used[line.scenario].add(row)
    return {
        each.prefix: Expectation(
            scenario=each.prefix,
            job=contract.name,
            rows=_rows(each, contract, lacking[each.prefix], used[each.prefix]),
            late_pairs=frozenset(pairs[each.prefix]),
            quarantined=quarantined[each.prefix],
            duplicates={name: count for name, count in copies[each.prefix].items() if count > 1},
        )
        for each in scenarios
    }


def _rows(
    scenario: Scenario, contract: Contract, lacking: Counter[RowKey], used: set[RowKey]
) -> dict[RowKey, ExpectedRow]:
    rows = {
        row: ExpectedRow("changed" if row in used else "only_batch", "late_dropped", count)
        for row, count in lacking.items()
    }
    if contract.table is not None:
        for line in scenario.lines:
            if line.event and line.event.key in scenario.static_keys:
                rows |= {row: ExpectedRow("changed", "static_version") for row in row_keys(line, contract)}
    for fault in sink_faults(scenario, contract):
        rows[fault.row] = ExpectedRow(SINK[fault.kind], fault.kind)
    return rows
