"""Seeded scenarios through the real pipeline: every planted cause with its exact count, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.scenario_run import contract_for, land, mixed_suite, observe, run_job
from tests.integration.conftest import World
from twinrun.scenario.check import check
from twinrun.scenario.suite import Suite

JOBS = (
    "per_minute",
    "sliding_clicks",
    "minutes_so_far",
    "page_totals",
    "priced_clicks",
    "once_per_minute",
    "peak_minutes",
)
SOON = ("per_minute", "sliding_clicks", "priced_clicks")
SCENARIOS = 40


@pytest.fixture(scope="module")
def world(make_world: Any) -> World:
    return make_world(partitions=3)


@pytest.fixture(scope="module")
def suite(world: World) -> Suite:
    """40 scenarios in one log; one of them plants two partitions that stay idle."""
    suite = mixed_suite(world, range(SCENARIOS), JOBS, micro_batches=6, size=24)
    assert (len(suite.scenarios), suite.partitions, suite.micro_batches) == (SCENARIOS, world.partitions, 6)
    land(world, suite)
    return suite


@pytest.mark.parametrize("job", [job if job in SOON else pytest.param(job, marks=pytest.mark.slow) for job in JOBS])
def test_every_planted_cause_is_found_with_its_exact_count_and_no_other(world: World, suite: Suite, job: str) -> None:
    run = run_job(world, suite, job)
    assert [problem for each in run.checked for problem in each.problems] == []
    assert run.problems == ()
    assert run.unexplained + run.sink_proven == run.sink_planted > 0
    assert sum(each.planted for each in run.checked) == sum(each.found for each in run.checked) > SCENARIOS


def test_a_plan_that_promises_one_event_more_is_not_found(world: World, suite: Suite) -> None:
    contract = contract_for(world, "per_minute")
    seen = observe(world, suite, "per_minute", contract)
    plan = next(p for p in suite.expect(contract).values() if any(row.events for row in p.rows.values()))
    name, row = next((name, row) for name, row in plan.rows.items() if row.events)
    tampered = replace(plan, rows={**plan.rows, name: replace(row, events=row.events + 1)})
    assert check(plan, seen[plan.scenario]).ok
    done = check(tampered, seen[plan.scenario])
    assert (done.found, done.ok) == (done.planted - 1, False)
    assert "not found: late_dropped" in done.problems[0]


def test_a_plan_that_hides_a_planted_cause_is_a_false_claim(world: World, suite: Suite) -> None:
    contract = contract_for(world, "per_minute")
    seen = observe(world, suite, "per_minute", contract)
    plan = next(p for p in suite.expect(contract).values() if p.late_pairs)
    late = {name: row for name, row in plan.rows.items() if row.events}
    hidden = replace(
        plan, rows={name: row for name, row in plan.rows.items() if name not in late}, late_pairs=frozenset()
    )
    done = check(hidden, seen[plan.scenario])
    assert done.falsely_claimed == len(late) + len(plan.late_pairs)
    assert not done.ok
