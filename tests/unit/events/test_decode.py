"""The decoder names the rule for every kind of bad record, loses none, and never fails a query."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pyspark.sql import SparkSession

from twinrun.events.decode import decode, valid_events
from twinrun.events.source import Source

T = 1_357_466_400_000
SOURCE = Source(
    "x",
    schema="id STRING NOT NULL, ts BIGINT, delay INT, amt DECIMAL(10,2), `we.ird` STRING, l ARRAY<STRUCT<a: INT>>",
    event_time="ts",
    ranges={"delay": (-100, 3000)},
)
VALID = [
    b'{"id":"a","ts":%d,"delay":5,"amt":1.10,"we.ird":"z","l":[{"a":1}]}' % T,
    b'{"id":"a}] ","ts":%d}' % T,
    b'  {"id":"a","ts":%d}\n' % T,
    b'{"id":{"x":1},"ts":%d}' % T,
    b'{"id":"a","ts":%d}' % (T + 3_600_000),
    b'{"id":"a","ts":0}',
    b'{"id":"a","ts":%d,"unknown":[1,{"b":2}]}' % T,
]
REFUSED = [
    (b'{"id":"a","ts":%d} trailing' % T, "trailing_bytes"),
    (b'{"id":"a","ts":%d}{"id":"b"}' % T, "trailing_bytes"),
    (b'{"id":"a","ts":%d},{"id":"b","ts":%d}' % (T, T), "trailing_bytes"),
    (b'{"id":"a","ts":%d}],[{"id":"b"}' % T, "trailing_bytes"),
    (b'{"id":"a","ts":%d}]}' % T, "trailing_bytes"),
    (b'{"id":"a","ts":%d},"v":{"id":"b"}' % T, "trailing_bytes"),
    (b'[{"id":"a","ts":%d}]' % T, "not_json"),
    (b'"x"', "not_json"),
    (b"null", "not_json"),
    (b'{"id":"a"', "not_json"),
    (b"{'id':'a'}", "not_json"),
    (b'\xef\xbb\xbf{"id":"a","ts":%d}' % T, "not_json"),
    (b"", "empty_value"),
    (b"  ", "empty_value"),
    (None, "empty_value"),
    (b"\xff\xfe", "not_utf8"),
    (b'{"id":"a","ts":"5"}', "wrong_type"),
    (b'{"id":"a","ts":%d,"delay":1.7}' % T, "wrong_type"),
    (b'{"id":"a","ts":%d,"delay":"99999999999"}' % T, "wrong_type"),
    (b'{"id":"a","ts":%d,"l":[{"a":"x"}]}' % T, "wrong_type"),
    (b'{"id":"a","ts":%d,"delay":99999999999}' % T, "out_of_range"),
    (b'{"id":"a","ts":%d,"delay":5000}' % T, "out_of_range"),
    (b'{"id":"a","ts":%d,"amt":1.239}' % T, "out_of_range"),
    (b'{"ts":%d}' % T, "missing_field"),
    (b'{"ID":"a","ts":%d}' % T, "missing_field"),
    (b'{"id":"a"}', "null_event_time"),
    (b'{"id":"a","ts":null}', "null_event_time"),
    (b'{"id":"a","ts":%d}' % (T // 1000), "wrong_time_unit"),
    (b'{"id":"a","ts":%d}' % (T * 1000), "wrong_time_unit"),
    (b'{"id":"a","ts":9223372036854775807}', "wrong_time_unit"),
    (b'{"id":"a","ts":%d}' % (T + 3_600_001), "event_time_ahead"),
]
RAW = "value BINARY, topic STRING, partition INT, offset BIGINT, timestamp TIMESTAMP"


@pytest.fixture(scope="module")
def decoded(spark_session: SparkSession):  # type: ignore[no-untyped-def]
    values = [*VALID, *(value for value, _ in REFUSED)]
    instant = datetime.fromtimestamp(T / 1000, UTC)
    rows = [(None if v is None else bytearray(v), "t", 0, i, instant) for i, v in enumerate(values)]
    return decode(spark_session.createDataFrame(rows, RAW), SOURCE)


def test_each_record_comes_out_once_with_the_rule_that_refuses_it(decoded) -> None:  # type: ignore[no-untyped-def]
    rules = {row["_offset"]: row["_rule"] for row in decoded.select("_offset", "_rule").collect()}
    expected = [*(None for _ in VALID), *(rule for _, rule in REFUSED)]
    assert rules == dict(enumerate(expected))


def test_a_refused_record_has_a_reason_and_a_valid_one_has_none(decoded) -> None:  # type: ignore[no-untyped-def]
    wrong = decoded.filter("(_rule IS NULL) <> (_reason IS NULL)")
    assert wrong.count() == 0


def test_valid_events_have_exactly_the_declared_fields_and_the_coordinates(decoded) -> None:  # type: ignore[no-untyped-def]
    events = valid_events(decoded, SOURCE)
    fields = ["id", "ts", "delay", "amt", "we.ird", "l"]
    assert events.columns == [*fields, "_topic", "_partition", "_offset", "_kafka_timestamp"]
    assert events.count() == len(VALID)
    first = events.filter("_offset = 0").collect()[0]
    assert (first["id"], first["delay"], str(first["amt"]), first["we.ird"]) == ("a", 5, "1.10", "z")
    assert first["ts"].timestamp() * 1000 == T
