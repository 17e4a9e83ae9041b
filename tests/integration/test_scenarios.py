"""Seeded scenarios through the real pipeline: every planted cause with its exact count, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from bench.scenario_jobs import JOINS, NUMBERS, ONE_LOG, PARTITIONS, contract_for, log_of, mixed_suite
from bench.scenario_run import JobRun, land, observe, run_job
from tests.integration.conftest import World
from twinrun.scenario.check import Checked, Observed, check
from twinrun.scenario.expect import Expectation
from twinrun.scenario.suite import Suite

SOON = ("sliding_clicks",)
SCENARIOS = 40
Log = Callable[[str], tuple[World, Suite]]
Run = Callable[[str], JobRun]


@pytest.fixture(scope="module")
def log(make_world: Any, broker: Any) -> Log:
    """The log that a job runs over, landed once: 40 scenarios lie in two, one of a single source and one of two."""

    @cache
    def landed(group: tuple[str, ...]) -> tuple[World, Suite]:
        world: World = make_world(partitions=PARTITIONS["joined" if group == JOINS else "clicks"])
        suite = mixed_suite(world, range(SCENARIOS), group, micro_batches=5, size=24)
        assert suite is not None
        # Each log has one scenario that leaves two partitions idle; one has a partition that is read behind.
        assert (suite.partitions, suite.micro_batches) == (world.partitions, 5)
        assert len(suite.scenarios) == sum(log_of(seed) == group for seed in range(SCENARIOS))
        if suite.second:
            world.add_topic("orders")
        land(world, suite)
        return world, suite

    return lambda job: landed(JOINS if job in JOINS else ONE_LOG)


@pytest.fixture(scope="module")
def run(log: Log) -> Run:
    """Run a job over its log, once."""
    return cache(lambda job: run_job(*log(job), job))


@pytest.mark.parametrize("job", [job if job in SOON else pytest.param(job, marks=pytest.mark.slow) for job in NUMBERS])
def test_every_planted_cause_is_found_with_its_exact_count_and_no_other(run: Run, job: str) -> None:
    done = run(job)
    assert [problem for each in done.checked for problem in each.problems] == []
    assert done.problems == ()
    assert done.unexplained + done.sink_proven == done.sink_planted > 0
    planned = sum(each.planted for each in done.checked)
    assert planned == sum(each.found for each in done.checked) >= len(done.checked)


@pytest.fixture
def late(log: Log, run: Run) -> tuple[Expectation, Observed]:
    """A scenario with late events, as planned and as seen."""
    run(SOON[0])
    world, suite = log(SOON[0])
    contract = contract_for(world, SOON[0])
    plan = next(plan for plan in suite.expect(contract).values() if plan.late_pairs)
    seen = observe(world, suite, SOON[0], contract)[plan.scenario]
    assert check(plan, seen).ok
    return plan, seen


def tampered(late: tuple[Expectation, Observed], events: int) -> Checked:
    """The check of a plan that promises so many events more in one of its rows."""
    plan, seen = late
    name, row = next((name, row) for name, row in plan.rows.items() if row.explainable)
    more = {"late_dropped": row.causes["late_dropped"] + events}
    return check(replace(plan, rows={**plan.rows, name: replace(row, causes=more)}), seen)


def test_a_plan_that_promises_one_event_more_is_not_found(late: tuple[Expectation, Observed]) -> None:
    assert tampered(late, 0).ok
    done = tampered(late, 1)
    assert (done.found, done.ok) == (done.planted - 1, False)
    assert "not found: late_dropped" in done.problems[0]


def test_a_cause_that_the_plan_does_not_have_is_a_false_claim(late: tuple[Expectation, Observed]) -> None:
    plan, seen = late
    others = {name: row for name, row in plan.rows.items() if not row.explainable}
    done = check(replace(plan, rows=others, late_pairs=frozenset()), seen)
    assert done.falsely_claimed == len(plan.rows) - len(others) + len(plan.late_pairs)
    assert not done.ok
