"""Records of a result topic as rows of the job's result: each is a row, a tombstone, or malformed with a reason.

The same strict JSON decoder as for events; the schema is that of the batch's result. Nothing is dropped here.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, StructField, StructType

from twinrun.config.sections import ExternalBinding
from twinrun.events.exact import (
    SHOWN_CHARACTERS,
    TimeForm,
    as_declared,
    first_text,
    kind_and_value,
    no_time,
    unfit_number,
    wire_field,
    wire_type,
)
from twinrun.events.json_ import decode_json
from twinrun.external.declared import key_columns
from twinrun.external.formats import CELLS, DELETED, SIGN, Check, format_checks, wire_of, with_cells
from twinrun.external.windowed import JSON_KEY, WHY_NO_KEY, with_json_key
from twinrun.job.job import Job

ROW, RULE, REASON, TOMBSTONE = "row", "rule", "reason", "tombstone"
PLACE = ("topic", "partition", "offset", "timestamp", "record_key")


def decode_records(
    raw: DataFrame, schema: StructType, job: Job, binding: ExternalBinding, *, tombstones: bool
) -> DataFrame:
    """One row per record; lazy.

    Parameters
    ----------
    raw : DataFrame
        Columns of Spark's Kafka source: ``key, value, topic, partition, offset, timestamp``.
    schema : StructType
        Columns of the result, as the batch has them, less those that are not compared.
    job : Job
        With key columns; a record without one of them is malformed.
    tombstones : bool
        A null value deletes the row of the record's key; otherwise it is malformed.

    Returns
    -------
    DataFrame
        ``topic``, ``partition``, ``offset``, ``timestamp``, ``record_key``, ``value``; ``row`` (struct of the result,
        null unless it can be read; of a tombstone the key columns alone), ``tombstone``, ``sign`` (-1 of a row that is
        taken back, else 1), and ``rule`` and ``reason``, null for good records.
    """
    times, keys = _times(binding), job.keys
    wire = StructType([wire_field(f, wire_type(f.dataType, times)) for f in schema])
    place = [F.col(name) for name in PLACE]
    parts: dict[str, Column] = {}
    checks: list[Check] = []
    raw = raw.withColumn("record_key", F.col("key"))
    if binding.key_schema is not None:
        raw = with_json_key(raw, binding, job)
        place += [F.col(JSON_KEY), F.col(WHY_NO_KEY)]
        what = "that of a window" if binding.key == "kafka-streams" else binding.key_schema
        says = F.concat(F.lit(f"the record's key is not {what}: "), F.col(WHY_NO_KEY))
        checks.append((F.col(WHY_NO_KEY).isNotNull(), F.lit("wrong_key"), says))
    records = raw.select(*place, "value")
    if binding.key != "none":
        held = JSON_KEY if binding.key_schema is not None else "record_key"
        of_keys = StructType([field for field in wire if field.name in keys])
        keyed = records.withColumnRenamed("value", "_value").withColumn("value", F.col(held))
        keyed = decode_json(keyed, of_keys).withColumnsRenamed(
            {"_fields": "_key_fields", "_format_rule": "_key_rule", "_format_reason": "_key_reason"}
        )
        records = keyed.drop("value").withColumnRenamed("_value", "value")
        parts = {name: F.col("_key_fields")[name] for name in key_columns(binding, job)}
        says = F.concat(F.lit("the record's key: "), F.col("_key_reason"))
        checks.append((F.col("_key_rule").isNotNull(), F.concat(F.lit("key_"), F.col("_key_rule")), says))
    decoded = with_cells(decode_json(records, wire_of(wire, binding, job)), wire.names, binding, job)
    read = decoded.schema[CELLS].dataType
    assert isinstance(read, StructType)
    empty = F.col("value").isNull() & F.col("record_key").isNotNull() if tombstones else F.lit(False)
    deletes = empty | F.col(DELETED)
    fields = F.col(CELLS)
    cells = {f.name: F.coalesce(fields[f.name], parts[f.name]) if f.name in parts else fields[f.name] for f in wire}
    checks.append((F.col("_format_rule").isNotNull() & ~empty, F.col("_format_rule"), F.col("_format_reason")))
    checks += format_checks(binding, job)
    for name, part in parts.items():
        differs = fields[name].isNotNull() & part.isNotNull() & (fields[name] != part)
        says = F.lit(f"field {name} is not what the record's key says")
        checks.append((differs, F.lit("key_differs"), says))
    # A null value has no columns but those of its key; behind a change of Debezium it says nothing more.
    whole = ~empty | F.lit(binding.names_rows and binding.format != "debezium")
    for name in keys:
        says = F.lit(f"key column {name} is missing or null")
        checks.append((whole & cells[name].isNull(), F.lit("missing_field"), says))
    for field in schema:
        checks += _value_checks(field, cells[field.name], read[field.name].dataType, binding)
    row = F.struct(
        *[as_declared(cells[f.name], read[f.name].dataType, f.dataType, times).alias(f.name) for f in schema]
    )
    place = [F.col(name) for name in PLACE]
    judged = decoded.select(
        *place, "value", SIGN, row.alias(ROW), deletes.alias(TOMBSTONE), _first(checks).alias("_wrong")
    )
    return judged.select(
        *place,
        "value",
        F.when(F.col("_wrong").isNull(), F.col(ROW)).alias(ROW),
        TOMBSTONE,
        F.col(SIGN).alias("sign"),
        F.col("_wrong.rule").alias(RULE),
        F.col("_wrong.reason").alias(REASON),
    )


def _first(checks: list[Check]) -> Column:
    """Rule and reason of the first check that holds, null where none does."""
    told = [(holds, F.struct(name.alias(RULE), says.alias(REASON))) for holds, name, says in checks]
    first = F.when(*told[0])
    for holds, says in told[1:]:
        first = first.when(holds, says)
    return first


def _times(binding: ExternalBinding) -> TimeForm:
    """One form for all times, as declared; digits that the column could not hold are never cut off."""
    numbers = binding.time_format == "epoch_ms"
    return TimeForm(numbers=numbers, texts=not numbers, cut=False)


def _value_checks(field: StructField, cell: Column, read: DataType, binding: ExternalBinding) -> list[Check]:
    """At any depth: digits that the type does not hold, and times that are none."""
    name, checks = field.name, []
    unfit = first_text(cell, read, field.dataType, unfit_number)
    if unfit is not None:
        fits = F.lit(f" does not fit {field.dataType.simpleString()} exactly")
        says = F.concat(F.lit(f"field {name} = "), unfit, fits)
        checks.append((unfit.isNotNull(), F.lit("out_of_range"), says))
    wrong = first_text(cell, read, field.dataType, no_time(_times(binding)))
    if wrong is not None:
        shown = F.substring(kind_and_value(wrong)[1], 1, SHOWN_CHARACTERS)
        says = F.concat(F.lit(f"field {name} is not a time ({binding.time_format}): "), shown)
        checks.append((wrong.isNotNull(), F.lit("wrong_time"), says))
    return checks
