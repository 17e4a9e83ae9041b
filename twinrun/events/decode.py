"""Bytes to typed rows: one pure function that both modes use.

Every record comes out as exactly one row: with ``_rule`` null it is an event, otherwise it belongs to quarantine.
No rule looks at the wall clock, so that a replay decides the same.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    DataType,
    DecimalType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from twinrun.errors import JobError
from twinrun.events.json_ import quoted
from twinrun.events.registry import find_decoder
from twinrun.events.rules import field_rules, in_calendar, iso8601_instant
from twinrun.events.source import COORDINATES, Source

DECODER_VERSION = "1"
"""Raised whenever the same bytes could decode differently; part of every quarantine row."""


def decoder_fingerprint(source: Source) -> str:
    """Short id of decoder version and declaration: equal ids decode equal bytes equally."""
    declared = {k: v for k, v in asdict(source).items() if k not in ("lateness", "id", "distinct", "offsets")}
    text = json.dumps([DECODER_VERSION, declared], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def declared_fields(source: Source) -> StructType:
    """The declared DDL as a schema; needs an active Spark session."""
    schema = StructType.fromDDL(source.schema)
    if not isinstance(schema, StructType):
        raise JobError(f"the schema of source {source.name} is not a list of fields: {source.schema!r}")
    return schema


def event_schema(source: Source) -> StructType:
    """Schema of the source's events as a job sees them: declared fields, then the coordinates.

    Needs an active Spark session to read the DDL.
    """
    fields = [
        StructField(f.name, TimestampType() if f.name == source.event_time else f.dataType, f.nullable)
        for f in declared_fields(source)
    ]
    return StructType(
        [
            *fields,
            StructField("_topic", StringType(), False),
            StructField("_partition", IntegerType(), False),
            StructField("_offset", LongType(), False),
            StructField("_kafka_timestamp", TimestampType(), False),
        ]
    )


def decode(raw: DataFrame, source: Source) -> DataFrame:
    """Decode Kafka records, batch or streaming.

    Parameters
    ----------
    raw : DataFrame
        Columns of Spark's Kafka source: ``value, topic, partition, offset, timestamp`` (others are ignored).
    source : Source
        The declaration.

    Returns
    -------
    DataFrame
        The source's fields (event time as UTC timestamp), the coordinates, ``_rule`` and ``_reason``; one row per
        record, in no order. Lazy: no Spark job.
    """
    declared = declared_fields(source)
    wire = StructType([StructField(f.name, _wire_type(f, source)) for f in declared])
    records = raw.select(
        "value",
        F.col("topic").alias("_topic"),
        F.col("partition").alias("_partition"),
        F.col("offset").alias("_offset"),
        F.col("timestamp").alias("_kafka_timestamp"),
    )
    rows = find_decoder(source.format)(records, wire)
    rule, reason = field_rules(declared, source)
    return rows.select(
        *[_typed(f, source).alias(f.name) for f in declared],
        *[F.col(name) for name in COORDINATES],
        rule.alias("_rule"),
        reason.alias("_reason"),
    )


def valid_events(decoded: DataFrame, source: Source) -> DataFrame:
    """Keep the events: exactly the declared fields and the coordinates, as a job sees them."""
    names = [f.name for f in declared_fields(source)]
    return decoded.filter(F.col("_rule").isNull()).select(
        *[F.col(quoted(name)) for name in names], *[F.col(name) for name in COORDINATES]
    )


def _wire_type(field: StructField, source: Source) -> DataType:
    """The type read from the record; wider than declared where from_json would round in silence."""
    if field.name == source.event_time:
        return LongType() if source.event_time_format == "epoch_ms" else StringType()
    if isinstance(field.dataType, DecimalType):
        whole_digits = field.dataType.precision - field.dataType.scale
        return DecimalType(38, 38 - whole_digits)
    return field.dataType


def _typed(field: StructField, source: Source) -> Column:
    column = F.col("_fields")[field.name]
    if field.name == source.event_time:
        return event_time_of(column, source)
    if isinstance(field.dataType, DecimalType):
        return column.try_cast(field.dataType)
    return column


def event_time_of(column: Column, source: Source) -> Column:
    """The event time as a timestamp, null where it cannot be one."""
    if source.event_time_format == "epoch_ms":
        return F.when(in_calendar(column), F.timestamp_millis(column))
    return iso8601_instant(column)
