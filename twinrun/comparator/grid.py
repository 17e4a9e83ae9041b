"""Cells for numbers with a tolerance: two numbers in one cell are surely within the tolerance.

The digest hashes cells in place of values, so that harmless noise seldom makes it differ. The reverse does not hold:
two numbers within the tolerance may fall into neighbouring cells, which costs a look at their rows, never a verdict.

A cell is named by a number that lies so near to every value in it that two of them cannot be further apart than the
tolerance. Where there is no such cell, the value stands for itself. So one rule covers both, and no flag is needed to
keep them apart: what is hashed is never further from the value than a bit more than a quarter of the tolerance.
"""

from __future__ import annotations

import math
from decimal import Decimal

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from twinrun.comparator.canonical import hash_form
from twinrun.comparator.within import decimal_type
from twinrun.tables.stored import FLOATS
from twinrun.tolerance import Tolerance

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
