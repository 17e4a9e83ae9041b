"""The two schemas: what is compared with what, as what, and all that is wrong with them or with what was asked.

No Spark job runs here; only the two schemas are read.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from twinrun.comparator.values import common_type, incomparable, tolerance_problem
from twinrun.errors import InputError, TableError
from twinrun.events.exact import FLOATS, INTEGRALS, wider
from twinrun.tolerance import Tolerance, as_tolerance
from twinrun.wording import plural

# What is compared with what: the result of looking at two schemas.


Side = Literal["batch", "stream"]
DifferenceKind = Literal["missing_in_batch", "missing_in_stream", "type_differs"]


@dataclass(frozen=True)
class PlannedColumn:
    """A column that both tables have.

    Attributes
    ----------
    name : str
        Its exact name in both tables.
    batch_position, stream_position : int
        Where it stands in each table, from 0.
    batch_type, stream_type : DataType
        What each table holds.
    dtype : DataType
        The type in which the values are compared.
    tolerance : Tolerance or None
        None means exact.
    declared : bool
        Whether ``dtype`` was declared, and does not follow from the tables' types.
    naive_offset_s : int or None
        How many seconds ahead of UTC times without a zone are taken to be, where the other table's have one.
    """

    name: str
    batch_position: int
    stream_position: int
    batch_type: T.DataType
    stream_type: T.DataType
    dtype: T.DataType
    tolerance: Tolerance | None = None
    declared: bool = False
    naive_offset_s: int | None = None


@dataclass(frozen=True)
class SchemaDifference:
    """A column that only one table has, or that has another type in each.

    Attributes
    ----------
    name : str
        The column.
    kind : {"missing_in_batch", "missing_in_stream", "type_differs"}
        What is wrong with it.
    batch_type, stream_type : str or None
        The type in each table; None where the column is missing.
    nearest : str or None
        For a missing column: an equally unmatched column of the other table with a similar name, perhaps the same
        column renamed.
    """

    name: str
    kind: DifferenceKind
    batch_type: str | None
    stream_type: str | None
    nearest: str | None = None


@dataclass(frozen=True)
class SchemaPlan:
    """How two tables are compared.

    Attributes
    ----------
    columns : tuple of PlannedColumn
        Matched columns in the order of the batch table.
    keys : tuple of int
        Positions in ``columns`` of the key columns, in the order in which they were given.
    window : int or None
        Position in ``columns`` of the window column.
    differences : tuple of SchemaDifference
        Sorted by column name. Any entry makes the tables different, whatever their values.
    batch_width, stream_width : int
        How many columns each table has.
    """

    columns: tuple[PlannedColumn, ...]
    keys: tuple[int, ...]
    window: int | None
    differences: tuple[SchemaDifference, ...]
    batch_width: int
    stream_width: int


# What is declared about columns of two types: as what they are compared, and that no value changes by it.
#
# ``zip`` as text beside ``zip`` as a number, an unsigned integer beside a bigint, times with a zone beside times
# without: nothing is guessed there, and a declaration may not hide a difference either.


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


# Match the columns of two tables, and say all that is wrong with them or with what was asked.
#
# No Spark job runs here; only the two schemas are read.


def plan_schema(
    batch_schema: T.StructType,
    stream_schema: T.StructType,
    keys: Sequence[str],
    window_column: str | None,
    tolerances: Mapping[str, Tolerance | float],
    ignore: Iterable[str] = (),
    types: Mapping[str, T.DataType] | None = None,
    naive_offset_s: int | None = None,
) -> SchemaPlan:
    """Match the columns of two tables by exact name.

    Parameters
    ----------
    batch_schema, stream_schema : StructType
        The two tables' schemas. Nullability and metadata do not count.
    keys : sequence of str
        The columns that name a row. At least one.
    window_column : str, optional
        The column by which rows are grouped into windows.
    tolerances : mapping of str to Tolerance or float
        A bare number is absolute. Columns that are not named are compared exactly.
    ignore : iterable of str
        Columns left out on both sides (lineage). They may be missing.
    types : mapping of str to DataType, optional
        As what columns are compared whose types differ, or have no common one.
    naive_offset_s : int, optional
        Seconds ahead of UTC by which times without a zone are read where the other table's have one.

    Raises
    ------
    TableError
        All at once: no key; a key or window column missing on either side or of two types that do not match; a
        tolerance for a column that neither table has, is not a plain number, is a key, a window or ignored; a
        repeated column name; a type that cannot be compared. A column with a tolerance that only one table has is
        a schema difference, not an error.
    """
    ignored = frozenset(ignore)
    batch, stream = _positions(batch_schema, ignored), _positions(stream_schema, ignored)
    allowed = {name: as_tolerance(value) for name, value in tolerances.items()}
    declared = dict(types or {})
    columns, differences = _match(batch, stream, allowed, declared, naive_offset_s)
    named = [*keys, *([] if window_column is None else [window_column])]
    problems = [
        *_name_problems(batch_schema, "batch"),
        *_name_problems(stream_schema, "stream"),
        *([] if keys else ["no key column is given"]),
        *(f"{name!r} is named twice among the keys" for name in sorted({n for n in keys if list(keys).count(n) > 1})),
        *_role_problems(named, batch, stream, columns),
        *_tolerance_problems(allowed, named, batch, stream, columns),
        *_declared_problems(declared, batch, stream, columns),
        *_type_problems(columns),
    ]
    if problems:
        raise TableError(
            "; ".join(problems),
            expected=f"batch columns: {_listed(batch_schema)}; stream columns: {_listed(stream_schema)}",
            fix=_advice(named + list(allowed), batch, stream),
        )
    places = {column.name: place for place, column in enumerate(columns)}
    return SchemaPlan(
        columns=tuple(columns),
        keys=tuple(places[key] for key in keys),
        window=None if window_column is None else places[window_column],
        differences=tuple(sorted(differences, key=lambda difference: difference.name)),
        batch_width=len(batch_schema.fields),
        stream_width=len(stream_schema.fields),
    )


Positions = dict[str, tuple[int, T.DataType]]


def _positions(schema: T.StructType, ignored: frozenset[str]) -> Positions:
    return {
        field.name: (place, field.dataType) for place, field in enumerate(schema.fields) if field.name not in ignored
    }


def _match(
    batch: Positions,
    stream: Positions,
    allowed: Mapping[str, Tolerance],
    declared: Mapping[str, T.DataType],
    naive_offset_s: int | None,
) -> tuple[list[PlannedColumn], list[SchemaDifference]]:
    columns: list[PlannedColumn] = []
    differences: list[SchemaDifference] = []
    for name, (place, dtype) in batch.items():
        if name not in stream:
            near = _nearest(name, stream.keys() - batch.keys())
            differences.append(SchemaDifference(name, "missing_in_stream", dtype.simpleString(), None, near))
            continue
        other_place, other = stream[name]
        common = declared.get(name) or common_type(dtype, other)
        naive = None
        if common is None and {type(dtype), type(other)} == {T.TimestampType, T.TimestampNTZType}:
            naive = naive_offset_s
            common = None if naive is None else T.TimestampType()
        if common is None:
            differences.append(SchemaDifference(name, "type_differs", dtype.simpleString(), other.simpleString()))
            continue
        tolerance = allowed.get(name)
        exact = tolerance is None or tolerance.exact
        kept = None if exact else tolerance
        columns.append(PlannedColumn(name, place, other_place, dtype, other, common, kept, name in declared, naive))
    for name in stream.keys() - batch.keys():
        near = _nearest(name, batch.keys() - stream.keys())
        differences.append(SchemaDifference(name, "missing_in_batch", None, stream[name][1].simpleString(), near))
    return columns, differences


def _name_problems(schema: T.StructType, side: str) -> list[str]:
    repeated = sorted({name for name in schema.names if schema.names.count(name) > 1})
    return [f"the {side} table has more than one column named {name!r}" for name in repeated]


def _role_problems(
    named: Sequence[str], batch: Positions, stream: Positions, columns: Sequence[PlannedColumn]
) -> list[str]:
    matched = {column.name for column in columns}
    problems: list[str] = []
    for name in dict.fromkeys(named):
        lacking = [side for side, table in (("batch", batch), ("stream", stream)) if name not in table]
        if lacking:
            problems.append(f"the column {name!r} is missing in the {' and the '.join(lacking)} table")
        elif name not in matched:
            types = f"{batch[name][1].simpleString()} in the batch, {stream[name][1].simpleString()} in the stream"
            problems.append(f"rows cannot be paired by {name!r}, which is {types}: declare it (--as {name}=TYPE)")
    return problems


def _tolerance_problems(
    allowed: Mapping[str, Tolerance],
    named: Sequence[str],
    batch: Positions,
    stream: Positions,
    columns: Sequence[PlannedColumn],
) -> list[str]:
    types = {column.name: column.dtype for column in columns}
    problems: list[str] = []
    for name, tolerance in allowed.items():
        if name not in batch and name not in stream:
            problems.append(f"the column {name!r} has a tolerance but is in neither table, or is ignored")
        elif name in named:
            problems.append(f"the column {name!r} names rows or windows and is compared exactly: no tolerance")
        elif name in types and not tolerance.exact:
            problem = tolerance_problem(types[name], tolerance)
            problems += [f"the column {name!r} {problem}"] if problem else []
    return problems


def _declared_problems(
    declared: Mapping[str, T.DataType], batch: Positions, stream: Positions, columns: Sequence[PlannedColumn]
) -> list[str]:
    matched = {column.name for column in columns}
    problems: list[str] = []
    for name, dtype in declared.items():
        if name not in matched:
            problems.append(f"the column {name!r} is declared as {dtype.simpleString()} but is not in both tables")
            continue
        sides: tuple[tuple[Side, Positions], ...] = (("batch", batch), ("stream", stream))
        found = (declared_problem(name, table[name][1], dtype, side) for side, table in sides)
        problems += [problem for problem in found if problem]
    return problems


def _type_problems(columns: Sequence[PlannedColumn]) -> list[str]:
    found = ((column.name, incomparable(column.dtype)) for column in columns)
    return [
        f"the column {name!r} holds {bad}, which cannot be compared: ignore or cast it" for name, bad in found if bad
    ]


def _nearest(name: str, others: Iterable[str]) -> str | None:
    fold: Callable[[str], str] = str.casefold
    candidates = {fold(other): other for other in sorted(others)}
    near = difflib.get_close_matches(fold(name), list(candidates), n=1, cutoff=0.6)
    return candidates[near[0]] if near else None


def _advice(names: Iterable[str], batch: Positions, stream: Positions) -> str:
    advice: list[str] = []
    for name in dict.fromkeys(names):
        for side, table in (("batch", batch), ("stream", stream)):
            near = None if name in table else _nearest(name, table)
            advice += [f"for {name!r} the {side} table's nearest column is {near!r}"] if near else []
    return "; ".join(advice)


def _listed(schema: T.StructType) -> str:
    return ", ".join(schema.names) or "none"
