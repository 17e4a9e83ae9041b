"""Values: which types can be compared, the one form that is hashed, and when two values count as the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_FLOOR, Context, Decimal
from functools import reduce

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from twinrun.events.exact import FLOATS, INTEGRALS, MAX_PRECISION, wider
from twinrun.tolerance import Tolerance

# Which two column types can be compared, and as what.
#
# Only changes of type that keep every value are made: int to bigint, float to double, a decimal to one that holds
# both. Everything else (timestamp and timestamp_ntz, string and int, ..) is a difference between the tables.


NUMERICS: tuple[type[T.DataType], ...] = (*INTEGRALS, *FLOATS, T.DecimalType)

_LEAVES: tuple[type[T.DataType], ...] = (
    *NUMERICS,
    T.BooleanType,
    T.StringType,
    T.BinaryType,
    T.DateType,
    T.TimestampType,
    T.TimestampNTZType,
    T.TimeType,
    T.DayTimeIntervalType,
    T.YearMonthIntervalType,
)


def common_type(left: T.DataType, right: T.DataType) -> T.DataType | None:
    """The type in which both sides are compared, or None where there is none.

    Nullability and metadata do not count. Strings with a collation become plain strings: two values are equal
    when their bytes are. Fields of structs must agree in name and order.
    """
    if isinstance(left, T.ArrayType) and isinstance(right, T.ArrayType):
        element = common_type(left.elementType, right.elementType)
        return None if element is None else T.ArrayType(element)
    if isinstance(left, T.MapType) and isinstance(right, T.MapType):
        key, value = common_type(left.keyType, right.keyType), common_type(left.valueType, right.valueType)
        return None if key is None or value is None else T.MapType(key, value)
    if isinstance(left, T.StructType) and isinstance(right, T.StructType):
        return _common_struct(left, right)
    return _common_leaf(left, right)


def _common_struct(left: T.StructType, right: T.StructType) -> T.StructType | None:
    if left.names != right.names:
        return None
    fields: list[T.StructField] = []
    for mine, other in zip(left.fields, right.fields, strict=True):
        common = common_type(mine.dataType, other.dataType)
        if common is None:
            return None
        fields.append(T.StructField(mine.name, common))
    return T.StructType(fields)


def _common_leaf(left: T.DataType, right: T.DataType) -> T.DataType | None:
    common = wider(left, right)
    if common is not None:
        return common
    if left != right:
        return None
    return T.StringType() if isinstance(left, T.StringType) else left


def anonymous(dtype: T.DataType) -> T.DataType:
    """The same type with struct fields named ``f0``, ``f1``, ..: fields such as ``a`` and ``A`` stay apart."""
    if isinstance(dtype, T.ArrayType):
        return T.ArrayType(anonymous(dtype.elementType))
    if isinstance(dtype, T.MapType):
        return T.MapType(anonymous(dtype.keyType), anonymous(dtype.valueType))
    if isinstance(dtype, T.StructType):
        types = (anonymous(field.dataType) for field in dtype.fields)
        return T.StructType([T.StructField(f"f{position}", inner) for position, inner in enumerate(types)])
    return dtype


def incomparable(dtype: T.DataType) -> str | None:
    """The name of the first type inside ``dtype`` that cannot be ordered or hashed, such as variant; else None."""
    if isinstance(dtype, T.ArrayType):
        return incomparable(dtype.elementType)
    if isinstance(dtype, T.MapType):
        return incomparable(dtype.keyType) or incomparable(dtype.valueType)
    if isinstance(dtype, T.StructType):
        return next((name for name in (incomparable(field.dataType) for field in dtype.fields) if name), None)
    return None if isinstance(dtype, _LEAVES) else dtype.simpleString()


def has_map(dtype: T.DataType) -> bool:
    """Whether a map stands anywhere inside ``dtype``."""
    if isinstance(dtype, T.ArrayType):
        return has_map(dtype.elementType)
    if isinstance(dtype, T.StructType):
        return any(has_map(field.dataType) for field in dtype.fields)
    return isinstance(dtype, T.MapType)


# One form per value, so that equal values hash equally and different ones do not.
#
# Spark's ``xxhash64`` skips nulls and forgets where arrays and structs end (``[1, null]``, ``[null, 1]`` and ``[1]``
# hash alike) and refuses maps. So maps become sorted entries, everything nested carries a null flag and a size, and
# the nulls of a row go in as a bitmap.


_BITS_PER_WORD = 62
_SECOND_SEED = 7919
"""Any constant will do: hashed first, it acts as another seed for the second hash."""


def groupable(column: Column, dtype: T.DataType) -> Column:
    """The value in a form that Spark can group, order and compare: maps become arrays of entries sorted by key.

    Values without a map inside are returned as they are; null stays null. Struct fields must be named ``f0``, ``f1``,
    .. (:func:`twinrun.comparator.values.anonymous`).
    """
    if not has_map(dtype):
        return column
    if isinstance(dtype, T.ArrayType):
        element = dtype.elementType
        return F.transform(column, lambda item: groupable(item, element))
    if isinstance(dtype, T.StructType):
        fields = [groupable(column.getField(field.name), field.dataType).alias(field.name) for field in dtype.fields]
        return F.when(column.isNotNull(), F.struct(*fields))
    assert isinstance(dtype, T.MapType)
    key, value = dtype.keyType, dtype.valueType
    # By key, then by place: of a key that stands twice, the last entry counts.
    placed = F.transform(
        F.map_entries(column),
        lambda entry, place: F.struct(
            groupable(entry.getField("key"), key).alias("f0"),
            place.alias("place"),
            groupable(entry.getField("value"), value).alias("f1"),
        ),
    )
    return F.transform(
        F.array_sort(placed), lambda entry: F.struct(entry.getField("f0").alias("f0"), entry.getField("f1").alias("f1"))
    )


def groupable_type(dtype: T.DataType) -> T.DataType:
    """The type that :func:`groupable` gives."""
    if isinstance(dtype, T.ArrayType):
        return T.ArrayType(groupable_type(dtype.elementType))
    if isinstance(dtype, T.StructType):
        return T.StructType([T.StructField(f.name, groupable_type(f.dataType)) for f in dtype.fields])
    if isinstance(dtype, T.MapType):
        types = (groupable_type(dtype.keyType), groupable_type(dtype.valueType))
        return T.ArrayType(T.StructType([T.StructField(f"f{place}", inner) for place, inner in enumerate(types)]))
    return dtype


def hash_form(column: Column, dtype: T.DataType) -> Column:
    """The value in a form of which ``xxhash64`` sees everything but a null at the top: give that as a bitmap."""
    plain = groupable_type(dtype)
    return _body(groupable(column, dtype), plain)


def _body(column: Column, dtype: T.DataType) -> Column:
    if isinstance(dtype, T.ArrayType):
        element = dtype.elementType
        return F.struct(F.size(column), F.transform(column, lambda item: _flagged(item, element)))
    if isinstance(dtype, T.StructType):
        # A struct without fields is told from null by its flag or by the bitmap alone.
        fields = [_flagged(column.getField(field.name), field.dataType) for field in dtype.fields]
        return F.struct(F.lit(len(fields)), *fields)
    return column


def _flagged(column: Column, dtype: T.DataType) -> Column:
    return F.struct(column.isNull().alias("n"), _body(column, dtype).alias("v"))


def two_hashes(values: Sequence[Column], terms: Sequence[Column]) -> tuple[Column, Column]:
    """Two independent 64-bit hashes of a row.

    Parameters
    ----------
    values : sequence of Column
        The row's values, of which only the nulls are looked at.
    terms : sequence of Column
        What is hashed: the canonical forms of the values.
    """
    words = [null_bitmap(values[start : start + _BITS_PER_WORD]) for start in range(0, len(values), _BITS_PER_WORD)]
    return F.xxhash64(*words, *terms), F.xxhash64(F.lit(_SECOND_SEED), *words, *terms)


def null_bitmap(values: Sequence[Column]) -> Column:
    """A bigint with bit i set where ``values[i]`` is null; at most 62 values."""
    bits = [
        F.when(value.isNull(), F.lit(1 << place)).otherwise(F.lit(0)).cast("bigint")
        for place, value in enumerate(values)
    ]
    return reduce(lambda left, right: left.bitwiseOR(right), bits, F.lit(0).cast("bigint"))


# When two values are the same: exactly, or within a tolerance. Symmetric, and exact for integers and decimals.


_INFINITY = float("inf")
_WIDE = Context(prec=400)
"""Enough digits for any double written in full down to 1e-308."""


def same(left: Column, right: Column, dtype: T.DataType, tolerance: Tolerance | None) -> Column:
    """Whether two values count as the same; never null.

    Null equals null, NaN equals NaN, -0.0 equals 0.0, an infinity equals itself. With a tolerance, two finite
    numbers also count as the same when they lie close enough; a value that is not finite never does.
    """
    identical = groupable(left, dtype).eqNullSafe(groupable(right, dtype))
    if tolerance is None:
        return identical
    close = _float_close if isinstance(dtype, FLOATS) else _decimal_close
    return identical | F.coalesce(close(left, right, dtype, tolerance), F.lit(False))


def distance(left: Column, right: Column, dtype: T.DataType) -> Column:
    """``|left - right|`` as a double, for reports: null when a side is null or not finite.

    Integers and decimals are subtracted exactly first; beyond 37 digits the distance is null.
    """
    if isinstance(dtype, FLOATS):
        gap = F.abs(left.cast("double") - right.cast("double"))
        return F.when(_finite(left) & _finite(right) & _finite(gap), gap)
    exact = decimal_type(dtype, None)
    return F.abs(left.try_cast(exact) - right.try_cast(exact)).cast("double")


def decimal_type(dtype: T.DataType, tolerance: Tolerance | None) -> T.DecimalType:
    """The decimal type in which integers or decimals are subtracted, and scaled by a tolerance, without rounding.

    Spark silently drops digits when a result would need more than 38, so the operands are narrowed first: values
    that do not fit (more than 37 digits, fewer with a relative tolerance) are compared exactly instead.
    """
    precision, scale = _digits(dtype)
    spare = 1
    if tolerance is not None and tolerance.relative:
        spare += 1 + _share_digits(tolerance)
    return T.DecimalType(max(min(precision, MAX_PRECISION - spare), 0), scale)


def tolerance_problem(dtype: T.DataType, tolerance: Tolerance) -> str | None:
    """Why a column of this type cannot have this tolerance, as the end of a sentence; None if it can."""
    if not isinstance(dtype, NUMERICS):
        return f"holds {dtype.simpleString()}: only plain numbers can have a tolerance"
    if isinstance(dtype, FLOATS):
        return None
    (precision, scale), kept = _digits(dtype), decimal_type(dtype, tolerance).precision
    if kept < precision and kept <= scale:
        return f"holds {dtype.simpleString()}, on which {tolerance} cannot be applied without rounding"
    return None


def _float_close(left: Column, right: Column, dtype: T.DataType, tolerance: Tolerance) -> Column:
    a, b = left.cast("double"), right.cast("double")
    bound = F.lit(tolerance.value)
    if tolerance.relative:
        bound = bound * F.greatest(F.abs(a), F.abs(b))
    return _finite(a) & _finite(b) & (F.abs(a - b) <= bound)


def _decimal_close(left: Column, right: Column, dtype: T.DataType, tolerance: Tolerance) -> Column:
    narrow = decimal_type(dtype, tolerance)
    a, b = left.try_cast(narrow), right.try_cast(narrow)
    gap = F.abs(a - b)
    if not tolerance.relative:
        return gap <= _absolute_bound(T.DecimalType(narrow.precision + 1, narrow.scale), tolerance)
    digits = _share_digits(tolerance)
    scale = max(-_exponent(tolerance), 0)
    share = F.lit(format(tolerance.decimal, "f")).cast(T.DecimalType(digits, scale))
    return gap <= share * F.greatest(F.abs(a), F.abs(b))


def _absolute_bound(dtype: T.DecimalType, tolerance: Tolerance) -> Column:
    # Rounded down to the column's scale, as every distance is a multiple of it: Spark would round it half up when
    # it brings both sides to one type, and so let too much through.
    step = Decimal(1).scaleb(-dtype.scale)
    bound = tolerance.decimal.quantize(step, rounding=ROUND_FLOOR, context=_WIDE)
    largest = (Decimal(10) ** dtype.precision - 1).scaleb(-dtype.scale, context=_WIDE)
    return F.lit(format(min(bound, largest), "f")).cast(dtype)


def _finite(column: Column) -> Column:
    # NaN sorts above infinity in Spark, so this is false for it too.
    return F.abs(column) < F.lit(_INFINITY)


def _digits(dtype: T.DataType) -> tuple[int, int]:
    if isinstance(dtype, INTEGRALS):
        return 20, 0
    assert isinstance(dtype, T.DecimalType)
    return dtype.precision, dtype.scale


def _share_digits(tolerance: Tolerance) -> int:
    return max(len(tolerance.decimal.as_tuple().digits), -_exponent(tolerance))


def _exponent(tolerance: Tolerance) -> int:
    exponent = tolerance.decimal.as_tuple().exponent
    assert isinstance(exponent, int)
    return exponent


# Cells for numbers with a tolerance: two numbers in one cell are surely within the tolerance.
#
# The digest hashes cells in place of values, so that harmless noise seldom makes it differ. The reverse does not hold:
# two numbers within the tolerance may fall into neighbouring cells, which costs a look at their rows, never a verdict.
#
# A cell is named by a number that lies so near to every value in it that two of them cannot be further apart than the
# tolerance. Where there is no such cell, the value stands for itself. So one rule covers both, and no flag is needed to
# keep them apart: what is hashed is never further from the value than a bit more than a quarter of the tolerance.


_EXACT_INTEGERS = float(2**53)
_LARGEST = 900
"""Beyond 2^900 values stand for themselves: next to the largest double the arithmetic of cells would overflow."""
_CELL, _RAW = 0, 1
"""Flags that keep the numbers of decimals' cells apart from values that are hashed as they are."""


