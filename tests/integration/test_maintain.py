"""A tidy on the real pipeline: fewer files, the same verdicts, and a heal and its undo that still work after it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from delta.tables import DeltaTable

from tests.integration.commands import Ran, on_session, run
from tests.integration.conftest import World, click
from twinrun.maintain.tidy import tidy
from twinrun.tables.delta import read_table
from twinrun.tables.lease import held_lease

pytestmark = pytest.mark.slow


LOG = [
    *[click(s, page) for s in (5, 25, 65, 85, 125, 145) for page in "ab"],
    *[click(s, page) for s, page in zip(range(200, 204), "abab", strict=True)],
    # Dropped: the first minute is over. Of page c it has no other click, so that the stream has no such row.
    click(30, "a", name="late-a"),
    click(31, "c", name="late-c"),
    *[click(s, page) for s, page in zip(range(204, 206), "ab", strict=True)],
]
LATER = [
    *[click(s, page) for s, page in zip(range(300, 304), "abab", strict=True)],
    click(40, "a", name="later-a"),
    *[click(s, "a") for s in (304, 305, 306)],
]
TABLES = ("stream_results", "batch_results", "events")


@pytest.fixture(scope="module")
def world(make_world: Any) -> World:
    """Two late events, verified; no retention protects the removed files of its tables."""
    world = make_world(**{"stream.max_offsets_per_trigger": 8})
    verdict = world.run_all(LOG)
    assert (verdict.outcome, verdict.rows_explained) == ("explained", 2)
    unprotect(world, (str(world.table("stream")), str(world.table("batch")), str(world.root / "wh/events/clicks")))
    return world


def unprotect(world: World, refs: Iterable[str]) -> None:
    """Tables by path can only be altered by SQL, which sessions of twinrun do not let read paths."""
    world.spark.conf.set("spark.sql.runSQLOnFiles", "true")
    for ref in refs:
        retention = "'delta.deletedFileRetentionDuration' = 'interval 0 seconds'"
        world.spark.sql(f"ALTER TABLE delta.`{ref}` SET TBLPROPERTIES ({retention})")
    world.spark.conf.set("spark.sql.runSQLOnFiles", "false")


def command(world: World, *words: str) -> Ran:
    world.cfg()  # writes the file
    conf = str(world.root / "conf" / "test.yaml")
    with on_session(world.spark):
        return run(*words, "--conf", conf, "--set", "spark.master=local[2]")


def of_job(world: World, *words: str) -> Ran:
    return command(world, words[0], str(Path(__file__).parent / "jobs" / "per_minute.py"), *words[1:])


def maintained(world: World, *words: str) -> dict[str, dict[str, Any]]:
    """``maintain tidy`` over three tables; what it says, by table."""
    named = [word for name in TABLES for word in ("--table", name)]
    done = command(world, "maintain", "tidy", *named, *words, "--json")
    assert done.code == 0, done.err
    return {each["table"]: each for each in json.loads(done.out)["tables"]}


def version(world: World, kind: str = "stream") -> int:
    return int(DeltaTable.forPath(world.spark, str(world.table(kind))).history(1).collect()[0]["version"])


def files(world: World) -> list[Path]:
    return sorted(file for folder in ("results", "events") for file in (world.root / "wh" / folder).rglob("*.parquet"))


def test_a_plan_changes_nothing_and_names_who_reads_old_versions(world: World) -> None:
    before = version(world), files(world)
    plan = maintained(world)
    assert (version(world), files(world)) == before
    assert [pin["why"] for pin in plan["stream_results"]["pins"]] == ["verify of per_minute"]
    assert [pin["why"] for pin in plan["events"]["pins"]] == ["batch of per_minute"]
    assert "nothing was changed" in command(world, "maintain", "tidy", "--table", "events").out


def test_a_compaction_does_not_stand_in_the_way_of_a_heal(world: World) -> None:
    before = version(world)
    done = maintained(world, "--apply")["stream_results"]
    assert done["compacted"] > 1
    assert version(world) == before + 1
    healed = of_job(world, "heal", "--apply")
    assert healed.code == 0, healed.err
    assert "healed by" in healed.out


def test_after_a_tidy_both_modes_go_on_and_a_later_late_event_of_a_healed_row_is_explained(world: World) -> None:
    """Its proof reads the versions around the heal, of which nothing is left but what their pins kept."""
    verdict = world.run_all(LATER)
    assert (verdict.outcome, verdict.rows_explained) == ("explained", 1)
    world.batch(fresh="full")
    stored = len(files(world))
    done = maintained(world, "--apply")
    assert all(done[name]["removed"] > 0 for name in TABLES)
    assert len(files(world)) < stored
    assert {pin["why"].split()[0] for pin in done["stream_results"]["pins"]} == {"heal"}
    assert (world.ingest().events, world.stream().events, world.batch().events) == (0, 0, 0)
    again = world.verify(full=True)
    assert (again.outcome, again.rows_explained, again.rows_equal) == ("explained", 1, verdict.rows_equal)
    assert again.causes == verdict.causes
    assert [(cause.cause, cause.rows, cause.events) for cause in again.causes] == [("late_dropped", 1, 2)]
    assert of_job(world, "history").code == 0


def test_a_table_whose_rows_somebody_replaces_is_left_alone(world: World) -> None:
    before = version(world, "batch"), version(world)
    with held_lease(world.spark, world.cfg(), "batch:per_minute", "another run"):
        done = tidy(world.spark, world.cfg(), apply=True, only=("batch_results", "stream_results")).tables
    assert [(each.table, each.left_alone != "") for each in done] == [
        ("batch_results", True),
        ("stream_results", False),
    ]
    assert "batch:per_minute is held by another run" in done[0].left_alone
    assert version(world, "batch") == before[0]


def test_a_heal_is_taken_back_after_a_tidy(world: World) -> None:
    done = of_job(world, "heal", "--undo", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["undone"]["rows"] == 2
    assert world.verify().rows_explained == 2


def test_removing_what_is_pinned_would_be_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: without its pins the same tidy breaks the next undo."""
    healed = of_job(world, "heal", "--apply")
    assert healed.code == 0, healed.err
    monkeypatch.setattr("twinrun.maintain.tidy.without_kept", lambda spark, files, ref, versions: files)
    tidy(world.spark, world.cfg(), apply=True, only=("stream_results",))
    with pytest.raises(Exception, match="FILE_NOT_EXIST"):
        read_table(world.spark, str(world.table("stream")), version(world) - 2).collect()
    assert of_job(world, "heal", "--undo").code == 2
