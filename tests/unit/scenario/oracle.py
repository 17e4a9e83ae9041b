"""Spark's rules once more, written apart from the plan: read the bytes, run the micro-batches one by one, compare."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from twinrun.produce.records import Record
from twinrun.scenario.contract import Contract
from twinrun.scenario.encode import records_of
from twinrun.scenario.model import Planned

ONLY_IN = {
    "static_change": "stateless",
    "split_visits": "session",
    "copies": "distinct",
    "filtered_away": "filtered",
}
"""The shape of each preset that does not fit windows."""
Row = tuple[str, int | None]
Slow = dict[int, list[Record]]
Visit = tuple[str, int, int, int]


@dataclass
class Outcome:
    """What running the log would give: rows of both sides by count, dropped pairs, refused records."""

    batch: Counter[Row] = field(default_factory=Counter)
    stream: Counter[Row] = field(default_factory=Counter)
    dropped: set[tuple[str, int | None]] = field(default_factory=set)
    refused: dict[int, str] = field(default_factory=dict)
    copies: Counter[str] = field(default_factory=Counter)
    further: Counter[Row] = field(default_factory=Counter)
    read: list[tuple[str, int, int, int, int]] = field(default_factory=list)
    """Of each event that counts: id, event time, Kafka timestamp, partition and micro-batch."""

    def read_late(self, contract: Contract) -> set[str]:
        """Ids of dropped events that Kafka held before any that moves the watermark past them; each by itself."""
        lateness, found = contract.lateness_ms or 0, set()
        for name, at, known, partition, micro_batch in self.read:
            earlier = [k for _, _, k, p, b in self.read if p == partition and b < micro_batch]
            for _, window in (each for each in self.dropped if each[0] == name):
                length = contract.inner_ms or contract.window_ms or 0
                end = at if window is None else window + length
                first = min(k for _, moment, k, _, _ in self.read if moment >= end + lateness)
                if max([known, *earlier]) < first:
                    found.add(name)
        return found


def rule_of(record: Record, contract: Contract) -> str | dict[str, Any]:
    """The fields of a valid record, or the rule by which clicks are refused; in the decoder's order."""
    value = record.value or b""
    if not value.strip():
        return "empty_value"
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return "not_utf8"
    try:
        fields, end = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return "not_json"
    if text[end:].strip():
        return "trailing_bytes"
    at, amount = fields.get("at"), fields.get("amount")
    if isinstance(at, str) or isinstance(amount, str):
        return "wrong_type"
    if fields.get("id") is None or fields.get("page") is None:
        return "missing_field"
    if at is None:
        return "null_event_time"
    known = record.timestamp_ms or 0
    if abs(at - known) > 20 * 31_557_600_000:
        return "wrong_time_unit"
    if at - known > 3_600_000:
        return "event_time_ahead"
    return "out_of_range" if amount < 0 else fields


def slow_of(lines: Iterable[Planned]) -> Slow:
    """The records of the partition that is read behind, by the micro-batch that reads them."""
    found: Slow = defaultdict(list)
    for line in lines:
        found[line.micro_batch] += records_of([line.value])
    return found


