"""One arm of each mode through a real broker: what it says of freshness and loss holds against what was planted."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from pyspark.sql import SparkSession

from tests.integration.conftest import T0_MS, World
from twinrun.broker.process import BrokerInfo
from twinrun.broker.topics import offset_ranges
from twinrun.config.sections import SinkBinding
from twinrun.measure.arms import Arm
from twinrun.measure.bench import Bench, prepare
from twinrun.measure.load import schedule
from twinrun.measure.recovery import recover
from twinrun.measure.run import run_arm
from twinrun.measure.sustained import sustained
from twinrun.produce.records import Record

pytestmark = pytest.mark.slow

EVENTS, RATE = 600, 50.0
LATE = 5
STALL_S = 5.0


def click(number: int, at_ms: int) -> Record:
    text = f'{{"id":"{number}","at":{at_ms},"page":"p{number % 3}","amount":1.00,"weight":0.5}}'
    return Record(b"k", text.encode(), at_ms)


def clicks() -> list[Record]:
    """Ten a minute in order of time, and near the end a few of the first minute: late for every stream."""
    found = [click(number, T0_MS + number * 6_000) for number in range(EVENTS)]
    for number in range(LATE):
        late = click(EVENTS + number, T0_MS + number)
        # Its record has the time at which it comes, so that it is due then.
        found.insert(EVENTS - 20, late._replace(timestamp_ms=T0_MS + (EVENTS - 21) * 6_000))
    return found


@pytest.fixture
def bench(spark_session: SparkSession, broker: BrokerInfo, tmp_path: Path, make_world: object) -> Bench:
    world: World = make_world(partitions=1, **{"stream.max_offsets_per_trigger": "null"})  # type: ignore[operator]
    dues, _ = schedule(clicks(), RATE)
    job = world.job()
    folder = tmp_path / "arms"
    made = Bench(spark_session, world.cfg(), job, broker, folder, dues, 1, 2, 60.0, threading.Event())
    prepare(made)
    return made


@pytest.mark.parametrize("arm", [Arm("stream", 500), Arm("available-now", 3_000), Arm("batch", 4_000)])
def test_an_arm_is_verified_and_every_event_is_shown_waits_or_is_lost(bench: Bench, arm: Arm) -> None:
    found = run_arm(bench, arm, 0, lambda _: None)

    fresh = found.freshness
    assert found.why_not == ""
    assert fresh is not None
    assert fresh.total is not None
    assert fresh.events == fresh.shown + fresh.waiting + fresh.lost == EVENTS + LATE
    assert found.sent == EVENTS + LATE
    if arm.mode == "batch":
        assert (found.outcome, fresh.lost, fresh.waiting) in (("agree", 0, 0), ("explained", 0, 0))
        assert found.completeness == 1.0
    else:
        assert (found.outcome, fresh.lost) == ("explained", LATE)
        assert fresh.lost_at_own_pace == LATE
        assert fresh.waiting == 10  # of the last minute, which no watermark has passed
        assert fresh.watermark is not None
        assert fresh.watermark.p50 > 0
    assert fresh.total.p99 < 60
    assert found.cpu_s["jvm"] > 0
    assert found.cpu_s["producer"] > 0
    assert found.cpu_s["broker"] > 0
    assert found.peak_memory_bytes > 2**27


def test_a_stream_over_bronze_is_verified_and_pays_for_its_ingest(bench: Bench) -> None:
    early, dues = [each.record for each in bench.dues[:20]], bench.dues[20:]
    primed = replace(bench, primer=early, dues=dues)
    prepare(primed)
    found = run_arm(primed, Arm("stream-over-bronze", 1_000), 0, lambda _: None)

    fresh = found.freshness
    assert found.why_not == ""
    assert fresh is not None
    assert (found.outcome, fresh.lost, fresh.events) == ("explained", LATE, len(dues))
    assert fresh.events == fresh.shown + fresh.waiting + fresh.lost
    assert fresh.trigger is not None
    assert fresh.trigger.p50 > 0.5, "an event waits for the ingest, and then for the stream"


@pytest.mark.parametrize("arm", [Arm("stream", 400), Arm("batch", 3_000)])
def test_results_that_go_to_a_topic_besides_go_to_one_of_the_arm_s_own(bench: Bench, arm: Arm) -> None:
    """The user's topic is on the user's broker; what sending costs is in the arm's figures all the same."""
    sinks = {bench.job.job_name: SinkBinding(topic="of-the-user")}
    sent = replace(
        bench, cfg=bench.cfg.model_copy(update={"sinks": sinks}), dues=bench.dues[:200], topics=f"s{arm.mode}"
    )
    prepare(sent)

    assert run_arm(sent, arm, 0, lambda _: None).why_not == ""

    topic = f"s{arm.mode}-{arm.name.replace(' ', '-')}-0-sink"
    assert sum(high for _, high in offset_ranges(bench.broker.bootstrap_servers, topic).values()) > 0


def test_a_producer_that_stands_still_for_5_s_shows_in_p99(bench: Bench) -> None:
    """Stopped by a signal, as a machine would: its records keep the times at which they were due."""
    stalled = threading.Thread(target=stall, args=(9.0,), daemon=True)  # the lead, and some of the load
    stalled.start()

    found = run_arm(bench, Arm("stream", 700), 0, lambda _: None)  # a topic of its own on the shared broker

    stalled.join()
    assert found.freshness is not None
    assert found.freshness.total is not None
    assert found.freshness.total.p99 > STALL_S - 1


def loads_now() -> list[psutil.Process]:
    """The producers of loads that run."""
    living = [p for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE]
    return [p for p in living if "twinrun.measure.load" in " ".join(p.cmdline())]


def stall(after_s: float) -> None:
    """Stop a producer for `STALL_S`, so long after its process has begun."""
    while not (loads := loads_now()):
        time.sleep(0.1)
    time.sleep(after_s)
    os.kill(loads[0].pid, signal.SIGSTOP)
    time.sleep(STALL_S)
    os.kill(loads[0].pid, signal.SIGCONT)


def test_a_stream_that_is_killed_under_load_is_fresh_again_and_loses_nothing(
    bench: Bench,
) -> None:
    named = replace(bench, name=str(Path(__file__).parent / "jobs" / "per_minute.py"))
    found = recover(named, Arm("stream", 500), lambda _: None)
    assert found.agreed, found
    assert found.running_s is not None
    # A session has to start again; nothing is fresh before that. With so short a load it may have shown nothing before
    # the kill, and then there is nothing to be as fresh as.
    assert found.running_s > 2
    assert found.fresh_again_s is None or found.fresh_again_s >= found.running_s
    assert found.worked_twice is not None
    assert 0 <= found.worked_twice <= EVENTS + LATE


def test_the_highest_rate_lies_between_one_that_held_and_one_that_did_not(bench: Bench) -> None:
    records = [each.record for each in bench.dues]
    slow = replace(bench, cfg=bench.cfg.model_copy(update={"stream": bench.cfg.stream.model_copy(
        update={"max_offsets_per_trigger": 20})}))  # fmt: skip
    found = sustained(slow, Arm("stream", 500), records, lambda _: None)
    assert found.agreed, found
    # At most 20 records each 500 ms.
    assert found.rate_per_s is not None
    assert found.failed_per_s is not None
    assert found.rate_per_s <= 44
    assert found.rate_per_s < found.failed_per_s
