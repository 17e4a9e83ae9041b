"""Heal on the real pipeline: planned, applied, verified clean, taken back; refused whenever it could be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from delta.tables import DeltaTable

from tests.integration.commands import Ran, on_session, run
from tests.integration.conftest import World
from tests.integration.healed import FIRST_A, LATER, LOG, SECOND_B, table, version
from twinrun.errors import TableError
from twinrun.heal.plan import plan_heal
from twinrun.heal.write import undo_heal
from twinrun.tables.lease import held_lease


@pytest.fixture(scope="module")
def world(make_world: Any) -> World:
    """Two pages over three minutes with two late events; the tests below go on with it, one after the other."""
    world = make_world(**{"stream.max_offsets_per_trigger": 8})
    verdict = world.run_all(LOG)
    assert (verdict.outcome, verdict.exit_code, verdict.rows_explained) == ("explained", 0, 2)
    return world


def rows(world: World, kind: str = "stream", at: int | None = None) -> pl.DataFrame:
    """A result table as another engine reads it, lineage columns too, in a fixed order."""
    found = pl.read_delta(str(world.table(kind)), version=at)
    return found.sort("window_start", "page", "clicks", "_run_id")


def values(world: World, kind: str, page: str) -> list[tuple[int, str]]:
    """Clicks and weight of a page in the first minute."""
    found = rows(world, kind).filter((pl.col("page") == page) & (pl.col("window_start").dt.minute() == 0))
    return [(row["clicks"], str(row["amount"])) for row in found.iter_rows(named=True)]


def command(world: World, *words: str) -> Ran:
    world.cfg()  # writes the file
    conf = str(world.root / "conf" / "test.yaml")
    job = str(Path(__file__).parent / "jobs" / "per_minute.py")
    with on_session(world.spark):
        return run(words[0], job, *words[1:], "--conf", conf, "--set", "spark.master=local[2]")


def test_the_plan_says_what_would_change_and_changes_nothing(world: World) -> None:
    before = version(world)
    plan = plan_heal(world.spark, world.cfg(), world.job())
    assert (plan.rows, plan.updated, plan.inserted, plan.deleted) == (2, 1, 1, 0)
    assert [(cause.cause, cause.rows, cause.windows) for cause in plan.causes] == [("late_dropped", 2, 1)]
    assert [(window.rows, window.causes) for window in plan.windows] == [(2, ("late_dropped",))]
    assert plan.left == type(plan.left)()
    assert version(world) == plan.stream_version == before


def test_while_a_verify_runs_nothing_is_healed(world: World) -> None:
    before = version(world)
    with held_lease(world.spark, world.cfg(), "verify:per_minute", "another run"):
        done = command(world, "heal", "--apply")
    assert done.code == 2
    assert "verify:per_minute is held by another run" in done.err
    assert version(world) == before


def test_applied_the_rows_are_the_batchs_in_one_commit_that_says_so(world: World) -> None:
    before, old = version(world), rows(world)
    done = command(world, "heal", "--apply", "--json")
    assert done.code == 0, done.err
    healed = json.loads(done.out)["healed"]
    commit = table(world).history(1).collect()[0]
    assert (commit["version"], commit["operation"]) == (before + 1, "MERGE")
    said = json.loads(commit["userMetadata"])["heal"]
    assert (said["id"], said["stream_version"]) == (healed["id"], before)
    assert healed["version"] == before + 1
    for page in "ac":
        assert values(world, "stream", page) == values(world, "batch", page)
    written = rows(world).filter(pl.col("_run_id") == f"heal-{healed['id']}")
    assert written.height == 2
    others = old.join(written, on=["window_start", "page"], how="anti")
    assert rows(world).join(written, on=["window_start", "page"], how="anti").equals(others)


def test_before_the_next_verify_another_heal_is_refused(world: World) -> None:
    before = version(world)
    done = command(world, "heal", "--apply")
    assert done.code == 2
    assert "has moved since the last verify" in done.err
    assert "by heal " in done.err
    assert version(world) == before


def test_afterwards_verify_is_clean_and_there_is_nothing_to_heal(world: World) -> None:
    verdict = world.verify(full=True)
    assert (verdict.outcome, verdict.exit_code, verdict.rows_equal) == ("agree", 0, verdict.rows_compared)
    before = version(world)
    done = command(world, "heal", "--apply")
    assert done.code == 0
    assert "nothing to heal" in done.out
    assert version(world) == before


def test_a_healed_row_that_somebody_changed_is_not_taken_back(world: World) -> None:
    before, good = version(world), rows(world)
    table(world).update(FIRST_A, {"clicks": "70"})
    with pytest.raises(TableError, match=r"1 of the rows that heal \w+ wrote into .* were changed since"):
        undo_heal(world.spark, world.cfg(), world.job())
    assert version(world) == before + 1
    table(world).restoreToVersion(before)
    assert rows(world).equals(good)


def test_undo_restores_exactly_its_rows_and_keeps_what_the_stream_appended(world: World) -> None:
    before = version(world)
    world.produce(LATER)
    world.ingest()
    world.stream()
    assert version(world) > before
    now = rows(world)
    heal_version = next(c["version"] for c in table(world).history().collect() if c["operation"] == "MERGE")
    healed = rows(world, at=heal_version).filter(pl.col("_run_id").str.starts_with("heal-"))
    had = rows(world, at=heal_version - 1).join(healed, on=["window_start", "page"], how="semi")
    kept = now.filter(~pl.col("_run_id").str.starts_with("heal-"))
    done = command(world, "heal", "--undo", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["undone"]["rows"] == 2
    assert (healed.height, had.height) == (2, 1)
    order = ["window_start", "page", "clicks", "_run_id"]
    assert rows(world).equals(pl.concat([kept, had]).sort(*order))


def test_a_second_undo_is_refused(world: World) -> None:
    before = version(world)
    done = command(world, "heal", "--undo")
    assert done.code == 2
    assert "was undone already" in done.err
    assert version(world) == before


def test_a_table_that_moved_is_not_healed(world: World) -> None:
    table(world).update(SECOND_B, {"clicks": "77"})
    before = version(world)
    done = command(world, "heal", "--apply")
    assert done.code == 2
    assert "has moved since the last verify that counts, from version" in done.err
    assert f"to {before}, so that nobody knows whether a plan still holds" in done.err
    assert version(world) == before


@pytest.mark.slow
def test_a_batch_table_that_moved_is_no_source_of_a_heal(world: World) -> None:
    world.batch()
    world.verify()
    before = version(world)
    DeltaTable.forPath(world.spark, str(world.table("batch"))).update(SECOND_B, {"clicks": "78"})
    done = command(world, "heal", "--apply")
    assert done.code == 2
    assert "the batch's table" in done.err
    assert version(world) == before
