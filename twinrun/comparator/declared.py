"""What is declared about columns of two types: as what they are compared, and that no value changes by it.

``zip`` as text beside ``zip`` as a number, an unsigned integer beside a bigint, times with a zone beside times without:
nothing is guessed there, and a declaration may not hide a difference either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from twinrun.comparator.plan import PlannedColumn, SchemaPlan, Side
from twinrun.errors import InputError, TableError
from twinrun.tables.stored import FLOATS, INTEGRALS, wider
from twinrun.wording import plural

_NAMED: dict[str, T.DataType] = {
    "tinyint": T.ByteType(),
    "smallint": T.ShortType(),
    "int": T.IntegerType(),
    "integer": T.IntegerType(),
    "bigint": T.LongType(),
    "float": T.FloatType(),
    "double": T.DoubleType(),
    "string": T.StringType(),
    "boolean": T.BooleanType(),
    "binary": T.BinaryType(),
    "date": T.DateType(),
    "timestamp": T.TimestampType(),
    "timestamp_ntz": T.TimestampNTZType(),
}
_DECIMAL = re.compile(r"decimal\((\d{1,2})(?:, ?(\d{1,2}))?\)")
_ZONE = re.compile(r"(?:UTC|GMT|Z)?(?:([+-])(\d{1,2})(?::?([0-5]\d))?)?", re.IGNORECASE)
_NUMBERS: tuple[type[T.DataType], ...] = (*INTEGRALS, T.FloatType, T.DoubleType, T.DecimalType)
_TIMES = (T.DateType, T.TimestampType, T.TimestampNTZType)
_DAY = r"^\s*[+-]?\d{4,7}-\d{1,2}-\d{1,2}"
_ZONED = _DAY + r"[T ].*[A-Za-z+-]"
_NUMERAL = r"^\s*[+-]?(\d*)\.?(\d*)(?:[eE]([+-]?\d{1,9}))?\s*$"
_NO_NUMBER = r"(?i)^\s*(?:nan|[+-]?inf(?:inity)?)\s*$"
# The largest numbers of types, next to which a float has none: what Spark casts beyond becomes this number.
_LARGEST: dict[tuple[type[T.DataType], type[T.DataType]], int] = {
    (T.LongType, T.FloatType): 2**63 - 1,
    (T.LongType, T.DoubleType): 2**63 - 1,
    (T.IntegerType, T.FloatType): 2**31 - 1,
}


def type_named(text: str) -> T.DataType:
    """The type of that name, such as ``bigint`` or ``decimal(20,0)``. Needs no Spark.

    Raises
    ------
    InputError
        It is no plain type.
    """
    name = text.strip().lower()
    if name in _NAMED:
        return _NAMED[name]
    match = _DECIMAL.fullmatch(name)
    if match and 1 <= int(match[1]) <= 38 and int(match[2] or 0) <= int(match[1]):
        return T.DecimalType(int(match[1]), int(match[2] or 0))
    raise InputError(f"{text!r} is not a type to compare a column as.", expected=f"{', '.join(_NAMED)} or decimal(P,S)")


def offset_s(zone: str) -> int:
    """Seconds that a zone without clock changes is ahead of UTC. Needs no Spark.

    Raises
    ------
    InputError
        It is no such zone: in one with clock changes a time without a zone may name two instants, or none.
    """
    match = _ZONE.fullmatch(zone.strip()) if zone.strip() else None
    if match is None or int(match[2] or 0) > 18:
        raise InputError(
            f"{zone!r} is not a zone without clock changes.",
            expected="UTC or an offset such as +01:00: elsewhere a time without a zone may name two instants, or none",
        )
    ahead = int(match[2] or 0) * 3_600 + int(match[3] or 0) * 60
    return -ahead if match[1] == "-" else ahead


def declared_problem(name: str, dtype: T.DataType, declared: T.DataType, side: Side) -> str | None:
    """Why a column cannot be compared as declared, as a sentence without its end; None if it can."""
    if dtype == declared or isinstance(dtype, T.StringType) or _keeps_kind(dtype, declared):
        return None
    texts = f"the column {name!r} of the {side} table is {dtype.simpleString()}"
    pair = {type(dtype), type(declared)}
    if pair == {T.TimestampType, T.TimestampNTZType}:
        return f"{texts}, and a zone is what makes it {declared.simpleString()}: declare it (--naive-time-zone UTC)"
    return f"{texts}, which cannot be compared as {declared.simpleString()}"


def _keeps_kind(dtype: T.DataType, declared: T.DataType) -> bool:
    if isinstance(declared, T.StringType):
        return isinstance(dtype, (*_NUMBERS, *_TIMES, T.BooleanType, T.BinaryType))
    if isinstance(dtype, _NUMBERS):
        return isinstance(declared, _NUMBERS)
    return (isinstance(dtype, _TIMES) and isinstance(declared, T.DateType)) or (
        isinstance(dtype, T.DateType) and isinstance(declared, _TIMES)
    )


def as_planned(value: Column, column: PlannedColumn, side: Side, dtype: T.DataType) -> Column:
    """The value of one side in the type that is compared.

    Parameters
    ----------
    dtype : DataType
        That type, with the names of struct fields as the caller wants them.
    """
    held = column.batch_type if side == "batch" else column.stream_type
    if isinstance(held, T.TimestampNTZType) and column.naive_offset_s is not None:
        micros = F.unix_micros(value.cast("timestamp")) - F.lit(column.naive_offset_s * 1_000_000).cast("bigint")
        return F.timestamp_micros(micros)
    return value.try_cast(dtype) if column.declared else value.cast(dtype)


def need_kept(table: DataFrame, plan: SchemaPlan, side: Side) -> None:
    """Refuse a declaration by which a value of this table would change. One Spark job where there may be any.

    Raises
    ------
    TableError
        Some values are no values of the declared type, or become others.
    """
    width = len(table.columns)
    named = table.toDF(*(f"p{place}" for place in range(width)))
    counted: dict[str, Column] = {}
    types: Mapping[str, PlannedColumn] = {column.name: column for column in plan.columns if column.declared}
    for name, column in types.items():
        held = column.batch_type if side == "batch" else column.stream_type
        place = column.batch_position if side == "batch" else column.stream_position
        if held != column.dtype and wider(held, column.dtype) != column.dtype:
            counted[name] = F.count_if(changes(F.col(f"p{place}"), held, column.dtype))
    if not counted:
        return
    counts = named.agg(*(count.alias(f"c{place}") for place, count in enumerate(counted.values()))).collect()[0]
    for name, count in zip(counted, counts, strict=True):
        if count:
            column = types[name]
            held = column.batch_type if side == "batch" else column.stream_type
            raise TableError(
                f"the column {name!r} of the {side} table, {held.simpleString()}, holds {plural(count, 'value')} that "
                f"{column.dtype.simpleString()} cannot hold unchanged.",
                expected="a type that holds every value of both tables",
                fix=f"declare a wider one, or string (--as {name}=string)",
            )


def changes(value: Column, held: T.DataType, declared: T.DataType) -> Column:
    """Whether a value is lost or becomes another one; false for null."""
    made = value.try_cast(declared)
    lost = made.isNull()
    if not isinstance(held, T.StringType):
        lost = lost | ~made.try_cast(held).eqNullSafe(value)
        for whole, (kept, other) in ((value, (held, declared)), (made, (declared, held))):
            largest = _LARGEST.get((type(kept), type(other)))
            lost = lost if largest is None else lost | (whole == F.lit(largest))
    elif isinstance(declared, FLOATS):
        # 1e400 would be infinite, and 16777217 another number in a float.
        same = _numeral(value).eqNullSafe(_numeral(made.cast("string"))) | _surely_kept(value, made, declared)
        lost = lost | ~F.when(value.rlike(_NUMERAL), same).otherwise(value.rlike(_NO_NUMBER))
    elif isinstance(declared, T.DecimalType):
        # Spark rounds the digits that a decimal has no room for.
        digits = F.regexp_extract(value, r"\.(\d*?)0*\s*$", 1)
        lost = lost | (F.length(digits) > declared.scale) | F.contains(F.lower(value), F.lit("e"))
    elif isinstance(declared, T.DateType):
        lost = lost | ~value.rlike(_DAY + r"\s*$")
    elif isinstance(declared, (T.TimestampType, T.TimestampNTZType)):
        # A time of day alone would be today's; a tenth digit and on would be cut.
        lost = lost | ~value.rlike(_DAY) | value.rlike(r"\.\d{6}\d*[1-9]")
        if isinstance(declared, T.TimestampNTZType):
            # Spark drops the zone.
            lost = lost | value.rlike(_ZONED)
    return value.isNotNull() & F.coalesce(lost, F.lit(True))


def _surely_kept(text: Column, made: Column, declared: T.DataType) -> Column:
    """Whether a number has so few digits that no other number of so many is read as the same float."""
    digits, least = (6, 1.2e-38) if isinstance(declared, T.FloatType) else (15, 2.3e-308)
    few = F.length(F.regexp_replace(_numeral(text), r"-|e.*", "")) <= digits
    return few & (F.abs(made) >= F.lit(least)) & (F.abs(made) < F.lit(float("inf")))


def _numeral(text: Column) -> Column:
    """The digits of a number and the power of ten behind them: one text per number, whatever its zeros and point."""
    whole, part, power = (F.regexp_extract(text, _NUMERAL, group) for group in (1, 2, 3))
    digits = F.ltrim(F.concat(whole, part), F.lit("0"))
    kept = F.rtrim(digits, F.lit("0"))
    exponent = F.coalesce(power.try_cast("bigint"), F.lit(0)) - F.length(part) + F.length(digits) - F.length(kept)
    sign = F.when(text.rlike(r"^\s*-"), F.lit("-")).otherwise(F.lit(""))
    return F.when(kept == "", F.lit("0")).otherwise(F.concat(sign, kept, F.lit("e"), exponent.cast("string")))
