"""Records in Avro and Protobuf: read whole by their own library, and then held against the source as strictly as JSON.

A record becomes JSON text in an Arrow function, value by value without loss: whole numbers with all their digits,
decimals and bytes as text, times in ISO 8601. From there the JSON decoder goes on, so that every rule of a source is
the same for each format. What its library cannot read goes to quarantine with that library's own reason.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from importlib.util import find_spec
from typing import Any
from uuid import UUID

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf
from pyspark.sql.types import StringType, StructField, StructType

from twinrun.errors import JobError
from twinrun.events.json_ import computed_once, decode_json
from twinrun.events.source import Avro, Payload, Protobuf

_FRAME_BYTES = 5
_SHOWN = 120
_READ = StructType([StructField(name, StringType()) for name in ("text", "rule", "reason")])


def decode_payload(rows: DataFrame, wire: StructType, payload: Payload) -> DataFrame:
    """Read one record per value; see `twinrun.events.json_.Decoder` for the columns. Lazy.

    Rules of its own: ``not_avro``, ``not_protobuf`` (not what the schema would write) and ``other_schema`` (a frame
    with another id than the declared one).
    """
    read: Any = pandas_udf(_reader_of_batches(payload), _READ)  # type: ignore[call-overload]
    names = [name for name in rows.columns if name != "value"]
    once = computed_once(rows, {"_read": read("value")})
    texts = once.select(F.col("value").alias("_bytes"), *names, "_read", _as_value().alias("value"))
    found = decode_json(texts, wire)
    bad = F.col("_read.rule")
    return found.select(
        F.col("_bytes").alias("value"),
        *names,
        F.when(bad.isNull(), F.col("_fields")).alias("_fields"),
        F.coalesce(bad, F.col("_format_rule")).alias("_format_rule"),
        F.when(bad.isNotNull(), F.col("_read.reason")).otherwise(F.col("_format_reason")).alias("_format_reason"),
    )


def _as_value() -> Any:
    """What the JSON decoder is given: the text, and an empty object where there is none, which the rule overrules."""
    return F.when(F.col("_read.rule").isNull(), F.col("_read.text")).otherwise("{}").cast("binary")


def check_payload(payload: Payload, fields: list[str], event_time: str, event_time_format: str) -> None:
    """Refuse a payload that cannot be read, or that lacks a field of its source. No Spark.

    Raises
    ------
    JobError
        What was found, what was expected, what to do.
    """
    if payload.schema_id is not None and payload.framing is None:
        raise JobError("schema_id without a framing: the records have no id.", fix="say framing='confluent'")
    if payload.framing not in (None, "confluent"):
        raise JobError(f"framing {payload.framing!r} is not known.", expected="'confluent' or None")
    known = _avro_fields(payload) if isinstance(payload, Avro) else _protobuf_fields(payload)
    missing = [name for name in fields if name not in known]
    if missing:
        raise JobError(
            f"the schema of the records has no field {', '.join(missing)}.",
            expected=f"of {', '.join(known)}",
            fix="name the fields of the source as the schema does",
        )
    if known.get(event_time) and event_time_format == "epoch_ms":
        raise JobError(
            f"{event_time} is a time in the records' schema, and is read as such.",
            expected="event_time_format='iso8601'",
            fix="say so in the source; nothing has to be converted",
        )


def _avro_fields(payload: Avro) -> dict[str, bool]:
    """By name, whether a field of the record is an instant."""
    if find_spec("fastavro") is None:
        raise JobError("Avro is read by fastavro, and that is not installed.", fix="pip install 'twinrun[avro]'")
    import fastavro

    try:
        parsed: Any = fastavro.parse_schema(json.loads(payload.schema))
    except Exception as error:
        raise JobError(
            f"the Avro schema cannot be read: {shortly(error)}.", expected="the text of an .avsc file"
        ) from None
    if not isinstance(parsed, dict) or parsed.get("type") != "record":
        raise JobError("the Avro schema is no record.", expected="a schema with type record")
    return {each["name"]: "timestamp" in json.dumps(each["type"]) for each in parsed["fields"]}


def _protobuf_fields(payload: Protobuf) -> dict[str, bool]:
    try:
        descriptor = _message_class(payload.descriptors, payload.message).DESCRIPTOR
    except KeyError:
        raise JobError(
            f"the descriptors have no message {payload.message!r}.", expected="its full name, as shop.Order"
        ) from None
    except Exception as error:
        raise JobError(
            f"the descriptors cannot be read: {shortly(error)}.",
            expected="what protoc --include_imports --descriptor_set_out writes, in base64",
        ) from None
    instant = "google.protobuf.Timestamp"
    return {
        each.name: each.message_type is not None and each.message_type.full_name == instant
        for each in descriptor.fields
    }


# In the tasks: bytes to JSON text, or to a rule and a reason. Built once per worker.


def _reader_of_batches(payload: Payload) -> Callable[[Any], Any]:
    def read(values: Any) -> Any:
        import pandas as pd

        one = _reader(payload)
        return pd.DataFrame(values.map(one).tolist(), columns=["text", "rule", "reason"], dtype=object)

    # Spark 4.2 looks at the annotations of the function itself for what kind it is.
    import pandas as pd

    read.__annotations__ = {"values": pd.Series, "return": pd.DataFrame}
    return read


Read = tuple[str | None, str | None, str | None]
"""Text, rule and reason."""


@cache
def _reader(payload: Payload) -> Callable[[bytes | None], Read]:
    if isinstance(payload, Avro):
        parse, rule, named = _avro_parser(payload), "not_avro", "the Avro schema"
    else:
        parse, rule, named = _protobuf_parser(payload), "not_protobuf", f"the message {payload.message}"

    def read(value: bytes | None) -> Read:
        if value is None or (len(value) == 0 and (isinstance(payload, Avro) or payload.framing)):
            return None, "empty_value", "the record has no value"
        start, problem = _body(value, payload)
        if problem is not None:
            return None, problem[0] or rule, problem[1]
        try:
            found, used = parse(value[start:])
            text = json_text(found)
        except UnicodeDecodeError:
            return None, "not_utf8", "a text in the record is not valid UTF-8"
        except Exception as error:
            return None, rule, f"not a record of {named}: {shortly(error)}"
        if used < len(value) - start:
            more = len(value) - start - used
            return None, "trailing_bytes", f"{more} bytes after the record, which ends at byte {start + used}"
        return text, None, None

    return read


def _body(value: bytes, payload: Payload) -> tuple[int, tuple[str, str] | None]:
    """Where the record begins; or a rule (empty: that of the format) and a reason."""
    if payload.framing is None:
        return 0, None
    if len(value) < _FRAME_BYTES or value[0] != 0:
        return 0, ("", "the value does not begin with a zero byte and the id of a schema, as Confluent's frame does")
    found = int.from_bytes(value[1:_FRAME_BYTES], "big")
    if payload.schema_id is not None and found != payload.schema_id:
        return 0, ("other_schema", f"written with the schema {found}, the source declares {payload.schema_id}")
    if isinstance(payload, Avro):
        return _FRAME_BYTES, None
    end = _after_message_place(value)
    return (end, None) if end else (0, ("", "the frame ends within the place of the message"))


def _after_message_place(value: bytes) -> int:
    """Where Confluent's list of indexes ends: a zigzag count, then so many; 0 stands for the first message."""
    at, left = _FRAME_BYTES, None
    while left is None or left > 0:
        number = shift = 0
        while True:
            if at >= len(value) or shift > 35:
                return 0
            byte = value[at]
            number |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                break
        left = (number >> 1) if left is None else left - 1
    return at


