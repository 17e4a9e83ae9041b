"""How many keys occur more than once: a repeated key is a fault of its own, also where both sides repeat it.

Where the digests agree, both sides hold the same rows and so repeat the same keys. Whether there are any can only be
seen by bringing all rows of a key together, which costs more than all digests: it is done where asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from twinrun.comparator.frame import PENDING, groupable_value
from twinrun.comparator.groups import Selection
from twinrun.comparator.plan import SchemaPlan
from twinrun.comparator.result import KeysCounted


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
