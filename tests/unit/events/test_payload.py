"""Records in Avro and Protobuf: no value changes on the way, and what its library cannot read is named and kept."""

from __future__ import annotations

import base64
import io
import json
import struct
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2, wrappers_pb2
from pyspark.sql import Row, SparkSession

from twinrun import Avro, Job, Protobuf, Source
from twinrun.errors import JobError
from twinrun.events.decode import decode, decoder_fingerprint
from twinrun.job.check import check_definition

AT = datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
AVSC: dict[str, Any] = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "amount", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 4}]},
        {"name": "count", "type": "long"},
        {"name": "weight", "type": "double"},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["NEW", "PAID"]}},
        {"name": "raw", "type": ["null", "bytes"], "default": None},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "prices", "type": {"type": "map", "values": "double"}},
        {"name": "unused", "type": "int", "default": 0},
    ],
}
SCHEMA = (
    "id STRING NOT NULL, at TIMESTAMP NOT NULL, amount DECIMAL(20,4), count BIGINT, weight DOUBLE, kind STRING, "
    "raw BINARY, day DATE, tags ARRAY<STRING>, prices MAP<STRING, DOUBLE>"
)
ORDER: dict[str, Any] = {
    "id": '\u00f6\U0001f600"1',
    "at": AT,
    "amount": Decimal("1234567890123456.7890"),
    "count": 2**62 + 1,
    "weight": 0.1 + 0.2,
    "kind": "PAID",
    "raw": b"\x00\xff",
    "day": date(1969, 12, 31),
    "tags": ["a", ""],
    "prices": {"x": 1e-300},
    "unused": 7,
}


def source(payload: Avro | Protobuf, schema: str = SCHEMA, form: Any = "iso8601") -> Source:
    return Source(
        "orders", schema=schema, event_time="at", event_time_format=form, format=payload, max_ahead=None, lateness=None
    )


def avro(order: dict[str, Any], schema: dict[str, Any] = AVSC) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), order)
    return out.getvalue()


def decoded(spark: SparkSession, declared: Source, values: list[bytes | None]) -> list[Row]:
    rows = [(None if v is None else bytearray(v), "t", 0, n, AT) for n, v in enumerate(values)]
    raw = spark.createDataFrame(rows, "value BINARY, topic STRING, partition INT, offset BIGINT, timestamp TIMESTAMP")
    return sorted(decode(raw, declared).collect(), key=lambda row: row["_offset"])


def test_every_value_of_an_avro_record_arrives_as_it_is(spark_session: SparkSession) -> None:
    (row,) = decoded(spark_session, source(Avro(json.dumps(AVSC))), [avro(ORDER)])
    found = row.asDict()
    assert (found["_rule"], found["_reason"]) == (None, None)
    expected = {name: value for name, value in ORDER.items() if name != "unused"}
    assert found.pop("at").astimezone(UTC) == expected.pop("at")
    assert {name: found[name] for name in expected} == expected


def test_what_is_no_record_of_the_schema_is_named_and_none_is_lost(spark_session: SparkSession) -> None:
    good = avro(ORDER)
    nan = avro({**ORDER, "weight": float("nan")})
    claims_two_gigabytes = b"\xfe\xff\xff\xff\x0f" + b"a"
    broken = {
        "trailing_bytes": [good + b"x", good + good],
        "not_avro": [good[:-1], good[:7], b"\x00", claims_two_gigabytes, b'{"id": "a"}'],
        "not_utf8": [good.replace("\u00f6".encode(), b"\xff\xfe", 1)],
        "empty_value": [b"", None],
        "wrong_type": [nan],
    }
    values = [good, *(value for each in broken.values() for value in each), good]
    rows = decoded(spark_session, source(Avro(json.dumps(AVSC))), values)
    rules = [None, *(rule for rule, each in broken.items() for _ in each), None]
    assert [row["_rule"] for row in rows] == rules
    assert [row["id"] for row in rows if row["_rule"] is None] == [ORDER["id"]] * 2
    reasons = [row["_reason"] for row in rows if row["_rule"] is not None]
    assert all(reasons)
    assert reasons[0] == f"1 bytes after the record, which ends at byte {len(good)}"
    assert "not a record of the Avro schema: " in reasons[2]


