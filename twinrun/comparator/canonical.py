"""One form per value, so that equal values hash equally and different ones do not.

Spark's ``xxhash64`` skips nulls and forgets where arrays and structs end (``[1, null]``, ``[null, 1]`` and ``[1]``
hash alike) and refuses maps. So maps become sorted entries, everything nested carries a null flag and a size, and
the nulls of a row go in as a bitmap.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from twinrun.comparator.types import has_map

_BITS_PER_WORD = 62
_SECOND_SEED = 7919
"""Any constant will do: hashed first, it acts as another seed for the second hash."""


def groupable(column: Column, dtype: T.DataType) -> Column:
    """The value in a form that Spark can group, order and compare: maps become arrays of entries sorted by key.

    Values without a map inside are returned as they are; null stays null. Struct fields must be named ``f0``, ``f1``,
    .. (:func:`twinrun.comparator.types.anonymous`).
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
