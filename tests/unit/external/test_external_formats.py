"""Records around a row: windows of quixstreams, changes of Debezium, rows with a sign, keys of sessions."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from twinrun import Job, Source
from twinrun.config.sections import ExternalBinding
from twinrun.external.formats import field_names
from twinrun.external.records import REASON, RULE, TOMBSTONE, decode_records
from twinrun.external.topic import _latest, _not_taken_back, _without_overdrawn
from twinrun.external.windowed import JSON_KEY, WHY_NO_KEY, with_json_key

T_MS = 1_704_067_200_000
SOURCE = Source("orders", schema="id STRING NOT NULL, at BIGINT NOT NULL", event_time="at", lateness="1 minute")
JOB = Job(lambda orders: orders, sources=[SOURCE], keys=["shop", "window_start"], window="1 minute", name="job")
SCHEMA = "shop STRING, window_start TIMESTAMP, orders BIGINT, cents BIGINT"
QUIX = {"format": "quix", "key": "plain", "key_schema": "shop STRING"}


def records(spark: SparkSession, pairs: list[tuple[Any, Any]]) -> DataFrame:
    rows = [(key and bytearray(key), value and bytearray(value), "t", 0, n, 0) for n, (key, value) in enumerate(pairs)]
    kinds = "key BINARY, value BINARY, topic STRING, partition INT, offset BIGINT, at BIGINT"
    return spark.createDataFrame(rows, kinds).withColumn("timestamp", F.timestamp_millis("at"))


def decoded(
    spark: SparkSession, pairs: list[tuple[Any, Any]], declared: dict[str, Any], schema: str = SCHEMA
) -> DataFrame:
    binding = ExternalBinding(topic="t", **declared)
    latest = binding.format == "debezium"
    return decode_records(records(spark, pairs), StructType.fromDDL(schema), JOB, binding, tombstones=latest).orderBy(
        "offset"
    )


def window(**more: Any) -> bytes:
    return json.dumps({"start": T_MS, "end": T_MS + 60_000, "orders": 18, "cents": 4_200, **more}).encode()


def without(value: bytes, name: str) -> bytes:
    return json.dumps({key: each for key, each in json.loads(value).items() if key != name}).encode()


def test_a_window_of_quixstreams_is_a_row_and_what_is_none_is_kept_with_its_reason(spark_session: SparkSession) -> None:
    wrong = [
        ((None, window()), "wrong_key", "it is null"),
        ((b"\xff", window()), "wrong_key", "not UTF-8"),
        ((b"a", window(end=T_MS + 59_999)), "wrong_window", "its window is of 59999 ms, the job's of 60000"),
        ((b"a", without(window(), "end")), "missing_field", "end"),
        ((b"a", without(window(), "start")), "missing_field", "window_start"),
        ((b"a", window(orders="many")), "wrong_type", "orders"),
        ((b"a", window(shop="b")), "key_differs", "shop"),
        ((b"a", None), "empty_value", "no value"),
    ]
    rows = decoded(spark_session, [("münchen".encode(), window()), *(pair for pair, _, _ in wrong)], QUIX).collect()
    assert [row[RULE] for row in rows] == [None, *(rule for _, rule, _ in wrong)]
    assert all(says in row[REASON] for row, (_, _, says) in zip(rows[1:], wrong, strict=True))
    row = rows[0]["row"]
    assert (row["shop"], row["orders"], row["cents"]) == ("münchen", 18, 4_200)
    assert row["window_start"] == spark_session.range(1).select(F.timestamp_millis(F.lit(T_MS))).collect()[0][0]


def test_the_value_of_a_single_aggregate_of_quixstreams_is_the_column_that_is_left(spark_session: SparkSession) -> None:
    schema = "shop STRING, window_start TIMESTAMP, orders BIGINT"
    value = json.dumps({"start": T_MS, "end": T_MS + 60_000, "value": 7}).encode()
    rows = decoded(spark_session, [(b"a", value)], QUIX, schema)
    (row,) = rows.collect()
    assert (row[RULE], row["row"]["orders"]) == (None, 7)
    names = field_names(ExternalBinding(topic="t", **QUIX), ["shop", "window_start", "orders"], JOB)
    assert rows.select(names.alias("names")).collect()[0]["names"] == ["window_start", "orders"]


def change(op: str, before: dict[str, Any] | None, after: dict[str, Any] | None, **more: Any) -> bytes:
    return json.dumps({"op": op, "before": before, "after": after, "ts_ms": T_MS, **more}).encode()


def row(shop: str, orders: float, **more: Any) -> dict[str, Any]:
    return {"shop": shop, "window_start": T_MS, "orders": orders, "cents": int(100 * orders), **more}


def latest(spark: SparkSession, pairs: list[tuple[Any, Any]], declared: dict[str, Any]) -> list[tuple[str, int]]:
    good = decoded(spark, pairs, declared).filter(F.col(RULE).isNull())
    rows = _latest(good, JOB, ExternalBinding(topic="t", **declared)).select("row.*").collect()
    return sorted((each["shop"], each["orders"]) for each in rows)


def test_changes_of_debezium_leave_the_newest_row_of_each_key(spark_session: SparkSession) -> None:
    """Also as Flink writes them (an update is a deletion and a creation), and with the schema around the change."""
    wrapped = json.dumps({"schema": {"type": "struct"}, "payload": json.loads(change("u", row("d", 1), row("d", 2)))})
    pairs = [
        (b"k", change("r", None, row("a", 1))),
        (b"k", change("u", row("a", 1), row("a", 2))),
        (b"k", change("c", None, row("b", 1))),
        (b"k", change("d", row("b", 1), None)),
        (b"k", None),  # behind a deletion, for the compaction of the topic
        (None, change("c", None, row("c", 1))),
        (None, change("d", row("c", 1), None)),
        (None, change("c", None, row("c", 5))),
        (b"k", wrapped.encode()),
    ]
    rows = decoded(spark_session, pairs, {"format": "debezium"}).collect()
    assert [each[RULE] for each in rows] == [None] * len(pairs)
    assert [each[TOMBSTONE] for each in rows] == [False, False, False, True, True, False, True, False, False]
    assert latest(spark_session, pairs, {"format": "debezium"}) == [("a", 2), ("c", 5), ("d", 2)]


def test_a_change_that_is_none_is_kept_with_its_reason(spark_session: SparkSession) -> None:
    wrong = [
        (change("x", None, row("a", 1)), "wrong_op", "field op is x, and not c, r, u or d"),
        (change("u", row("a", 1), None), "missing_image", "op u has no after"),
        (change("d", None, row("a", 1)), "missing_image", "op d has no before"),
        (json.dumps(row("a", 1)).encode(), "missing_field", "field op is missing or null"),
        (change("c", None, without_field(row("a", 1), "shop")), "missing_field", "key column shop"),
        (change("c", None, row("a", 1.5)), "wrong_type", "orders"),
        (b'{"op": "c", "after"', "not_json", "not a JSON object"),
    ]
    rows = decoded(spark_session, [(b"k", value) for value, _, _ in wrong], {"format": "debezium"}).collect()
    assert [each[RULE] for each in rows] == [rule for _, rule, _ in wrong]
    assert all(says in each[REASON] for each, (_, _, says) in zip(rows, wrong, strict=True))


def without_field(fields: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}


def signed(fields: dict[str, Any], diff: Any) -> tuple[None, bytes]:
    """As pathway writes a row: with ``diff`` and the ``time`` of its minibatch."""
    return None, json.dumps({**fields, "diff": diff, "time": 2}).encode()


def test_rows_with_a_sign_leave_what_was_written_and_not_taken_back(spark_session: SparkSession) -> None:
    pairs = [
        signed(row("a", 1), 1),
        signed(row("a", 1), -1),
        signed(row("a", 2), 1),
        signed(row("b", 1), -1),  # its own taking back came first, of another partition
        signed(row("b", 1), 1),
        signed(row("b", 3), 1),
        signed(row("c", 4), 1),
        signed(row("c", 4), 1),  # written twice: a repeated row
        signed(row("d", 1, cents=None), 1),
        signed(row("d", 1), -1),  # another row than the one before
    ]
    judged = _without_overdrawn(decoded(spark_session, pairs, {"format": "diff"}))
    rows = _not_taken_back(judged.filter(F.col(RULE).isNull())).select("row.*").collect()
    assert Counter((each["shop"], each["orders"]) for each in rows) == {
        ("a", 2): 1,
        ("b", 3): 1,
        ("c", 4): 2,
        ("d", 1): 1,
    }
    (over,) = judged.filter(F.col(RULE).isNotNull()).collect()
    assert (over["offset"], over[RULE]) == (9, "taken_back")
    assert "taken back more often than it was written" in over[REASON]


def test_a_sign_that_is_none_is_kept_with_its_reason(spark_session: SparkSession) -> None:
    pairs = [signed(row("a", 1), 2), signed(row("a", 1), None), signed(row("a", 1), "up"), (None, None)]
    rows = decoded(spark_session, pairs, {"format": "diff"}).collect()
    assert [each[RULE] for each in rows] == ["wrong_diff", "missing_field", "wrong_type", "empty_value"]


def test_keys_of_sessions_hold_end_and_start(spark_session: SparkSession) -> None:
    job = replace(JOB, window=None, gap="30 seconds")
    start, end = T_MS.to_bytes(8, "big"), (T_MS + 5_000).to_bytes(8, "big")
    keys = [b"shop-02" + end + start, b"a" + start + end, b"a" + start, b"\xff" + end + start, None]
    raw = spark_session.createDataFrame([(key and bytearray(key),) for key in keys], "key BINARY")
    binding = ExternalBinding(topic="t", key="kafka-streams", key_schema="shop STRING")
    rows = with_json_key(raw, binding, job).collect()
    assert json.loads(bytes(rows[0][JSON_KEY])) == {"shop": "shop-02", "window_start": T_MS}
    assert [each[JSON_KEY] for each in rows[1:]] == [None] * 4
    says = ("begins at 1704067205000 ms and ends at 1704067200000 ms", "it has 9 bytes", "not UTF-8", "it is null")
    assert all(text in each[WHY_NO_KEY] for each, text in zip(rows[1:], says, strict=True))
