"""Cells for numbers with a tolerance: two numbers in one cell are surely within the tolerance.

The digest hashes cells in place of values, so that harmless noise seldom makes it differ. The reverse does not hold:
two numbers within the tolerance may fall into neighbouring cells, which costs a look at their rows, never a verdict.
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
_CELL, _RAW = 0, 1
"""Flags that keep the numbers of cells apart from values that are hashed as they are."""


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
    # the middle of a cell, far from its edges. From 2^53 cells on rint() changes nothing: raw value, own flag.
    exponent = 2 - math.frexp(tolerance.value)[1]
    if exponent > 1000:
        return [number]
    scaled = number * F.lit(math.ldexp(1.0, exponent))
    inside = F.abs(scaled) < F.lit(_EXACT_INTEGERS)
    return [F.when(inside, F.lit(_CELL)).otherwise(F.lit(_RAW)), F.when(inside, F.rint(scaled)).otherwise(number)]


def _relative_cell(number: Column, tolerance: Tolerance) -> list[Column]:
    # Within a binade the distance allowed is at least tolerance * 2^e, so a grid on the mantissa serves. A cell is
    # named by its middle, and not by e and a number, so that 1.0 and the double just below it share one although their
    # e differs. log2() may be off by one next to a power of two: such cells grow by half, still small enough.
    exponent = 2 - math.frexp(tolerance.value)[1]
    if exponent > 50:
        return [number]
    size = F.abs(number)
    inside = (size >= F.lit(2.0**-900)) & (size < F.lit(2.0**900))
    binade = F.pow(F.lit(2.0), F.floor(F.log2(size)))
    middle = F.rint(number / binade * F.lit(math.ldexp(1.0, exponent))) * binade
    return [F.when(inside, F.lit(_CELL)).otherwise(F.lit(_RAW)), F.when(inside, middle).otherwise(number)]


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
