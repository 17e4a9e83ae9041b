"""A small fingerprint per group of rows: equal fingerprints mean equal rows, in any order, copies counted.

Per group: the number of rows and four sums, of the two halves of two 64-bit hashes per row. Sums and not xor, in
which two copies of one row and two copies of another look alike; halves, because sums of whole hashes overflow. Two
groups that differ are taken for equal with a probability of about 2^-128; equal groups never look different, save for
numbers with a tolerance next to the edge of a cell, which only costs a look at their rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from twinrun.comparator.frame import GROUP, PENDING, row_hashes
from twinrun.comparator.groups import TOLD_GROUPS, encode_group
from twinrun.comparator.plan import SchemaPlan

_SUMS = ("low1", "high1", "low2", "high2")
_HASHES = ("hash1", "hash2")
_LOW_HALF = 0xFFFFFFFF


@dataclass(frozen=True)
class Overview:
    """What the digests alone tell.

    Attributes
    ----------
    rows_batch, rows_stream : int
        Rows compared on each side.
    pending_batch, pending_stream : int
        Rows set aside as not yet ready.
    groups, groups_unequal : int
        Windows or buckets on either side, and how many have different digests.
    unequal : tuple of str
        The groups with different digests, encoded; at most ``TOLD_GROUPS + 1`` of them.
    """

    rows_batch: int
    rows_stream: int
    pending_batch: int
    pending_stream: int
    groups: int
    groups_unequal: int
    unequal: tuple[str, ...]


def row_digests(frame: DataFrame, plan: SchemaPlan) -> DataFrame:
    """The digest of each row by itself; lazy. Digests add up, so these can stand wherever :func:`digest` can.

    Parameters
    ----------
    frame : DataFrame
        From :func:`twinrun.comparator.frame.prepare`.
    plan : SchemaPlan
        The plan by which it was prepared.

    Returns
    -------
    DataFrame
        The columns of :func:`digest`; ``rows`` is 1.
    """
    halves = (half.alias(name) for half, name in zip(_halves(), _SUMS, strict=True))
    return _hashed(frame, plan).select(PENDING, GROUP, F.lit(1).cast("bigint").alias("rows"), *halves)


def digest(frame: DataFrame, plan: SchemaPlan) -> DataFrame:
    """One row per group of a prepared frame; lazy, one shuffle of one row per group and task.

    Parameters
    ----------
    frame : DataFrame
        From :func:`twinrun.comparator.frame.prepare`.
    plan : SchemaPlan
        The plan by which it was prepared.

    Returns
    -------
    DataFrame
        ``pending``, ``grp`` (null is a group like any other; all pending rows are one group), ``rows`` and the sums
        ``low1``, ``high1``, ``low2``, ``high2``, all bigint. Digests of disjoint sets of rows can be added. The sums
        hold up to 2^31 rows per group; beyond, Spark raises an arithmetic error.
    """
    sums = (F.sum(half).alias(name) for half, name in zip(_halves(), _SUMS, strict=True))
    return _hashed(frame, plan).groupBy(PENDING, GROUP).agg(F.count(F.lit(1)).alias("rows"), *sums)


def paired_digests(batch_digest: DataFrame, stream_digest: DataFrame) -> DataFrame:
    """Both sides' digests side by side; lazy, one shuffle.

    Parameters
    ----------
    batch_digest, stream_digest : DataFrame
        From :func:`digest`; or from :func:`row_digests`, which saves a shuffle of few rows, and costs many rows more.

    Returns
    -------
    DataFrame
        ``pending``, ``grp``, ``rows_batch``, ``rows_stream`` (0 where a side lacks the group) and ``equal``. The null
        group pairs with the null group.
    """
    signed = _signed(batch_digest, 1).unionByName(_signed(stream_digest, -1))
    names = ("rows_batch", "rows_stream", *_SUMS)
    sums = signed.groupBy(PENDING, GROUP).agg(*(F.sum(name).alias(name) for name in names))
    gaps = [F.col("rows_batch") == F.col("rows_stream"), *(F.col(name) == 0 for name in _SUMS)]
    equal = reduce(lambda left, right: left & right, gaps)
    return sums.select(PENDING, GROUP, "rows_batch", "rows_stream", equal.alias("equal"))


def bad_groups(batch_digest: DataFrame, stream_digest: DataFrame) -> DataFrame:
    """The groups whose digests differ, with the rows on both sides; lazy. Pending rows are left out."""
    pairs = paired_digests(batch_digest, stream_digest)
    return pairs.where(~F.col(PENDING) & ~F.col("equal")).select(GROUP, "rows_batch", "rows_stream")


def overview(pairs: DataFrame, plan: SchemaPlan) -> Overview:
    """Sum the paired digests up: one Spark action, one row to the driver.

    Parameters
    ----------
    pairs : DataFrame
        From :func:`paired_digests`.
    plan : SchemaPlan
        The plan by which the digests were made.
    """
    compared, unequal = ~F.col(PENDING), ~F.col(PENDING) & ~F.col("equal")
    code = encode_group(F.col(GROUP), plan)
    listed = [] if code is None else [F.min_by(code, F.when(unequal, code), TOLD_GROUPS + 1).alias("unequal")]
    row = pairs.agg(
        *(
            F.coalesce(F.sum(F.when(which, F.col(name))), F.lit(0)).alias(f"{label}_{name}")
            for label, which in (("compared", compared), ("pending", F.col(PENDING)))
            for name in ("rows_batch", "rows_stream")
        ),
        F.count_if(compared).alias("groups"),
        F.count_if(unequal).alias("groups_unequal"),
        *listed,
    ).collect()[0]
    return Overview(
        rows_batch=row["compared_rows_batch"],
        rows_stream=row["compared_rows_stream"],
        pending_batch=row["pending_rows_batch"],
        pending_stream=row["pending_rows_stream"],
        groups=row["groups"],
        groups_unequal=row["groups_unequal"],
        unequal=tuple(row["unequal"] or ()) if listed else (),
    )


def _signed(side: DataFrame, sign: int) -> DataFrame:
    batch, stream = (F.col("rows"), F.lit(0)) if sign > 0 else (F.lit(0), F.col("rows"))
    return side.select(
        PENDING,
        GROUP,
        batch.cast("bigint").alias("rows_batch"),
        stream.cast("bigint").alias("rows_stream"),
        *((F.col(name) * F.lit(sign)).alias(name) for name in _SUMS),
    )


def _hashed(frame: DataFrame, plan: SchemaPlan) -> DataFrame:
    # A step of its own: each hash stands in the plan once, though both its halves are used.
    hashes = row_hashes(plan, range(len(plan.columns)))
    group = F.when(~F.col(PENDING), F.col(GROUP)).alias(GROUP)
    return frame.select(PENDING, group, *(each.alias(name) for each, name in zip(hashes, _HASHES, strict=True)))


def _halves() -> list[Column]:
    hashes = [F.col(name) for name in _HASHES]
    return [half for each in hashes for half in (each.bitwiseAND(F.lit(_LOW_HALF)), F.shiftrightunsigned(each, 32))]
