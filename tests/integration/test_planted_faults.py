"""Faults planted in the stream's table behind the stream's back: each is found, and none is called late data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from delta.tables import DeltaTable
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tests.integration.conftest import World, click
from twinrun.results.verdict import Verdict
from twinrun.session.settings import with_settings
from twinrun.tables.delta import USER_METADATA, replace_rows

FIRST = "window_start = timestamp'2013-01-06 10:00:00'"
SECOND = "window_start = timestamp'2013-01-06 10:01:00'"
FIRST_A, FIRST_B = f"{FIRST} AND page = 'a'", f"{FIRST} AND page = 'b'"
SECOND_A, SECOND_B = f"{SECOND} AND page = 'a'", f"{SECOND} AND page = 'b'"


@pytest.fixture(scope="module")
def world(make_world: Any) -> World:
    """Two pages over three minutes with one late event, so that an explained difference stands next to each fault."""
    world = make_world(**{"stream.max_offsets_per_trigger": 8})
    seconds = [s for minute in range(3) for s in (minute * 60 + 5, minute * 60 + 25)]
    log = [click(s, page, amount=0) for s in seconds for page in "ab"]
    log += [click(200, "a"), click(201, "b"), click(202, "a"), click(203, "b")]
    log += [click(30, "a", name="late"), click(204, "a"), click(205, "b"), click(206, "a"), click(207, "a")]
    verdict = world.run_all(log)
    assert (verdict.outcome, verdict.exit_code, verdict.rows_explained) == ("explained", 0, 1)
    return world


@pytest.fixture
def plant(world: World) -> Iterator[Callable[[Callable[[DataFrame], DataFrame]], Verdict]]:
    """Rewrite the stream's table, verify, and put the table back."""
    ref = str(world.table("stream"))
    table = DeltaTable.forPath(world.spark, ref)
    version = table.history(1).collect()[0]["version"]

    def rewrite(change: Callable[[DataFrame], DataFrame]) -> Verdict:
        rows = world.spark.read.format("delta").option("versionAsOf", version).load(ref)
        replace_rows(change(rows), ref)
        return world.verify()

    yield rewrite
    table.restoreToVersion(version)


def changed(column: str, value: str, where: str = FIRST_B) -> Callable[[DataFrame], DataFrame]:
    """Set a column to a SQL expression where a condition holds."""
    return lambda rows: rows.withColumn(column, F.expr(f"CASE WHEN {where} THEN {value} ELSE {column} END"))


def swapped(rows: DataFrame) -> DataFrame:
    """Two windows exchange their rows of page b, which differ: counts per window stay as they were."""
    differ = changed("clicks", "9L")(rows)
    return changed(
        "window_start",
        f"CASE WHEN {FIRST} THEN window_start + interval 1 minute ELSE window_start - interval 1 minute END",
        f"page = 'b' AND ({FIRST} OR {SECOND})",
    )(differ)


SINK = {
    "a row deleted": (lambda rows: rows.filter(f"NOT ({FIRST_B})"), "sink_missing", 1),
    "a row doubled": (lambda rows: rows.unionByName(rows.filter(SECOND_A)), "sink_duplicate", 1),
    "a micro-batch written twice": (lambda rows: rows.unionByName(rows), "sink_duplicate", 7),
}
CHANGED = {
    "a value changed": changed("clicks", "77L"),
    "a row doubled with another value": lambda rows: rows.unionByName(changed("clicks", "5L")(rows).filter(FIRST_B)),
    "two equal-count rows swapped between windows": swapped,
    "NaN in place of a number": changed("weight", "double('NaN')"),
    "null in place of 0": changed("amount", "NULL", SECOND_A),
    "the row of the late event with a count that no set of events gives": changed("clicks", "7L", FIRST_A),
}


# One verify each: those that the test of several at once stands for are left to the slow lane.
SOON = {"a value changed", "a column of another type"}


