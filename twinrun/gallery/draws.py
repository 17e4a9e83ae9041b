"""Columns of numbers from a seed: number i is a hash of (seed, name, label, i), however many there are.

The same as `twinrun.scenario.counter`, for many numbers at once. numpy's own generators are not used: their methods
may draw differently in another version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]
_STEP, _FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True)
class Draws:
    """Columns of ``n`` numbers. The same seed, name, label and place give the same number on any machine."""

    seed: int
    name: str
    n: int

    def unit(self, label: str) -> NDArray[np.float64]:
        """Even numbers from 0 to 1, 1 itself left out; multiples of 2**-53."""
        return (self._bits(label) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def whole(self, label: str, low: int, high: int) -> Whole:
        """Whole numbers from ``low`` to ``high``, both included."""
        return low + np.floor(self.unit(label) * (high - low + 1)).astype(np.int64)

    def chosen(self, label: str, options: Sequence[Any], weights: Sequence[float] | None = None) -> NDArray[Any]:
        """One of the options each, by weight; without weights each is as likely."""
        of = np.asarray([1.0] * len(options) if weights is None else weights)
        upto = np.cumsum(of) / of.sum()
        place = np.searchsorted(upto, self.unit(label), side="right")
        return np.asarray(options, dtype=object)[np.minimum(place, len(options) - 1)]

    def hot(self, label: str, size: int) -> Whole:
        """Numbers from 0 to ``size`` - 1, of which the first are hot: each as likely as 1 / (number + 1)."""
        weights = 1.0 / np.arange(1, size + 1)
        return self.chosen(label, range(size), list(weights)).astype(np.int64)

    def along(self, label: str, marks: Sequence[int]) -> Whole:
        """Whole numbers whose quantiles, evenly spaced, are ``marks``: a distribution drawn by a few points."""
        spaced = np.linspace(0.0, 1.0, len(marks))
        return np.floor(np.interp(self.unit(label), spaced, np.asarray(marks, dtype=np.float64))).astype(np.int64)

    def times(self, label: str, start_ms: int, slot_ms: int, rush: Sequence[float]) -> Whole:
        """Rising instants, epoch milliseconds, from ``start_ms``; ``rush`` is how much happens in each slot."""
        upto = np.concatenate([[0.0], np.cumsum(np.asarray(rush, dtype=np.float64))])
        place = np.interp(np.sort(self.unit(label)), upto / upto[-1], np.arange(len(upto), dtype=np.float64))
        return start_ms + np.floor(place * slot_ms).astype(np.int64)

    def _bits(self, label: str) -> NDArray[np.uint64]:
        """64 bits per place: splitmix64 from a start that seed, name and label give."""
        text = f"{self.seed}\x1f{self.name}\x1f{label}"
        start = np.uint64(int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big"))
        with np.errstate(over="ignore"):
            bits = start + _STEP * np.arange(1, self.n + 1, dtype=np.uint64)
            bits = (bits ^ (bits >> np.uint64(30))) * _FIRST
            bits = (bits ^ (bits >> np.uint64(27))) * _SECOND
            mixed: NDArray[np.uint64] = bits ^ (bits >> np.uint64(31))
        return mixed
