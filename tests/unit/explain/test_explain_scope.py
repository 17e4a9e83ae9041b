"""Replay of what the differing keys need: the same verdict as by the whole recording, and no word more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from tests.unit.explain.long_log import GAP_S, LATENESS_S, T0_MS, VISITS, LongLog, Other, long_log
from twinrun.explain import by_replay
from twinrun.explain.by_replay import Replayed, _Narrow
from twinrun.explain.evidence import blamed_events, events_by_cause
from twinrun.explain.replay import Steps
from twinrun.explain.scope import kept_us
from twinrun.job.carried import Carried

# Micro-batch b is of second b, its watermark that of second b - 1 less 20 s.
LATE = [
    *[Other(10, 0, 10.0), Other(13, 1, 13.0)],
    # Micro-batch 60 drops by some 38 s: a visit that ends at 21 s is over, and a click at 11 s is dropped.
    Other(60, 2, 11.0),
    # A visit of its own, long after.
    Other(70, 0, 70.0),
]
SPLIT = [
    *[Other(10, 0, 10.0), Other(13, 1, 13.0)],
    # Its visit came out by 23 s, in micro-batch 44. A click at 20 s would belong to it, and its own visit, which ends
    # at 30 s, is not over by the 23.8 s that micro-batch 45 drops by: two visits of the stream, one of the batch.
    Other(45, 2, 20.0),
]
MICRO_BATCHES = 80


def told(found: Replayed) -> dict[tuple[str, float], tuple[str, dict[str, int]]]:
    """Verdict and causes by kind of difference and start of the visit."""
    start = (F.unix_millis(F.col("key.window_start")) - F.lit(T0_MS)) / 1000
    rows = found.rows.select("kind", start.alias("at_s"), "verdict", "causes").collect()
    return {(row["kind"], row["at_s"]): (row["verdict"], row["causes"]) for row in rows}


def needed(log: LongLog, **settings: Any) -> _Narrow:
    """What the differing rows need of a recording."""
    found = by_replay._narrow(log.ask(log.sides(), **settings))
    assert isinstance(found, _Narrow), found
    return found


@pytest.fixture(scope="module")
def late(spark_session: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> LongLog:
    return long_log(spark_session, tmp_path_factory.mktemp("late"), MICRO_BATCHES, LATE)


def test_a_late_click_is_proven_by_the_few_micro_batches_of_its_page(late: LongLog) -> None:
    assert late.emitted() == [(10.0, 2)], "the state machine by hand: 11 s is dropped, 70 s still waits"
    # Fewer than the recording has: all of it could not be run.
    found = late.prove(late.sides(), **{"verify.max_replay_micro_batches": 12})
    assert told(found) == {
        ("changed", 10.0): ("explained", {"late_dropped": 1}),
        ("only_batch", 70.0): ("explained", {"pending": 1}),
    }
    assert found.note == ""
    blamed = blamed_events(found.rows.filter("verdict = 'explained'"), found.inputs.evidence)
    assert events_by_cause(blamed) == {"late_dropped": 1}


def test_what_one_attempt_could_not_remove_is_not_where_the_next_one_runs(
    late: LongLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[str] = []
    removed: list[str] = []

    def failing(ask: by_replay.Ask, *_: Any) -> by_replay.Withdrawn:
        folders.append(ask.folder)
        return by_replay.Withdrawn("it failed")

    monkeypatch.setattr(by_replay, "_of_steps", failing)
    monkeypatch.setattr(by_replay, "_of_all", failing)
    monkeypatch.setattr(by_replay, "remove", lambda _, path: removed.append(path))
    assert "it failed" in late.prove(late.sides()).note
    assert len(set(folders)) == len(folders) == 2
    assert all(folder.startswith(f"{removed[0]}/") for folder in folders), "all of it goes with the last"


def test_only_what_lies_between_two_empty_states_is_looked_at(late: LongLog) -> None:
    rows = late.ask(late.sides()).rows
    narrow = by_replay._narrow(replace(late.ask(late.sides()), rows=rows.filter("kind = 'changed'")))
    assert isinstance(narrow, _Narrow)
    assert isinstance(narrow.steps, Steps)
    # The visit at 70 s began when nothing was left of the one before, so that it is not run again.
    assert [step.number for step in narrow.steps.each] == [None, 10, 13, 59, 60, 79]
    assert narrow.inputs.marked["clicks"].count() == 3
    both = needed(late).steps
    assert isinstance(both, Steps)
    assert [step.number for step in both.each] == [None, 10, 13, 59, 60, 69, 70, 79]


def test_a_limit_is_held_against_what_is_needed_and_the_note_says_how_much_that_is(late: LongLog) -> None:
    assert needed(late, **{"verify.max_replay_micro_batches": 6}).steps == 7
    found = late.prove(late.sides(), **{"verify.max_replay_micro_batches": 6})
    assert {verdict for verdict, _ in told(found).values()} == {"unexplained"}
    assert found.note == (
        "Rows were not proven by replay: the stream made 80 micro-batches, of which its keys need 7 micro-batches, "
        "and verify.max_replay_micro_batches is 6."
    )


@pytest.mark.slow
def test_a_row_that_was_changed_in_the_sink_is_no_behaviour_of_the_stream(late: LongLog) -> None:
    found = late.prove(late.sides([(10.0, 1)]))
    assert told(found)["changed", 10.0] == ("unexplained", {})
    gone = late.prove(late.sides([]))
    assert told(gone)["only_batch", 10.0] == ("explained", {"sink_missing": 0})


def test_a_false_watermark_proves_nothing(spark_session: SparkSession, tmp_path: Path) -> None:
    # A millisecond, which changes no row: it is the watermark by which the late click was dropped.
    log = long_log(spark_session, tmp_path, MICRO_BATCHES, LATE, marks={59: 1})
    found = log.prove(log.sides(), **{"verify.max_replay_micro_batches": 12})
    assert {verdict for verdict, _ in told(found).values()} == {"unexplained"}
    assert found.note == (
        "A proof by replay was withdrawn: the replay's watermark differs from the recorded one in micro-batch 59."
    )


@pytest.mark.slow
def test_what_is_run_again_of_one_page_says_what_the_whole_recording_says(
    spark_session: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = long_log(spark_session, tmp_path, 50, SPLIT)
    assert log.emitted() == [(10.0, 2)], "the second visit still waits"
    asked = log.sides()
    part = log.prove(asked)
    monkeypatch.setattr(by_replay, "carried", lambda *_: Carried(why="of a test"))
    whole = log.prove(asked)
    assert told(part) == told(whole)
    assert told(part)["changed", 10.0] == ("explained", {"late_split": 1})


def test_where_keys_meet_all_micro_batches_are_needed_and_the_note_says_why(
    late: LongLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_replay, "carried", lambda *_: Carried(why="the job asks the clock"))
    found = late.prove(late.sides(), **{"verify.max_replay_micro_batches": 12})
    assert {verdict for verdict, _ in told(found).values()} == {"unexplained"}
    assert found.note == (
        "Rows were not proven by replay: the stream made 80 micro-batches, and all of them are needed: the job asks "
        "the clock, and verify.max_replay_micro_batches is 12."
    )


def test_state_is_bounded_only_for_one_aggregation_by_windows_or_sessions(late: LongLog) -> None:
    assert kept_us(late.job, late.flow) == GAP_S * 1_000_000
    assert LATENESS_S > GAP_S, "or nothing above would be late"
    assert kept_us(replace(VISITS, keys=["page"]), late.flow) is None
    assert kept_us(late.job, replace(late.flow, operators=("Deduplicate",))) is None
    assert kept_us(late.job, replace(late.flow, operators=("Aggregate", "Deduplicate"))) is None
    source = replace(VISITS.sources[0], distinct=["page"])
    assert kept_us(replace(VISITS, sources=[source]), late.flow) is None
