"""JSON lines become records with their bytes untouched, broken lines too."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinrun.errors import InputError
from twinrun.produce.records import Record, file_records


def write(folder: Path, content: bytes) -> Path:
    path = folder / "events.jsonl"
    path.write_bytes(content)
    return path


def test_bytes_are_sent_as_they_are(tmp_path: Path) -> None:
    content = [
        b'{"id": "a",  "t": 1000}',
        b"\xff\xfe not text",
        b'{"id": "b", "t": "1970-01-01T00:00:02Z"} trailing',
        b"",
        b"[1, 2]",
        b'{"other": 1}',
        b'{"id": 7, "t": 3000, "x": "\\ud83d\\ude00"}',
    ]
    path = write(tmp_path, b"\n".join(content))
    records = list(file_records(path, key_field="id", time_field="t"))
    assert [record.value for record in records] == content
    assert [record.key for record in records] == [b"a", None, None, None, None, None, b"7"]
    assert [record.timestamp_ms for record in records] == [1000, 1000, 1000, 1000, 1000, 1000, 3000]


def test_only_the_line_ending_is_taken_off(tmp_path: Path) -> None:
    path = write(tmp_path, b'{"id": "a"} \r\n{"id": "b"}\t\n')
    assert list(file_records(path, key_field="id")) == [
        Record(b"a", b'{"id": "a"} '),
        Record(b"b", b'{"id": "b"}\t'),
    ]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1357034400000", 1357034400000),
        ('"2013-01-01T10:00:00Z"', 1357034400000),
        ('"2013-01-01T05:00:00-05:00"', 1357034400000),
        ('"2013-01-01 10:00:00.250"', 1357034400250),
        ('"yesterday"', 5),
        ("true", 5),
        ("null", 5),
        ("1e400", 5),
    ],
)
def test_an_unreadable_time_takes_that_of_the_line_before(tmp_path: Path, written: str, expected: int) -> None:
    path = write(tmp_path, b'{"id": 1, "t": 5}\n{"id": 2, "t": ' + written.encode() + b"}\n")
    assert [record.timestamp_ms for record in file_records(path, key_field="id", time_field="t")] == [5, expected]


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("-1", "-1"),
        ("0", "0"),
        ('"1969-12-31T23:59:59Z"', "-1000"),
        ('"0001-01-01T00:00:00+01:00"', "-62135600400000"),
        ("9223372036854775808", "9223372036854775808"),
    ],
)
def test_a_time_that_kafka_cannot_hold_is_refused_with_its_line_and_never_becomes_the_clock(
    tmp_path: Path, written: str, shown: str
) -> None:
    path = write(tmp_path, b'{"id": 1, "t": 5}\n{"id": 2, "t": ' + written.encode() + b'}\n{"id": 3, "t": 6}\n')
    with pytest.raises(InputError, match=rf"Line 2 of .*, field 't', has the record time {shown} ms"):
        list(file_records(path, key_field="id", time_field="t"))


@pytest.mark.parametrize(
    ("written", "key"), [('"\\ud800"', b"?"), ("null", None), ('{"b":1,"a":[2]}', b'{"a":[2],"b":1}'), ("1.5", b"1.5")]
)
def test_keys_of_any_type(tmp_path: Path, written: str, key: bytes | None) -> None:
    path = write(tmp_path, b'{"id": ' + written.encode() + b"}")
    assert next(file_records(path, key_field="id")).key == key


def test_a_mistyped_field_is_named_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, b'not json\n{"id": 1, "time": 2}\n')
    with pytest.raises(InputError, match=r"Line 2 of .* has no field 'ID' and no field 't'") as caught:
        list(file_records(path, key_field="ID", time_field="t"))
    assert "id, time" in caught.value.expected
    assert len(list(file_records(path, key_field="id", time_field="time"))) == 2


def test_a_missing_file_is_found_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        file_records(tmp_path / "absent.jsonl", key_field="id")


def test_the_file_is_not_loaded_whole(tmp_path: Path) -> None:
    path = write(tmp_path, b'{"id": 1}\n' * 3)
    records = file_records(path, key_field="id")
    next(records)
    with path.open("ab") as file:
        file.write(b'{"id": "appended"}\n' * 20_000)
    assert sum(record.key == b"appended" for record in records) == 20_000


def test_deep_nesting_is_just_another_broken_line(tmp_path: Path) -> None:
    deep = b"[" * 200_000
    path = write(tmp_path, deep + b'\n{"id": 1}\n')
    assert [record.value for record in file_records(path, key_field="id")] == [deep, b'{"id": 1}']


def test_a_log_in_order_became_known_by_the_newest_time_so_far(tmp_path: Path) -> None:
    path = write(tmp_path, b'{"id": 1, "t": 5}\n{"id": 2, "t": 3}\nbroken\n{"id": 4, "t": 9}\n{"id": 5, "t": "no"}\n')
    records = file_records(path, key_field="id", time_field="t", in_order=True)
    assert [record.timestamp_ms for record in records] == [5, 5, 5, 9, 9]


def test_a_first_time_that_cannot_be_read_is_refused_and_not_taken_from_the_clock(tmp_path: Path) -> None:
    path = write(tmp_path, b'broken\n{"id": 1, "t": null}\n{"id": 2, "t": "14/May/2024:10:00:05 +0000"}\n')
    with pytest.raises(
        InputError, match=r"Line 3 of .*, field 't', has '14/May/2024:10:00:05 \+0000', which is no time"
    ):
        list(file_records(path, key_field="id", time_field="t"))
