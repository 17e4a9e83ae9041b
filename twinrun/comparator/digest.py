"""Fingerprints per group of rows, over both tables in one shape, and the groups whose fingerprints differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Literal

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from twinrun.comparator.schema import SchemaPlan, Side, as_planned
from twinrun.comparator.values import anonymous, groupable, hash_terms, two_hashes
from twinrun.errors import TableError
from twinrun.events.exact import INTEGRALS

# Both tables in one shape: columns ``c0``, ``c1``, .. in their common types, a group, and a pending flag.
#
# Positions in place of names, so that no column name (dots, spaces, backticks, ``a`` next to ``A``) can go wrong.


GROUP = "grp"
PENDING = "pending"
MOST_SENT = 200_000
"""Rows that are sent whole to every executor, through the driver's memory: some 20 MB."""

_SENT_BY_ITSELF = "spark.sql.autoBroadcastJoinThreshold"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def sent(frame: DataFrame, rows: int | None = None) -> DataFrame:
    """The side of a join that is small as a rule: sent whole to every executor, unless it is not small this time.

    Then Spark joins it as any other table, and the driver holds none of it; so it does where the session sends no table
    to executors at all (``spark.sql.autoBroadcastJoinThreshold`` below 0).

    Parameters
    ----------
    rows : int, optional
        How many rows it has at most; None: they are counted, one Spark job.
    """
    if str(frame.sparkSession.conf.get(_SENT_BY_ITSELF, "0")).startswith("-"):
        return frame
    known = frame.count() if rows is None else rows
    return F.broadcast(frame) if known <= MOST_SENT else frame


def column_name(position: int) -> str:
    """The name in a prepared frame of the planned column at this position."""
    return f"c{position}"


def value(position: int) -> Column:
    """The planned column at this position of a prepared frame."""
    return F.col(column_name(position))


def prepare(
    table: DataFrame, plan: SchemaPlan, side: Side, ready_until: datetime | Column | None, buckets: int
) -> DataFrame:
    """Bring one table into the common shape; lazy.

    Parameters
    ----------
    table : DataFrame
        The batch's or the stream's table.
    plan : SchemaPlan
        From :func:`twinrun.comparator.schema.plan_schema` on both schemas.
    side : {"batch", "stream"}
        Which of the two ``table`` is.
    ready_until : datetime or Column, optional
        An instant with a time zone: rows whose window column is later are pending. Or a condition over the table's
        own columns, true for rows that are ready. Where it is null (a null window) the row is ready: it is compared
        and not set aside.
    buckets : int
        Number of groups by key hash where the plan has no window.

    Returns
    -------
    DataFrame
        ``c0``, ``c1``, .. (struct fields renamed to ``f0``, ..), ``grp`` (the window, or a bucket; null only for a
        null window) and ``pending`` (boolean, never null).

    Raises
    ------
    TableError
        If ``ready_until`` is an instant without a time zone, or cannot be compared with the window column.
    """
    width = plan.batch_width if side == "batch" else plan.stream_width
    given = [ready_until.alias("ready")] if isinstance(ready_until, Column) else []
    # Few steps on purpose: on small tables Spark's analysis of each step costs more than the rows.
    positional = (table.select("*", *given) if given else table).toDF(
        *(f"p{place}" for place in range(width)), *("ready" for _ in given)
    )
    columns = [
        as_planned(
            F.col(f"p{column.batch_position if side == 'batch' else column.stream_position}"),
            column,
            side,
            anonymous(column.dtype),
        ).alias(column_name(place))
        for place, column in enumerate(plan.columns)
    ]
    pending = F.lit(False)
    if given:
        pending = ~F.coalesce("ready", F.lit(True))
    elif isinstance(ready_until, datetime):
        pending = ~F.coalesce(_until(plan, ready_until), F.lit(True))
    names = [column_name(place) for place in range(len(columns))]
    group = _group(plan, buckets).alias(GROUP)
    return positional.select(*columns, *("ready" for _ in given)).select(*names, pending.alias(PENDING), group)


