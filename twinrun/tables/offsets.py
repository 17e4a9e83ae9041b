"""Offsets per Kafka partition: how far a table reaches, and whether anything is missing in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

Offsets = dict[int, int]
"""Kafka partition to offset; as an end, exclusive."""


@dataclass(frozen=True)
class PartitionCount:
    """Records of one Kafka partition in a table; ``first`` and ``last`` are offsets, both inclusive.

    ``inside``: rows for which the condition holds that was asked for besides.
    """

    partition: int
    rows: int
    distinct: int
    first: int
    last: int
    inside: int = 0

    @property
    def missing(self) -> int:
        """Offsets between the first and the last that the table lacks."""
        return self.last - self.first + 1 - self.distinct

    @property
    def repeated(self) -> int:
        """Rows whose offset stands in the table more than once, beyond the first."""
        return self.rows - self.distinct


def end_offsets(records: DataFrame, partition: str = "_partition", offset: str = "_offset") -> Offsets:
    """Exclusive end offset per Kafka partition. One Spark job; a row per Kafka partition is collected."""
    rows = records.groupBy(partition).agg((F.max(offset) + 1).alias("end")).collect()
    return {row[0]: row["end"] for row in rows}


def covers(reached: Offsets, wanted: Offsets) -> bool:
    """Whether every partition of ``wanted`` is reached at least as far."""
    return all(reached.get(partition, 0) >= end for partition, end in wanted.items())


def later_of(one: Offsets, other: Offsets) -> Offsets:
    """Of each partition the later of two offsets; a partition that only one has keeps that one."""
    return {p: max(one.get(p, 0), other.get(p, 0)) for p in sorted({*one, *other})}


def lag(ahead: Offsets, behind: Offsets) -> int:
    """Records that ``ahead`` has and ``behind`` does not have yet; never negative."""
    return sum(max(0, end - behind.get(partition, 0)) for partition, end in ahead.items())


def total(offsets: Mapping[str, Offsets]) -> int:
    """Sum of the offsets of all partitions, by topic or source: a number that grows with every record read."""
    return sum(offset for partitions in offsets.values() for offset in partitions.values())


def before(ends: Offsets, partition: str = "_partition", offset: str = "_offset") -> Column:
    """Condition: the record lies below the end of its partition; a partition that is not listed has none."""
    return _below(ends, F.col(partition), F.col(offset))


def at_or_after(starts: Offsets, partition: str = "_partition", offset: str = "_offset") -> Column:
    """Condition: the record lies at or beyond the given offset; a partition that is not listed starts at 0."""
    return ~_below(starts, F.col(partition), F.col(offset))


def _below(ends: Offsets, partition: Column, offset: Column) -> Column:
    condition = F.lit(False)
    for number, end in ends.items():
        condition = condition | ((partition == number) & (offset < end))
    return condition


def plain(offsets: dict[str, int] | Offsets) -> Offsets:
    """Offsets as read back from JSON, where keys are text."""
    return {int(partition): int(offset) for partition, offset in offsets.items()}
