"""Records of a result topic: each is a row, a deletion or malformed with a reason; the latest is told by offset."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from twinrun import Job, Source
from twinrun.config.sections import ExternalBinding
from twinrun.external.records import RULE, TOMBSTONE, decode_records
from twinrun.external.topic import _latest, _without_unclear
from twinrun.external.windowed import JSON_KEY, WHY_NO_KEY, with_json_key
from twinrun.session.settings import with_settings

T_MS = 1_357_466_400_000
SCHEMA = "page STRING, window_start TIMESTAMP, clicks BIGINT, amount DECIMAL(10,2)"
SOURCE = Source("clicks", schema="id STRING NOT NULL, at BIGINT NOT NULL", event_time="at", lateness="1 minute")
JOB = Job(lambda clicks: clicks, sources=[SOURCE], keys=["page", "window_start"], window="1 minute", name="job")
ROW = {"page": "a", "window_start": T_MS, "clicks": 3, "amount": "1.25"}
Pair = tuple[Any, Any]


def text(**more: Any) -> bytes:
    return json.dumps({**ROW, **more}).encode()


def without(name: str) -> bytes:
    return json.dumps({key: value for key, value in ROW.items() if key != name}).encode()


def decoded(spark: SparkSession, pairs: list[Pair], tombstones: bool = False, **declared: Any) -> DataFrame:
    rows = [
        (
            bytearray(key) if key is not None else None,
            bytearray(value) if value is not None else None,
            "t",
            0,
            offset,
            0,
        )
        for offset, (key, value) in enumerate(pairs)
    ]
    raw = spark.createDataFrame(
        rows, "key BINARY, value BINARY, topic STRING, partition INT, offset BIGINT, at BIGINT"
    ).withColumn("timestamp", F.timestamp_millis("at"))
    schema = StructType.fromDDL(SCHEMA)
    assert isinstance(schema, StructType)
    binding = ExternalBinding(topic="t", **declared)
    return decode_records(raw, schema, JOB, binding, tombstones=tombstones)


MALFORMED: list[tuple[Pair, str, str]] = [
    ((b"k", b'{"page": "a"'), "not_json", "not a JSON object"),
    ((b"k", b"[1]"), "not_json", "not a JSON object"),
    ((b"k", b"\xff\xfe"), "not_utf8", "UTF-8"),
    ((b"k", text() + b"x"), "trailing_bytes", "after the JSON object"),
    ((b"k", text(clicks="three")), "wrong_type", "clicks"),
    ((b"k", text(clicks=2.5)), "wrong_type", "clicks"),
    ((b"k", without("window_start")), "missing_field", "window_start"),
    ((b"k", text(page=None)), "missing_field", "page"),
    ((b"k", text(amount="1.255")), "out_of_range", "does not fit decimal(10,2)"),
    ((b"k", text(window_start=10**17)), "wrong_time", "window_start is not a time (epoch_ms)"),
    ((b"k", None), "empty_value", "no value"),
    ((None, None), "empty_value", "no value"),
    ((b"k", b""), "empty_value", "no value"),
]


def test_each_malformed_record_is_kept_with_its_reason_and_good_ones_are_typed(spark_session: SparkSession) -> None:
    good = [(b"k", text()), (None, text(amount=1.25, clicks=None, more="ignored"))]
    rows = decoded(spark_session, [*good, *(pair for pair, _, _ in MALFORMED)]).orderBy("offset").collect()

    assert len(rows) == len(good) + len(MALFORMED)
    assert [row[RULE] for row in rows] == [None, None, *(rule for _, rule, _ in MALFORMED)]
    assert all(says in row["reason"] for row, (_, _, says) in zip(rows[2:], MALFORMED, strict=True))
    assert [bytes(row["value"] or b"") for row in rows[2:]] == [pair[1] or b"" for pair, _, _ in MALFORMED]
    assert [row["row"] is None for row in rows] == [False, False, *(True for _ in MALFORMED)]
    assert [(row["row"]["clicks"], row["row"]["amount"]) for row in rows[:2]] == [
        (3, Decimal("1.25")),
        (None, Decimal("1.25")),
    ]


DEEP = (
    "w STRUCT<start: TIMESTAMP, stop: TIMESTAMP>, n DECIMAL(38,0), a ARRAY<DECIMAL(5,1)>, "
    "d DATE, l TIMESTAMP_NTZ, f FLOAT"
)


@pytest.mark.parametrize("time_format", ["epoch_ms", "iso8601"])
def test_no_value_of_another_engine_becomes_equal_by_being_rounded_cut_or_guessed(
    spark_session: SparkSession, time_format: str
) -> None:
    iso = time_format == "iso8601"
    instant = '"2013-01-06T10:00:00Z"' if iso else str(T_MS)
    local = '"2013-01-06T10:00:00"' if iso else str(T_MS)
    other = str(T_MS) if iso else '"2013-01-06T10:00:00Z"'
    cases = [
        (f'{{"w":{{"start":{instant},"stop":null}},"n":15,"a":[1.5,"2"],"d":"2013-01-06","l":{local},"f":0.5}}', None),
        (f'{{"w":{{"start":{other}}}}}', "wrong_time" if iso else "wrong_type"),
        ('{"n":1.5}', "out_of_range"),
        ('{"n":0.4}', "out_of_range"),
        ('{"a":[1,1.25]}', "out_of_range"),
        ('{"d":"2013"}', "wrong_time"),
        ('{"d":"19000"}', "wrong_time"),
        ('{"f":1e39}', "out_of_range"),
    ]
    if iso:
        cases += [
            ('{"w":{"start":"12:30"}}', "wrong_time"),
            ('{"w":{"start":"2013-01-06T10:00:00.000000000Z"}}', None),
            ('{"w":{"start":"2013-01-06T10:00:00.0000005Z"}}', "wrong_time"),
            ('{"l":"2013-01-06T10:00:00+01"}', "wrong_time"),
        ]
    raw = spark_session.createDataFrame(
        [(b"k", bytearray(value.encode()), "t", 0, offset, T_MS) for offset, (value, _) in enumerate(cases)],
        "key BINARY, value BINARY, topic STRING, partition INT, offset BIGINT, at BIGINT",
    ).withColumn("timestamp", F.timestamp_millis("at"))
    schema = StructType.fromDDL(DEEP)
    assert isinstance(schema, StructType)
    binding = ExternalBinding(topic="t", time_format=time_format)  # type: ignore[arg-type]
    decoded = decode_records(raw, schema, replace(JOB, keys=[]), binding, tombstones=False)
    assert [type(field.dataType) for field in decoded.schema["row"].dataType] == [type(f.dataType) for f in schema]  # type: ignore[attr-defined]
    shown = [RULE, "row.n", "row.a", F.unix_millis("row.w.start").alias("ms"), F.col("row.l").cast("string").alias("l")]
    with with_settings(spark_session, {"spark.sql.session.timeZone": "America/New_York"}):
        rows = decoded.orderBy("offset").select(*shown).collect()
    assert [row[RULE] for row in rows] == [rule for _, rule in cases]
    first = rows[0]
    assert (first["n"], first["a"], first["ms"]) == (Decimal(15), [Decimal("1.5"), Decimal("2.0")], T_MS)
    assert first["l"] == "2013-01-06 10:00:00"


def test_times_as_texts_and_key_columns_in_the_records_key(spark_session: SparkSession) -> None:
    key = json.dumps({"page": "a", "window_start": "2013-01-06T10:00:00Z"}).encode()
    value = json.dumps({"clicks": 1, "amount": "2"}).encode()
    pairs = [
        (key, value),
        (key, json.dumps({"page": "b", "clicks": 1}).encode()),  # contradicts its key
        (b"a", value),
        (None, value),
        (json.dumps({"page": "a", "window_start": "yesterday"}).encode(), value),
    ]
    rows = decoded(spark_session, pairs, key="json", time_format="iso8601").orderBy("offset")

    found = rows.select(RULE, "row.page", F.unix_millis("row.window_start").alias("ms")).collect()
    assert (found[0][RULE], found[0]["page"], found[0]["ms"]) == (None, "a", T_MS)
    assert [row[RULE] for row in found[1:]] == ["key_differs", "key_not_json", "key_empty_value", "wrong_time"]


def latest(spark: SparkSession, pairs: list[Pair], **declared: Any) -> tuple[list[tuple[str, int]], list[str]]:
    """Page and clicks of the latest rows; rules of the malformed records."""
    frame = decoded(spark, pairs, tombstones=True, **declared)
    binding = ExternalBinding(topic="t", **declared)
    frame = frame if binding.key == "json" else _without_unclear(frame, JOB)
    frame = frame.localCheckpoint()
    rows = _latest(frame.filter(F.col(RULE).isNull()), JOB, binding).select("row.page", "row.clicks").collect()
    rules = frame.filter(F.col(RULE).isNotNull()).orderBy("offset").collect()
    return sorted((row["page"], row["clicks"]) for row in rows), [row[RULE] for row in rules]


def test_the_newest_record_of_a_row_counts_and_a_deletion_holds_until_the_row_comes_back(
    spark_session: SparkSession,
) -> None:
    pairs = [
        (b"a", text(clicks=1)),
        (b"b", text(page="b", clicks=1)),
        (b"a", text(clicks=2)),
        (b"b", None),
        (b"c", text(page="c", clicks=1)),
        (b"c", None),
        (b"c", text(page="c", clicks=7)),
        (b"d", None),  # of a row that never was
        (None, None),  # names no row
    ]
    assert latest(spark_session, pairs) == ([("a", 2), ("c", 7)], ["empty_value"])


def test_a_deletion_by_a_key_of_several_rows_is_malformed_and_deletes_nothing(spark_session: SparkSession) -> None:
    pairs = [(b"a", text(clicks=1)), (b"a", text(window_start=T_MS + 60_000, clicks=2)), (b"a", None)]

    assert latest(spark_session, pairs) == ([("a", 1), ("a", 2)], ["unclear_tombstone"])


def test_a_deletion_by_key_columns_names_one_row(spark_session: SparkSession) -> None:
    keys = [json.dumps({"page": "a", "window_start": T_MS + minute * 60_000}).encode() for minute in (0, 1)]
    value = json.dumps({"clicks": 1, "amount": "1"}).encode()

    found = latest(spark_session, [(keys[0], value), (keys[1], value), (keys[0], None)], key="json")
    assert found == ([("a", 1)], [])


@pytest.mark.parametrize("tombstones", [False, True])
def test_a_null_value_deletes_only_where_the_latest_row_counts(spark_session: SparkSession, tombstones: bool) -> None:
    row = decoded(spark_session, [(b"k", None)], tombstones=tombstones).collect()[0]
    assert (row[TOMBSTONE], row[RULE]) == ((True, None) if tombstones else (False, "empty_value"))


def test_keys_of_windows_of_kafka_streams_are_read_by_their_schema_and_wrong_ones_are_kept_with_a_reason(
    spark_session: SparkSession,
) -> None:
    """The first key is one that Kafka Streams 4.3.1 wrote (make engines): shop-02, 2024-01-01 00:00."""
    value = b'{"clicks": 18, "amount": "1.25"}'
    real = bytes.fromhex("73686f702d30320000018cc251f400")
    start = real[-8:]
    wrong = [
        (None, "it is null"),
        (b"short", "it has 5 bytes"),
        (b"\xff\xfe" + start, "not UTF-8"),
        (b"a" + (1_704_067_200_001).to_bytes(8, "big"), "its window starts at 1704067200001 ms"),
        (b"a" + (-60_000).to_bytes(8, "big", signed=True), "its window starts at -60000 ms"),
    ]
    declared = {"key": "kafka-streams", "key_schema": "page STRING"}
    pairs = [(real, value), ("münchen".encode() + start, value), *((key, value) for key, _ in wrong)]
    rows = decoded(spark_session, pairs, **declared).orderBy("offset").collect()
    at = F.timestamp_millis(F.lit(1_704_067_200_000))
    expected_at = spark_session.range(1).select(at).collect()[0][0]
    assert [(row["row"]["page"], row["row"]["window_start"], row["row"]["clicks"]) for row in rows[:2]] == [
        ("shop-02", expected_at, 18),
        ("münchen", expected_at, 18),
    ]
    assert [row[RULE] for row in rows] == [None, None, *["wrong_key"] * len(wrong)]
    assert all(says in row["reason"] for row, (_, says) in zip(rows[2:], wrong, strict=True))
    # A value that says another page than the key, a deletion that names its row, and times as text.
    other = decoded(
        spark_session,
        [(real, b'{"page": "x", "clicks": 1}'), (real, None)],
        tombstones=True,
        time_format="iso8601",
        **declared,
    )
    told = other.orderBy("offset").collect()
    assert [(row[RULE], row[TOMBSTONE]) for row in told] == [("key_differs", False), (None, True)]
    assert (told[1]["row"]["page"], told[1]["row"]["window_start"]) == ("shop-02", expected_at)


@pytest.mark.parametrize(
    ("dtype", "key"), [("BIGINT", (-7).to_bytes(8, "big", signed=True)), ("INT", (-7).to_bytes(4, "big", signed=True))]
)
def test_numbers_before_the_start_of_a_window_are_read_in_the_declared_width_or_refused(
    spark_session: SparkSession, dtype: str, key: bytes
) -> None:
    start = T_MS.to_bytes(8, "big")
    raw = spark_session.createDataFrame([(bytearray(k + start),) for k in (key, key + b"x", b"")], "key BINARY")
    binding = ExternalBinding(topic="t", key="kafka-streams", key_schema=f"page {dtype}")
    rows = with_json_key(raw, binding, JOB).collect()
    assert json.loads(bytes(rows[0][JSON_KEY])) == {"page": -7, "window_start": T_MS}
    assert [row[JSON_KEY] for row in rows[1:]] == [None, None]
    assert all("stand before the window's start" in row[WHY_NO_KEY] for row in rows[1:])
