"""Which jobs can be healed at all, and which heals stand in a table. No Spark."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from twinrun import Job, Source
from twinrun.cli.heal import plan_lines
from twinrun.errors import JobError
from twinrun.heal.plan import HealCause, HealPlan, HealWindow, LeftAlone
from twinrun.heal.preconditions import refuse_unhealable
from twinrun.results.records import APPLIED, UNDONE, HealRecord, standing

CLICKS = Source("clicks", schema="id STRING NOT NULL, at BIGINT NOT NULL", event_time="at", lateness="1 minute")
RECORD = HealRecord("h1", "v1", "q1", "/t/v1", 0, 3, 4, 2, {"late_dropped": 2}, 0, APPLIED, version=4)


def logic(clicks: Any) -> Any:
    return clicks


def job(**more: Any) -> Job:
    return Job(logic, **{"sources": [CLICKS], "keys": ["id"], **more})


@pytest.mark.parametrize("more", [{}, {"window": "1 hour"}, {"window": "1 hour", "slide": "10 minutes"}])
def test_rows_that_are_written_once_can_be_healed(more: dict[str, Any]) -> None:
    refuse_unhealable(job(**more))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"emit": "updates"}, "it emits updates, so that its stream writes a row again, from its own state"),
        ({"emit": "updates", "window": "1 hour"}, "it emits updates"),
        ({"gap": "5 minutes"}, "it has session windows"),
        ({"sources": [CLICKS, replace(CLICKS, name="views")]}, "it has 2 sources"),
    ],
)
def test_other_jobs_are_refused_with_the_reason(more: dict[str, Any], said: str) -> None:
    with pytest.raises(JobError, match=said):
        refuse_unhealable(job(**more))


def test_only_applied_heals_of_this_very_table_stand() -> None:
    undone = replace(RECORD, id="h2", state=UNDONE, undone_version=5)
    before = replace(RECORD, id="h3", table="/t/v2")
    assert standing((RECORD, undone, before), "/t/v1") == (RECORD,)


def test_a_plan_names_what_changes_and_what_is_left() -> None:
    plan = HealPlan(
        job="j",
        verify_id="v",
        micro_batch=3,
        watermark_ms=0,
        stream_table="/s",
        stream_version=7,
        batch_table="/b",
        batch_version=2,
        rows=1200,
        inserted=200,
        updated=900,
        deleted=100,
        windows_total=12,
        causes=(HealCause("late_dropped", 1200, 12),),
        windows=tuple(HealWindow(hour * 3_600_000, 100, ("late_dropped",)) for hour in range(12)),
        left=LeftAlone(unexplained=1, not_final=2),
    )
    text = "\n".join(plan_lines(plan))
    assert "j: 1,200 rows in 12 windows: 900 to change, 200 to insert, 100 to remove" in text
    assert "and 2 more windows" in text
    assert "left alone: 1 row unexplained" in text
    assert "left alone: 2 rows proven, but the stream could still write them" in text
    assert "evidence" not in text
