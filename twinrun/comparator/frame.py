"""Both tables in one shape: columns ``c0``, ``c1``, .. in their common types, a group, and a pending flag.

Positions in place of names, so that no column name (dots, spaces, backticks, ``a`` next to ``A``) can go wrong.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from twinrun.comparator.canonical import groupable, two_hashes
from twinrun.comparator.declared import as_planned
from twinrun.comparator.grid import hash_terms
from twinrun.comparator.plan import SchemaPlan, Side
from twinrun.comparator.types import anonymous
from twinrun.errors import TableError

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
