"""The plan of a join of two streams against both logs, run micro-batch by micro-batch."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.scenario.oracle import rule_of
from twinrun.job.ddl import read_ddl
from twinrun.scenario.contract import BUILT_IN, Contract, Joined
from twinrun.scenario.generate import generate
from twinrun.scenario.model import Scenario
from twinrun.scenario.plan import expectation_of
from twinrun.scenario.plants import MIXED, Plant
from twinrun.scenario.suite import suite_of

ORDERS = read_ddl("order_id STRING NOT NULL, at BIGINT NOT NULL, id STRING NOT NULL, price BIGINT NOT NULL")
INNER = replace(BUILT_IN["once"], name="inner", joined=Joined(ORDERS, "order_id", "id", within_ms=30_000, outer=False))
LEFT = replace(INNER, name="left", joined=Joined(ORDERS, "order_id", "id", within_ms=30_000, outer=True))
PLANTS = (Plant("late", 4, "tail"), Plant("disorder", 6), Plant("unanswered", 5))
Rows = dict[str, str | None]


def run(scenario: Scenario, contract: Contract, own: bool = False) -> tuple[Rows, Rows, set[str]]:
    """Rows at rest, rows in motion, and what is dropped; ``own``: each side by its own watermark, which is wrong."""
    outer = bool(contract.joined and contract.joined.outer)
    logs = [
        [rule_of(record, contract) for record in scenario.records()],
        [json.loads(r.value) for r in scenario.second],
    ]
    newest, drops_by, emits_by = [0, 0], [0, 0], [0, 0]
    kept: list[list[dict[str, Any]]] = [[], []]
    dropped = set()
    for start in range(0, len(logs[0]) + 1, scenario.size):
        known = [max(0, each - 10_000) for each in newest]
        drops_by, emits_by = emits_by, known if own else [min(known)] * 2
        for side, log in enumerate(logs):
            for fields in log[start : start + scenario.size]:
                if isinstance(fields, str):
                    continue
                newest[side] = max(newest[side], fields["at"])
                if fields["at"] <= drops_by[side]:
                    dropped.add(fields["order_id" if side else "id"])
                else:
                    kept[side].append(fields)
    valid = [[fields for fields in log if not isinstance(fields, str)] for log in logs]
    waits = {click["id"] for click in kept[0] if click["at"] + 30_000 >= min(emits_by)}
    stream = rows(kept[0], kept[1], outer)
    return rows(*valid, outer), {n: o for n, o in stream.items() if o or n not in waits}, dropped


def rows(clicks: list[dict[str, Any]], orders: list[dict[str, Any]], outer: bool) -> Rows:
    found: Rows = {click["id"]: None for click in clicks} if outer else {}
    at = {click["id"]: click["at"] for click in clicks}
    for order in orders:
        if order["id"] in at and 0 <= order["at"] - at[order["id"]] <= 30_000:
            assert not found.get(order["id"]), "one answer at most"
            found[order["id"]] = order["order_id"]
    return found


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**63 - 1), st.sampled_from([INNER, LEFT]), st.sampled_from([MIXED, "own"]))
def test_the_plan_equals_a_simulation_over_both_logs(seed: int, contract: Contract, name: str) -> None:
    scenario = generate(name, seed, contract, PLANTS if name == "own" else None)
    plan = expectation_of(scenario)
    batch, stream, dropped = run(scenario, contract)
    assert {name for name, _ in plan.late_pairs} == dropped
    differ = {name for name in {*batch, *stream} if batch.get(name, "") != stream.get(name, "")}
    assert differ == {name for (name, _), row in plan.rows.items() if row.explainable}
    planted = sum(plant.count for plant in scenario.plants if plant.kind in ("late", "unanswered"))
    assert len(dropped) == planted
    kinds = {(name in stream, row.kind) for (name, _), row in plan.rows.items() if row.explainable}
    assert kinds <= {(True, "changed"), (False, "only_batch")}


@pytest.mark.parametrize("contract", [INNER, LEFT], ids=["inner", "left"])
def test_a_side_judged_by_its_own_watermark_drops_other_events(contract: Contract) -> None:
    """Negative control: the second source is behind, and events lie between the two watermarks."""
    scenario = generate("own", 700, contract, PLANTS)
    assert scenario.timeline.lag_ms > 0
    right, wrong = run(scenario, contract), run(scenario, contract, own=True)
    assert right[2] < wrong[2]


def test_scenarios_of_a_join_mean_the_same_alone_and_among_others() -> None:
    made = [generate("own", seed, (INNER, LEFT)[seed % 2], PLANTS) for seed in (3, 4, 5, 250)]
    suite = suite_of(made)
    assert len(suite.lines) == len(suite.second) == suite.micro_batches * suite.size
    for contract in (INNER, LEFT):
        together = suite.expect(contract)
        for scenario in made:
            alone = expectation_of(replace(scenario, contract=contract))
            assert together[scenario.prefix].late_pairs == alone.late_pairs
            late = [
                {row for row, each in plan.rows.items() if "late_dropped" in each.causes}
                for plan in (alone, together[scenario.prefix])
            ]
            assert late[0] == late[1]
