"""Values at any depth of a field: what a record is read as, and the declared type, without a silent change.

A type is read wider where the reader itself would round or wrap (`wire_type`), and narrowed afterwards: whatever does
not fit is named. Times are read as text or as a number of milliseconds and become times here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    ByteType,
    DataType,
    DateType,
    DecimalType,
    LongType,
    MapType,
    ShortType,
    StringType,
    StructField,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from twinrun.events.times import (
    finer_than_microseconds,
    in_calendar,
    iso8601_day,
    iso8601_instant,
    iso8601_local,
    local_of_millis,
    near_by_another_unit,
    of_millis,
)

SHOWN_CHARACTERS = 80
DECLARED = "twinrun.declared"
"""Metadata of a wire field: the declared type, for messages."""

TIMES = (TimestampType, TimestampNTZType, DateType)
_DIGITS = r"^-?\d+\z"
Leaf = Callable[[Column, DataType, DataType], Column | None]
"""From a value, the type it was read as and the declared type to a text; None where such a value is never wrong."""


@dataclass(frozen=True)
class TimeForm:
    """How times are written: numbers of milliseconds, ISO 8601 texts, or either."""

    numbers: bool
    texts: bool
    cut: bool = True
    """Whether digits beyond microseconds are cut off; otherwise such a text is no time of the type."""


EITHER = TimeForm(numbers=True, texts=True)


def wire_type(declared: DataType, times: TimeForm = EITHER) -> DataType:
    """The type to ask of a decoder; it keeps times as they are unless only numbers are written."""
    if isinstance(declared, ByteType):
        return ShortType()  # Spark 4.2 reads 128 to 255 as negative numbers
    if isinstance(declared, DecimalType):
        return DecimalType(38, 38 - (declared.precision - declared.scale))
    if isinstance(declared, TimestampType | TimestampNTZType) and not times.texts:
        return LongType()
    if isinstance(declared, ArrayType):
        return ArrayType(wire_type(declared.elementType, times))
    if isinstance(declared, MapType):
        return MapType(declared.keyType, wire_type(declared.valueType, times))
    if isinstance(declared, StructType):
        return StructType([StructField(f.name, wire_type(f.dataType, times)) for f in declared])
    return declared


def wire_field(field: StructField, dtype: DataType) -> StructField:
    """A field of the wire schema that remembers the declared type for messages."""
    return StructField(field.name, dtype, metadata={DECLARED: field.dataType.simpleString()})


def declared_name(field: StructField) -> str:
    """The declared type of a wire field in words."""
    return str((field.metadata or {}).get(DECLARED, field.dataType.simpleString()))


def holds(dtype: DataType, *kinds: type[DataType]) -> bool:
    """Whether a type is, or has inside, one of some kinds."""
    if isinstance(dtype, kinds):
        return True
    if isinstance(dtype, ArrayType):
        return holds(dtype.elementType, *kinds)
    if isinstance(dtype, MapType):
        return holds(dtype.valueType, *kinds)
    return isinstance(dtype, StructType) and any(holds(f.dataType, *kinds) for f in dtype)


def first_text(value: Column, read: DataType, declared: DataType, leaf: Leaf) -> Column | None:
    """The first text that ``leaf`` gives inside a value, null where it gives none; None if it never would."""
    if isinstance(declared, StructType) and isinstance(read, StructType):
        own = leaf(value, read, declared)
        found = [own] if own is not None else []
        for inner, outer in zip(read, declared, strict=True):
            text = first_text(value[inner.name], inner.dataType, outer.dataType, leaf)
            found += [text] if text is not None else []
        return F.coalesce(*found) if found else None
    if isinstance(declared, ArrayType) and isinstance(read, ArrayType):
        return _first_of(value, read.elementType, declared.elementType, leaf)
    if isinstance(declared, MapType) and isinstance(read, MapType):
        return _first_of(F.map_values(value), read.valueType, declared.valueType, leaf)
    return leaf(value, read, declared)


def _first_of(values: Column, read: DataType, declared: DataType, leaf: Leaf) -> Column | None:
    if first_text(F.lit(None), read, declared, leaf) is None:
        return None
    texts = F.transform(values, lambda each: _known(first_text(each, read, declared, leaf)))
    return F.try_element_at(F.filter(texts, lambda text: text.isNotNull()), F.lit(1))


def _known(column: Column | None) -> Column:
    return F.lit(None) if column is None else column


def as_declared(value: Column, read: DataType, declared: DataType, times: TimeForm = EITHER) -> Column:
    """The value in its declared type; null, at its place, where it does not fit."""
    if isinstance(declared, StructType) and isinstance(read, StructType):
        if all(_same(inner.dataType, outer.dataType) for inner, outer in zip(read, declared, strict=True)):
            return value
        parts = [
            as_declared(value[inner.name], inner.dataType, outer.dataType, times).alias(outer.name)
            for inner, outer in zip(read, declared, strict=True)
        ]
        return F.when(value.isNotNull(), F.struct(*parts))
    if isinstance(declared, ArrayType) and isinstance(read, ArrayType):
        inner, outer = read.elementType, declared.elementType
        return value if _same(inner, outer) else F.transform(value, lambda x: as_declared(x, inner, outer, times))
    if isinstance(declared, MapType) and isinstance(read, MapType):
        inner, outer = read.valueType, declared.valueType
        if _same(inner, outer):
            return value
        return F.transform_values(value, lambda _, x: as_declared(x, inner, outer, times))
    if _same(read, declared):
        return value
    return _time(value, read, declared, times) if isinstance(declared, TIMES) else value.try_cast(declared)


def _same(read: DataType, declared: DataType) -> bool:
    """Whether a value stays as it was read; whether nulls are allowed does not count."""
    return read.simpleString() == declared.simpleString()


def _time(value: Column, read: DataType, declared: DataType, times: TimeForm) -> Column:
    local = isinstance(declared, TimestampNTZType)
    if isinstance(read, LongType):
        return local_of_millis(value) if local else of_millis(value)
    if not isinstance(read, StringType):
        return value.try_cast(declared)
    if isinstance(declared, DateType):
        return iso8601_day(value)
    text = iso8601_local(value) if local else iso8601_instant(value)
    if not times.cut:
        text = F.when(~finer_than_microseconds(value), text)
    if local or not times.numbers:
        return text
    return F.when(_is_digits(value), of_millis(value.try_cast("bigint"))).otherwise(text)


def unfit_number(value: Column, read: DataType, declared: DataType) -> Column | None:
    """A `Leaf`: the number that its declared type does not hold exactly."""
    if isinstance(declared, ByteType) and not isinstance(read, ByteType):
        return F.when(~value.between(-128, 127), value.cast("string"))
    if isinstance(declared, DecimalType) and read != declared:
        kept = value.try_cast(declared)
        shown = F.regexp_replace(F.regexp_replace(value.cast("string"), r"(\.\d*?)0+$", "$1"), r"\.$", "")
        return F.when(value.isNotNull() & (kept.isNull() | (kept != value)), shown)
    return None


def no_time(times: TimeForm) -> Leaf:
    """A `Leaf`, to be read by `kind_and_value`: a value that is no time of its type, or one outside the years."""

    def leaf(value: Column, read: DataType, declared: DataType) -> Column | None:
        if not isinstance(declared, TIMES) or not isinstance(read, StringType | LongType):
            return None
        if isinstance(read, LongType):
            return F.when(~in_calendar(value), F.concat(F.lit("number|"), value.cast("string")))
        return no_time_of(value, _time(value, read, declared, times), declared, times)

    return leaf


def no_time_of(value: Column, typed: Column, declared: DataType, times: TimeForm) -> Column:
    """As `no_time`, where the value has been read as a time already."""
    kind = "either" if isinstance(declared, TimestampType) and times.numbers else declared.simpleString()
    return F.when(value.isNotNull() & typed.isNull(), F.concat(F.lit(f"{kind}|"), value))


def kinds_of(declared: StructType, event_time: str) -> frozenset[str]:
    """The kinds of times that `no_time` can find in a source."""
    kinds = {"number"}
    for kind, name in ((TimestampType, "either"), (TimestampNTZType, "timestamp_ntz"), (DateType, "date")):
        kinds |= {name} if any(holds(f.dataType, kind) for f in declared if f.name != event_time) else set()
    return frozenset(kinds | {"timestamp"})


def kind_and_value(found: Column) -> tuple[Column, Column]:
    """What `no_time` found: the kind of time, for `twinrun.events.times.why_no_time`, and the value."""
    return F.substring_index(found, "|", 1), F.substr(found, F.instr(found, "|") + 1)


def other_unit(kafka_ms: Column, near_ms: int) -> Leaf:
    """A `Leaf`: the digits of a TIMESTAMP whose number fits the record's Kafka timestamp only in another unit."""

    def leaf(value: Column, read: DataType, declared: DataType) -> Column | None:
        if not isinstance(declared, TimestampType) or not isinstance(read, StringType):
            return None
        number = value.try_cast("bigint")
        return F.when(_is_digits(value) & near_by_another_unit(number, kafka_ms, near_ms), value)

    return leaf


def _is_digits(value: Column) -> Column:
    # The fifth character of an ISO 8601 text is a hyphen; that is cheaper to see than a pattern.
    return (F.substring(value, 5, 1) != "-") & value.rlike(_DIGITS)


def missing_inside(value: Column, read: DataType, declared: DataType) -> Column | None:
    """A `Leaf`: the name of a required field that is null inside a STRUCT that is there."""
    if not isinstance(declared, StructType) or not isinstance(read, StructType):
        return None
    absent = [
        F.when(value.isNotNull() & value[inner.name].isNull(), F.lit(outer.name))
        for inner, outer in zip(read, declared, strict=True)
        if not outer.nullable
    ]
    return F.coalesce(*absent) if absent else None
