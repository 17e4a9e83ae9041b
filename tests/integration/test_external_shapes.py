"""External results of other shapes of jobs, and of records that a corrected decoder accepted later; through the CLI."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import polars
import pytest

from tests.integration.commands import on_session
from tests.integration.conftest import JOBS, T0_MS, World, click
from tests.integration.other_engine import Row, send
from tests.integration.test_external import found, verify
from tests.integration.test_requeue import OLD, call, job_file, requeue
from twinrun.broker.topics import create_topic

pytestmark = pytest.mark.slow
LENGTH_S, SLIDE_S = 60, 20


def topic_of(world: World, rows: list[Row]) -> str:
    topic = f"shapes-{uuid.uuid4().hex[:8]}"
    create_topic(world.bootstrap, topic, 1)
    send(world.bootstrap, topic, [(row["page"].encode(), json.dumps(row).encode()) for row in rows])
    return topic


def sliding(seconds: list[int], grace_s: int) -> list[Row]:
    """Rows of an engine that drops an event per window, by the newest second seen before."""
    newest, counts = -1, dict[int, int]()
    for second in seconds:
        first = second - second % SLIDE_S
        for start in range(first, first - LENGTH_S, -SLIDE_S):
            if newest < 0 or start + LENGTH_S > newest - grace_s:
                counts[start] = counts.get(start, 0) + 1
        newest = max(newest, second)
    return [
        {"page": "a", "window_start": T0_MS + start * 1000, "clicks": n, "amount": f"{1.25 * n:.2f}"}
        for start, n in sorted(counts.items())
        if start + LENGTH_S <= newest - grace_s
    ]


def test_an_event_may_be_late_for_some_of_its_sliding_windows(make_world: Any) -> None:
    seconds = [5, 25, 45, 65, 85, 105, 30, 125, 145, 300]
    world = make_world()
    world.produce([click(second) for second in seconds])
    world.ingest()
    world.batch("sliding_clicks")
    # 30 comes after 105: by a grace of 10 s the windows that end at 40, 60 and 80 s have closed for it or not.
    rows = sliding(seconds, 10)
    declared = {"lateness": "10 seconds", "late_rule": "partition-order"}

    verdict = verify(world, "sliding_clicks", topic=topic_of(world, rows), **declared)

    assert (verdict.outcome, verdict.exit_code) == ("explained", 0)
    assert found(verdict) == {"late_dropped": 3}
    assert {(e.offset, e.window_end_ms) for e in verdict.late_events} == {
        (6, T0_MS + end * 1000) for end in (40, 60, 80)
    }
    assert verdict.late_events[0].watermark_ms == T0_MS + 95_000


def test_sessions_without_the_events_before_the_start_are_proven_and_other_ones_are_not(make_world: Any) -> None:
    world = make_world()
    world.produce([click(0), click(5), click(30), click(33), click(60)])
    world.ingest()
    world.batch("sessions_by_page")

    def session(start: int, end: int, clicks: int) -> Row:
        amount = f"{1.25 * clicks:.2f}"
        times = {"window_start": T0_MS + start * 1000, "window_end": T0_MS + end * 1000}
        return {"page": "a", **times, "clicks": clicks, "amount": amount}

    rows = [session(5, 15, 1), session(30, 43, 2), session(60, 70, 1)]
    start = {"clicks": {"0": 1}}

    right = verify(world, "sessions_by_page", topic=topic_of(world, rows), start=start)
    assert (right.outcome, right.exit_code, right.rows_explained) == ("explained", 0, 2)
    assert found(right) == {"before_start": 2}

    rows[1]["clicks"] = 1  # an event lost, and nothing declared that says so
    wrong = verify(world, "sessions_by_page", topic=topic_of(world, rows), start=start)
    assert (wrong.outcome, wrong.exit_code, wrong.rows_unexplained) == ("differ", 1, 1)


def test_records_that_only_a_corrected_decoder_takes_are_named(make_world: Any) -> None:
    world: World = make_world()
    text = (JOBS / "legacy.py").read_text(encoding="utf-8")
    job_file(world).write_text(text, encoding="utf-8")
    world.produce([*[click(second) for second in (5, 15, 65)], *OLD, click(300)])
    with on_session(world.spark):
        for command in ("ingest", "batch"):
            call(world, command)
        job_file(world).write_text(text.replace("KNOWS_OLD_RECORDS = False", "KNOWS_OLD_RECORDS = True"), "utf-8")
        assert requeue(world) == (2, 2, 0)
        call(world, "batch")
        starts = [datetime.fromtimestamp((T0_MS + minute * 60_000) / 1000, UTC) for minute in (0, 1)]
        rows = polars.DataFrame({"page": ["a", "a"], "window_start": starts, "clicks": [2, 1]})
        (world.root / "other").mkdir()
        rows.write_parquet(world.root / "other/part.parquet")
        bound = {"table": world.root / "other", "format": "parquet", "ready_until": "2013-01-06T10:02:00Z"}
        sets = [word for key, value in bound.items() for word in ("--set", f"external.legacy.{key}={value}")]

        verdict = call(world, "verify", "--external", *sets)

    assert (verdict["outcome"], verdict["rows_explained"], verdict["rows_unexplained"]) == ("explained", 2, 0)
    assert {cause["cause"]: cause["events"] for cause in verdict["causes"]} == {"quarantined": 2}
    assert verdict["windows_pending"] == 1
    assert verdict["report"]["html"].endswith("legacy.external/report.html")
