"""Holding tables against a plan: what is missing, wrong or too much is named, and counted once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from twinrun.scenario.check import Observed, ObservedRow, check
from twinrun.scenario.expect import Expectation, ExpectedRow

LATE, DELETED, CHANGED = ("s1.k0", 0), ("s1.k1", 0), ("s1.k2", 0)
PLAN = Expectation(
    "s1",
    "per_minute",
    rows={
        LATE: ExpectedRow("changed", {"late_dropped": 2}),
        DELETED: ExpectedRow("only_batch", {"sink_delete": 0}),
        CHANGED: ExpectedRow("changed", {"sink_change": 0}),
    },
    late_pairs=frozenset({("s1.a", 0), ("s1.b", 0)}),
    quarantined={3: "not_json", 5: "not_json", 6: "empty_value"},
    duplicates={"s1.c": 2},
)
SEEN = Observed(
    rows={
        LATE: ObservedRow("changed", "explained", {"late_dropped": 2}),
        DELETED: ObservedRow("only_batch", "unexplained", {}),
        CHANGED: ObservedRow("changed", "unexplained", {}),
    },
    late_pairs=PLAN.late_pairs,
    quarantined=PLAN.quarantined,
    duplicates=PLAN.duplicates,
)


def with_row(row: tuple[str, int], seen: ObservedRow) -> Observed:
    return replace(SEEN, rows={**SEEN.rows, row: seen})


def without(row: tuple[str, int]) -> Observed:
    return replace(SEEN, rows={key: value for key, value in SEEN.rows.items() if key != row})


def test_a_plan_that_came_true() -> None:
    done = check(PLAN, SEEN)
    assert done.ok
    assert done.problems == ()
    # late rows, late pairs, two faults, two rules, duplicates
    assert (done.planted, done.found, done.falsely_claimed, done.unexplained_where_explainable) == (7, 7, 0, 0)


def test_a_calm_plan_has_nothing_to_find() -> None:
    assert check(Expectation("s2", "x"), Observed()).planted == 0


@pytest.mark.parametrize(
    ("seen", "missed", "false", "unexplained"),
    [
        (without(LATE), 1, 0, 0),
        (without(CHANGED), 1, 0, 0),
        (with_row(LATE, ObservedRow("changed", "explained", {"late_dropped": 1})), 1, 0, 0),
        (with_row(LATE, ObservedRow("only_batch", "explained", {"late_dropped": 2})), 1, 0, 0),
        (with_row(LATE, ObservedRow("changed", "unexplained", {"late_dropped": 2})), 1, 0, 1),
        (with_row(LATE, ObservedRow("changed", "evidence_expired", {})), 1, 0, 1),
        (with_row(LATE, ObservedRow("changed", "explained", {"late_dropped": 2, "quarantined": 1})), 1, 1, 0),
        (with_row(CHANGED, ObservedRow("changed", "explained", {"late_dropped": 1})), 2, 1, 0),
        (with_row(CHANGED, ObservedRow("changed", "explained", {"sink_missing": 0})), 1, 1, 0),
        (with_row(DELETED, ObservedRow("changed", "unexplained", {})), 1, 0, 0),
        (with_row(("s1.k9", 0), ObservedRow("changed", "unexplained", {})), 0, 0, 1),
        (with_row(("s1.k9", 0), ObservedRow("changed", "explained", {"late_dropped": 1})), 1, 1, 0),
        (with_row(("s1.k9", 0), ObservedRow("changed", "explained", {})), 0, 1, 0),
        (replace(SEEN, late_pairs=frozenset({("s1.a", 0)})), 1, 0, 0),
        (replace(SEEN, late_pairs=PLAN.late_pairs | {("s1.z", 0)}), 1, 1, 0),
        (replace(SEEN, quarantined={3: "not_json", 5: "wrong_type", 6: "empty_value"}), 1, 1, 0),
        (replace(SEEN, quarantined={3: "not_json", 5: "not_json"}), 1, 0, 0),
        (replace(SEEN, duplicates={"s1.c": 3}), 1, 0, 0),
        (replace(SEEN, duplicates={"s1.c": 2, "s1.d": 2}), 1, 1, 0),
    ],
)
def test_what_is_wrong_is_counted(seen: Observed, missed: int, false: int, unexplained: int) -> None:
    done = check(PLAN, seen)
    assert (done.planted - done.found, done.falsely_claimed, done.unexplained_where_explainable) == (
        missed,
        false,
        unexplained,
    )
    assert not done.ok
    assert len(done.problems) == missed + false + unexplained


def test_a_fault_of_the_sink_may_be_proven_by_its_own_cause_only() -> None:
    proven = with_row(DELETED, ObservedRow("only_batch", "explained", {"sink_missing": 0}))
    assert check(PLAN, proven).ok
    other = with_row(DELETED, ObservedRow("only_batch", "explained", {"sink_duplicate": 0}))
    assert check(PLAN, other).falsely_claimed == 1


def test_a_filtered_event_that_is_called_late_is_missed_and_falsely_claimed() -> None:
    plan = replace(PLAN, filtered=frozenset({"s1.x", "s1.y"}))
    assert (check(plan, SEEN).planted, check(plan, SEEN).ok) == (8, True)
    named = check(plan, replace(SEEN, late_pairs=SEEN.late_pairs | {("s1.y", 0)}))
    assert (named.planted, named.found, named.falsely_claimed) == (8, 6, 1)
    assert named.by_cause["late events filtered away"] is False
