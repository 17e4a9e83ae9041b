"""Aggregates of twinrun say the same in both modes, whatever the order of arrival, and what a hand has worked out."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.integration.conftest import World, click
from tests.integration.shapes import result_of
from tests.integration.test_operators import counts

# Two of one time, three of one weight; four partitions, four records per micro-batch, in no order within a minute.
MINUTE = [(5, "a", 3.0), (5, "b", 1.0), (20, "c", 3.0), (31, "d", 3.0), (44, "e", 9.0), (44, "f", 0.5), (59, "g", 2.0)]


@pytest.fixture(scope="module")
def world(make_world: Any) -> World:
    world: World = make_world(partitions=4)
    shuffled = random.Random(3).sample(MINUTE, len(MINUTE))
    records = [click(second, "p", name=name, weight=weight) for second, name, weight in shuffled]
    # A micro-batch takes one record of each partition: what closes the minutes has to come behind all.
    world.produce([*records, click(61, "q", name="one", weight=None)])
    world.ingest("told_minutes")
    world.stream("told_minutes")
    world.produce([click(second, page, name=f"{page}{second}") for second in (200, 300) for page in "wxyz"])
    world.ingest("told_minutes")
    world.stream("told_minutes")
    world.batch("told_minutes")
    return world


def test_both_modes_agree_with_what_a_hand_has_worked_out(world: World) -> None:
    verdict = world.verify("told_minutes")
    assert (verdict.outcome, verdict.rows_unexplained, counts(verdict)) == ("agree", 0, {})
    for kind in ("batch", "stream"):
        rows = {row["page"]: row for row in result_of(world, kind, "told_minutes").to_dicts()}
        of_time = {name: second for second, name, _ in MINUTE}
        assert of_time[rows["p"]["first"]] == 5
        assert rows["p"]["last"] == "g"
        weights = sorted(weight for *_, weight in MINUTE)
        assert rows["p"]["weights"] == pytest.approx([weights[3], weights[5] + 0.7 * (weights[6] - weights[5])])
        assert [(each["by"], each["value"]) for each in rows["p"]["heaviest"]] == [
            (9.0, "e"),
            (3.0, "d"),
            (3.0, "c"),
            (3.0, "a"),
        ]
        assert (rows["q"]["first"], rows["q"]["weights"], rows["q"]["heaviest"]) == ("one", None, [])


def test_of_two_at_one_time_both_modes_take_the_same_by_its_place(world: World) -> None:
    first = {kind: result_of(world, kind, "told_minutes") for kind in ("batch", "stream")}
    picked = {kind: frame.filter(frame["page"] == "p")["first"].item() for kind, frame in first.items()}
    assert picked["batch"] == picked["stream"] in ("a", "b")
