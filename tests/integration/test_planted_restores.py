"""Several faults at once, and faults that were taken back, in a table that nobody else has touched before."""

from __future__ import annotations

from typing import Any

import pytest
from delta.tables import DeltaTable
from pyspark.sql import DataFrame

from tests.integration.conftest import World
from tests.integration.test_planted_faults import FIRST_A, FIRST_B, SECOND_A, SECOND_B, changed
from tests.integration.test_planted_faults import plant as plant
from tests.integration.test_planted_faults import world as world

pytestmark = pytest.mark.slow


def test_a_restore_is_named_and_a_compaction_is_not(world: World, plant: Any) -> None:
    table = DeltaTable.forPath(world.spark, str(world.table("stream")))
    before = table.history(1).collect()[0]["version"]
    table.update(FIRST_B, {"clicks": "12L"})
    table.optimize().executeCompaction()
    changed_at = table.history(1).collect()[0]["version"]
    found = world.verify()
    [sample] = [sample for sample in found.samples if "sink_changed" in sample.causes]
    assert [commit.operation for commit in sample.commits] == ["UPDATE"]
    table.restoreToVersion(before)
    right = world.verify()
    assert (right.outcome, right.exit_code, {c.cause for c in right.causes}) == ("explained", 0, {"late_dropped"})
    assert any("in no row that differs" in note and "RESTORE" in note for note in right.notes)
    table.restoreToVersion(changed_at)
    again = world.verify()
    [sample] = [sample for sample in again.samples if "sink_changed" in sample.causes]
    assert [commit.operation for commit in sample.commits] == ["RESTORE"]
    table.restoreToVersion(before)


def test_each_of_several_faults_at_once_is_found_and_none_is_called_late(plant: Any) -> None:
    def faults(rows: DataFrame) -> DataFrame:
        rows = changed("weight", "double('NaN')", SECOND_B)(rows)
        # The row of the late event, with a count that no set of events gives.
        rows = changed("clicks", "7L", FIRST_A)(rows)
        return rows.unionByName(rows.filter(SECOND_A)).filter(f"NOT ({FIRST_B})")

    verdict = plant(faults)
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("differ", 1, 0)
    found = {(each.cause, each.rows) for each in verdict.causes}
    assert found == {("sink_duplicate", 1), ("sink_missing", 1), ("sink_changed", 2), ("late_dropped", 1)}
