"""Tolerances are checked when they are written, not when they are used."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest

from twinrun.errors import TableError
from twinrun.tolerance import Tolerance, absolute, as_tolerance, rel


@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf, -math.inf, True, "1e-9", None])
def test_a_bound_that_is_no_finite_distance_is_refused(value: object) -> None:
    for read in (absolute, rel, as_tolerance):
        with pytest.raises(TableError):
            read(value)  # type: ignore[arg-type]


def test_a_share_of_one_would_make_everything_equal_zero() -> None:
    with pytest.raises(TableError, match="zero"):
        rel(1)
    assert absolute(1).value == 1
    assert rel(0.999).relative


def test_a_tolerance_built_by_hand_is_checked_too() -> None:
    with pytest.raises(TableError):
        as_tolerance(Tolerance(math.nan, relative=False))
    with pytest.raises(TableError):
        as_tolerance(Tolerance(2.0, relative=True))


def test_a_bare_number_is_absolute_and_zero_is_exact() -> None:
    assert as_tolerance(1e-9) == absolute(1e-9) != rel(1e-9)
    assert as_tolerance(0).exact
    assert not as_tolerance(1e-300).exact


def test_the_decimal_value_is_the_one_that_was_written() -> None:
    assert absolute(0.1).decimal == Decimal("0.1") != Decimal.from_float(0.1)
    assert str(rel(1e-9)) == "rel(1e-09)"
