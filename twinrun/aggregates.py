"""Aggregates that say the same at rest and in motion, where Spark's own go by the order in which rows meet.

For the function of a job, behind a ``groupBy``. None of them looks at the clock, and none depends on how events were
shared out among files, partitions or micro-batches.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column
from pyspark.sql import functions as F

from twinrun.events.source import PLACE


def earliest(value: Column | str, at: Column | str, *then: Column | str) -> Column:
    """The value of the first row by event time, in a total order.

    Parameters
    ----------
    value : Column or str
        What is wanted of that row; a null there is the result.
    at : Column or str
        The event time. Rows without one come first, so give one that is never null, as a source's event time is.
    then : Column or str
        What decides between rows of the same time; by default where Kafka holds them, which no two share.

    Returns
    -------
    Column
        An aggregate of the type of ``value``; null of no rows.
    """
    return F.min_by(value, _in_order(at, then))


def latest(value: Column | str, at: Column | str, *then: Column | str) -> Column:
    """The value of the last row by event time, in a total order; parameters as those of `earliest`.

    Beside an event time from another clock (the version of a row, the number of a change) give that as ``at``.
    """
    return F.max_by(value, _in_order(at, then))


def percentiles(value: Column | str, shares: Sequence[float]) -> Column:
    """Exact percentiles, interpolated between the two nearest values, as an array of doubles: take one with ``F.get``.

    `percentile_approx` keeps a sketch that depends on the order of rows. This one keeps each different value with its
    count, per group: for measurements rounded to what they mean, not for random doubles without end.

    Parameters
    ----------
    shares : sequence of float
        Each 0 to 1; nulls in ``value`` do not count, and of no value the result is null.
    """
    return F.percentile(value, [float(share) for share in shares])


def top_with_ties(value: Column | str, by: Column | str, n: int) -> Column:
    """The ``n`` rows with the largest ``by``, and all that are as large as the last of them, largest first.

    A cut between equals would be by the order of rows. Of equal ones the larger ``value`` stands first. All rows of the
    group are held until it is done.

    Returns
    -------
    Column
        An array of structs ``(by, value)``; rows whose ``by`` is null do not count; empty where none does.

    Raises
    ------
    ValueError
        ``n`` is below 1.
    """
    if n < 1:
        msg = f"the largest {n} of a group are none; ask for 1 or more"
        raise ValueError(msg)
    measure, what = (F.col(each) if isinstance(each, str) else each for each in (by, value))
    row = F.struct(measure.alias("by"), what.alias("value"))
    rows = F.sort_array(F.collect_list(F.when(measure.isNotNull(), row)), asc=False)
    last = F.try_element_at(rows, F.least(F.size(rows), F.lit(n)))["by"]
    return F.when(F.size(rows) > 0, F.filter(rows, lambda each: each["by"] >= last)).otherwise(rows)


def _in_order(at: Column | str, then: tuple[Column | str, ...]) -> Column:
    return F.struct(at, *(then or PLACE))