def group_type(plan: SchemaPlan) -> T.DataType:
    """The type of the column ``grp``."""
    return T.LongType() if plan.window is None else anonymous(plan.columns[plan.window].dtype)


def groupable_value(plan: SchemaPlan, position: int) -> Column:
    """The planned column in a form that can be grouped and ordered."""
    return groupable(value(position), anonymous(plan.columns[position].dtype))


def row_hashes(plan: SchemaPlan, positions: range | tuple[int, ...]) -> tuple[Column, Column]:
    """Two 64-bit hashes over some columns of a prepared frame, numbers with a tolerance by their cells."""
    values = [value(position) for position in positions]
    terms: list[Column] = []
    for position in positions:
        terms += cell_terms(plan, position)
    return two_hashes(values, terms)


def cell_terms(plan: SchemaPlan, position: int) -> list[Column]:
    """What is hashed for one planned column."""
    column = plan.columns[position]
    return hash_terms(value(position), anonymous(column.dtype), column.tolerance)


def _until(plan: SchemaPlan, instant: datetime) -> Column:
    if instant.tzinfo is None:
        found = f"ready_until {instant.isoformat()} has no time zone"
        raise TableError(found, expected="an instant such as 2013-01-06T00:00:00Z")
    if plan.window is None:
        found = "ready_until needs a window column to be compared with"
        raise TableError(found, fix="name the column that holds the end of the window")
    column = plan.columns[plan.window]
    if isinstance(column.dtype, T.TimestampType):
        # Through microseconds: a Python datetime without a zone would pass through this machine's time zone.
        return value(plan.window) <= F.timestamp_micros(F.lit((instant - _EPOCH) // _MICROSECOND))
    if isinstance(column.dtype, T.TimestampNTZType | T.DateType):
        text = instant.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ")
        return value(plan.window).cast("timestamp_ntz") <= F.lit(text).cast("timestamp_ntz")
    found = f"ready_until cannot be compared with {column.name!r}, which holds {column.dtype.simpleString()}"
    raise TableError(found, expected="a window column of type timestamp, timestamp_ntz or date, or a condition")


def _group(plan: SchemaPlan, buckets: int) -> Column:
    if plan.window is not None:
        return value(plan.window)
    return F.pmod(row_hashes(plan, plan.keys)[0], F.lit(buckets)).cast("bigint")


# Which groups of rows are looked at closely: those whose digests differ.
#
# Few groups become literals in the filter, so that Delta and Parquet can skip files. Many become a broadcast semi-join
# with those that the driver was told, so that nothing is worked out twice; more than that are worked out again where
# they are joined. When most groups differ everything is looked at.


DETAILED_GROUPS = 200
"""Up to so many groups are written into the filter."""
TOLD_GROUPS = 10_000
"""Up to so many groups are told to the driver: less than a megabyte of times or numbers."""
_MOST = 0.5
"""From this share of unequal groups on, filtering costs more than it saves."""
_NULL = "n"
_VALUE = "v"

_LITERALS: tuple[type[T.DataType], ...] = (
    *INTEGRALS,
    T.StringType,
    T.DateType,
    T.TimestampType,
    T.TimestampNTZType,
    T.DecimalType,
    T.BooleanType,
)


@dataclass(frozen=True)
class Selection:
    """Some groups of a prepared frame.

    Attributes
    ----------
    condition : Column
        True for the rows to look at, or for more of them where ``groups`` decides. Null means no, as in a filter:
        wrapped in ``coalesce`` it would no longer reach the files' statistics.
    groups : DataFrame or None
        One column ``grp``: the groups to look at, by a semi-join.
    count : int
        How many ``groups`` are.
    scope : {"none", "some", "all"}
        Whether it takes no group, some, or all there are.
    """

    condition: Column
    groups: DataFrame | None = None
    count: int = 0
    scope: Literal["none", "some", "all"] = "some"

    def rows(self, frame: DataFrame) -> DataFrame:
        """The chosen rows of a prepared frame that are not pending; lazy."""
        chosen = frame.where(~F.col(PENDING) & self.condition)
        if self.groups is None:
            return chosen
        wanted = sent(self.groups.select(F.col(GROUP).alias("wanted")), self.count)
        return chosen.join(wanted, F.col(GROUP).eqNullSafe(F.col("wanted")), "left_semi")


def everything() -> Selection:
    """Every group."""
    return Selection(F.lit(True), scope="all")


def encode_group(group: Column, plan: SchemaPlan) -> Column | None:
    """A group as text that :func:`select_groups` reads; None for types that do not go into a filter."""
    dtype = group_type(plan)
    if not isinstance(dtype, _LITERALS):
        return None
    plain = F.unix_micros(group) if isinstance(dtype, T.TimestampType) else group
    return F.when(group.isNull(), F.lit(_NULL)).otherwise(F.concat(F.lit(_VALUE), plain.cast("string")))


def select_groups(plan: SchemaPlan, total: int, unequal: int, encoded: Sequence[str], bad: DataFrame) -> Selection:
    """Choose how to read only the groups that differ.

    Parameters
    ----------
    plan : SchemaPlan
        The plan by which both sides were prepared.
    total, unequal : int
        How many groups there are, and how many differ.
    encoded : sequence of str
        The groups that differ, from :func:`encode_group`; may be cut off above ``TOLD_GROUPS``.
    bad : DataFrame
        The same as a lazy frame with the column ``grp``; read only where they were cut off, or cannot be encoded.
    """
    if unequal == 0:
        return Selection(F.lit(False), scope="none")
    if len(encoded) == unequal <= DETAILED_GROUPS:
        return Selection(_one_of(encoded, group_type(plan)))
    if unequal >= _MOST * total:
        return everything()
    if len(encoded) == unequal:
        told = _told(bad.sparkSession, encoded, group_type(plan))
        return Selection(_reach(encoded, group_type(plan)), told, unequal)
    return Selection(F.lit(True), bad, unequal)


def _told(spark: SparkSession, encoded: Sequence[str], dtype: T.DataType) -> DataFrame:
    """Groups as a frame: one literal, whatever their number, as each would cost several calls to Java."""
    codes = spark.range(1).select(F.explode(F.from_json(F.lit(json.dumps(encoded)), "array<string>")).alias("code"))
    return codes.select(F.when(F.col("code") != _NULL, _value(F.expr("substring(code, 2)"), dtype)).alias(GROUP))


def _reach(encoded: Sequence[str], dtype: T.DataType) -> Column:
    """From the first to the last of many groups, so that files outside are skipped; true where it is not known."""
    if not isinstance(dtype, (T.TimestampType, *INTEGRALS)):
        return F.lit(True)
    numbers = [int(text[1:]) for text in encoded if text != _NULL]
    first, last = (_literal(str(edge), dtype) for edge in (min(numbers), max(numbers)))
    between = F.col(GROUP).between(first, last)
    return between | F.col(GROUP).isNull() if _NULL in encoded else between


def _one_of(encoded: Sequence[str], dtype: T.DataType) -> Column:
    literals = [_literal(text[1:], dtype) for text in encoded if text != _NULL]
    inside = F.col(GROUP).isin(*literals) if literals else F.lit(False)
    return inside | F.col(GROUP).isNull() if _NULL in encoded else inside


def _literal(text: str, dtype: T.DataType) -> Column:
    return F.timestamp_micros(F.lit(int(text))) if isinstance(dtype, T.TimestampType) else _value(F.lit(text), dtype)


def _value(text: Column, dtype: T.DataType) -> Column:
    return F.timestamp_micros(text.cast("bigint")) if isinstance(dtype, T.TimestampType) else text.cast(dtype)


# A small fingerprint per group of rows: equal fingerprints mean equal rows, in any order, copies counted.
#
# Per group: the number of rows and four sums, of the two halves of two 64-bit hashes per row. Sums and not xor, in
# which two copies of one row and two copies of another look alike; halves, because sums of whole hashes overflow. Two
# groups that differ are taken for equal with a probability of about 2^-128; equal groups never look different, save for
# numbers with a tolerance next to the edge of a cell, which only costs a look at their rows.


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
        From :func:`twinrun.comparator.digest.prepare`.
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
        From :func:`twinrun.comparator.digest.prepare`.
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
