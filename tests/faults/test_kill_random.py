"""Kill -9 at ten random moments of an ingest and of a stream: nothing is lost, nothing stands twice.

The tests of this file go on where the one before stopped. FAULTS_SEED repeats the moments of a failed run.
"""

from __future__ import annotations

import os
import random
import time
from contextlib import ExitStack
from typing import Any

import pytest

from tests.faults.command import Command
from tests.faults.disk import Sink
from tests.faults.kill import kill_java
from tests.faults.site import (
    Site,
    require_clean,
    require_closed_minutes,
    require_each_acked_offset_once,
    wait_until,
)

pytestmark = pytest.mark.slow
JOB = "per_minute"
KILLS = 10
START_S, WORK_S = 8.0, 1.5
PER_ROUND = 48


@pytest.fixture(scope="module")
def site(make_site: Any) -> Site:
    return make_site()


@pytest.fixture(scope="module")
def moments() -> random.Random:
    seed = int(os.environ.get("FAULTS_SEED", time.time_ns() % 1_000_000))
    print(f"FAULTS_SEED={seed}")
    return random.Random(seed)


@pytest.mark.parametrize("mode", ["ingest", "stream"])
def test_killed_at_ten_random_moments_and_started_again(site: Site, moments: random.Random, mode: str) -> None:
    sink = site.sink(mode, JOB)
    killed = []
    for number in range(KILLS):
        before = sink.facts()
        if mode == "stream":
            site.send(PER_ROUND)
        with ExitStack() as stack:
            command = stack.enter_context(site.start(mode, JOB, keep=True))
            if mode == "ingest":
                stack.enter_context(site.sending())
            wait_for_a_random_moment(number, command, sink, moments)
            kill_java(command)
        killed.append(sink.facts())
        print(f"{mode} kill {number}: {before} -> {killed[-1]}")
        assert killed[-1].planned >= before.planned
    # Half of the kills hit a run at work; some of them in the middle of a micro-batch.
    assert len({facts.planned for facts in killed}) > KILLS // 2
    assert any(facts.planned > facts.committed for facts in killed)
    site.drain(mode, JOB)
    after = sink.facts()
    assert after.planned == after.in_table == after.committed


def wait_for_a_random_moment(number: int, command: Command, sink: Sink, moments: random.Random) -> None:
    """In turn: some time after Java was started, and some time after it began a micro-batch that is new."""
    command.jvm()
    planned = sink.planned()
    if number % 2 == 0:
        time.sleep(moments.uniform(0, START_S))
    else:
        wait_until(lambda: sink.planned() > planned, command)
        time.sleep(moments.uniform(0, WORK_S))


def test_each_acked_offset_is_in_bronze_once_and_each_minute_in_the_stream(site: Site) -> None:
    # What was sent for the stream came after the last ingest.
    site.run("ingest", JOB)
    require_each_acked_offset_once(site, site.bronze)
    require_closed_minutes(site)


def test_verify_is_clean(site: Site) -> None:
    site.run("batch", JOB)
    require_clean(site.verify(JOB, code=0))
