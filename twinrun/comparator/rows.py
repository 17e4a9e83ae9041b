"""Rows of the groups that differ: what is left after matching, paired by key, and keys that occur more than once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from twinrun.comparator.digest import PENDING, Selection, cell_terms, column_name, groupable_value, value
from twinrun.comparator.result import KeysCounted
from twinrun.comparator.schema import SchemaPlan
from twinrun.comparator.values import anonymous, groupable, has_map, same

# How many keys occur more than once: a repeated key is a fault of its own, also where both sides repeat it.
#
# Where the digests agree, both sides hold the same rows and so repeat the same keys. Whether there are any can only be
# seen by bringing all rows of a key together, which costs more than all digests: it is done where asked for.


@dataclass(frozen=True)
class RepeatedKeys:
    """How many keys have more than one row on each side, and among which rows that was counted."""

    batch: int
    stream: int
    among: KeysCounted


def repeated_keys(batch: DataFrame, stream: DataFrame, plan: SchemaPlan, unequal: Selection) -> RepeatedKeys:
    """Count the keys with more than one row: one Spark action, one shuffle of the batch's keys.

    In groups with equal digests both sides hold the same rows, so the batch's rows are counted for the stream too, and
    only the other groups of the stream are read.

    Parameters
    ----------
    batch, stream : DataFrame
        Prepared frames.
    plan : SchemaPlan
        The plan by which they were prepared.
    unequal : Selection
        A superset of the groups whose digests differ.
    """
    inside = F.coalesce(unequal.condition, F.lit(False))
    shared = F.when(inside, _marks(0)).otherwise(_marks(1))
    rest = stream.where(~F.col(PENDING) & unequal.condition)
    return _counted(
        _keys(batch.where(~F.col(PENDING)), plan, _marks(1), shared), _keys(rest, plan, _marks(0), _marks(1)), "all"
    )


def repeated_keys_within(batch: DataFrame, stream: DataFrame, plan: SchemaPlan, unequal: Selection) -> RepeatedKeys:
    """Count the keys with more than one row in the groups given: one Spark action, none where there are no groups.

    Parameters
    ----------
    batch, stream : DataFrame
        Prepared frames.
    plan : SchemaPlan
        The plan by which they were prepared.
    unequal : Selection
        A superset of the groups whose digests differ.
    """
    if unequal.scope == "none":
        return RepeatedKeys(batch=0, stream=0, among="differing_windows")
    sides = (
        _keys(unequal.rows(batch), plan, _marks(1), _marks(0)),
        _keys(unequal.rows(stream), plan, _marks(0), _marks(1)),
    )
    return _counted(*sides, "all" if unequal.scope == "all" else "differing_windows")


def _marks(number: int) -> Column:
    return F.lit(number).cast("bigint")


def _keys(rows: DataFrame, plan: SchemaPlan, in_batch: Column, in_stream: Column) -> DataFrame:
    keys = [groupable_value(plan, place).alias(f"k{place}") for place in plan.keys]
    return rows.select(*keys, in_batch.alias("in_batch"), in_stream.alias("in_stream"))


def _counted(batch: DataFrame, stream: DataFrame, among: KeysCounted) -> RepeatedKeys:
    names = [name for name in batch.columns if not name.startswith("in_")]
    sums = batch.unionByName(stream).groupBy(*names)
    counts = sums.agg(F.sum("in_batch").alias("in_batch"), F.sum("in_stream").alias("in_stream"))
    row = counts.agg(*(F.count_if(F.col(f"in_{side}") > 1).alias(side) for side in ("batch", "stream"))).collect()[0]
    return RepeatedKeys(batch=row["batch"], stream=row["stream"], among=among)


# Rows that both sides have cancel out, copy by copy; what is left over differs.
#
# The two sides are stacked, shuffled once by key, and matched by sorting inside the key. Nulls, NaN and -0.0 need no
# care here: Spark's grouping takes null for equal to null, NaN to NaN and -0.0 to 0.0.


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


# Which rows differ, and in which columns: what is left after matching, paired by key.


CHANGED: Final = "changed"
ONLY_BATCH: Final = "only_batch"
ONLY_STREAM: Final = "only_stream"
DUPLICATE_IN_BATCH: Final = "duplicate_in_batch"
DUPLICATE_IN_STREAM: Final = "duplicate_in_stream"
KINDS: Final = (CHANGED, ONLY_BATCH, ONLY_STREAM, DUPLICATE_IN_BATCH, DUPLICATE_IN_STREAM)


def differing_pairs(batch: DataFrame, stream: DataFrame, plan: SchemaPlan) -> DataFrame:
    """Pair the rows of two prepared frames by key and keep the pairs that differ; lazy.

    Costs one shuffle of all rows given, by key: give only the groups that differ. Keys are paired null-safely. Where a
    key repeats, equal copies cancel first and the rest is paired in order of their values.

    Returns
    -------
    DataFrame
        ``batch`` and ``stream`` (structs with ``c0``, ``c1``, ..; null where the side has no row), ``kind`` (one of
        ``KINDS``), ``columns`` (names of the columns that differ, for a changed row; else empty), ``copy`` (int,
        which row of its key this is, from 1) and ``place`` (a sortable struct that orders the pairs by key).
    """
    keys = sortable_names(plan, plan.keys)
    rest = [sortable_name(plan, p) for p in range(len(plan.columns)) if p not in plan.keys]
    per_side = Window.partitionBy(*keys, SIDE)
    ranked = leftovers(batch, stream, plan).select(
        "*",
        F.row_number().over(per_side.orderBy(*(rest or keys))).alias("rank"),
        F.count(F.lit(1)).over(per_side).alias("left"),
    )
    columns = [column_name(place) for place in range(len(plan.columns))]
    whole = F.struct(*columns, *TOTALS, "left")
    sides = [
        F.first(F.when(F.col(SIDE) == side, whole), ignorenulls=True).alias(name)
        for side, name in ((BATCH, "batch"), (STREAM, "stream"))
    ]
    described = (
        ranked.groupBy(*keys, "rank")
        .agg(*sides)
        .select(
            "batch",
            "stream",
            _kind().alias("kind"),
            _differing_columns(plan).alias("columns"),
            _copy().alias("copy"),
            F.struct(*keys, "rank").alias("place"),
        )
    )
    return described.where((F.col("kind") != CHANGED) | (F.size("columns") > 0))


def differing_pairs_once(batch: DataFrame, stream: DataFrame, plan: SchemaPlan) -> DataFrame:
    """:func:`differing_pairs` of frames in which no key repeats on either side; lazy, and cheaper: one join.

    Where a key does repeat, pairs are wrong: count first.
    """
    places = range(len(plan.columns))
    sides = [
        frame.select(F.lit(True).alias(f"{name}_is"), *(value(place).alias(f"{name}{place}") for place in places))
        for name, frame in (("b", batch), ("s", stream))
    ]
    same_key = [_key_of("b", place, plan).eqNullSafe(_key_of("s", place, plan)) for place in plan.keys]
    joined = sides[0].join(sides[1], reduce(lambda left, right: left & right, same_key), "full_outer")
    both = F.col("b_is").isNotNull() & F.col("s_is").isNotNull()
    differs = {
        place: ~same(F.col(f"b{place}"), F.col(f"s{place}"), anonymous(column.dtype), column.tolerance)
        for place, column in enumerate(plan.columns)
        if place not in plan.keys
    }
    names = [F.when(both & flag, F.lit(plan.columns[place].name)) for place, flag in differs.items()]
    kind = F.when(F.col("s_is").isNull(), ONLY_BATCH).when(F.col("b_is").isNull(), ONLY_STREAM).otherwise(CHANGED)
    keys = [F.coalesce(_key_of("b", place, plan), _key_of("s", place, plan)) for place in plan.keys]
    return joined.where(reduce(lambda left, right: left | right, differs.values(), ~both)).select(
        _whole("b", places).alias("batch"),
        _whole("s", places).alias("stream"),
        kind.alias("kind"),
        (F.array_compact(F.array(*names)) if names else F.array().cast("array<string>")).alias("columns"),
        F.lit(1).alias("copy"),
        F.struct(*(key.alias(f"k{place}") for place, key in zip(plan.keys, keys, strict=True))).alias("place"),
    )


def _key_of(side: str, place: int, plan: SchemaPlan) -> Column:
    return groupable(F.col(f"{side}{place}"), anonymous(plan.columns[place].dtype))


def _whole(side: str, places: range) -> Column:
    columns = (F.col(f"{side}{place}").alias(column_name(place)) for place in places)
    return F.when(F.col(f"{side}_is").isNotNull(), F.struct(*columns))


def public_rows(pairs: DataFrame, plan: SchemaPlan) -> DataFrame:
    """The differing pairs under the tables' own column names; lazy.

    Returns
    -------
    DataFrame
        ``key`` (struct), ``window`` (the batch row's, else the stream row's; null without a window column), ``kind``,
        ``columns``, ``batch``, ``stream`` (structs of the matched columns), ``copy``.
    """
    return pairs.select(*public_columns(plan))


def public_columns(plan: SchemaPlan) -> list[Column]:
    """The columns of :func:`public_rows`, over the frame of :func:`differing_pairs`."""
    key = F.struct(*(_either(plan, place).alias(plan.columns[place].name) for place in plan.keys))
    window = F.lit(None).cast("string") if plan.window is None else _either(plan, plan.window)
    return [
        key.alias("key"),
        window.alias("window"),
        F.col("kind"),
        F.col("columns"),
        _renamed("batch", plan).alias("batch"),
        _renamed("stream", plan).alias("stream"),
        F.col("copy"),
    ]


def _kind() -> Column:
    def lone(side: str, other_total: str, alone: str, surplus: str) -> Column:
        return F.when(F.col(side).getField(other_total) > 0, F.lit(surplus)).otherwise(F.lit(alone))

    return (
        F.when(F.col("stream").isNull(), lone("batch", TOTALS[STREAM], ONLY_BATCH, DUPLICATE_IN_BATCH))
        .when(F.col("batch").isNull(), lone("stream", TOTALS[BATCH], ONLY_STREAM, DUPLICATE_IN_STREAM))
        .otherwise(F.lit(CHANGED))
    )


def _copy() -> Column:
    # Cancelled copies are as many on either side, and come first in the count.
    cancelled = [
        F.col(side).getField(total) - F.col(side).getField("left")
        for side, total in zip(("batch", "stream"), TOTALS, strict=True)
    ]
    return (F.coalesce(*cancelled) + F.col("rank")).cast("int")


def _differing_columns(plan: SchemaPlan) -> Column:
    both = F.col("batch").isNotNull() & F.col("stream").isNotNull()
    names = [
        F.when(
            both
            & ~same(
                F.col("batch").getField(column_name(place)),
                F.col("stream").getField(column_name(place)),
                anonymous(column.dtype),
                column.tolerance,
            ),
            F.lit(column.name),
        )
        for place, column in enumerate(plan.columns)
        if place not in plan.keys
    ]
    return F.array_compact(F.array(*names)) if names else F.array().cast("array<string>")


def _either(plan: SchemaPlan, position: int) -> Column:
    name = column_name(position)
    sides = (F.col("batch").getField(name), F.col("stream").getField(name))
    return F.coalesce(*sides).cast(plan.columns[position].dtype)


def _renamed(side: str, plan: SchemaPlan) -> Column:
    row = F.col(side)
    fields = [
        row.getField(column_name(place)).cast(column.dtype).alias(column.name)
        for place, column in enumerate(plan.columns)
    ]
    return F.when(row.isNotNull(), F.struct(*fields))
