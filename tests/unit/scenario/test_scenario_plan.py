"""A plan equals what a simulation of Spark's rules finds in the bytes, for any seed and any plants."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.scenario.oracle import ONLY_IN, differing, simulate, slow_of, visits
from twinrun.errors import InputError
from twinrun.scenario.contract import BUILT_IN, Contract, Joined
from twinrun.scenario.expect import Expectation
from twinrun.scenario.generate import generate
from twinrun.scenario.model import Scenario
from twinrun.scenario.outcome import outcome_of
from twinrun.scenario.plan import expectation_of
from twinrun.scenario.plants import KINDS, MIXED, PRESETS, Plant, can_take
from twinrun.scenario.suite import suite_of
from twinrun.scenario.timeline import SEEDS_PER_TRACK

CONTRACTS = [
    *BUILT_IN.values(),
    replace(BUILT_IN["tumbling"], name="no lateness at all", lateness_ms=0),
    replace(BUILT_IN["tumbling"], name="lateness of many windows", lateness_ms=10_800_000, window_ms=3_600_000),
    replace(BUILT_IN["sliding"], name="steps that do not divide the window", window_ms=50_000),
]
CONTRACTS[-2] = replace(CONTRACTS[-2], slide_ms=3_600_000)
SEEDS = st.integers(0, 2**63 - 1)


def made(name: str, seed: int, contract: Contract) -> Scenario:
    try:
        return generate(name, seed, contract, size=60)
    except InputError:
        return generate("calm", seed, contract)


def late_rows(plan: Expectation) -> dict[object, tuple[str, int]]:
    return {
        row: (each.kind, each.causes["late_dropped"])
        for row, each in plan.rows.items()
        if "late_dropped" in each.causes
    }


@settings(max_examples=80, deadline=None)
@given(st.sampled_from([*PRESETS, MIXED]), SEEDS, st.sampled_from(CONTRACTS))
def test_the_plan_equals_a_simulation_over_the_bytes(name: str, seed: int, contract: Contract) -> None:
    scenario = made(name, seed, contract)
    plan = expectation_of(scenario)
    done = simulate(scenario.records(), scenario.size, contract, slow=slow_of(scenario.behind))
    if contract.gap_ms is None:
        assert late_rows(plan) == differing(done).get(scenario.prefix, {})
        assert plan.late_pairs == done.dropped
        assert caused(plan, "duplicate_event") == {row: n for row, n in done.further.items() if n}
        assert plan.read_late == done.read_late(contract)
    assert plan.quarantined == done.refused
    assert plan.duplicates == {name: count for name, count in done.copies.items() if count > 1}


def caused(plan: Expectation, cause: str) -> dict[object, int]:
    return {row: each.causes[cause] for row, each in plan.rows.items() if cause in each.causes}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["split_visits", "late_edge", "late_tail", "disorder", MIXED]), SEEDS, st.integers(1, 90))
def test_sessions_equal_a_simulation_over_the_bytes(name: str, seed: int, gap_s: int) -> None:
    contract = replace(BUILT_IN["session"], gap_ms=gap_s * 1_000)
    scenario = made(name, seed, contract)
    done, plan = outcome_of(scenario.both, contract), expectation_of(scenario)
    batch, stream, dropped = visits(scenario.records(), scenario.size, contract, slow_of(scenario.behind))
    assert {(key, s.start_ms, s.end_ms, len(s.events)) for (key, _), s in done.batch.items()} == batch
    assert {(key, s.start_ms, s.end_ms, len(s.events)) for (key, _), s in done.stream.items()} == stream
    assert {name for name, _ in plan.late_pairs} == dropped
    planted = Counter({plant.kind: plant.count for plant in scenario.plants})
    assert len(dropped) == planted["late"] + planted["read_late"]
    splits = caused(plan, "late_split")
    assert (len(splits), set(splits.values())) == (2 * planted["split"], {1} if planted["split"] else set())
    # What differs by number of events has a cause, and nothing else has one.
    differ = {(key, start) for key, start, _, _ in batch ^ stream}
    assert differ == {row for row, each in plan.rows.items() if each.explainable}


@pytest.mark.parametrize("wrong_ms", [-1, 1])
def test_a_gap_that_is_a_millisecond_off_gives_other_sessions(wrong_ms: int) -> None:
    """Negative control: splits and late events lie on the edges."""
    contract = BUILT_IN["session"]
    scenario = generate("split_visits", 7, contract)
    right = visits(scenario.records(), scenario.size, contract)
    wrong = visits(scenario.records(), scenario.size, replace(contract, gap_ms=10_000 + wrong_ms))
    assert len(right[1]) != len(wrong[1]) or right[2] != wrong[2]


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_copies_are_forgotten_or_remembered_as_planted(seed: int) -> None:
    contract = BUILT_IN["distinct"]
    plants = (Plant("copies", 5, "forgotten"), Plant("copies", 4, "remembered"), Plant("late", 4, "edge"))
    scenario = generate("own", seed, contract, plants)
    plan = expectation_of(scenario)
    assert plan.blamed == {"duplicate_event": 5, "late_dropped": 4}
    assert len(plan.duplicates) == 9
    # A row that a stream has not written when the log ends differs from none: no copy may be the only event of one.
    over_ms = max(line.event.event_ms for line in scenario.lines if line.event) - (contract.lateness_ms or 0)
    counted = [row for row, each in plan.rows.items() if "duplicate_event" in each.causes]
    assert [row for row in counted if (row[1] or 0) + (contract.window_ms or 0) > over_ms] == []
    blind = expectation_of(replace(scenario, contract=replace(contract, distinct=False)))
    assert "duplicate_event" not in blind.blamed


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([*PRESETS, MIXED]), SEEDS, st.sampled_from(CONTRACTS))
def test_planted_counts_are_exact(name: str, seed: int, contract: Contract) -> None:
    scenario = made(name, seed, contract)
    plan = expectation_of(scenario)
    lines = Counter(line.plant for line in scenario.lines)
    refused = Counter(line.plant for line in scenario.lines if line.event is None)
    counts = Counter(kind for plant in scenario.plants for kind in [plant.kind] * plant.count)
    assert plan.late_events == counts["late"] + counts["read_late"]
    assert (lines["late"], lines["filtered"]) == (counts["late"], counts["filtered"])
    assert len(plan.filtered) == counts["filtered"]
    assert len(plan.read_late or ()) == counts["read_late"] == len(scenario.behind)
    assert len(plan.duplicates) == counts["duplicates"] + counts["copies"]
    assert lines["duplicates"] == 2 * counts["duplicates"]
    assert [lines[kind] for kind in ("disorder", "hot_keys")] == [counts[kind] for kind in ("disorder", "hot_keys")]
    assert refused["poison"] == counts["poison"]
    assert refused["clock_skew"] == counts["clock_skew"]
    assert lines["schema_change"] == counts["schema_change"]
    assert plan.unexplained_rows == sum(count for kind, count in counts.items() if kind.startswith("sink_"))
    assert len(scenario.gaps) == counts["gaps"]
    assert len(scenario.static_keys) == counts["static_change"]
    assert Counter(line.micro_batch for line in scenario.lines) == dict.fromkeys(range(6), scenario.size)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.sampled_from([contract for contract in CONTRACTS if contract.windowed]))
def test_windows_that_are_gaps_hold_no_event_in_time(seed: int, contract: Contract) -> None:
    scenario = generate("gap", seed, contract)
    length_ms = scenario.timeline.window_ms
    in_time = [line.event for line in scenario.lines if line.event and line.plant != "late"]
    assert [e for e in in_time if any(gap <= e.event_ms < gap + length_ms for gap in scenario.gaps)] == []
    assert len(scenario.gaps) == 1


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_disorder_is_behind_what_came_before_and_duplicates_are_the_same_bytes(seed: int) -> None:
    scenario = generate("everything", seed, BUILT_IN["tumbling"])
    newest = 0
    for line in scenario.lines:
        assert line.event is None or line.plant != "disorder" or line.event.event_ms <= newest
        newest = max(newest, line.event.event_ms if line.event and line.plant != "late" else 0)
    twice = Counter(line.value for line in scenario.lines if line.plant == "duplicates")
    assert set(twice.values()) == {2}


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 3 * SEEDS_PER_TRACK), min_size=2, max_size=8, unique=True))
def test_a_scenario_means_the_same_alone_and_among_others(seeds: list[int]) -> None:
    shapes = [
        BUILT_IN[name] for name in ("tumbling", "sliding", "deduplicated", "chained", "stateless", "distinct", "once")
    ]
    alone = [generate(MIXED, seed, shapes[seed % 7]) for seed in seeds]
    suite = suite_of(alone)
    for contract in shapes:
        together = suite.expect(contract)
        for scenario in alone:
            own = expectation_of(replace(scenario, contract=contract))
            theirs = together[scenario.prefix]
            assert (own.rows, own.late_pairs, own.duplicates) == (theirs.rows, theirs.late_pairs, theirs.duplicates)
            assert own.read_late == theirs.read_late
            assert sorted(own.quarantined.values()) == sorted(theirs.quarantined.values())
        done = simulate(suite.records()[: len(suite.lines)], suite.size, contract, slow=slow_of(suite.behind))
        assert {row for plan in together.values() for row in late_rows(plan)} == {
            row for rows in differing(done).values() for row in rows
        }
    assert len({line.micro_batch for line in suite.lines}) * suite.size == len(suite.lines)


def test_edges_lie_on_both_sides_of_the_watermark() -> None:
    """Ties are what a wrong comparison would miss: ends of windows at, 1 ms before and 1 ms after the watermark."""
    distances = set()
    for seed in range(0, 40 * SEEDS_PER_TRACK, SEEDS_PER_TRACK):
        scenario = generate("late_edge", seed, BUILT_IN["tumbling"])
        for line in scenario.lines:
            if line.event and line.plant in ("late", "disorder"):
                end_ms = line.event.event_ms // 60_000 * 60_000 + 60_000
                distances.add((line.plant, end_ms - scenario.timeline.dropping_ms(line.micro_batch)))
    assert {("late", 0), ("late", -1)} <= distances
    assert {("disorder", 59_999), ("disorder", 1)} <= distances


def test_what_lies_on_the_slow_partition_is_read_late_and_nothing_else_is() -> None:
    plants = (Plant("read_late", 9), Plant("late", 12, "edge"))
    scenarios = [generate("own", seed, BUILT_IN["tumbling"], plants) for seed in (3, 4, SEEDS_PER_TRACK)]
    suite = suite_of(scenarios)
    for plan in suite.expect(BUILT_IN["tumbling"]).values():
        assert plan.read_late == {f"{plan.scenario}.behind{number}" for number in range(9)}
        assert plan.late_events == 21
    assert len(suite.behind) == suite.behind_size * suite.micro_batches
    assert suite.partitions == 2


@pytest.mark.parametrize("lag", [1, 3])
def test_another_lag_of_the_watermark_gives_another_plan(lag: int) -> None:
    """Negative control: the comparison tells Spark's rule from one that is a micro-batch too new or too old."""
    scenario = generate("late_edge", 7, BUILT_IN["tumbling"])
    assert simulate(scenario.records(), scenario.size, scenario.contract, lag=2).dropped == plan_pairs(scenario)
    assert simulate(scenario.records(), scenario.size, scenario.contract, lag=lag).dropped != plan_pairs(scenario)


def plan_pairs(scenario: Scenario) -> frozenset[tuple[str, int]]:
    return expectation_of(scenario).late_pairs


def test_every_kind_can_be_planted_somewhere() -> None:
    bought = Joined(BUILT_IN["tumbling"].fields, "id", "page", 30_000, outer=True)
    shapes = [*BUILT_IN.values(), replace(BUILT_IN["once"], name="joined", joined=bought)]
    for kind in KINDS:
        contract = next(each for each in shapes if can_take(kind, each))
        assert generate("one", 5, contract, (Plant(kind, 1),)).plants == (Plant(kind, 1),)


@pytest.mark.parametrize("name", [*PRESETS, MIXED])
def test_a_preset_fits_every_seed_in_some_shape(name: str) -> None:
    for seed in range(0, 2_000, 100):
        shape = ONLY_IN.get(name, "tumbling")
        generate(name, seed, BUILT_IN[shape])