def hash_terms(column: Column, dtype: T.DataType, tolerance: Tolerance | None) -> list[Column]:
    """What is hashed for one column: its canonical form, or its cell with a flag that keeps raw values apart.

    Nulls must be hashed elsewhere, as a bitmap.
    """
    if tolerance is None:
        return [hash_form(column, dtype)]
    if isinstance(dtype, FLOATS):
        number = column.cast("double")
        return _relative_cell(number, tolerance) if tolerance.relative else _absolute_cell(number, tolerance)
    return [column] if tolerance.relative else _decimal_cell(column, dtype, tolerance)


def _absolute_cell(number: Column, tolerance: Tolerance) -> list[Column]:
    # The cell is a power of two <= tolerance / 2, so scaling by it is exact and "nice" numbers such as 12.25 sit in
    # the middle of a cell, far from its edges. From 2^53 cells on rint() changes nothing.
    exponent = 2 - math.frexp(tolerance.value)[1]
    if exponent > 1000:
        return [number]
    exponent = max(exponent, -_LARGEST)
    scaled = number * F.lit(math.ldexp(1.0, exponent))
    middle = F.rint(scaled) * F.lit(math.ldexp(1.0, -exponent))
    return [F.when(F.abs(scaled) < F.lit(_EXACT_INTEGERS), middle).otherwise(number)]


