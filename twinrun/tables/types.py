"""Types of numbers, and the narrowest one that holds every value of two."""

from __future__ import annotations

from pyspark.sql import types as T

INTEGRALS: tuple[type[T.DataType], ...] = (T.ByteType, T.ShortType, T.IntegerType, T.LongType)
FLOATS: tuple[type[T.DataType], ...] = (T.FloatType, T.DoubleType)
MAX_PRECISION = 38


def wider(left: T.DataType, right: T.DataType) -> T.DataType | None:
    """The narrower type that holds every value of both numbers; None where there is none."""
    if isinstance(left, T.DecimalType) and isinstance(right, T.DecimalType):
        scale = max(left.scale, right.scale)
        precision = max(left.precision - left.scale, right.precision - right.scale) + scale
        return T.DecimalType(precision, scale) if precision <= MAX_PRECISION else None
    for family in (INTEGRALS, FLOATS):
        if isinstance(left, family) and isinstance(right, family):
            return max(left, right, key=lambda dtype: family.index(type(dtype)))
    return None
