"""Erasure from a job's results too, and one that died before it came to bronze: the next one ends it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from delta.tables import DeltaTable

from tests.integration.conftest import World, click
from twinrun.errors import TableError
from twinrun.maintain.erase import erase
from twinrun.maintain.result import Erased

pytestmark = pytest.mark.slow

JOB = "cents_of_a"
SECRET = "somebody-4711"
OTHERS = [f"n{s}" for s in (5, 15, 25, 35)]
TABLES = {"bronze": 1, "events": 1, "batch_results": 1, "stream_results": 1}


@pytest.fixture(scope="module")
def world(make_world: Any) -> World:
    """Five clicks that both modes have, one of them of somebody who asks to be forgotten."""
    world: World = make_world(**{"stream.max_offsets_per_trigger": 8})
    clicks = [*[click(s, "a", name=f"n{s}") for s in (5, 15, 25, 35)], click(30, "a", name=SECRET)]
    verdict = world.run_all(clicks, JOB)
    assert (verdict.outcome, verdict.rows_compared) == ("agree", 5)
    return world


def erased(world: World, *, apply: bool) -> Erased:
    (source,) = world.job(JOB).sources
    return erase(world.spark, world.cfg(), source, "id", SECRET, results=True, apply=apply)


def rows(done: Erased) -> dict[str, int]:
    return {each.table: each.rows for each in done.removals if each.rows}


def ids(world: World, kind: str) -> list[str]:
    return sorted(pl.read_delta(str(world.table(kind, JOB)))["id"].to_list())


def log_of(table: Path) -> list[Path]:
    return sorted((table / "_delta_log").glob("*.json"))


def die_before_bronze(world: World) -> None:
    """Take back the last commits: on disk it is as if the process had been killed before it wrote them."""
    bronze = log_of(world.root / "wh" / "bronze" / world.topic)[-1]
    assert '"operation":"DELETE"' in bronze.read_text(encoding="utf-8") or "MERGE" in bronze.read_text(encoding="utf-8")
    control = log_of(world.root / "wh" / "twinrun" / "control")
    first = next(place for place, file in enumerate(control) if "kind=erasure" in file.read_text(encoding="utf-8"))
    for commit in [bronze, *control[first:]]:
        commit.unlink()
        (commit.parent / f".{commit.name}.crc").unlink(missing_ok=True)
        commit.with_suffix(".crc").unlink(missing_ok=True)
    world.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()  # type: ignore[union-attr]


def test_a_plan_counts_the_rows_of_results_and_changes_nothing(world: World) -> None:
    assert rows(erased(world, apply=False)) == TABLES
    assert ids(world, "batch") == ids(world, "stream") == sorted([*OTHERS, SECRET])


def test_a_batchs_table_that_somebody_changed_is_refused(world: World) -> None:
    table = DeltaTable.forPath(world.spark, str(world.table("batch", JOB)))
    version = int(table.history(1).collect()[0]["version"])
    table.update("id = 'n5'", {"cents": "0"})
    with pytest.raises(TableError, match="was changed by somebody else"):
        erased(world, apply=True)
    assert SECRET in ids(world, "batch")
    table.restoreToVersion(version)
    world.batch(JOB, fresh="full")


def test_an_erasure_that_died_is_ended_by_the_next(world: World) -> None:
    assert rows(erased(world, apply=True)) == TABLES
    die_before_bronze(world)
    bronze = pl.read_delta(str(world.root / "wh" / "bronze" / world.topic))
    assert SECRET.encode() in str(bronze["value"].to_list()).encode()
    assert rows(erased(world, apply=True)) == {"bronze": 1}
    for name in (f"bronze/{world.topic}", "events/clicks", f"results/{JOB}/batch_v1", f"results/{JOB}/stream_v1"):
        assert SECRET not in str(pl.read_delta(str(world.root / "wh" / name)).rows()), name
    verdict = world.verify(JOB)
    assert (verdict.outcome, verdict.exit_code, verdict.rows_compared) == ("agree", 0, 4)
    assert [(audit.ok, audit.bronze_rows, audit.missing_offsets) for audit in verdict.audits] == [(True, 4, 0)]


def test_both_modes_go_on_and_agree(world: World) -> None:
    verdict = world.run_all([click(90, "a", name="n90")], JOB)
    assert (verdict.outcome, verdict.exit_code, verdict.rows_compared) == ("agree", 0, 5)
    assert ids(world, "batch") == ids(world, "stream") == sorted([*OTHERS, "n90"])
    assert json.dumps(verdict.notes).count(SECRET) == 0
