"""What a proof makes of healed rows, and which rows a heal leaves alone."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from tests.integration.conftest import World, click
from tests.integration.healed import FIRST_A, LATER, LOG, SECOND_B, table, version
from twinrun.explain.explain import Emitted
from twinrun.heal.heal import apply_heal
from twinrun.session.settings import with_settings
from twinrun.tables.delta import USER_METADATA

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(make_world: Any) -> World:
    """A healed table, verified, to which the stream has appended since; one more event is late."""
    world: World = make_world(**{"stream.max_offsets_per_trigger": 8})
    world.run_all(LOG)
    apply_heal(world.spark, world.cfg(), world.job())
    assert world.verify(full=True).outcome == "agree"
    verdict = world.run_all(LATER)
    # A later late event of a healed row: the stream's own rows are what the proof looks at.
    assert (verdict.outcome, verdict.rows_explained, verdict.rows_unexplained) == ("explained", 1, 0)
    assert [(cause.cause, cause.rows) for cause in verdict.causes] == [("late_dropped", 1)]
    return world


def test_a_proof_that_took_healed_rows_for_the_streams_own_would_fail(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr("twinrun.explain.explain.as_emitted", lambda ctx, stream, keyed: Emitted(stream))
    verdict = world.verify()
    assert (verdict.outcome, verdict.rows_explained, verdict.rows_unexplained) == ("differ", 0, 1)


def test_a_healed_row_that_somebody_changed_is_told_from_what_the_stream_had_dropped(world: World) -> None:
    before = version(world)
    table(world).update(FIRST_A, {"clicks": "70"})
    verdict = world.verify()
    assert (verdict.outcome, verdict.rows_explained, verdict.rows_unexplained) == ("differ", 1, 0)
    assert {cause.cause: cause.rows for cause in verdict.causes} == {"late_dropped": 1, "sink_changed": 1}
    [sample] = verdict.samples
    assert [commit.operation for commit in sample.commits] == ["UPDATE"]
    assert sample.stream is not None
    assert sample.emitted is not None
    assert sample.stream["clicks"] == 70 != sample.emitted["clicks"]
    table(world).restoreToVersion(before)


def test_an_unexplained_row_is_left_alone_and_still_reported(make_world: Any) -> None:
    world = make_world(**{"stream.max_offsets_per_trigger": 8})
    world.run_all(LOG)
    # A commit that says it is an erasure of twinrun's own: nothing tells whose row it is.
    with with_settings(world.spark, {USER_METADATA: json.dumps({"run_id": "erase-1"})}):
        table(world).update(SECOND_B, {"clicks": "77"})
    verdict = world.verify()
    assert (verdict.rows_explained, verdict.rows_unexplained) == (2, 1)
    plan, healed = apply_heal(world.spark, world.cfg(), world.job())
    assert healed is not None
    assert (plan.rows, plan.left.unexplained) == (2, 1)
    verdict = world.verify()
    assert (verdict.outcome, verdict.exit_code) == ("differ", 1)
    assert (verdict.rows_explained, verdict.rows_unexplained) == (0, 1)
    assert verdict.samples[0].stream is not None
    assert verdict.samples[0].stream["clicks"] == 77


def test_without_windows_a_row_that_the_stream_will_still_read_is_not_healed(make_world: Any) -> None:
    """Rows before the stream's start are inserted; rows beyond its cut are left to the stream, or they came twice."""
    world: World = make_world(**{"stream.max_offsets_per_trigger": 8})
    world.produce([click(s, "a", name=f"n{s}") for s in (5, 15, 25, 105, 115)])
    world.ingest()
    world.stream("cents_of_a", fresh="2013-01-06T10:01:40+00:00")
    world.produce([click(s, "a", name=f"n{s}") for s in (125, 135)])
    world.ingest()
    world.batch("cents_of_a")
    assert world.verify("cents_of_a").rows_explained == 5
    plan, healed = apply_heal(world.spark, world.cfg(), world.job("cents_of_a"))
    assert healed is not None
    assert [(cause.cause, cause.rows) for cause in plan.causes] == [("before_start", 3)]
    assert (plan.inserted, plan.left.not_final) == (3, 2)
    world.stream("cents_of_a")
    ids = pl.read_delta(str(world.table("stream", "cents_of_a")))["id"].sort().to_list()
    assert ids == sorted(f"n{s}" for s in (5, 15, 25, 105, 115, 125, 135))
    assert world.verify("cents_of_a").outcome == "agree"
