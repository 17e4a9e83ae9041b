"""How many keys occur more than once; measured in every comparison, since a repeated key is a fault of its own."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun.comparator.frame import PENDING, groupable_value
from twinrun.comparator.groups import Selection
from twinrun.comparator.plan import SchemaPlan


@dataclass(frozen=True)
class RepeatedKeys:
    """How many keys have more than one row on each side."""

    batch: int
    stream: int


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
    keys = [groupable_value(plan, place).alias(f"k{place}") for place in plan.keys]
    inside = F.coalesce(unequal.condition, F.lit(False))
    once, not_once = F.lit(1).cast("bigint"), F.lit(0).cast("bigint")
    shared = F.when(inside, not_once).otherwise(once)
    counted = batch.where(~F.col(PENDING)).select(*keys, once.alias("in_batch"), shared.alias("in_stream"))
    rest = stream.where(~F.col(PENDING) & unequal.condition)
    counted = counted.unionByName(rest.select(*keys, not_once.alias("in_batch"), once.alias("in_stream")))
    names = [f"k{place}" for place in plan.keys]
    sums = counted.groupBy(*names).agg(F.sum("in_batch").alias("in_batch"), F.sum("in_stream").alias("in_stream"))
    row = sums.agg(*(F.count_if(F.col(f"in_{side}") > 1).alias(side) for side in ("batch", "stream"))).collect()[0]
    return RepeatedKeys(batch=row["batch"], stream=row["stream"])
