"""Which rows differ, and in which columns: what is left after matching, paired by key."""

from __future__ import annotations

from functools import reduce
from typing import Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from twinrun.comparator.canonical import groupable
from twinrun.comparator.frame import column_name, value
from twinrun.comparator.matching import BATCH, SIDE, STREAM, TOTALS, leftovers, sortable_name, sortable_names
from twinrun.comparator.plan import SchemaPlan
from twinrun.comparator.types import anonymous
from twinrun.comparator.within import same

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