def each(faults: dict[str, Any]) -> list[Any]:
    return [name if name in SOON else pytest.param(name, marks=pytest.mark.slow) for name in faults]


@pytest.mark.parametrize("fault", each(CHANGED))
def test_a_row_that_somebody_else_changed_is_named_with_the_commit(fault: str, plant: Any) -> None:
    verdict = plant(CHANGED[fault])
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("differ", 1, 0)
    assert {cause.cause: cause.rows for cause in verdict.causes} == {"sink_changed": 1, "late_dropped": 1}
    [sample] = [sample for sample in verdict.samples if "sink_changed" in sample.causes]
    assert [commit.operation for commit in sample.commits] == ["WRITE"]
    assert "Delta-Lake" in sample.commits[0].engine
    assert sample.emitted is not None
    assert sample.emitted["clicks"] in (1, 2)
    assert any("the stream's table was changed by something else" in problem for problem in verdict.problems)


@pytest.mark.slow
def test_rows_moved_to_other_windows_are_missing_in_one_and_not_emitted_in_the_other(plant: Any) -> None:
    verdict = plant(lambda rows: rows.withColumn("window_start", F.expr("window_start - interval 1 hour")))
    assert (verdict.outcome, verdict.exit_code) == ("differ", 1)
    found = {cause.cause: cause.rows for cause in verdict.causes}
    assert found == {"sink_missing": 6, "sink_changed": 6}
    assert {sample.emitted is None for sample in verdict.samples if "sink_changed" in sample.causes} == {True}


@pytest.mark.parametrize("fault", each(SINK))
def test_a_fault_of_the_sink_is_named_and_its_rows_counted(fault: str, plant: Any) -> None:
    change, cause, rows = SINK[fault]
    verdict = plant(change)
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("differ", 1, 0)
    assert {each.cause: each.rows for each in verdict.causes if each.cause != "late_dropped"} == {cause: rows}


SCHEMA = {
    "a column renamed": lambda rows: rows.withColumnRenamed("amount", "total"),
    "a column of another type": lambda rows: rows.withColumn("clicks", F.col("clicks").cast("int")),
}


@pytest.mark.parametrize("fault", each(SCHEMA))
def test_a_fault_in_the_schema_is_named(fault: str, plant: Any) -> None:
    verdict = plant(SCHEMA[fault])
    assert verdict.exit_code == 1
    assert verdict.schema_differences


def test_a_batch_table_that_somebody_else_changed_is_reported(world: World) -> None:
    ref = str(world.table("batch"))
    rows = world.spark.read.format("delta").load(ref)
    replace_rows(changed("clicks", "78L")(rows.localCheckpoint()), ref)
    verdict = world.verify()
    assert verdict.exit_code == 1
    assert any("changed by something else" in problem for problem in verdict.problems)


@pytest.mark.slow
def test_neither_a_commit_alone_nor_a_recomputation_alone_proves_who_changed_a_row(
    world: World, plant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative controls: no commit on record; and a row that was wrong before the commit that is.

    The last one of this module: of a row that an erasure is said to have changed nothing is proven from then on.
    """
    table = DeltaTable.forPath(world.spark, str(world.table("stream")))

    def twice(rows: DataFrame) -> DataFrame:
        with with_settings(world.spark, {USER_METADATA: json.dumps({"run_id": "erase-1"})}):
            table.update(f"{SECOND_B}", {"clicks": "5L"})
        table.update(f"{SECOND_B}", {"clicks": "12L"})
        return world.spark.read.format("delta").load(str(world.table("stream"))).localCheckpoint()

    verdict = plant(twice)
    assert (verdict.outcome, verdict.rows_unexplained) == ("differ", 1)
    assert {cause.cause for cause in verdict.causes} == {"late_dropped"}
    monkeypatch.setattr("twinrun.explain.explain.foreign_to_stream", lambda *_: ())
    assert plant(changed("clicks", "77L")).rows_unexplained == 1
