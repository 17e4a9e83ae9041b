"""When two values are the same: exactly, or within a tolerance. Symmetric, and exact for integers and decimals."""

from __future__ import annotations

from decimal import ROUND_FLOOR, Context, Decimal

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from twinrun.comparator.canonical import groupable
from twinrun.comparator.types import NUMERICS
from twinrun.tables.stored import FLOATS, INTEGRALS, MAX_PRECISION
from twinrun.tolerance import Tolerance

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
