"""Bytes to typed rows: one pure function that both modes use, and de-duplication by mode.

Every record comes out as exactly one row: with ``_rule`` null it is an event, otherwise it belongs to quarantine. No
rule looks at the wall clock, so that a replay decides the same.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, IntegerType, LongType, StringType, StructField, StructType, TimestampType

from twinrun.errors import JobError
from twinrun.events.exact import TIMES, as_declared, holds, quoted, wire_field, wire_type
from twinrun.events.json_ import computed_once, find_decoder
from twinrun.events.rules import field_rules, time_form
from twinrun.events.source import COORDINATES, Source

_INSTANT = "TIMESTAMP_LTZ"
DECODER_VERSION = "3"
"""Raised whenever the same bytes could decode differently; part of every quarantine row."""


def declaration_fingerprint(source: Source) -> str:
    """Short id of what a source declares about its records, whatever the decoder's version."""
    return _short("1", source)


def decoder_fingerprint(source: Source) -> str:
    """Short id of decoder version and declaration: equal ids decode equal bytes equally."""
    return _short(DECODER_VERSION, source)


def _short(version: str, source: Source) -> str:
    declared = {k: v for k, v in asdict(source).items() if k not in ("lateness", "id", "distinct", "offsets")}
    text = json.dumps([version, declared], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def declared_fields(source: Source) -> StructType:
    """The declared DDL as a schema; needs an active Spark session."""
    spark = SparkSession.getActiveSession()
    meaning = spark.conf.get("spark.sql.timestampType", _INSTANT) if spark else _INSTANT
    if meaning != _INSTANT:
        raise JobError(
            f"spark.sql.timestampType is {meaning}: a TIMESTAMP of the source {source.name} would be no instant.",
            expected=_INSTANT,
            fix="take it out of spark.conf, and declare TIMESTAMP_NTZ where a time without a zone is meant",
        )
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
    wire = StructType([wire_field(f, _wire_type(f, source)) for f in declared])
    records = raw.select(
        "value",
        F.col("topic").alias("_topic"),
        F.col("partition").alias("_partition"),
        F.col("offset").alias("_offset"),
        F.col("timestamp").alias("_kafka_timestamp"),
    )
    if isinstance(source.format, str):
        rows = find_decoder(source.format)(records, wire)
    else:
        # Late: few sources need it, and it brings Arrow along.
        from twinrun.events.payload import decode_payload

        rows = decode_payload(records, wire, source.format)
    read = rows.schema["_fields"].dataType
    assert isinstance(read, StructType)
    typed = {
        f.name: _typed(f, read[f.name].dataType, source)
        for f in declared
        if read[f.name].dataType.simpleString() != _declared_type(f, source).simpleString()
    }
    if any(_holds_text_as_time(read[name].dataType, declared[name].dataType) for name in typed):
        # Reading a text as a time is dear; everything else may as well be computed where it is used.
        rows = computed_once(rows, {"_typed": F.struct(*[c.alias(name) for name, c in typed.items()])})
        typed = {name: F.col("_typed")[name] for name in typed}
    number, rule, reason = field_rules(declared, read, source, typed)
    places = [F.col(name) for name in COORDINATES]
    fields = [typed.get(f.name, F.col("_fields")[f.name]).alias(f.name) for f in declared]
    which = F.col("_number")
    return rows.select("*", number.alias("_number")).select(
        *fields, *places, rule(which).alias("_rule"), reason(which).alias("_reason")
    )


def valid_events(decoded: DataFrame, source: Source) -> DataFrame:
    """Keep the events: exactly the declared fields and the coordinates, as a job sees them."""
    names = [f.name for f in declared_fields(source)]
    return decoded.filter(F.col("_rule").isNull()).select(
        *[F.col(quoted(name)) for name in names], *[F.col(name) for name in COORDINATES]
    )


def _wire_type(field: StructField, source: Source) -> DataType:
    """The type read from the record; wider than declared where reading would change a value in silence."""
    return wire_type(_declared_type(field, source), time_form(field, source))


def _declared_type(field: StructField, source: Source) -> DataType:
    return TimestampType() if field.name == source.event_time else field.dataType


def _typed(field: StructField, read: DataType, source: Source) -> Column:
    return as_declared(F.col("_fields")[field.name], read, _declared_type(field, source), time_form(field, source))


def _holds_text_as_time(read: DataType, declared: DataType) -> bool:
    return holds(read, StringType) and (holds(declared, *TIMES) or isinstance(read, StringType))


# De-duplication that a source declares once: each mode has its own operator for it.
#
# The stream remembers an id for as long as the watermark lets it (``dropDuplicatesWithinWatermark``); the batch, which
# has no such operator, keeps the first copy of all. They agree while copies come within the lateness of each other.


def distinct_in_stream(events: DataFrame, source: Source) -> DataFrame:
    """Events of a stream under a watermark, later copies dropped. Lazy; the state holds ids within the lateness."""
    return events.dropDuplicatesWithinWatermark(source.distinct) if source.distinct else events


def distinct_in_batch(events: DataFrame, source: Source) -> DataFrame:
    """Events at rest, only the first copy of each kept: by Kafka timestamp, then partition and offset. One shuffle."""
    if not source.distinct:
        return events
    row = F.struct(*[F.col(quoted(name)) for name in events.columns])
    keys = [F.col(quoted(name)).alias(f"_distinct_{index}") for index, name in enumerate(source.distinct)]
    first = events.groupBy(*keys).agg(
        F.min_by(row, F.struct("_kafka_timestamp", "_partition", "_offset")).alias("_row")
    )
    return first.select("_row.*")


def copies_kept(events: DataFrame, source: Source) -> DataFrame:
    """Coordinates of the copies beyond the first that the stream kept, since it had forgotten the id. Lazy.

    The rule (tried, 0 mismatches over six seeds): an event that is not late is suppressed if the id's last kept copy
    is of the same micro-batch, or if its event time + lateness is after the watermark that the event is judged by.

    Parameters
    ----------
    events : DataFrame
        Events that the stream read, with ``_micro_batch`` and ``_late_ms``.
    """
    moment = F.unix_micros(F.col(quoted(source.event_time)))
    one = F.struct(
        F.col("_micro_batch").alias("b"),
        F.col("_partition").alias("p"),
        F.col("_offset").alias("o"),
        F.col("_topic").alias("t"),
        moment.alias("at"),
        (F.col("_late_ms") * F.lit(1000)).alias("late"),
    )
    keys = [F.col(quoted(name)) for name in source.distinct]
    grouped = events.groupBy(*keys).agg(F.sort_array(F.collect_list(one)).alias("all"))
    several = grouped.filter(F.size("all") > 1)
    place = "array<struct<t:string,p:int,o:bigint>>"
    start = F.struct(
        F.lit(-1).cast("bigint").alias("b"), F.lit(None).cast("bigint").alias("at"), F.array().cast(place).alias("kept")
    )
    delay = F.lit((source.lateness_ms or 0) * 1000)

    def step(state: Column, event: Column) -> Column:
        late = event["at"] <= event["late"]
        known = state["at"].isNotNull() & ((state["b"] == event["b"]) | (state["at"] + delay > event["late"]))
        here = F.struct(event["t"].alias("t"), event["p"].alias("p"), event["o"].alias("o"))
        taken = F.struct(
            event["b"].alias("b"), event["at"].alias("at"), F.array_append(state["kept"], here).alias("kept")
        )
        return F.when(late | known, state).otherwise(taken)

    kept = several.select(F.aggregate("all", start, step)["kept"].alias("kept"))
    beyond = kept.select(F.explode(F.slice("kept", 2, 1_000_000)).alias("c"))
    return beyond.select(F.col("c.t").alias("_topic"), F.col("c.p").alias("_partition"), F.col("c.o").alias("_offset"))
