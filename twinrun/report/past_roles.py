"""Which cause has which colour in the chart of the ledger, and which partition in that of the partitions."""

from __future__ import annotations

from collections.abc import Sequence

from twinrun.results.past import CauseHistory
from twinrun.results.verdict import PartitionPoint

CAUSES = ("cause1", "cause2", "cause3", "cause4", "cause5")
"""Roles of the causes, the last for all others."""


def by_role(causes: Sequence[CauseHistory]) -> list[tuple[str, tuple[CauseHistory, ...]]]:
    """The causes that a chart can keep apart, those with most rows first; the last role has all others."""
    ranked = sorted(causes, key=lambda each: (-max(each.rows, default=0), each.cause))
    alone: list[tuple[str, tuple[CauseHistory, ...]]] = [
        (role, (cause,)) for role, cause in zip(CAUSES[:-1], ranked, strict=False)
    ]
    rest = tuple(ranked[len(alone) :])
    return [*alone, (CAUSES[-1], rest)] if rest else alone


def partition_roles(points: Sequence[PartitionPoint]) -> list[tuple[str, int]]:
    """The role of each partition, in the order of the points; those beyond the fourth share the last one."""
    numbers = list(dict.fromkeys(point.partition for point in points))
    return [(CAUSES[min(place, len(CAUSES) - 1)], number) for place, number in enumerate(numbers)]
