"""Whether a cause grows or goes: its rows in the last few verifies against those before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MOST_RECENT = 5
"""At most so many verifies are the recent ones."""

_STEADY_PERCENT = 10
Direction = Literal["new", "gone", "rising", "falling", "steady", "unknown"]


@dataclass(frozen=True)
class Trend:
    """Mean rows per verify: in the last ``recent_verifies``, and in those before.

    ``direction`` is ``unknown`` with fewer than two verifies, and ``steady`` within 10 % of the mean before.
    """

    direction: Direction
    recent_verifies: int
    recent_mean: float
    before_mean: float | None


def trend_of(rows: Sequence[int]) -> Trend:
    """The trend of a cause.

    Parameters
    ----------
    rows : sequence of int
        Its rows in each verify, oldest first; 0 where it did not occur.
    """
    recent = max(1, min(MOST_RECENT, len(rows) // 2))
    last, before = rows[-recent:], rows[:-recent]
    recent_mean = _mean(last)
    if not before:
        return Trend("unknown", len(last), recent_mean, None)
    before_mean = _mean(before)
    return Trend(_direction(recent_mean, before_mean), recent, recent_mean, before_mean)


def _direction(recent: float, before: float) -> Direction:
    if before == 0:
        return "new" if recent else "steady"
    if recent == 0:
        return "gone"
    if abs(recent - before) * 100 <= before * _STEADY_PERCENT:
        return "steady"
    return "rising" if recent > before else "falling"


def _mean(rows: Sequence[int]) -> float:
    return sum(rows) / len(rows) if rows else 0.0
