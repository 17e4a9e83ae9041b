"""Which two column types can be compared, and as what.

Only changes of type that keep every value are made: int to bigint, float to double, a decimal to one that holds
both. Everything else (timestamp and timestamp_ntz, string and int, ..) is a difference between the tables.
"""

from __future__ import annotations

from pyspark.sql import types as T

from twinrun.tables.stored import FLOATS, INTEGRALS, wider

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
