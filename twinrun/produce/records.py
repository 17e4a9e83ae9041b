"""One Kafka record to be sent, and records read from a JSON lines file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from twinrun.errors import InputError

_LONGEST_MS = 2**63 - 1


class Record(NamedTuple):
    """One record as bytes, so that also a broken one can be sent.

    Parameters
    ----------
    key : bytes, optional
        Decides the partition; None lets the client choose one.
    value : bytes, optional
        The content; None is a tombstone.
    timestamp_ms : int, optional
        Kafka timestamp (CreateTime), UTC epoch milliseconds, over 0; None means the time of sending.
    headers : tuple of (str, bytes or None)
        Record headers, in order; a name may repeat.
    """

    key: bytes | None
    value: bytes | None
    timestamp_ms: int | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def jsonl_records(path: Path, *, key_field: str, time_field: str | None = None) -> Iterator[Record]:
    """Read a local JSON lines file, one record per line, without loading it whole.

    The bytes of a line are sent as they are, also when they are not JSON. A line without the key field has no
    key. A line whose time cannot be read gets the timestamp of the line before it, so that a replay never
    depends on the clock; before the first readable time it is None.

    Parameters
    ----------
    path : Path
        A local file; lines end in LF or CRLF. An empty line is a record with an empty value.
    key_field : str
        Field of the JSON object whose value becomes the key (text as UTF-8, anything else as JSON).
    time_field : str, optional
        Field for the Kafka timestamp: epoch milliseconds or ISO 8601 text (no zone: UTC).

    Returns
    -------
    iterator of Record
        In the order of the file.

    Raises
    ------
    InputError
        The file is missing; or, with the line number, the first JSON object lacks a named field.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}.", expected="a JSON lines file, one object per line")
    return _read_lines(path, key_field, time_field)


def _read_lines(path: Path, key_field: str, time_field: str | None) -> Iterator[Record]:
    named = [key_field] if time_field is None else [key_field, time_field]
    fields_known = False
    timestamp_ms: int | None = None
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            value = line.removesuffix(b"\n").removesuffix(b"\r")
            fields = _object(value)
            if fields is None:
                yield Record(None, value, timestamp_ms)
                continue
            if not fields_known:
                _need_fields(fields, named, path, number)
                fields_known = True
            if time_field is not None:
                timestamp_ms = _epoch_ms(fields.get(time_field), timestamp_ms)
            yield Record(_key(fields.get(key_field)), value, timestamp_ms)


def _object(line: bytes) -> dict[str, Any] | None:
    """The JSON object of a line, None for anything else."""
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _need_fields(fields: dict[str, Any], named: list[str], path: Path, number: int) -> None:
    """A mistyped field name would silently send records without keys; the first object shows it."""
    missing = [name for name in named if name not in fields]
    if missing:
        raise InputError(
            f"Line {number} of {path} has no field {' and no field '.join(map(repr, missing))}.",
            expected=f"one of its fields: {', '.join(fields)}",
            fix="name fields that the file has; they are case-sensitive",
        )


def _key(value: Any) -> bytes | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))
    return text.encode("utf-8", errors="replace")


def _epoch_ms(value: Any, otherwise: int | None) -> int | None:
    if isinstance(value, str):
        try:
            instant = datetime.fromisoformat(value)
        except ValueError:
            return otherwise
        aware = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
        value = round(aware.timestamp() * 1000)
    usable = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LONGEST_MS
    return value if usable else otherwise
