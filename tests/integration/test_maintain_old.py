"""Retention and erasure on the real pipeline: what is gone is said to be gone, and nothing that is there is doubted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from delta.tables import DeltaTable

from tests.integration.commands import on_session, run
from tests.integration.conftest import T0_MS, World, click
from tests.integration.test_maintain import unprotect
from twinrun.maintain.expire import DAY_MS, expire
from twinrun.maintain.result import Expired
from twinrun.produce.records import Record
from twinrun.results.verdict import Verdict
from twinrun.tables.kafka import Gone

pytestmark = pytest.mark.slow


DAY_S = 86_400
SECRET = "somebody-4711"
DAY_0_MS = T0_MS - 10 * 3_600_000
"""2013-01-06 00:00 UTC."""
ROWS = {"events": 2, "bronze": 2, "late_events": 1, "duplicate_events": 1}
PLACES = {"bronze", "events", "twinrun"}


def minutes(first: int, *pages: str) -> list[Record]:
    """Two clicks on each page in each of three minutes."""
    return [
        click(first + s, page) for minute in range(3) for s in (minute * 60 + 5, minute * 60 + 25) for page in pages
    ]


DAY_1 = [
    *minutes(0, "a", "b"),
    *[click(s, page) for s, page in zip(range(200, 204), "abab", strict=True)],
    # Dropped: the first minute is over.
    click(30, "a", name="late-1"),
    *[click(s, "b") for s in (204, 205, 206)],
]
DAY_2 = [
    *minutes(DAY_S, "a", "b"),
    *[click(DAY_S + s, page) for s, page in zip(range(200, 204), "abab", strict=True)],
    # In time, and one micro-batch later twice too late.
    click(DAY_S + 130, "b", name=SECRET),
    *[click(DAY_S + s, "b") for s in (204, 205, 206)],
    click(DAY_S + 30, "a", name="late-2"),
    click(DAY_S + 66, "b", name=SECRET),
    *[click(DAY_S + s, "b") for s in (207, 208)],
]


@pytest.fixture(scope="module")
def world(make_world: Any) -> World:
    """A late event on each of two days; bronze as if it had landed when Kafka got it."""
    world = make_world(**{"stream.max_offsets_per_trigger": 8})
    verdict = world.run_all([*DAY_1, *DAY_2])
    assert (verdict.outcome, verdict.rows_explained) == ("explained", 3)
    bronze = DeltaTable.forPath(world.spark, str(world.root / "wh" / "bronze" / world.topic))
    bronze.update(set={"_landed_at": "timestamp"})
    return world


def retention(world: World, *, apply: bool) -> Expired:
    """Keep one day, seen from the end of the second."""
    return expire(world.spark, world.cfg(), [world.job()], 1, apply=apply, now_ms=DAY_0_MS + 2 * DAY_MS)


def table(world: World, name: str) -> pl.DataFrame:
    return pl.read_delta(str(world.root / "wh" / name))


def counts(world: World) -> list[int]:
    return [table(world, name).height for name in (f"bronze/{world.topic}", "events/clicks")]


def verdicts(verdict: Verdict) -> dict[str, int]:
    return {name: sum(s.verdict == name for s in verdict.samples) for name in {s.verdict for s in verdict.samples}}


def call(world: World, *words: str) -> dict[str, Any]:
    world.cfg()  # writes the file
    job = str(Path(__file__).parent / "jobs" / "per_minute.py")
    conf = ("--conf", str(world.root / "conf" / "test.yaml"), "--set", "spark.master=local[2]")
    with on_session(world.spark):
        done = run("maintain", "erase", job, *words, *conf, "--json")
    assert done.code == 0, done.err
    assert SECRET not in done.out + done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


def holding(world: World) -> set[str]:
    """Data files below the warehouse that hold the erased value, by the table's folder; read as bytes and as rows."""
    found = set()
    for file in (world.root / "wh").rglob("*.parquet"):
        if "_delta_log" in file.parts:
            continue
        texts = pl.read_parquet(file, hive_partitioning=False).with_columns(pl.col(pl.Binary).cast(pl.String))
        if SECRET in str(texts.rows()) or SECRET.encode() in file.read_bytes():
            found.add(file.relative_to(world.root / "wh").parts[0])
    return found


def test_a_plan_of_retention_counts_and_changes_nothing(world: World) -> None:
    before = counts(world)
    plan = retention(world, apply=False)
    assert {each.table: each.rows for each in plan.removals if each.rows} == {"bronze": 20, "events": 20}
    assert counts(world) == before == [44, 44]


