"""What another lateness would have lost, against arithmetic by hand and against a stream that really ran with it."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from typing import Any

import pytest

from tests.integration.conftest import T0_MS, World
from tests.integration.test_late_events import LOG
from twinrun.errors import JobError
from twinrun.explain.verify import verify
from twinrun.whatif.whatif import WhatIf, what_if

OTHER_MS = 72_000


def lost(lateness_ms: int) -> int:
    """Events of the log that fall before the newest event time of earlier micro-batches less the lateness."""
    at_ms = [json.loads(record.value)["at"] for record in LOG]
    found = 0
    for index, moment in enumerate(at_ms):
        micro_batch = index // 4
        judged_by = at_ms[: max(0, micro_batch - 1) * 4]  # the watermark of the micro-batch before
        end = (moment // 60_000 + 1) * 60_000
        found += bool(judged_by) and end <= max(judged_by) - lateness_ms
    return found


@pytest.fixture(scope="module")
def world(make_world: Any) -> World:
    world: World = make_world()
    world.run_all(LOG)
    return world


@pytest.fixture(scope="module")
def found(world: World) -> WhatIf:
    return what_if(world.spark, world.cfg(), world.job(), keep=1.0, also_ms=(OTHER_MS, OTHER_MS - 1))


def test_every_point_is_what_arithmetic_by_hand_gives(found: WhatIf) -> None:
    assert {point.lateness_ms: point.lost for point in found.points} == {
        point.lateness_ms: lost(point.lateness_ms) for point in found.points
    }
    assert (found.recorded_ms, found.recorded_lost) == (10_000, 2)
    assert found.events == len(LOG)


def test_the_smallest_lateness_is_exact_to_the_millisecond(found: WhatIf) -> None:
    # Event 15 s belongs to the minute that ends at 60 s; the newest event time before it was judged is 132 s.
    assert found.enough_ms == OTHER_MS + 1
    assert lost(found.enough_ms) == 0
    assert lost(found.enough_ms - 1) == 1


def test_a_longer_lateness_delays_windows_and_keeps_more_of_them(found: WhatIf) -> None:
    short, long = (next(p for p in found.points if p.lateness_ms == at) for at in (0, 60_000))
    assert short.delay_ms is not None
    assert long.delay_ms is not None
    assert long.delay_ms > short.delay_ms
    assert (long.open_rows or 0) > (short.open_rows or 0) > 0


def test_a_window_whose_events_were_all_late_does_not_come_out_and_has_no_delay(found: WhatIf) -> None:
    """At 10 s the minute of 119 s is such a one. Minute 0 comes out 72 s after its end, minute 2 after 70 s."""
    assert next(point.delay_ms for point in found.points if point.lateness_ms == 10_000) == 71_000


@pytest.mark.slow
def test_a_stream_that_ran_with_the_other_lateness_lost_what_was_foretold(world: World, found: WhatIf) -> None:
    job = world.job()
    other = replace(job, sources=[replace(job.sources[0], lateness=f"{OTHER_MS} ms")], name="per_minute_later")
    for mode in ("streaming", "batch"):
        importlib.import_module(f"twinrun.{mode}.runner").run(world.spark, world.cfg(), other)
    verdict = verify(world.spark, world.cfg(), other)
    dropped = {event.event_time_ms - T0_MS for event in verdict.late_events}
    assert dropped == {15_000}
    assert len(dropped) == next(point.lost for point in found.points if point.lateness_ms == OTHER_MS) == 1


def test_a_job_that_drops_nothing_has_no_other_lateness(world: World) -> None:
    world.stream("page_totals")
    world.batch("page_totals")
    with pytest.raises(JobError, match="drops no late events"):
        what_if(world.spark, world.cfg(), world.job("page_totals"))