def _avro_parser(payload: Avro) -> Callable[[bytes], tuple[Any, int]]:
    import fastavro

    schema = fastavro.parse_schema(json.loads(payload.schema))

    def parse(body: bytes) -> tuple[Any, int]:
        stream = io.BytesIO(body)
        found = fastavro.schemaless_reader(stream, schema, None)
        return found, stream.tell()

    return parse


def _protobuf_parser(payload: Protobuf) -> Callable[[bytes], tuple[Any, int]]:
    kind = _message_class(payload.descriptors, payload.message)

    def parse(body: bytes) -> tuple[Any, int]:
        message = kind()
        message.ParseFromString(body)
        return _plain(message), len(body)

    return parse


@cache
def _message_class(descriptors: str, name: str) -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    files = descriptor_pb2.FileDescriptorSet.FromString(base64.b64decode(descriptors, validate=True))
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)  # type: ignore[attr-defined,unused-ignore]
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def _plain(message: Any) -> Any:
    """A message as plain values; None where a field that tells whether it is there is not."""
    name = message.DESCRIPTOR.full_name
    if name == "google.protobuf.Timestamp":
        return message.ToJsonString()
    if name.startswith("google.protobuf.") and name.endswith("Value") and "value" in message.DESCRIPTOR.fields_by_name:
        return message.value
    return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields}


def _field(message: Any, field: Any) -> Any:
    value = getattr(message, field.name)
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        of = entry.fields_by_name["value"]
        return {_key(key): _single(each, of) for key, each in value.items()}
    if field.is_repeated:
        return [_single(each, field) for each in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _single(value, field)


def _key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _single(value: Any, field: Any) -> Any:
    if field.message_type is not None:
        return _plain(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return value if known is None else known.name
    return value


# Plain values as JSON text, none of them changed on the way.


def json_text(value: Any) -> str:
    """JSON of a value that Avro or Protobuf holds.

    Whole numbers keep all digits and fractions the shortest ones that give the same double. Decimals are texts, as
    bytes are (base64), UUIDs, days, times of day and instants (ISO 8601, UTC, microseconds); a time without a zone has
    none. NaN and the infinities are texts, which no number takes.
    """
    return json.dumps(_exact(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _exact(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _exact(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_exact(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime):
        return _instant(value)
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, (UUID, timedelta)):
        return str(value)
    return value


def _instant(value: datetime) -> str:
    if value.tzinfo is None:
        return value.isoformat(timespec="microseconds")
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def shortly(error: BaseException) -> str:
    """The first line of an error, without its full stop; its kind where it says nothing."""
    said = str(error).strip().splitlines()
    return (said[0][:_SHOWN] if said else type(error).__name__).rstrip(".")
