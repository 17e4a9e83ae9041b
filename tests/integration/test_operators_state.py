"""State kept by hand (transformWithState): what differs is proven by replay, and never put down to lateness."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from delta.tables import DeltaTable

from tests.integration.conftest import World, click
from tests.integration.shapes import result_of
from tests.integration.test_operators import counts

# A Python process keeps the state, which takes minutes.
pytestmark = pytest.mark.slow

# One partition, four records per micro-batch.
IN_ORDER = [
    *[click(s, page, name=f"{page}{s}") for s, page in ((5, "a"), (20, "a"), (10, "b"), (35, "a"))],
    # Out of order within one micro-batch: the job sorts what it gets at once.
    *[click(s, page, name=f"{page}{s}") for s, page in ((70, "a"), (75, "b"), (65, "a"), (71, "a"))],
]
# By 65 s it would be too late for an operator that goes by the watermark; here nothing is dropped.
LATE = [click(30, "a", name="a30"), *[click(s, "b", name=f"b{s}") for s in (76, 77, 78)]]


def held(world: World, kind: str, job: str, *columns: str) -> set[tuple[Any, ...]]:
    rows: pl.DataFrame = result_of(world, kind, job)
    return set(rows.select(columns).rows())


def test_the_last_two_rows_kept_by_hand_agree_and_a_late_one_is_arrival_order(make_world: Any) -> None:
    world: World = make_world()
    verdict = world.run_all(IN_ORDER, "last_two")
    right = {("a", "a71", "a70"), ("b", "b75", "b10")}
    assert held(world, "batch", "last_two", "page", "newest", "before") == right
    assert held(world, "stream", "last_two", "page", "newest", "before") == right
    assert (verdict.outcome, verdict.exit_code, verdict.rows_compared, verdict.rows_equal) == ("agree", 0, 2, 2)

    verdict = world.run_all(LATE, "last_two")
    assert held(world, "batch", "last_two", "page", "newest", "before") == {("a", "a71", "a70"), ("b", "b78", "b77")}
    assert held(world, "stream", "last_two", "page", "newest", "before") == {("a", "a30", "a71"), ("b", "b78", "b77")}
    assert counts(verdict) == {"arrival_order": (1, None)}
    assert (verdict.rows_unexplained, verdict.exit_code, verdict.late_events) == (0, 1, ())
    DeltaTable.forPath(world.spark, str(world.table("stream", "last_two"))).delete("page = 'b'")
    again = world.verify("last_two")
    assert counts(again) == {"arrival_order": (1, None), "sink_missing": (1, None)}
    assert (again.rows_unexplained, again.exit_code) == (0, 1)


def test_a_second_batch_run_does_not_number_the_new_clicks_by_themselves(make_world: Any) -> None:
    world: World = make_world()
    world.produce(IN_ORDER)
    world.ingest()
    world.batch("numbered")
    world.produce(LATE)
    world.ingest()
    again = world.batch("numbered")
    a = {f"a{s}": n for n, s in enumerate((5, 20, 30, 35, 65, 70, 71), 1)}
    b = {f"b{s}": n for n, s in enumerate((10, 75, 76, 77, 78), 1)}
    assert held(world, "batch", "numbered", "id", "n") == set((a | b).items())
    assert "cannot be told apart" in again.notes[0]


def test_a_timer_fires_in_the_stream_alone_and_what_it_emits_is_not_explained_tr224(make_world: Any) -> None:
    world: World = make_world()
    later = [click(s, page, name=f"{page}{s}") for s, page in ((140, "a"), (170, "b"), (171, "c"), (200, "b"))]
    last = [click(s, page, name=f"{page}{s}") for s, page in ((300, "a"), (310, "b"), (311, "c"), (400, "b"))]
    verdict = world.run_all([*IN_ORDER, *later, *last], "quiet_pages")
    assert held(world, "batch", "quiet_pages", "page", "clicks") == set()
    assert {page for page, _ in held(world, "stream", "quiet_pages", "page", "clicks")} == {"a", "c"}
    assert (verdict.outcome, verdict.exit_code, counts(verdict)) == ("differ", 1, {})
    assert verdict.rows_unexplained == verdict.rows_compared > 0
