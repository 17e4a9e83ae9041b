"""Quarantine rules on decoded fields, tried in a fixed order; the first that matches names the record.

empty_value, not_utf8, not_json, trailing_bytes, wrong_type and out_of_range (a number too large for its type) come
from the format decoder. Here: missing_field, null_event_time, wrong_time_unit, event_time_ahead, out_of_range.
"""

from __future__ import annotations

from functools import reduce
from operator import or_

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import DecimalType, StructType

from twinrun.durations import human
from twinrun.events.source import Source

RULES = (
    "empty_value",
    "not_utf8",
    "not_json",
    "trailing_bytes",
    "wrong_type",
    "missing_field",
    "null_event_time",
    "wrong_time_unit",
    "event_time_ahead",
    "out_of_range",
)
"""Every rule id, in the order in which they are tried."""

_YEAR_MS = 31_557_600_000
_NEAR_MS = 20 * _YEAR_MS
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999  # years 1 to 9999: what a timestamp prints as
_ISO8601 = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})?$"


def field_rules(declared: StructType, source: Source) -> tuple[Column, Column]:
    """Rule id and reason of a decoded record, both null for a valid event.

    Read from the columns ``_fields`` (wire schema), ``_kafka_timestamp``, ``_format_rule`` and ``_format_reason``.
    """
    fields = F.col("_fields")
    checks: list[tuple[Column, str, Column]] = []
    for field in declared:
        if not field.nullable and field.name != source.event_time:
            missing = fields[field.name].isNull()
            checks.append((missing, "missing_field", F.lit(f"required field {field.name} is missing or null")))
    checks += _event_time_checks(fields[source.event_time], F.col("_kafka_timestamp"), source)
    for name, (low, high) in source.ranges.items():
        checks.append(_range_check(fields[name], name, low, high))
    for field in declared:
        if isinstance(field.dataType, DecimalType):
            checks.append(_digits_check(fields[field.name], field.name, field.dataType))
    unreadable = F.col("_format_rule").isNotNull()
    rule = F.when(unreadable, F.col("_format_rule"))
    reason = F.when(unreadable, F.col("_format_reason"))
    for condition, name, says in checks:
        rule = rule.when(condition, F.lit(name))
        reason = reason.when(condition, says)
    return rule, reason


def in_calendar(epoch_ms: Column) -> Column:
    """Whether an epoch in milliseconds lies in the years 1 to 9999; outside, timestamp_millis may fail the query."""
    return epoch_ms.between(F.lit(_FIRST_MS), F.lit(_LAST_MS))


def iso8601_instant(text: Column) -> Column:
    """A full ISO 8601 date and time as timestamp (no zone: UTC), null for anything else."""
    return F.when(text.rlike(_ISO8601), text.try_cast("timestamp"))


def _event_time_checks(wire: Column, kafka: Column, source: Source) -> list[tuple[Column, str, Column]]:
    name = source.event_time
    checks = [(wire.isNull(), "null_event_time", F.lit(f"event time {name} is missing or null"))]
    if source.event_time_format == "iso8601":
        instant = iso8601_instant(wire)
        says = F.concat(F.lit(f"event time {name} is not ISO 8601: "), F.substring(wire, 1, 80))
        checks.append((instant.isNull(), "wrong_type", says))
        event_ms = F.unix_millis(instant)
    else:
        event_ms = wire
        kafka_ms = F.unix_millis(kafka).cast("double")
        value = wire.cast("double")
        far = F.abs(value - kafka_ms) > _NEAR_MS
        # Only another unit brings the value near the time at which Kafka got the record.
        scaled = [value * 1000.0, value / 1000.0, value / 1_000_000.0]
        near = reduce(or_, (F.abs(candidate - kafka_ms) <= _NEAR_MS for candidate in scaled))
        says = F.concat(
            F.lit(f"event time {name} = "), wire.cast("string"), F.lit(" is not in milliseconds since 1970")
        )
        checks.append(((far & near) | ~in_calendar(wire), "wrong_time_unit", says))
    if source.max_ahead_ms is not None:
        ahead_ms = event_ms - F.unix_millis(kafka)
        says = F.concat(
            F.lit(f"event time {name} is "),
            F.round(ahead_ms / 1000.0, 3).cast("string"),
            F.lit(f" s later than the record's Kafka timestamp; allowed: {human(source.max_ahead_ms)}"),
        )
        checks.append((ahead_ms > source.max_ahead_ms, "event_time_ahead", says))
    return checks


def _range_check(
    column: Column, name: str, low: float | int | None, high: float | int | None
) -> tuple[Column, str, Column]:
    outside = [column < F.lit(low)] if low is not None else []
    outside += [column > F.lit(high)] if high is not None else []
    says = F.concat(
        F.lit(f"field {name} = "),
        column.cast("string"),
        F.lit(f" is outside [{'' if low is None else low}, {'' if high is None else high}]"),
    )
    return reduce(or_, outside, F.lit(False)), "out_of_range", says


def _digits_check(column: Column, name: str, declared: DecimalType) -> tuple[Column, str, Column]:
    kept = column.try_cast(declared)
    says = F.concat(
        F.lit(f"field {name} = "), column.cast("string"), F.lit(f" does not fit {declared.simpleString()} exactly")
    )
    return column.isNotNull() & (kept.isNull() | (kept != column)), "out_of_range", says
