"""Quarantine rules on decoded fields, tried in a fixed order; the first that matches names the record.

empty_value, not_utf8, not_json, trailing_bytes, wrong_type and out_of_range (a number that its type does not hold) come
from the format decoder. Here: wrong_type and wrong_time_unit of times, missing_field, null_event_time,
event_time_ahead, out_of_range.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from functools import partial, reduce
from operator import or_

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import (
    DataType,
    DecimalType,
    DoubleType,
    FloatType,
    LongType,
    StructField,
    StructType,
    TimestampType,
)

from twinrun.durations import human
from twinrun.events.exact import (
    EITHER,
    SHOWN_CHARACTERS,
    TIMES,
    TimeForm,
    first_text,
    kind_and_value,
    kinds_of,
    missing_inside,
    no_time,
    no_time_of,
    other_unit,
    unfit_number,
)
from twinrun.events.source import Source
from twinrun.events.times import in_calendar, near_by_another_unit, outside_the_years, why_no_time

RULES = (
    "empty_value",
    "not_utf8",
    "other_schema",
    "not_avro",
    "not_protobuf",
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
_EXACT = Context(prec=800)
"""Enough digits for any double in full."""
TEXTS = TimeForm(numbers=False, texts=True)
NUMBERS = TimeForm(numbers=True, texts=False)
Check = tuple[Column, str, Column | None]
"""Condition, rule id and reason; without a reason where the values that are no time have it."""
Told = Callable[[Column], Column]


def time_form(field: StructField, source: Source) -> TimeForm:
    """How a source writes a field: its event time as ``event_time_format`` says, any other time in either form."""
    if field.name != source.event_time:
        return EITHER
    return NUMBERS if source.event_time_format == "epoch_ms" else TEXTS


def field_rules(
    declared: StructType, read: StructType, source: Source, typed: dict[str, Column]
) -> tuple[Column, Told, Told]:
    """What is wrong with a decoded record, in three parts.

    Read from the columns ``_fields`` (as they were read: ``read``), ``_kafka_timestamp``, ``_format_rule`` and
    ``_format_reason``; ``typed`` has the values that become another type, as they are declared.

    Returns
    -------
    number : Column
        INT, null for a valid event: which check failed. Cheap.
    rule, reason : callable
        From that number, as a column, to the rule, never null where the number is not, and to the reason; dear, for
        refused records only. Two, so that whoever does not want the reason does not plan it.
    """
    fields, name = F.col("_fields"), source.event_time
    kafka_ms = F.unix_millis("_kafka_timestamp")
    late: list[Check] = []
    unread: list[tuple[str, Column]] = []
    if isinstance(read[name].dataType, LongType):
        late.append(_unit_of_event_time(fields[name], name, kafka_ms))
    for field in declared:
        if field.name != name:
            other = first_text(
                fields[field.name], read[field.name].dataType, field.dataType, other_unit(kafka_ms, _NEAR_MS)
            )
            if other is not None:
                says = F.concat(F.lit(f"field {field.name} = "), other, F.lit(" is not in milliseconds since 1970"))
                late.append((other.isNotNull(), "wrong_time_unit", says))
        found = _no_time(field, read[field.name].dataType, source, typed)
        if found is not None:
            unread.append((f"event time {name}" if field.name == name else f"field {field.name}", found))
    late += _ahead(source, kafka_ms, typed.get(name, fields[name]))
    for ranged, (low, high) in source.ranges.items():
        late.append(_range_check(fields[ranged], read[ranged].dataType, ranged, low, high))
    for field in declared:
        unfit = first_text(fields[field.name], read[field.name].dataType, field.dataType, unfit_number)
        if unfit is not None and field.name != name:
            fits = F.lit(f" does not fit {field.dataType.simpleString()} exactly")
            late.append((unfit.isNotNull(), "out_of_range", F.concat(F.lit(f"field {field.name} = "), unfit, fits)))
    checks: list[Check] = [
        (F.col("_format_rule").isNotNull(), "", F.col("_format_reason")),
        *_missing(declared, read, name),
    ]
    if unread:
        checks.append((reduce(or_, (found.isNotNull() for _, found in unread)), "wrong_time_unit", None))
    checks += late
    number = F.when(checks[0][0], F.lit(0))
    for n, (condition, _, _) in enumerate(checks[1:], 1):
        number = number.when(condition, F.lit(n))
    times = _read_times(unread, kinds_of(declared, source.event_time)) if unread else None
    return number, partial(_rule_of, checks=checks, times=times), partial(_reason_of, checks=checks, times=times)


def _read_times(unread: list[tuple[str, Column]], kinds: frozenset[str]) -> Column:
    """Values that are no time, as structs: what was read, its value and kind, whether it is beyond the years."""
    entries = F.array(*[F.struct(F.lit(what).alias("what"), found.alias("found")) for what, found in unread])

    def parts(each: Column) -> Column:
        kind, value = kind_and_value(each["found"])
        return F.struct(each["what"].alias("what"), kind.alias("kind"), value.alias("value"))

    def judged(each: Column) -> Column:
        beyond = outside_the_years(each["value"], each["kind"], kinds)
        return F.struct(*[each[name].alias(name) for name in ("what", "kind", "value")], beyond.alias("beyond"))

    found = F.filter(entries, lambda each: each["found"].isNotNull())
    return F.transform(F.transform(found, parts), judged)


def _rule_of(number: Column, checks: list[Check], times: Column | None) -> Column:
    rule = F.get(F.array(*[F.lit(rule) for _, rule, _ in checks]), number)
    if times is not None:
        # A text that is no time comes before a missing field, a time outside the years after it.
        rule = F.when(F.exists(times, lambda time: ~time["beyond"]), F.lit("wrong_type")).otherwise(rule)
    rule = F.when(number == 0, F.col("_format_rule")).otherwise(rule)
    # Never null beside a number: Spark then sees that an event is what has none, and plans no more for events.
    return F.when(number.isNotNull(), F.coalesce(rule, F.lit("wrong_type")))


def _reason_of(number: Column, checks: list[Check], times: Column | None) -> Column:
    def shown(time: Column) -> Column:
        return F.concat(time["what"], F.lit(": "), F.substring(time["value"], 1, SHOWN_CHARACTERS))

    def no_time(time: Column) -> Column:
        why = why_no_time(time["value"], time["kind"])
        return F.concat(shown(time), F.lit(" is not read as a time ("), why, F.lit(")"))

    def beyond(time: Column) -> Column:
        return F.concat(shown(time), F.lit(" is outside the years 1 to 9999 (UTC)"))

    def told(failed: Column) -> Column:
        which = failed["number"]
        says = F.when(which == 0, F.col("_format_reason"))
        if times is not None:
            wrong = F.slice(F.filter(failed["times"], lambda time: ~time["beyond"]), 1, 1)
            says = says.when(F.size(wrong) > 0, F.get(F.transform(wrong, no_time), F.lit(0)))
        for n, (_, _, reason) in enumerate(checks[1:], 1):
            if reason is None:
                reason = F.get(F.transform(F.slice(failed["times"], 1, 1), beyond), F.lit(0))
            says = says.when(which == n, reason)
        return says

    parts = [number.alias("number"), *([times.alias("times")] if times is not None else [])]
    # As a function over an array, so that its code, for refused records alone, is not generated into everybody's.
    return F.when(number.isNotNull(), F.get(F.transform(F.array(F.struct(*parts)), told), F.lit(0)))


def _missing(declared: StructType, read: StructType, event_time: str) -> list[Check]:
    fields, checks = F.col("_fields"), list[Check]()
    for field in declared:
        if not field.nullable and field.name != event_time:
            missing = fields[field.name].isNull()
            checks.append((missing, "missing_field", F.lit(f"required field {field.name} is missing or null")))
        inside = first_text(fields[field.name], read[field.name].dataType, field.dataType, missing_inside)
        if inside is not None:
            says = F.concat(F.lit("required field "), inside, F.lit(f" is missing or null inside {field.name}"))
            checks.append((inside.isNotNull(), "missing_field", says))
    says = F.lit(f"event time {event_time} is missing or null")
    return [*checks, (fields[event_time].isNull(), "null_event_time", says)]


def _unit_of_event_time(value: Column, name: str, kafka_ms: Column) -> Check:
    unit = near_by_another_unit(value, kafka_ms, _NEAR_MS)
    says = F.concat(F.lit(f"event time {name} = "), value.cast("string"), F.lit(" is not in milliseconds since 1970"))
    return unit | ~in_calendar(value), "wrong_time_unit", says


def _no_time(field: StructField, read: DataType, source: Source, typed: dict[str, Column]) -> Column | None:
    value, form = F.col("_fields")[field.name], time_form(field, source)
    if field.name == source.event_time:
        return None if isinstance(read, LongType) else no_time_of(value, typed[field.name], TimestampType(), form)
    if isinstance(field.dataType, TIMES) and field.name in typed:
        # What was worked out once is used: a value that was read, and is no time in its type.
        return no_time_of(value, typed[field.name], field.dataType, form)
    return first_text(value, read, field.dataType, no_time(form))


def _ahead(source: Source, kafka_ms: Column, event_time: Column) -> list[Check]:
    if source.max_ahead_ms is None:
        return []
    ahead_ms = F.unix_millis(event_time) - kafka_ms
    says = F.concat(
        F.lit(f"event time {source.event_time} is "),
        F.round(ahead_ms / 1000.0, 3).cast("string"),
        F.lit(f" s later than the record's Kafka timestamp; allowed: {human(source.max_ahead_ms)}"),
    )
    return [(ahead_ms > source.max_ahead_ms, "event_time_ahead", says)]


def _range_check(
    column: Column, read: DataType, name: str, low: float | int | None, high: float | int | None
) -> tuple[Column, str, Column]:
    outside = [column < _limit(low, read, ROUND_CEILING)] if low is not None else []
    outside += [column > _limit(high, read, ROUND_FLOOR)] if high is not None else []
    shown = column.cast("string")
    if isinstance(read, DecimalType):
        shown = F.regexp_replace(F.regexp_replace(shown, r"(\.\d*?)0+$", "$1"), r"\.$", "")
    says = F.concat(
        F.lit(f"field {name} = "),
        shown,
        F.lit(f" is outside [{'' if low is None else low}, {'' if high is None else high}]"),
    )
    return reduce(or_, outside, F.lit(False)), "out_of_range", says


def _limit(limit: float | int, read: DataType, rounding: str) -> Column:
    """A limit in the field's own type: as a double, 0.1 would lie below a FLOAT of 0.1, and a DECIMAL lose digits."""
    if isinstance(read, FloatType | DoubleType) or math.isinf(limit):
        return F.lit(float(limit)).cast(read if isinstance(read, FloatType) else DoubleType())
    scale = read.scale if isinstance(read, DecimalType) else 0
    most = Decimal(10**38 - 1).scaleb(-scale, _EXACT)
    # Values are multiples of the last digit: rounded inwards, the limit lets the same ones through.
    exact = Decimal(repr(limit)).quantize(Decimal(1).scaleb(-scale), rounding, _EXACT)
    exact = max(-most, min(most, exact))
    return F.lit(int(exact)) if scale == 0 and abs(exact) < 2**63 else F.lit(exact)
