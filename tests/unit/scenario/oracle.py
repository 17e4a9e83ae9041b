"""Spark's rules once more, written apart from the plan: read the bytes, run the micro-batches one by one, compare."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from twinrun.produce.records import Record
from twinrun.scenario.contract import Contract

Row = tuple[str, int | None]


@dataclass
class Outcome:
    """What running the log would give: rows of both sides by count, dropped pairs, refused records."""

    batch: Counter[Row] = field(default_factory=Counter)
    stream: Counter[Row] = field(default_factory=Counter)
    dropped: set[tuple[str, int | None]] = field(default_factory=set)
    refused: dict[int, str] = field(default_factory=dict)
    copies: Counter[str] = field(default_factory=Counter)


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


def simulate(records: list[Record], size: int, contract: Contract, lag: int = 2) -> Outcome:
    """Run the log in micro-batches of ``size``; a micro-batch drops by what was newest ``lag`` micro-batches before."""
    done = Outcome()
    state: Counter[Row] = Counter()
    newest, known, lateness = 0, [0] * lag, contract.lateness_ms
    for start in range(0, len(records), size):
        previous = max(0, known[-lag] - lateness) if lateness is not None else 0
        for offset in range(start, min(start + size, len(records))):
            fields = rule_of(records[offset], contract)
            if isinstance(fields, str):
                done.refused[offset] = fields
                continue
            newest = max(newest, fields["at"])
            done.copies[fields["id"]] += 1
            name = fields["id"] if contract.shape == "stateless" else fields["page"]
            late = _late(fields["at"], previous, contract)
            done.dropped |= {(fields["id"], window) for window in late}
            whole = late and (contract.inner_ms or contract.late_by == "time")
            for window in _windows(fields["at"], contract.window_ms, contract.slide_ms):
                done.batch[name, window] += 1
                state[name, window] += not (whole or window in late)
        known.append(newest)
    done.stream = state
    return done


def _late(at: int, watermark: int, contract: Contract) -> list[int | None]:
    """The windows of the first operator that an event comes too late for."""
    if contract.lateness_ms is None or contract.window_ms is None:
        return []
    if contract.late_by == "time":
        return [None] if at <= watermark else []
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
        if done.stream[row] != count:
            kind = "changed" if done.stream[row] else "only_batch"
            found[row[0].split(".")[0]][row] = (kind, count - done.stream[row])
    return found