def simulate(records: list[Record], size: int, contract: Contract, lag: int = 2, slow: Slow | None = None) -> Outcome:
    """Run the log in micro-batches of ``size``; a micro-batch drops by what was newest ``lag`` micro-batches before."""
    slow = slow or {}
    done = Outcome()
    state: Counter[Row] = Counter()
    memory: dict[str, tuple[int, int]] = {}
    newest, known, lateness = 0, [0] * lag, contract.lateness_ms
    for start in range(0, len(records), size):
        previous = max(0, known[-lag] - lateness) if lateness is not None else 0
        behind = [(None, record) for record in slow.get(start // size, [])]
        for offset, record in [*enumerate(records[start : start + size], start), *behind]:
            fields = rule_of(record, contract)
            if isinstance(fields, str):
                done.refused[-1 if offset is None else offset] = fields
                continue
            done.copies[fields["id"]] += 1
            if contract.away is not None and fields["page"].endswith(contract.away):
                continue  # it reaches neither the watermark nor the window
            newest = max(newest, fields["at"])
            done.read.append((fields["id"], fields["at"], record.timestamp_ms or 0, int(offset is None), start // size))
            name = fields["id"] if contract.shape == "stateless" else fields["page"]
            late = _late(fields["at"], previous, contract)
            done.dropped |= {(fields["id"], window) for window in late}
            whole = late and (contract.inner_ms or contract.late_by == "time")
            first, taken = _copy(fields, start, previous, contract, memory, done)
            for window in _windows(fields["at"], contract.window_ms, contract.slide_ms):
                done.batch[name, window] += first
                state[name, window] += taken and not (whole or window in late)
                done.further[name, window] += taken and not first
        known.append(newest)
    done.stream = state
    return done


def _copy(
    fields: dict[str, Any],
    start: int,
    watermark: int,
    contract: Contract,
    memory: dict[str, tuple[int, int]],
    done: Outcome,
) -> tuple[bool, bool]:
    """Whether the batch and the stream take an event that may be a copy; always where the source is not distinct."""
    if not contract.distinct:
        return True, True
    late = fields["at"] <= watermark
    known = memory.get(fields["id"])
    taken = not late and (known is None or (known[0] != start and known[1] <= watermark))
    if taken:
        memory[fields["id"]] = (start, fields["at"] + (contract.lateness_ms or 0))
    return done.copies[fields["id"]] == 1, taken


def visits(
    records: list[Record], size: int, contract: Contract, slow: Slow | None = None
) -> tuple[set[Visit], set[Visit], set[str]]:
    """Sessions of both sides by first time, end and number of events, and the ids that the stream drops."""
    gap, lateness = contract.gap_ms or 0, contract.lateness_ms or 0
    everything: dict[str, list[int]] = defaultdict(list)
    pending: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    stream, dropped, newest, emits_by = set(), set(), 0, 0
    for start in range(0, len(records) + 1, size):
        drops_by, emits_by = emits_by, max(0, newest - lateness)
        for record in [*records[start : start + size], *(slow or {}).get(start // size, [])]:
            fields = rule_of(record, contract)
            if isinstance(fields, str):
                continue
            newest = max(newest, fields["at"])
            everything[fields["page"]].append(fields["at"])
            if fields["at"] + gap <= drops_by:
                dropped.add(fields["id"])
                continue
            # What it touches becomes one with it.
            low, high, count, others = fields["at"], fields["at"] + gap, 1, []
            for other in pending[fields["page"]]:
                if other[0] <= fields["at"] + gap and fields["at"] <= other[1]:
                    low, high, count = min(low, other[0]), max(high, other[1]), count + other[2]
                else:
                    others.append(other)
            pending[fields["page"]] = [*others, (low, high, count)]
        for page, sessions in pending.items():
            stream |= {(page, *each) for each in sessions if each[1] <= emits_by}
            pending[page] = [each for each in sessions if each[1] > emits_by]
    batch = set()
    for page, times in everything.items():
        times.sort()
        ends = [n for n, at in enumerate(times) if n + 1 == len(times) or times[n + 1] > at + gap]
        begins = [0, *[n + 1 for n in ends[:-1]]]
        batch |= {(page, times[a], times[b] + gap, b - a + 1) for a, b in zip(begins, ends, strict=True)}
    return batch, stream, dropped


def _late(at: int, watermark: int, contract: Contract) -> list[int | None]:
    """The windows of the first operator that an event comes too late for."""
    if contract.late_by == "time":
        return [None] if at <= watermark else []
    if contract.lateness_ms is None or contract.window_ms is None:
        return []
    length = contract.inner_ms or contract.window_ms
    step = contract.inner_ms or contract.slide_ms
    return [start for start in _windows(at, length, step) if start is not None and start + length <= watermark]


def _windows(at: int, length: int | None, step: int | None) -> list[int | None]:
    if length is None or step is None:
        return [None]
    first = (at // step - length // step - 1) * step
    return [start for start in range(first, at + 1, step) if start <= at < start + length]


def differing(done: Outcome) -> dict[str, dict[Row, tuple[str, int]]]:
    """Rows that differ, by scenario: their kind, and how many events the stream lacks."""
    found: dict[str, dict[Row, tuple[str, int]]] = defaultdict(dict)
    for row, count in done.batch.items():
        if lacking := count - done.stream[row] + done.further[row]:
            kind = "changed" if done.stream[row] else "only_batch"
            found[row[0].split(".")[0]][row] = (kind, lacking)
    return found
