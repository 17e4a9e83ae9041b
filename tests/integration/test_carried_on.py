"""Verifies that go by what the verify before has found say what a verify of everything says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.integration.conftest import World, click
from twinrun.explain import tables
from twinrun.results.state import facts_of
from twinrun.results.verdict import Verdict


def _said(verdict: Verdict) -> Verdict:
    """All of it but when it was taken and how long that took."""
    return replace(verdict, cut=replace(verdict.cut, taken_at_ms=0), duration_ms=0, stream_age_ms=0)


@pytest.mark.slow
def test_a_verify_that_carries_on_says_what_a_full_one_says(make_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "LARGE_BYTES", 0)
    world: World = make_world(partitions=2)
    landings = [
        [click(s, p, name=f"{p}-{s}") for s in (1, 61, 121, 200) for p in "ab"],
        # One too late, one twice, one that is no event.
        [click(201, name="in time"), click(2, name="too late"), click(61, "a", name="a-61"), click(202, amount="much")],
        [click(s, p, name=f"{p}-{s}") for s in (260, 320) for p in "ab"],
    ]
    for landing in landings:
        known = facts_of(world.spark, world.cfg(), world.job()).of("clicks")
        carried = world.run_all(landing)
        assert bool(known.bronze and known.events) == (landing is not landings[0])
        assert _said(carried) == _said(world.verify(full=True))
    assert carried.audits[0].ok
    # The copy of a click came too late as well.
    assert sorted(event.id["id"] for event in carried.late_events) == ["a-61", "too late"]
