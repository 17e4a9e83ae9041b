"""Records of a result topic as rows of the job's result: each is a row, a tombstone, or malformed with a reason.

The same strict JSON decoder as for events; the schema is that of the batch's result. Nothing is dropped here.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    DataType,
    DecimalType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from twinrun.config.external import ExternalBinding
from twinrun.events.json_ import decode_json
from twinrun.events.rules import in_calendar, iso8601_instant

ROW, RULE, REASON, TOMBSTONE = "row", "rule", "reason", "tombstone"
PLACE = ("topic", "partition", "offset", "timestamp", "record_key")
_TIMES = (TimestampType, TimestampNTZType)
Check = tuple[Column, Column, Column]
"""Condition, rule and reason."""

_SHOWN_CHARACTERS = 80


def decode_records(
    raw: DataFrame, schema: StructType, keys: list[str], binding: ExternalBinding, *, tombstones: bool
) -> DataFrame:
    """One row per record; lazy.

    Parameters
    ----------
    raw : DataFrame
        Columns of Spark's Kafka source: ``key, value, topic, partition, offset, timestamp``.
    schema : StructType
        Columns of the result, as the batch has them, less those that are not compared.
    keys : list of str
        Key columns; a record without one of them is malformed.
    tombstones : bool
        A null value deletes the row of the record's key; otherwise it is malformed.

    Returns
    -------
    DataFrame
        ``topic``, ``partition``, ``offset``, ``timestamp``, ``record_key``, ``value``; ``row`` (struct of the result,
        null unless it can be read; of a tombstone the key columns alone), ``tombstone``, and ``rule`` and ``reason``,
        null for good records.
    """
    wire = StructType([StructField(f.name, _wire_type(f.dataType, binding)) for f in schema])
    place = [F.col(name) for name in PLACE]
    records = raw.withColumn("record_key", F.col("key")).select(*place, "value")
    parts: dict[str, Column] = {}
    checks: list[Check] = []
    if binding.key == "json":
        of_keys = StructType([field for field in wire if field.name in keys])
        keyed = records.withColumnRenamed("value", "_value").withColumn("value", F.col("record_key"))
        keyed = decode_json(keyed, of_keys).withColumnsRenamed(
            {"_fields": "_key_fields", "_format_rule": "_key_rule", "_format_reason": "_key_reason"}
        )
        records = keyed.drop("value").withColumnRenamed("_value", "value")
        parts = {name: F.col("_key_fields")[name] for name in keys}
        says = F.concat(F.lit("the record's key: "), F.col("_key_reason"))
        checks.append((F.col("_key_rule").isNotNull(), F.concat(F.lit("key_"), F.col("_key_rule")), says))
    decoded = decode_json(records, wire)
    deletes = F.col("value").isNull() & F.col("record_key").isNotNull() if tombstones else F.lit(False)
    fields = F.col("_fields")
    cells = {f.name: F.coalesce(fields[f.name], parts[f.name]) if f.name in parts else fields[f.name] for f in wire}
    checks.append((F.col("_format_rule").isNotNull() & ~deletes, F.col("_format_rule"), F.col("_format_reason")))
    for name, part in parts.items():
        differs = fields[name].isNotNull() & part.isNotNull() & (fields[name] != part)
        says = F.lit(f"field {name} is not what the record's key says")
        checks.append((differs, F.lit("key_differs"), says))
    whole = ~deletes | F.lit(binding.key == "json")  # a tombstone has no columns but those of its key
    for name in keys:
        says = F.lit(f"key column {name} is missing or null")
        checks.append((whole & cells[name].isNull(), F.lit("missing_field"), says))
    for field in schema:
        checks += _value_checks(field, cells[field.name], binding)
    rule, reason = _first(checks)
    row = F.struct(*[_typed(field.dataType, cells[field.name], binding).alias(field.name) for field in schema])
    told = [deletes.alias(TOMBSTONE), rule.alias(RULE), reason.alias(REASON)]
    marked = decoded.select(*place, "value", row.alias(ROW), *told)
    return marked.withColumn(ROW, F.when(F.col(RULE).isNull(), F.col(ROW)))


def _first(checks: list[Check]) -> tuple[Column, Column]:
    """Rule and reason of the first check that holds, both null where none does."""
    rule: Column = F.lit(None).cast("string")
    reason: Column = F.lit(None).cast("string")
    for condition, name, says in reversed(checks):
        holds = F.coalesce(condition, F.lit(False))
        rule, reason = F.when(holds, name).otherwise(rule), F.when(holds, says).otherwise(reason)
    return rule, reason


def _value_checks(field: StructField, cell: Column, binding: ExternalBinding) -> list[Check]:
    """What from_json would change in silence: digits that the type does not hold, and times that are none."""
    name = field.name
    if isinstance(field.dataType, DecimalType):
        kept = cell.try_cast(field.dataType)
        unfit = F.lit(f" does not fit {field.dataType.simpleString()} exactly")
        says = F.concat(F.lit(f"field {name} = "), cell.cast("string"), unfit)
        return [(cell.isNotNull() & (kept.isNull() | (kept != cell)), F.lit("out_of_range"), says)]
    if isinstance(field.dataType, _TIMES):
        wrong = ~in_calendar(cell) if binding.time_format == "epoch_ms" else iso8601_instant(cell).isNull()
        shown = F.substring(cell.cast("string"), 1, _SHOWN_CHARACTERS)
        says = F.concat(F.lit(f"field {name} is not a time ({binding.time_format}): "), shown)
        return [(cell.isNotNull() & wrong, F.lit("wrong_time"), says)]
    return []


def _wire_type(dtype: DataType, binding: ExternalBinding) -> DataType:
    """The type read from a record; wider where from_json would round in silence."""
    if isinstance(dtype, _TIMES):
        return LongType() if binding.time_format == "epoch_ms" else StringType()
    return DecimalType(38, 38 - (dtype.precision - dtype.scale)) if isinstance(dtype, DecimalType) else dtype


def _typed(dtype: DataType, cell: Column, binding: ExternalBinding) -> Column:
    if isinstance(dtype, _TIMES):
        epoch = F.when(in_calendar(cell), F.timestamp_millis(cell)) if binding.time_format == "epoch_ms" else None
        return (iso8601_instant(cell) if epoch is None else epoch).cast(dtype)
    return cell.try_cast(dtype) if isinstance(dtype, DecimalType) else cell
