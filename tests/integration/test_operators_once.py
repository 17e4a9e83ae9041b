"""De-duplication without a window: rows come out at once, so that none of them can be waiting."""

from __future__ import annotations

from typing import Any

import pytest
from delta.tables import DeltaTable

from tests.integration.conftest import World, click
from tests.integration.test_operators import counts

# One partition, four records per micro-batch; lateness 10 s.
LOG = [
    *[click(s, name=f"e{s}") for s in (5, 20, 35, 50)],
    *[click(s, name=f"e{s}") for s in (70, 71, 71, 72)],
    # The last micro-batch, judged by 40 s: what pushes the watermark in a replay is made of copies of its events.
    click(30, name="e30-dropped"),
    *[click(s, name=f"e{s}") for s in (74, 75, 76)],
]


@pytest.mark.slow
def test_a_late_event_of_the_last_micro_batch_is_dropped_and_does_not_wait(make_world: Any) -> None:
    world: World = make_world()
    verdict = world.run_all(LOG, "each_once")
    assert [event.id["id"] for event in verdict.late_events] == ["e30-dropped"]
    assert counts(verdict) == {"late_dropped": (1, 1)}
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("explained", 0, 0)
    table = DeltaTable.forPath(world.spark, str(world.table("stream", "each_once")))
    table.delete("id = 'e35'")
    again = world.verify("each_once")
    assert (again.exit_code, counts(again)) == (1, {"late_dropped": (1, 1), "sink_missing": (1, None)})
    # A row that the logic never gave. Delta's log has the commit, so that it is not taken for another choice of copies.
    table.update("id = 'e20'", {"page": "'other'"})
    third = world.verify("each_once")
    assert (third.rows_unexplained, third.exit_code) == (0, 1)
    assert counts(third) == {"late_dropped": (1, 1), "sink_missing": (1, None), "sink_changed": (1, None)}