def _relative_cell(number: Column, tolerance: Tolerance) -> list[Column]:
    # Rounded to so many leading bits that a cell reaches at most tolerance / 4 (and a rounding error) to either side,
    # as a share, by the splitting of Veltkamp and Dekker: with large = number * (2^s + 1), large - (large - number)
    # is the number without its last s bits. The rounding of the product cancels out. Each difference is off by at most
    # 2^-53 of its size, which is 2^s times the number inside and the number outside: together (2^s + 1) * 2^-53 as a
    # share. Nothing is lost among subnormal numbers, where a product with a whole number and a difference are exact.
    dropped = 50 + math.frexp(tolerance.value)[1]
    if dropped < 2:
        return [number]
    large = number * F.lit(math.ldexp(1.0, dropped) + 1)
    # NaN sorts above all numbers, so that it stands for itself, as the infinities do.
    return [F.when(F.abs(number) < F.lit(math.ldexp(1.0, _LARGEST)), large - (large - number)).otherwise(number)]


def _decimal_cell(column: Column, dtype: T.DataType, tolerance: Tolerance) -> list[Column]:
    narrow = decimal_type(dtype, tolerance)
    # Cells are powers of ten <= tolerance / 2; below the column's scale every value is a cell of its own.
    places = -(tolerance.decimal / Decimal(2)).adjusted()
    if places >= narrow.scale:
        return [column]
    fitting = column.try_cast(narrow)
    cell = F.round(fitting, max(places, -narrow.precision))
    raw = F.when(fitting.isNull(), column)
    return [F.when(fitting.isNull(), F.lit(_RAW)).otherwise(F.lit(_CELL)), cell, raw]
