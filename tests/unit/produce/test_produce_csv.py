"""A CSV file becomes records: each cell as it was written, each row once, also one that is broken."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from twinrun.errors import InputError
from twinrun.events.decode import decode
from twinrun.events.source import Source
from twinrun.produce.records import Record, file_records


def write(folder: Path, content: bytes, name: str = "events.csv") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def values(path: Path, key_field: str = "id") -> list[bytes | None]:
    return [record.value for record in file_records(path, key_field=key_field)]


def test_a_row_is_an_object_with_the_names_of_the_header(tmp_path: Path) -> None:
    path = write(tmp_path, b'id,at,total,note\n7,2024-03-01T10:00:00Z,1.10,"a ""b"", c"\nx,5,true,\n')
    assert list(file_records(path, key_field="id", time_field="at")) == [
        Record(b"7", b'{"id":7,"at":"2024-03-01T10:00:00Z","total":1.10,"note":"a \\"b\\", c"}', 1_709_287_200_000),
        Record(b"x", b'{"id":"x","at":5,"total":true,"note":null}', 5),
    ]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_row_that_is_no_row_comes_as_it_stands_with_the_time_of_the_row_before(tmp_path: Path, end: bytes) -> None:
    rows = [b"id,at", b"a,5", b"b,6,7", b"c", b"", b"\xff,8", b'"d"x,9', b'"e' + end + b'f",10', b'"open,11']
    records = list(file_records(write(tmp_path, end.join(rows) + end), key_field="id", time_field="at"))
    assert [(record.key, record.value, record.timestamp_ms) for record in records] == [
        (b"a", b'{"id":"a","at":5}', 5),
        (None, b"b,6,7", 5),
        (None, b"c", 5),
        (None, b"", 5),
        (None, b"\xff,8", 5),
        (None, b'"d"x,9', 5),
        (b"e" + end + b"f", json.dumps({"id": f"e{end.decode()}f", "at": 10}, separators=(",", ":")).encode(), 10),
        (None, b'"open,11', 10),
    ]


def test_tabs_and_a_byte_order_mark_and_names_that_need_escapes(tmp_path: Path) -> None:
    path = write(tmp_path, b'\xef\xbb\xbfid\t"a ""b"""\n\xc3\xa9,\t-0\n', "events.TSV")
    assert values(path) == ['{"id":"é,","a \\"b\\"":-0}'.encode()]


CELLS = [
    "007",
    "1.10",
    "1E2",
    "-0",
    "+5",
    "1_000",
    "NaN",
    "true",
    "TRUE",
    "null",
    " 7",
    "1" * 1000,
    "1" * 1001,
    "1e400",
]


def test_a_text_column_gets_every_cell_as_it_was_written(spark_session: SparkSession, tmp_path: Path) -> None:
    path = write(tmp_path, "\n".join(["id,at,text", *(f"{n},5,{cell}" for n, cell in enumerate(CELLS))]).encode())
    instant = datetime(1970, 1, 1, tzinfo=UTC)
    rows = [(bytearray(value or b""), "t", 0, offset, instant) for offset, value in enumerate(values(path))]
    raw = "value BINARY, topic STRING, partition INT, offset BIGINT, timestamp TIMESTAMP"
    source = Source("t", "id INT NOT NULL, at BIGINT NOT NULL, text STRING", event_time="at", max_ahead=None)
    events = decode(spark_session.createDataFrame(rows, raw), source).collect()
    assert {row.id: row.text for row in events} == dict(enumerate(CELLS))


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (b"", "does not name all its columns"),
        (b"id,,at\n1,2,3\n", "does not name all its columns"),
        (b"id,at,id\n1,2,3\n", "repeats the column 'id'"),
        (b'"id"x,at\n1,2\n', "is no row of CSV"),
        (b'"id,at\n1,2\n', "is no row of CSV"),
        (b"st\xe4dt,id\nx,1\n", "is no text in UTF-8"),
        ("id,at\n1,2\n".encode("utf-16-le"), "is no text in UTF-8"),
    ],
)
def test_a_header_that_names_not_each_column_once_is_refused(tmp_path: Path, header: bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=f"The first line of .*events.csv {sentence}"):
        values(write(tmp_path, header))


@pytest.mark.parametrize("rows", [b"", b"a;1,10\nb;2,20\n", b"a;1\n"])
def test_columns_that_are_named_are_looked_for_in_the_header_alone(tmp_path: Path, rows: bytes) -> None:
    with pytest.raises(InputError, match=r"The header of .*events\.csv has no column 'id' and no column 'at'") as told:
        list(file_records(write(tmp_path, b"id;total\n" + rows), key_field="id", time_field="at"))
    assert "one of its columns: id;total" in told.value.expected


def test_a_cell_without_an_end_stops_the_reading_before_its_lines_become_rows(tmp_path: Path) -> None:
    path = write(tmp_path, b'id,at\na,"' + b"x" * 131_070 + b'\nb,2\nc,3\n"\nd,4\n')
    with pytest.raises(InputError, match=r"Row 1 of .* has a cell of over 131,072 characters"):
        values(path)


def test_a_time_that_kafka_cannot_hold_is_told_by_row(tmp_path: Path) -> None:
    path = write(tmp_path, b'id,at\n"a\nb",5\nc,-5\n')
    with pytest.raises(InputError, match=r"Row 2 of .*events\.csv, field 'at', has the record time -5 ms"):
        list(file_records(path, key_field="id", time_field="at"))


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (b"a,1", [b'{"id":"a","at":1}']),
        (b"a,1\rb,2\r", [b'{"id":"a","at":1}', b'{"id":"b","at":2}']),
        (b'a,"1\r\n\x00"\n\n,\n', [b'{"id":"a","at":"1\\r\\n\\u0000"}', b"", b'{"id":null,"at":null}']),
    ],
)
def test_each_row_is_sent_once_and_in_order(tmp_path: Path, body: bytes, rows: list[bytes]) -> None:
    assert values(write(tmp_path, b"id,at\n" + body)) == rows
