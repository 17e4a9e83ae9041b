"""One Kafka record to be sent, and records read from a file of JSON lines or CSV."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from twinrun.errors import InputError
from twinrun.produce.csv_ import SEPARATORS, csv_values

_LONGEST_MS = 2**63 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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


def file_records(
    path: Path, *, key_field: str, time_field: str | None = None, in_order: bool = False
) -> Iterator[Record]:
    """Read a local file of JSON lines or CSV, one record per line or row, without loading it whole.

    The bytes of a line are sent as they are, also when they are not JSON; a row of a CSV file becomes a JSON object
    (see `twinrun.produce.csv_.csv_values`). A line without the key field has no key. A line whose time cannot be read
    gets the timestamp of the line before it, so that a replay never depends on the clock; before the first readable
    time it is None. A time that can be read, and that Kafka cannot hold, ends the reading.

    Parameters
    ----------
    path : Path
        A local file: CSV where its name ends in ``.csv`` or ``.tsv``, else JSON lines that end in LF or CRLF. An
        empty line is a record with an empty value.
    key_field : str
        Field of the JSON object, or column, whose value becomes the key (text as UTF-8, anything else as JSON).
    time_field : str, optional
        Field for the Kafka timestamp: epoch milliseconds or ISO 8601 text (no zone: UTC).
    in_order : bool
        The lines stand in the order in which they became known, and the field says when something happened: a record's
        timestamp is the newest time so far.

    Returns
    -------
    iterator of Record
        In the order of the file.

    Raises
    ------
    InputError
        The file is missing; a CSV file has no header with these columns; or, with its number, the first line that is
        a JSON object lacks a named field, a time is none and no line before it has one, or a time is not after
        1970-01-01T00:00:00Z: the clock would be put in its place.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}.", expected="JSON lines, one object per line, or CSV with a header")
    separator = SEPARATORS.get(path.suffix.lower())
    named = _named(key_field, time_field)
    values = _lines(path) if separator is None else csv_values(path, separator, named)
    what = "Line" if separator is None else "Row"
    return _with_key_and_time(values, what, path, key_field, time_field, in_order)


def line_records(
    lines: Iterable[bytes], *, key: str | None = None, key_field: str | None = None, timestamp_ms: int | None = None
) -> Iterator[Record]:
    """A record for each line as it is, also where it is no JSON.

    Parameters
    ----------
    lines : iterable of bytes
        Without their line feeds. An empty one is a record with an empty value.
    key : str, optional
        The key of all of them.
    key_field : str, optional
        Field of the JSON object whose value becomes the key, as in `file_records`.
    timestamp_ms : int, optional
        The Kafka timestamp of all of them, UTC epoch milliseconds; None: the time of sending.

    Raises
    ------
    InputError
        With the number of the line: the first JSON object lacks the field.
    """
    fields_known = False
    for number, value in enumerate(lines, 1):
        if key_field is None:
            yield Record(None if key is None else key.encode(), value, timestamp_ms)
            continue
        fields = _object(value)
        if not fields_known and fields is not None:
            _need_fields(fields, [key_field], f"Line {number} of the input")
            fields_known = True
        yield Record(_key((fields or {}).get(key_field)), value, timestamp_ms)


def _named(*fields: str | None) -> list[str]:
    return [field for field in fields if field is not None]


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as lines:
        for line in lines:
            yield line.removesuffix(b"\n").removesuffix(b"\r")


def _with_key_and_time(
    values: Iterable[bytes], what: str, path: Path, key_field: str, time_field: str | None, in_order: bool
) -> Iterator[Record]:
    named = _named(key_field, time_field)
    fields_known = False
    timestamp_ms: int | None = None
    for number, value in enumerate(values, 1):
        fields = _object(value)
        if fields is None:
            yield Record(None, value, timestamp_ms)
            continue
        if not fields_known:
            _need_fields(fields, named, f"{what} {number} of {path}")
            fields_known = True
        if time_field is not None:
            read_ms = _epoch_ms(fields.get(time_field))
            if read_ms is not None:
                check_time(read_ms, f"{what} {number} of {path}, field {time_field!r},")
            elif timestamp_ms is None and fields.get(time_field) is not None:
                raise InputError(
                    f"{what} {number} of {path}, field {time_field!r}, has {fields[time_field]!r}, which is no time, "
                    "and no line before it has one: the clock would be put in its place.",
                    expected="ISO 8601 text such as 2024-03-01T10:00:00Z, or a number of milliseconds since 1970",
                    fix="name another field, or leave the option out: then the records have the time of sending",
                )
            if in_order and timestamp_ms is not None and read_ms is not None:
                read_ms = max(timestamp_ms, read_ms)
            timestamp_ms = timestamp_ms if read_ms is None else read_ms
        yield Record(_key(fields.get(key_field)), value, timestamp_ms)


def _object(line: bytes) -> dict[str, Any] | None:
    """The JSON object of a line, None for anything else."""
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _need_fields(fields: dict[str, Any], named: list[str], where: str) -> None:
    """A mistyped field name would silently send records without keys; the first object shows it."""
    missing = [name for name in named if name not in fields]
    if missing:
        raise InputError(
            f"{where} has no field {' and no field '.join(map(repr, missing))}.",
            expected=f"one of its fields: {', '.join(fields)}",
            fix="name fields that the file has; they are case-sensitive",
        )


def _key(value: Any) -> bytes | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))
    return text.encode("utf-8", errors="replace")


def check_time(timestamp_ms: int, where: str) -> None:
    """Refuse a record time that Kafka does not hold; the client takes 0 for the time of sending.

    Raises
    ------
    InputError
        The time is not between 1970-01-01T00:00:00.001Z and the largest 64-bit number of milliseconds.
    """
    if not 0 < timestamp_ms <= _LONGEST_MS:
        raise InputError(
            f"{where} has the record time {timestamp_ms} ms, which Kafka cannot hold.",
            expected="a time after 1970-01-01T00:00:00Z, in milliseconds",
            fix="correct it, or name another field for the record's time: an event may be as old as it likes",
        )


def _epoch_ms(value: Any) -> int | None:
    """Epoch milliseconds of a JSON value, None where it is no time."""
    if isinstance(value, str):
        try:
            instant = datetime.fromisoformat(value)
        except ValueError:
            return None
        aware = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
        return round((aware - _EPOCH) / timedelta(milliseconds=1))
    return value if isinstance(value, int) and not isinstance(value, bool) else None
