"""More micro-batches than a checkpoint keeps: late events from before and after are named from the micro-batch log."""

from __future__ import annotations

import json
from typing import Any

import pytest
from delta.tables import DeltaTable

from tests.integration.conftest import T0_MS, World, click
from tests.integration.shapes import expected_counts, named_pairs, result_of, second_of

pytestmark = pytest.mark.slow

MINUTE_S, LATENESS_S, STEP_S = 60, 10, 5
RECORDS = 170
# One record per micro-batch, 5 s of event time after the one before it, but for these: record number to second.
LATE = {
    25: 35,  # its minute ended at 60 s; the watermark is 5 * 23 - 10 = 105 s
    40: 165,  # exactly at the watermark: minute 2 ends at 180 s, and 5 * 38 - 10 = 180
    60: 210,
    61: 211,
    110: 460,
    166: 700,  # minute 11 ends at 720 s; 5 * 164 - 10 = 810
}
BEHIND_BUT_IN_TIME = {42: 185, 63: 290, 140: 666}
LOG = [
    click({**LATE, **BEHIND_BUT_IN_TIME}.get(number, number * STEP_S), name=f"r{number}") for number in range(RECORDS)
]
DROPPED = {f"r{number}": [second // MINUTE_S * MINUTE_S] for number, second in LATE.items()}


def dropped_by_the_rule() -> set[int]:
    """The records that the rule drops: micro-batch b by what was newest before micro-batch b - 1, less the lateness."""
    seconds = [(json.loads(record.value or b"")["at"] - T0_MS) / 1000 for record in LOG]
    return {
        number
        for number, second in enumerate(seconds)
        if number > 1 and (second // MINUTE_S + 1) * MINUTE_S <= max(seconds[: number - 1]) - LATENESS_S
    }


@pytest.fixture(scope="module")
def world(make_world: Any) -> World:
    world = make_world(**{"stream.max_offsets_per_trigger": 1})
    world.produce(LOG)
    world.ingest()
    assert world.stream().micro_batches == RECORDS + 1, "one per record, and one without data at the end"
    world.batch()
    return world


def test_the_log_is_what_its_comments_say() -> None:
    assert dropped_by_the_rule() == set(LATE)


def test_a_hole_in_the_log_is_lost_evidence_and_never_a_proof(world: World) -> None:
    log = DeltaTable.forPath(world.spark, world.cfg().table("micro_batches"))
    version = log.history(1).collect()[0]["version"]
    log.delete("micro_batch BETWEEN 24 AND 26")
    try:
        verdict = world.verify()
    finally:
        log.restoreToVersion(version)
    assert (verdict.outcome, verdict.exit_code, verdict.rows_explained) == ("differ", 1, 0)
    assert {sample.verdict for sample in verdict.samples} == {"evidence_expired"}
    assert any("evidence_expired" in problem for problem in verdict.problems)


def test_exactly_the_dropped_events_are_named(world: World) -> None:
    kept = [file for file in (world.root / "cp/stream/per_minute/v1/offsets").iterdir() if file.name.isdigit()]
    assert min(int(file.name) for file in kept) > 61, "the checkpoint has forgotten most of the late events"
    # The verify of the test before had a hole, and named none: they are named now that the log is whole again.
    verdict = world.verify()
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("explained", 0, 0)
    assert named_pairs(world, "per_minute") == {(name, starts[0]) for name, starts in DROPPED.items()}
    assert {(event.id["id"], event.micro_batch) for event in verdict.late_events} == {(f"r{n}", n) for n in LATE}
    minutes = {starts[0] for starts in DROPPED.values()}
    assert [(c.cause, c.rows, c.events) for c in verdict.causes] == [("late_dropped", len(minutes), len(LATE))]
    newest = (RECORDS - 1) * STEP_S - LATENESS_S
    used = expected_counts(LOG, MINUTE_S, MINUTE_S, DROPPED)
    rows = result_of(world, "stream", "per_minute")
    found = {("a", second_of(row["window_start"])): row["clicks"] for row in rows.iter_rows(named=True)}
    assert found == {key: n for key, n in used.items() if key[1] + MINUTE_S <= newest}