def test_confluents_frame_is_read_over_and_another_schema_refused(spark_session: SparkSession) -> None:
    body = avro(ORDER)
    framed = [b"\x00" + struct.pack(">I", number) + body for number in (7, 8)]
    values = [*framed, body, b"\x00\x00", b""]
    strict = decoded(spark_session, source(Avro(json.dumps(AVSC), "confluent", 7)), values)
    assert [row["_rule"] for row in strict] == [None, "other_schema", "not_avro", "not_avro", "empty_value"]
    assert strict[1]["_reason"] == "written with the schema 8, the source declares 7"
    any_id = decoded(spark_session, source(Avro(json.dumps(AVSC), "confluent")), values)
    assert [row["_rule"] for row in any_id] == [None, None, "not_avro", "not_avro", "empty_value"]


def descriptors() -> str:
    file = descriptor_pb2.FileDescriptorProto(name="shop.proto", package="shop", syntax="proto3")
    file.dependency.extend(["google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto"])
    kind = file.enum_type.add(name="Kind")
    for number, name in enumerate(("NEW", "PAID")):
        kind.value.add(name=name, number=number)
    order = file.message_type.add(name="Order")
    types = descriptor_pb2.FieldDescriptorProto
    for number, (name, what, more) in enumerate(
        [
            ("id", types.TYPE_STRING, {}),
            ("at", types.TYPE_MESSAGE, {"type_name": ".google.protobuf.Timestamp"}),
            ("count", types.TYPE_INT64, {}),
            ("weight", types.TYPE_DOUBLE, {}),
            ("kind", types.TYPE_ENUM, {"type_name": ".shop.Kind"}),
            ("raw", types.TYPE_BYTES, {}),
            ("tags", types.TYPE_STRING, {"label": types.LABEL_REPEATED}),
            ("note", types.TYPE_MESSAGE, {"type_name": ".google.protobuf.StringValue"}),
            ("big", types.TYPE_UINT64, {}),
        ],
        start=1,
    ):
        order.field.add(name=name, number=number, type=what, **{"label": types.LABEL_OPTIONAL, **more})
    entry = order.nested_type.add(name="PricesEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=types.TYPE_STRING, label=types.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=types.TYPE_DOUBLE, label=types.LABEL_OPTIONAL)
    order.field.add(
        name="prices",
        number=10,
        type=types.TYPE_MESSAGE,
        label=types.LABEL_REPEATED,
        type_name=".shop.Order.PricesEntry",
    )
    files = descriptor_pb2.FileDescriptorSet()
    for needed in (timestamp_pb2, wrappers_pb2):
        needed.DESCRIPTOR.CopyToProto(files.file.add())
    files.file.append(file)
    return base64.b64encode(files.SerializeToString()).decode()


DESCRIPTORS = descriptors()
PROTO_SCHEMA = (
    "id STRING NOT NULL, at TIMESTAMP NOT NULL, count BIGINT, weight DOUBLE, kind STRING, raw BINARY, "
    "tags ARRAY<STRING>, note STRING, prices MAP<STRING, DOUBLE>, big DECIMAL(20,0)"
)


def proto(**fields: Any) -> bytes:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(base64.b64decode(DESCRIPTORS)).file:
        pool.Add(file)
    order = message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Order"))()
    at = fields.pop("at", AT)
    order.at.seconds, order.at.nanos = int(at.timestamp()), at.microsecond * 1000
    for name, value in fields.items():
        if name == "prices":
            order.prices.update(value)
        elif name == "tags":
            order.tags.extend(value)
        elif name == "note":
            order.note.value = value
        else:
            setattr(order, name, value)
    return order.SerializeToString()


def test_every_value_of_a_protobuf_message_arrives_as_it_is(spark_session: SparkSession) -> None:
    given = {"id": "\u00f6", "count": -(2**62) - 1, "weight": 0.1, "kind": 1, "raw": b"\x00", "tags": ["a", ""]}
    full = proto(**given, prices={"x": 2.5}, note="", big=2**64 - 1)
    bare = proto(id="b")
    rows = decoded(spark_session, source(Protobuf(DESCRIPTORS, "shop.Order"), PROTO_SCHEMA), [full, bare])
    found = rows[0].asDict()
    assert found["_rule"] is None, found["_reason"]
    assert found["at"].astimezone(UTC) == AT
    assert {name: found[name] for name in given} == {**given, "kind": "PAID"}
    assert (found["prices"], found["note"], found["big"]) == ({"x": 2.5}, "", Decimal(2**64 - 1))
    # What tells whether it is there is null where it is not; all else has its default, as for every reader.
    assert (rows[1]["note"], rows[1]["count"], rows[1]["kind"], rows[1]["tags"]) == (None, 0, "NEW", [])


def test_what_is_no_message_is_named_and_a_place_in_the_frame_is_read_over(spark_session: SparkSession) -> None:
    good = proto(id="a")
    frame = b"\x00" + struct.pack(">I", 7)
    payload = Protobuf(DESCRIPTORS, "shop.Order", "confluent", 7)
    bodies = [b"\x00" + good, b"\x04\x02\x00" + good, b"\x04\x02", b"\x00" + good[:-1]]
    values = [*(frame + body for body in bodies), good]
    rows = decoded(spark_session, source(payload, PROTO_SCHEMA), values)
    assert [row["_rule"] for row in rows] == [None, None, "not_protobuf", "not_protobuf", "not_protobuf"]
    plain = decoded(spark_session, source(Protobuf(DESCRIPTORS, "shop.Order"), PROTO_SCHEMA), [b"\xff\xff", b""])
    # Nothing at all is a message of nothing but defaults, and so one without a time.
    assert [row["_rule"] for row in plain] == ["not_protobuf", "null_event_time"]


@pytest.mark.parametrize(
    ("payload", "schema", "form", "said"),
    [
        (Avro("{"), SCHEMA, "iso8601", "the Avro schema cannot be read"),
        (Avro('"string"'), SCHEMA, "iso8601", "the Avro schema is no record"),
        (Avro(json.dumps(AVSC), schema_id=3), SCHEMA, "iso8601", "schema_id without a framing"),
        (Avro(json.dumps(AVSC), "other"), SCHEMA, "iso8601", "framing 'other' is not known"),  # type: ignore[arg-type]
        (Avro(json.dumps(AVSC)), SCHEMA + ", colour STRING", "iso8601", "has no field colour"),
        (Avro(json.dumps(AVSC)), SCHEMA, "epoch_ms", "at is a time in the records' schema"),
        (Protobuf("??", "shop.Order"), PROTO_SCHEMA, "iso8601", "the descriptors cannot be read"),
        (Protobuf(DESCRIPTORS, "shop.Nothing"), PROTO_SCHEMA, "iso8601", "have no message 'shop.Nothing'"),
        (Protobuf(DESCRIPTORS, "shop.Order"), PROTO_SCHEMA + ", colour STRING", "iso8601", "has no field colour"),
    ],
)
def test_a_schema_that_does_not_fit_is_refused_with_the_definition(
    payload: Avro | Protobuf, schema: str, form: str, said: str
) -> None:
    job = Job(lambda orders: orders, sources=[source(payload, schema, form)], keys=["id"], name="as_it_is")
    with pytest.raises(JobError, match=said):
        check_definition(job)


def test_the_schema_is_part_of_what_a_source_declares_and_json_is_as_it_was() -> None:
    one, other = Avro(json.dumps(AVSC)), Avro(json.dumps(AVSC), "confluent")
    assert decoder_fingerprint(source(one)) != decoder_fingerprint(source(other))
    known = Source("x", schema="id STRING, ts BIGINT", event_time="ts")
    assert decoder_fingerprint(known) == KNOWN, "streams of an older twinrun would refuse their checkpoints"


KNOWN = "a23243988389"
