"""A job whose stream another engine runs: what is planted in its result is found by its name, or unexplained."""

from __future__ import annotations

import importlib
import json
import uuid
from typing import Any

import pytest

from tests.integration.conftest import T0_MS, World, click
from tests.integration.other_engine import Engine, Row, changed, records_of, send, write_delta, write_parquet
from twinrun.broker.topics import create_topic
from twinrun.errors import InputError
from twinrun.external.declared import external_binding
from twinrun.external.verify import verify_external
from twinrun.job.job import Job
from twinrun.results.verdict import Verdict

GRACE_MS = 10_000
RULE = {"lateness": "10 seconds", "late_rule": "partition-order"}
# Two pages, a click each 20 seconds for five minutes; then the late ones, and what moves the time on.
LOG = [click(second, page, weight=second / 7) for second in range(5, 300, 20) for page in "ab"]
LATE = click(30, "a", name="late", weight=3.0)
LOG.insert(24, LATE)
LOG += [click(second, "a") for second in (310, 320, 375)]
LATE_OFFSET = 24


def values(records: Any = LOG) -> list[bytes]:
    return [record.value for record in records]


ROWS = Engine(GRACE_MS).run(values())


@pytest.fixture(scope="module")
def world(make_world: Any) -> World:
    """The batch side alone: no stream of twinrun ever runs here."""
    world = make_world()
    world.produce(LOG)
    world.ingest()
    world.batch()
    return world


def new_topic(world: World, rows: list[Row], *more: tuple[bytes | None, bytes | None]) -> str:
    topic = f"result-{uuid.uuid4().hex[:8]}"
    create_topic(world.bootstrap, topic, 1)
    if rows or more:
        send(world.bootstrap, topic, [*records_of(rows), *more])
    return topic


def verify(world: World, job: str | Job = "per_minute", **declared: Any) -> Verdict:
    job = world.job(job) if isinstance(job, str) else job
    cfg = world.cfg(**{f"external.{job.job_name}.{key}": json.dumps(value) for key, value in declared.items()})
    return verify_external(world.spark, cfg, job, external_binding(cfg, job))


def found(verdict: Verdict) -> dict[str, int]:
    return {cause.cause: cause.rows for cause in verdict.causes}


@pytest.mark.slow
def test_a_late_event_is_proven_by_the_declared_rule_and_named(world: World) -> None:
    verdict = verify(world, topic=new_topic(world, ROWS), **RULE)

    assert (verdict.outcome, verdict.exit_code, verdict.problems) == ("explained", 0, ())
    assert found(verdict) == {"late_dropped": 1}
    assert [(e.id, e.partition, e.offset, e.micro_batch) for e in verdict.late_events] == [
        ({"id": "late"}, 0, LATE_OFFSET, -1)
    ]
    # Stream time 375 s less 10 s of grace: six minutes have closed, and the seventh is open.
    assert (verdict.rows_compared, verdict.rows_pending) == (len(ROWS), 1)
    assert verdict.external is not None
    assert "late_dropped" not in dict(verdict.external.out_of_reach)
    assert (verdict.micro_batches, verdict.stream_lag_events) == ((), None)


def test_each_planted_fault_is_found_under_its_name_and_what_nothing_proves_is_unexplained(world: World) -> None:
    rows = changed(ROWS, "b", 1, T0_MS, lambda row: {**row, "clicks": row["clicks"] + 1})
    rows = changed(rows, "b", 2, T0_MS, lambda _: None)
    twice = next(row for row in rows if row["page"] == "a" and row["window_start"] == T0_MS + 120_000)
    extra = {**twice, "page": "z"}
    bad = [(b"k", b'{"page": "a", "window'), (b"k", json.dumps({**twice, "clicks": "many"}).encode()), (b"k", None)]
    topic = new_topic(world, [*rows, twice, extra], *bad)

    verdict = verify(world, topic=topic, lateness="10 seconds", late_rule="kafka-streams")

    assert (verdict.outcome, verdict.exit_code) == ("differ", 1)
    assert found(verdict) == {"late_dropped": 1, "sink_duplicate": 1}
    unexplained = {(s.kind, s.key["page"]) for s in verdict.samples if s.verdict == "unexplained"}
    assert unexplained == {("changed", "b"), ("only_batch", "b"), ("only_stream", "z")}
    assert verdict.rows_unexplained == 3
    # The story of the explained row names its event, and what the declared rule judged it by.
    (late,) = [event for sample in verdict.samples for event in sample.events]
    assert (late.cause, late.id, late.offset, late.micro_batch) == ("late_dropped", {"id": "late"}, LATE_OFFSET, None)
    # The 24 clicks before it have brought its partition to 225 s, less 10 s of grace; minute 0 ended at 60 s.
    assert (late.watermark_ms, late.late_ms) == (T0_MS + 215_000, 155_000)
    assert verdict.external is not None
    assert {each.rule: each.events for each in verdict.external.malformed} == {
        "not_json": 1,
        "wrong_type": 1,
        "empty_value": 1,
    }
    assert any("3 records of the result topic are malformed" in problem for problem in verdict.problems)
    kept = world.spark.read.format("delta").load(str(world.root / "wh/twinrun/external_malformed"))
    last = len(rows) + 2
    assert {(r["offset"], r["rule"], bytes(r["value"] or b"")) for r in kept.collect()} == {
        (last, "not_json", bad[0][1]),
        (last + 1, "wrong_type", bad[1][1]),
        (last + 2, "empty_value", b""),
    }


