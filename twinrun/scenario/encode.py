"""Records as bytes: events of a job's source, and records that break one rule of its decoder each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from twinrun.errors import InputError
from twinrun.produce.records import Record
from twinrun.scenario.contract import Contract
from twinrun.scenario.counter import Draws
from twinrun.scenario.plants import required_field

KNOWN_FIELD = "twinrun_known_ms"
"""Field of every record for ``twinrun produce --time-field``: no job declares it, so that decoders ignore it."""
TO_FIELD = "twinrun_key"
"""Field of every record for ``twinrun produce --key-field``: one value, so that one partition gets all in order."""
TO = "one"
BEHIND = "two"
"""The key of the records that go to another partition than `TO`, of two to five."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WHOLE = ("tinyint", "smallint", "int", "bigint", "decimal")
_Fields = dict[str, Any]


def event_fields(contract: Contract, draws: Draws, event_id: str, key: str, event_ms: int, known_ms: int) -> _Fields:
    """The fields of one event; what the scenario does not need is drawn from the seed.

    Raises
    ------
    InputError
        A required field is of a type that cannot be made up.
    """
    ranges = {name: (low, high) for name, low, high in contract.ranges}
    fields: _Fields = {}
    for field in contract.fields:
        if field.name == contract.id_field:
            fields[field.name] = event_id
        elif field.name == contract.time_field:
            fields[field.name] = time_value(contract, event_ms)
        elif field.name == contract.key_field:
            fields[field.name] = key
        elif field.type in (*_WHOLE, "float", "double"):
            fields[field.name] = _number(draws, f"{event_id}/{field.name}", *ranges.get(field.name, (None, None)))
        elif field.type == "string":
            fields[field.name] = f"v{draws.below(5, f'{event_id}/{field.name}')}"
        elif field.type == "boolean":
            fields[field.name] = draws.below(2, f"{event_id}/{field.name}") == 1
        elif field.required:
            raise InputError(f"{contract.name} requires the field {field.name} of type {field.type}.", expected=_CAN)
    return {**fields, KNOWN_FIELD: known_ms, TO_FIELD: TO}


_CAN = "required fields of numbers, text and booleans: no others can be made up"


def time_value(contract: Contract, event_ms: int) -> int | str:
    """An event time as the job's records write it."""
    if contract.time_format == "epoch_ms":
        return event_ms
    instant = _EPOCH + timedelta(milliseconds=event_ms)
    return instant.strftime("%Y-%m-%dT%H:%M:%S.") + f"{event_ms % 1000:03d}Z"


def as_bytes(fields: _Fields) -> bytes:
    """One line of JSON."""
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=True).encode()


def poison(rule: str, contract: Contract, fields: _Fields) -> bytes:
    """An event's bytes after breaking exactly one rule of the decoder."""
    return _BREAK[rule](contract, dict(fields))


def newer(variant: str, contract: Contract, fields: _Fields) -> tuple[bytes, str | None]:
    """An event as a newer producer writes it, and the rule that it breaks; null for one that stays valid."""
    if variant == "removed":
        return _missing(contract, dict(fields)), "missing_field"
    if variant == "retyped":
        others = [f.name for f in contract.fields if f.type in _WHOLE and f.name in fields]
        name = next((other for other in others if other != contract.time_field), contract.time_field)
        return as_bytes({**fields, name: "many"}), "wrong_type"
    return as_bytes({**fields, "channel": "app", "tags": ["new", {"level": 2}]}), None


def records_of(values: Iterable[bytes]) -> list[Record]:
    """Lines as the records that ``twinrun produce --file`` makes of them."""
    records: list[Record] = []
    known_ms: int | None = None
    for value in values:
        fields = _object(value)
        if fields is not None:
            known_ms = fields.get(KNOWN_FIELD, known_ms)
        key = fields.get(TO_FIELD) if fields is not None else None
        records.append(Record(key.encode() if key else None, value, known_ms))
    return records


def _object(value: bytes) -> _Fields | None:
    try:
        parsed = json.loads(value)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _number(draws: Draws, label: str, low: float | None, high: float | None) -> int:
    """A small whole number inside the limits: exact in every numeric type, and in any order of summing."""
    least = int(low) if low is not None else (1 if high is None or high >= 9 else int(high) - 8)
    most = min(least + 8, int(high)) if high is not None else least + 8
    return least + draws.below(most - least + 1, label)


def _missing(contract: Contract, fields: _Fields) -> bytes:
    name = required_field(contract)
    return as_bytes({key: value for key, value in fields.items() if key != name})


def _out_of_range(contract: Contract, fields: _Fields) -> bytes:
    for name, low, high in contract.ranges:
        if low is not None or high is not None:
            return as_bytes({**fields, name: int(low) - 1 if low is not None else int(high or 0) + 1})
    return as_bytes({**fields, contract.time_field: 10**20})


def _seconds(contract: Contract, fields: _Fields) -> bytes:
    return as_bytes({**fields, contract.time_field: int(fields[contract.time_field]) // 1000})


_BREAK: dict[str, Callable[[Contract, _Fields], bytes]] = {
    "empty_value": lambda _contract, _fields: b"",
    "not_utf8": lambda contract, fields: as_bytes({**fields, contract.key_field: "?"}).replace(b'"?"', b'"\xff\xfe"'),
    "not_json": lambda _contract, fields: as_bytes(fields)[:-7],
    "trailing_bytes": lambda _contract, fields: as_bytes(fields) + b" and more",
    "wrong_type": lambda contract, fields: as_bytes({**fields, contract.time_field: "noon"}),
    "missing_field": _missing,
    "null_event_time": lambda contract, fields: as_bytes({**fields, contract.time_field: None}),
    "wrong_time_unit": _seconds,
    "out_of_range": _out_of_range,
}
