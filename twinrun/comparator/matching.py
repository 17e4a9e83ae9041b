"""Rows that both sides have cancel out, copy by copy; what is left over differs.

The two sides are stacked, shuffled once by key, and matched by sorting inside the key. Nulls, NaN and -0.0 need no
care here: Spark's grouping takes null for equal to null, NaN to NaN and -0.0 to 0.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from twinrun.comparator.frame import cell_terms, column_name, groupable_value, value
from twinrun.comparator.plan import SchemaPlan
from twinrun.comparator.types import anonymous, has_map
from twinrun.comparator.within import same

SIDE = "side"
BATCH, STREAM = 0, 1
TOTALS = ("total0", "total1")
"""Rows of this key on each side, before anything is cancelled."""


def sortable_name(plan: SchemaPlan, position: int) -> str:
    """The column of a stacked frame that holds this planned column in a form that can be grouped and ordered."""
    return f"m{position}" if has_map(plan.columns[position].dtype) else column_name(position)


def sortable_names(plan: SchemaPlan, positions: Sequence[int]) -> list[str]:
    """:func:`sortable_name` for several columns."""
    return [sortable_name(plan, position) for position in positions]


def leftovers(batch: DataFrame, stream: DataFrame, plan: SchemaPlan) -> DataFrame:
    """The rows of two prepared frames that have no partner on the other side; lazy, one shuffle of all rows.

    Rows are partners when all columns are the same, within the tolerances, each row having one partner at most. Where
    a key repeats and one column has a tolerance, partners are found if there is any way to pair all rows; with more
    such columns, copies of a key that are close but not equal may be missed and reported as changed.

    Returns
    -------
    DataFrame
        ``side`` (0 batch, 1 stream), ``c0``, ``c1``, .., sortable forms of columns with maps, and ``total0``,
        ``total1``: rows with this key on each side.
    """
    keys = sortable_names(plan, plan.keys)
    tolerant = [place for place, column in enumerate(plan.columns) if column.tolerance is not None]
    others = [p for p in range(len(plan.columns)) if p not in plan.keys and p not in tolerant]
    exact = [*keys, *sortable_names(plan, others)]
    # Shuffled by key alone, so that every later step finds its rows together without another shuffle.
    stacked = _stacked(batch, BATCH, plan).unionByName(_stacked(stream, STREAM, plan)).repartition(*keys)
    by_key = Window.partitionBy(*keys)
    totals = [_count(side).over(by_key).alias(TOTALS[side]) for side in (BATCH, STREAM)]
    if not tolerant:
        # Counted last: the order by all columns serves this step too.
        return _marked(stacked, exact).select("*", *totals).where(_alone()).drop(*_MARKS)
    rows = stacked.select("*", *totals)
    if len(tolerant) == 1:
        return _uncancelled(_not_close(rows, exact, tolerant, plan), exact, tolerant, plan)
    # Rows whose digests agree must cancel here too, or the audit would find what is not there.
    return _not_close(_uncancelled(rows, exact, tolerant, plan), exact, tolerant, plan)


_COUNTS = ("count0", "count1")
_MARKS = ("turn", *_COUNTS)


def _stacked(frame: DataFrame, side: int, plan: SchemaPlan) -> DataFrame:
    maps = [place for place, column in enumerate(plan.columns) if has_map(column.dtype)]
    return frame.select(
        F.lit(side).alias(SIDE),
        *(column_name(place) for place in range(len(plan.columns))),
        *(groupable_value(plan, place).alias(sortable_name(plan, place)) for place in maps),
    )


def _count(side: int) -> Column:
    return F.count(F.when(F.col(SIDE) == side, F.lit(1)))


def _marked(rows: DataFrame, names: Sequence[str]) -> DataFrame:
    """Count the rows alike in these columns on each side, and number them, the batch's first."""
    alike = Window.partitionBy(*names)
    return rows.select(
        "*",
        F.row_number().over(alike.orderBy(SIDE)).alias("turn"),
        *(_count(side).over(alike).alias(_COUNTS[side]) for side in (BATCH, STREAM)),
    )


def _alone() -> Column:
    # The n-th batch row meets the n-th stream row, as long as there is one.
    batch, stream = F.col("count0"), F.col("count1")
    return F.when(F.col(SIDE) == BATCH, F.col("turn") > stream).otherwise(F.col("turn") > batch + batch)


def _uncancelled(rows: DataFrame, exact: Sequence[str], tolerant: Sequence[int], plan: SchemaPlan) -> DataFrame:
    """Drop rows that have a partner equal in all exact columns and in the cells of the others."""
    terms = [(place, index, term) for place in tolerant for index, term in enumerate(cell_terms(plan, place))]
    cells = [f"t{place}_{index}" for place, index, _ in terms]
    celled = rows.select("*", *(term.alias(name) for name, (_, _, term) in zip(cells, terms, strict=True)))
    return _marked(celled, [*exact, *cells]).where(_alone()).drop(*_MARKS, *cells)


def _not_close(rows: DataFrame, exact: Sequence[str], tolerant: Sequence[int], plan: SchemaPlan) -> DataFrame:
    """Drop rows whose partner, equally ranked on the other side, lies within the tolerances."""
    ranked = rows.select(
        "*",
        F.row_number()
        .over(Window.partitionBy(*exact, SIDE).orderBy(*(column_name(place) for place in tolerant)))
        .alias("rank"),
    )
    pair = Window.partitionBy(*exact, "rank")
    sides = [
        F.max(F.when(F.col(SIDE) == side, value(place))).over(pair).alias(f"x{side}_{place}")
        for place in tolerant
        for side in (BATCH, STREAM)
    ]
    counts = [_count(side).over(pair).alias(_COUNTS[side]) for side in (BATCH, STREAM)]
    paired = ranked.select("*", *sides, *counts)
    within = [
        same(
            F.col(f"x{BATCH}_{place}"),
            F.col(f"x{STREAM}_{place}"),
            anonymous(plan.columns[place].dtype),
            plan.columns[place].tolerance,
        )
        for place in tolerant
    ]
    both = (F.col("count0") == 1) & (F.col("count1") == 1)
    close = reduce(lambda left, right: left & right, within, both)
    return paired.where(~close).select(*rows.columns)