@pytest.mark.slow
def test_with_nothing_declared_nothing_is_late_or_pending_and_the_newest_window_is_not_decidable(world: World) -> None:
    verdict = verify(world, topic=new_topic(world, ROWS))

    assert (verdict.outcome, verdict.exit_code) == ("differ", 1)
    # The row of the late event, and that of the minute which the engine has not closed.
    assert (found(verdict), verdict.rows_unexplained, verdict.windows_pending) == ({}, 2, 0)
    assert any("1 row of the batch lies in windows after the newest" in note for note in verdict.notes)
    assert verdict.external is not None
    assert {"late_dropped", "before_start", "beyond_cut", "sink_missing"} <= set(dict(verdict.external.out_of_reach))


@pytest.mark.slow
def test_a_rule_that_the_engine_does_not_follow_proves_nothing(world: World) -> None:
    """The engine took the late event of page a; a row with that event missing elsewhere is not put down to lateness."""
    kept = Engine(GRACE_MS, drops=False).run(values())
    rows = changed(kept, "b", 0, T0_MS, lambda row: {**row, "clicks": row["clicks"] - 1})

    verdict = verify(world, topic=new_topic(world, rows), **RULE)

    assert (found(verdict), verdict.rows_unexplained, verdict.exit_code) == ({}, 1, 1)
    assert any("late_rule is contradicted" in note for note in verdict.notes)


@pytest.mark.slow
def test_an_event_dropped_against_the_rule_is_unexplained(world: World) -> None:
    """Not late by the rule: another click of page b was left out."""
    log = [record for record in LOG if record is not LOG[1]]
    write_delta(Engine(GRACE_MS).run(values(log)), world.root / "against_the_rule")

    verdict = verify(world, table=str(world.root / "against_the_rule"), **RULE)

    assert (found(verdict), verdict.rows_unexplained, verdict.exit_code) == ({"late_dropped": 1}, 1, 1)
    # Its counts are 32-bit numbers: compared as 64-bit ones, and said.
    assert any("clicks is bigint in the batch and int" in note for note in verdict.notes)


@pytest.mark.slow
def test_a_window_written_again_after_a_declared_restart_is_told_and_without_the_mark_not(world: World) -> None:
    """The engine began anew with the late click: that counts again, and its closed window comes once more."""
    whole = Engine(GRACE_MS, drops=False).run(values())
    again = next(row for row in whole if (row["page"], row["window_start"]) == ("a", T0_MS))
    topic = new_topic(world, [*ROWS, again])
    rule = {"lateness": "10 seconds", "late_rule": "kafka-streams"}

    verdict = verify(world, topic=topic, **rule, restarts={"clicks": [{"0": LATE_OFFSET}]})

    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("differ", 1, 0)
    assert found(verdict) == {"emitted_again": 1}
    assert any("1 row differs by emitted_again" in problem for problem in verdict.problems)
    for marks in ({}, {"restarts": {"clicks": [{"0": LATE_OFFSET + 1}]}}):
        other = verify(world, topic=topic, **rule, **marks)
        assert (found(other), other.rows_unexplained > 0, other.exit_code) == ({}, True, 1)
    with pytest.raises(InputError, match="which lies outside: what the batch has read ends at offset"):
        verify(world, topic=topic, **rule, restarts={"clicks": [{"0": len(LOG) + 1}]})


@pytest.mark.slow
def test_an_empty_topic_is_never_equal(world: World) -> None:
    verdict = verify(world, topic=new_topic(world, []), **RULE)

    assert (verdict.outcome, verdict.exit_code) == ("nothing_compared", 1)
    assert verdict.rows_equal == 0


@pytest.mark.slow
def test_events_outside_the_declared_offsets_are_named(world: World) -> None:
    used = LOG[6:-1]
    write_parquet(Engine(GRACE_MS).run(values(used)), world.root / "inside")
    table = {"table": str(world.root / "inside"), "format": "parquet"}
    offsets = {"start": {"clicks": {"0": 6}}, "end": {"clicks": {"0": len(LOG) - 1}}}

    verdict = verify(world, **table, **RULE, **offsets)

    assert (verdict.outcome, verdict.exit_code) == ("explained", 0)
    assert found(verdict) == {"late_dropped": 1, "before_start": 2}
    assert verdict.external is not None
    assert verdict.external.offsets_declared


@pytest.mark.slow
def test_a_record_that_the_job_leaves_out_is_no_difference_of_the_engine(make_world: Any) -> None:
    world: World = make_world()
    world.produce(LOG)
    world.ingest()
    quarantine = importlib.import_module("twinrun.batch.quarantine")
    # Offset 0: the click of page a at 5 s.
    cfg, job = world.cfg(), world.job()
    quarantine.add(world.spark, cfg, job, [quarantine.Wanted(world.topic, 0, 0)], "the function fails on it")
    world.batch()
    # Page a of minute 0 lacks the late event and counts the record: no recomputation of ours gives that row.
    verdict = verify(world, topic=new_topic(world, ROWS), **RULE)
    assert (verdict.outcome, verdict.exit_code, verdict.rows_behind) == ("agree", 0, 1)
    assert any("1 differing row to which it may belong is not judged" in note for note in verdict.notes)
    assert [(s.verdict, s.key["page"], s.window_start_ms) for s in verdict.samples] == [("input_behind", "a", T0_MS)]
    wrong = changed(ROWS, "b", 1, T0_MS, lambda row: {**row, "clicks": row["clicks"] + 1})
    differs = verify(world, topic=new_topic(world, wrong), **RULE)
    assert (differs.outcome, differs.exit_code, differs.rows_behind, differs.rows_unexplained) == ("differ", 1, 1, 1)
    # Of an engine that had not read it nothing is said.
    unread = verify(world, topic=new_topic(world, ROWS), start={"clicks": {"0": 1}}, **RULE)
    assert not any("left out" in note for note in unread.notes)
