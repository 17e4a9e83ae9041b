"""Numbers from a seed: each is a hash of (seed, label, counter), so that none depends on how many came before it.

Python's ``random`` is not used: its methods may draw differently in another version of Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True)
class Draws:
    """Numbers of one seed. The same seed, label and counter give the same number on any machine."""

    seed: int
    name: str

    def bits(self, label: str, counter: int = 0) -> int:
        """128 bits as a number."""
        text = f"{self.seed}\x1f{self.name}\x1f{label}\x1f{counter}"
        return int.from_bytes(blake2b(text.encode(), digest_size=16).digest(), "big")

    def below(self, limit: int, label: str, counter: int = 0) -> int:
        """A number from 0 to ``limit`` - 1; even, since 2**128 is far above any limit here."""
        return self.bits(label, counter) % limit

    def chosen(self, options: Sequence[_T], label: str, counter: int = 0) -> _T:
        """One of the options."""
        return options[self.below(len(options), label, counter)]

    def halvings(self, label: str, counter: int = 0, most: int = 20) -> int:
        """How often a fair coin fell on the same side: 0 in one half of all cases, 1 in a quarter, and so on."""
        bits = self.bits(label, counter)
        return next((n for n in range(most) if bits >> n & 1), most)

    def shuffled(self, items: Sequence[_T], label: str) -> list[_T]:
        """All items in an order of their own."""
        places = sorted(range(len(items)), key=lambda place: (self.bits(label, place), place))
        return [items[place] for place in places]
