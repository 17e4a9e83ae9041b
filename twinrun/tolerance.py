"""How far two numbers may lie apart and still count as the same."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from twinrun.errors import TableError


@dataclass(frozen=True)
class Tolerance:
    """An allowed distance between two numbers; both bounds are inclusive.

    Null, NaN and the infinities are never within a tolerance of anything but themselves.

    Attributes
    ----------
    value : float
        The bound: in the column's own unit, or a share of the larger magnitude when ``relative``.
    relative : bool
        Whether ``value`` is a share.
    """

    value: float
    relative: bool

    @property
    def exact(self) -> bool:
        """Whether only equal values pass."""
        return self.value == 0

    @property
    def decimal(self) -> Decimal:
        """The bound as it was written: 0.1 is one tenth here, not the nearest double."""
        return Decimal(repr(self.value))

    def __str__(self) -> str:
        return f"rel({self.value!r})" if self.relative else repr(self.value)


def absolute(value: float) -> Tolerance:
    """Allow ``|a - b| <= value``.

    Parameters
    ----------
    value : float
        The distance, in the column's own unit; 0 means exact.

    Raises
    ------
    TableError
        If ``value`` is negative or not finite.
    """
    return Tolerance(_checked(value), relative=False)


def rel(value: float) -> Tolerance:
    """Allow ``|a - b| <= value * max(|a|, |b|)``.

    Parameters
    ----------
    value : float
        A share in [0, 1); 0 means exact. From 1 on, everything would equal zero.

    Raises
    ------
    TableError
        If ``value`` is negative, not finite, or 1 or more.
    """
    checked = _checked(value)
    if checked >= 1:
        found = f"the relative tolerance {value!r} lets every number equal zero"
        raise TableError(found, expected="a share in [0, 1), such as 1e-9")
    return Tolerance(checked, relative=True)


def as_tolerance(value: Tolerance | float) -> Tolerance:
    """Read a tolerance as a job writes it: a bare number is absolute.

    Raises
    ------
    TableError
        If the bound is negative or not finite, is no number, or is relative and 1 or more.
    """
    if isinstance(value, Tolerance):
        return rel(value.value) if value.relative else absolute(value.value)
    return absolute(value)


def _checked(value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        found = f"the tolerance {value!r} is not a number"
        raise TableError(found, expected="a finite number of at least 0, or rel(..)")
    number = float(value)
    if not math.isfinite(number) or number < 0:
        found = f"the tolerance {value!r} cannot be used"
        raise TableError(found, expected="a finite number of at least 0, or rel(..)")
    return number