def test_after_it_older_rows_have_lost_their_evidence_and_newer_ones_are_still_proven(world: World) -> None:
    done = retention(world, apply=True)
    assert done.before_ms == DAY_0_MS + DAY_MS
    assert counts(world) == [24, 24]
    world.batch()
    verdict = world.verify()
    assert (verdict.outcome, verdict.exit_code) == ("differ", 1)
    assert verdicts(verdict) == {"evidence_expired": 1, "explained": 2}
    assert verdict.problems[0] == "1 differing row has lost its evidence (evidence_expired)"
    assert not any("are unexplained" in problem for problem in verdict.problems)
    assert [(audit.ok, audit.bronze_rows, audit.missing_offsets) for audit in verdict.audits] == [(True, 24, 0)]
    assert any("have expired" in note for note in verdict.notes)


def test_without_the_record_of_it_the_same_tables_would_be_doubted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: records that are missing and of which nobody knows why."""
    bronze = DeltaTable.forPath(world.spark, str(world.root / "wh" / "bronze" / world.topic))
    version = int(bronze.history(1).collect()[0]["version"])
    bronze.delete("offset = 25")
    verdict = world.verify()
    assert [(audit.ok, audit.missing_offsets) for audit in verdict.audits] == [(False, 1)]
    bronze.restoreToVersion(version)
    monkeypatch.setattr("twinrun.explain.differing.gone_of", lambda *_: Gone())
    assert verdicts(world.verify()) == {"unexplained": 1, "explained": 2}


def test_a_full_batch_keeps_what_it_cannot_compute_any_more(world: World) -> None:
    before = table(world, "results/per_minute/batch_v1").drop("_run_id", "_written_at").sort("window_start", "page")
    summary = world.batch(fresh="full")
    after = table(world, "results/per_minute/batch_v1").drop("_run_id", "_written_at").sort("window_start", "page")
    assert after.equals(before)
    assert any("windows before 2013-01-07 keep their rows" in note for note in summary.notes)


def test_an_erased_value_is_in_no_file_and_what_it_touched_is_not_judged(world: World) -> None:
    found = call(world, "--key", f"id={SECRET}")
    assert {each["table"]: each["rows"] for each in found["removals"] if each["rows"]} == ROWS
    assert holding(world) == PLACES
    done = call(world, "--key", f"id={SECRET}", "--apply")
    assert {each["table"]: each["rows"] for each in done["removals"] if each["rows"]} == ROWS
    erased = table(world, "twinrun/erased")
    assert erased["erasure_id"].to_list() == [done["id"]] * 2
    assert SECRET not in str(table(world, "twinrun/control").rows()) + str(erased.rows())
    # Still in the files of older versions, until these go.
    assert holding(world) == PLACES
    held = (f"bronze/{world.topic}", "events/clicks", "twinrun/late_events", "twinrun/duplicate_events")
    unprotect(world, [str(world.root / "wh" / name) for name in held])
    world.cfg()
    with on_session(world.spark):
        names = ("bronze", "events", "late_events", "duplicate_events")
        named = [word for name in names for word in ("--table", name)]
        conf = ("--conf", str(world.root / "conf" / "test.yaml"), "--set", "spark.master=local[2]")
        assert run("maintain", "tidy", *named, "--apply", *conf).code == 0
    assert holding(world) == set()
    verdict = world.verify()
    # The result tables are what they were: the window that lacks a late event cannot be proven, the other one can.
    assert verdicts(verdict) == {"evidence_expired": 2, "explained": 1}
    assert [(audit.ok, audit.bronze_rows, audit.missing_offsets) for audit in verdict.audits] == [(True, 22, 0)]


def test_a_batch_that_is_computed_without_the_erased_record_is_no_fault_of_anybody(world: World) -> None:
    world.batch(fresh="full")
    verdict = world.verify()
    assert verdicts(verdict) == {"evidence_expired": 2, "explained": 1}
    assert {s.window_start_ms for s in verdict.samples if s.verdict == "evidence_expired"} == {
        T0_MS,
        T0_MS + DAY_MS + 120_000,
    }
    assert verdict.problems[0] == "2 differing rows have lost their evidence (evidence_expired)"


def test_an_event_that_comes_for_an_expired_window_is_in_no_result_and_that_is_said(world: World) -> None:
    world.produce([click(40, "a", name="much-later")])
    world.ingest()
    world.stream()
    world.batch()
    verdict = world.verify()
    assert any("1 event came for windows whose other events had expired" in problem for problem in verdict.problems)
    assert verdicts(verdict)["evidence_expired"] == 2
