"""Another engine's sums in another order, and a function that repeats itself in no engine: told from changed values."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from tests.integration.conftest import T0_MS, World, click
from tests.integration.other_engine import Engine, changed
from tests.integration.test_external import GRACE_MS, RULE, found, new_topic, verify
from twinrun.results.verdict import Verdict

pytestmark = pytest.mark.slow
LOG = [click(second, page, weight=second / 7) for second in range(5, 300, 20) for page in "ab"]
LOG += [click(second, "a") for second in (310, 320, 375)]
ROWS = Engine(GRACE_MS).run([record.value for record in LOG])


def verdicts(verdict: Verdict) -> set[tuple[str, int, str]]:
    return {
        (each.key["page"], each.window_start_ms or 0, ",".join(each.causes) or each.verdict) for each in verdict.samples
    }


@pytest.fixture(scope="module")
def world(make_world: Any) -> World:
    world: World = make_world()
    world.produce(LOG)
    world.ingest()
    return world


def test_the_last_digit_of_a_mean_is_float_order_and_a_later_one_is_somebodys(world: World) -> None:
    world.batch()
    exact = replace(world.job(), tolerances={})
    rows = changed(ROWS, "a", 1, T0_MS, lambda row: {**row, "weight": math.nextafter(row["weight"], 1e9)})
    rows = changed(rows, "b", 1, T0_MS, lambda row: {**row, "weight": row["weight"] * (1 + 1e-6)})

    verdict = verify(world, exact, topic=new_topic(world, rows), **RULE)

    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("differ", 1, 1)
    assert found(verdict).keys() == {"float_order"}
    minute = T0_MS + 60_000
    assert {("a", minute, "float_order"), ("b", minute, "unexplained")} <= verdicts(verdict)


def test_a_drawn_number_is_nondeterministic_and_a_wrong_count_beside_it_is_not(world: World) -> None:
    world.batch("noisy")
    rows = [{"page": r["page"], "window_start": r["window_start"], "clicks": r["clicks"], "drawn": 0.5} for r in ROWS]
    rows = changed(rows, "b", 1, T0_MS, lambda row: {**row, "clicks": row["clicks"] + 1})

    verdict = verify(world, "noisy", topic=new_topic(world, rows), **RULE)

    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("differ", 1, 1)
    assert found(verdict) == {"nondeterministic": len(ROWS) - 1}
    assert ("b", T0_MS + 60_000, "unexplained") in verdicts(verdict)
