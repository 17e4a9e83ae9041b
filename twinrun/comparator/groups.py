"""Which groups of rows are looked at closely: those whose digests differ.

Few groups become literals in the filter, so that Delta and Parquet can skip files. Many become a broadcast semi-join
with those that the driver was told, so that nothing is worked out twice; more than that are worked out again where they
are joined. When most groups differ everything is looked at.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from twinrun.comparator.frame import GROUP, PENDING, group_type, sent
from twinrun.comparator.plan import SchemaPlan
from twinrun.tables.stored import INTEGRALS

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
