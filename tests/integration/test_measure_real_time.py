"""The arm by Spark's real-time trigger: fresh in milliseconds, and held against the batch."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import psutil
import pytest
from pyspark.sql import SparkSession

from tests.integration.conftest import JOBS, T0_MS, World
from tests.integration.test_measure import STALL_S, loads_now, stall
from twinrun.broker.process import BrokerInfo
from twinrun.errors import MachineError
from twinrun.job.loader import load_job
from twinrun.measure.arms import Arm
from twinrun.measure.bench import Bench, prepare
from twinrun.measure.load import schedule
from twinrun.measure.real_time import run_real_time, verify_topic, why_not
from twinrun.measure.run import run_arm
from twinrun.produce.producer import produce
from twinrun.produce.records import Record

pytestmark = pytest.mark.slow

EVENTS, RATE = 900, 60.0
ARM = Arm("real-time", 5_000)


def clicks() -> list[Record]:
    """Every third on page a, whose click is a row of cents_of_a; one record is not JSON."""
    found = []
    for number in range(EVENTS):
        text = f'{{"id":"{number}","at":{T0_MS + number},"page":"{"abc"[number % 3]}","amount":1.25,"weight":0.5}}'
        found.append(Record(f"k{number % 7}".encode(), text.encode(), T0_MS + number * 1_000))
    found[30] = found[30]._replace(value=b"{oops")
    return found


@pytest.fixture
def bench(spark_session: SparkSession, broker: BrokerInfo, tmp_path: Path, make_world: object) -> Bench:
    world: World = make_world(partitions=2, **{"stream.max_offsets_per_trigger": "null"})  # type: ignore[operator]
    return bench_of(spark_session, broker, tmp_path, world, "cents_of_a")


def bench_of(spark: SparkSession, broker: BrokerInfo, tmp_path: Path, world: World, name: str) -> Bench:
    """Topics are named by arm: those of another test on the same broker must not be met again."""
    dues, _ = schedule(clicks(), RATE)
    file = JOBS / f"{name}.py"
    made = Bench(
        spark,
        world.cfg(),
        load_job(file),
        broker,
        tmp_path / "arms",
        dues[20:],
        2,
        2,
        60.0,
        threading.Event(),
        primer=[each.record for each in dues[:20]],
        name=str(file),
        topics=world.topic,
    )
    prepare(made)
    return made


def test_rows_are_there_within_a_second_and_are_those_of_the_batch(bench: Bench) -> None:
    found = run_arm(bench, ARM, 0, lambda _: None)

    fresh = found.freshness
    assert (found.why_not, found.outcome) == ("", "agree")
    assert fresh is not None
    assert fresh.total is not None
    on_a = sum(number % 3 == 0 for number in range(20, EVENTS)) - 1  # one of them is not JSON
    assert (fresh.events, fresh.shown, fresh.waiting, fresh.lost) == (on_a, on_a, 0, 0)
    assert 0 < fresh.total.p50 < 1.0
    assert fresh.trigger is not None
    assert fresh.trigger.max == 0
    assert found.sent == EVENTS - 20
    assert found.cpu_s["jvm"] > 0
    assert found.peak_memory_bytes > 2**27
    assert found.micro_batches is None


def test_a_row_that_is_there_twice_or_not_at_all_is_found(bench: Bench) -> None:
    """A batch with an event more than the query has read, and a row that was sent twice: no figure stands on either."""
    of_arm = bench.tables_of("by-hand")
    run_real_time(of_arm, ARM)
    servers = {"bootstrap.servers": bench.broker.bootstrap_servers}
    later = f'{{"id":"new","at":{T0_MS},"page":"a","amount":1.25,"weight":0.5}}'
    produce([Record(b"k1", later.encode(), T0_MS)], of_arm.topic, servers)
    of_arm.ingest()
    of_arm.batch()
    lacks = verify_topic(of_arm)
    assert (lacks.outcome, lacks.exit_code) == ("differ", 1)
    assert (lacks.rows_unexplained, lacks.rows_batch - lacks.rows_stream) == (1, 1)

    row = b'{"id":"new","at":"2013-01-06T10:00:00.000Z","cents":125}'
    for _ in range(2):
        produce([Record(b'{"id":"new"}', row, None)], f"{of_arm.topic}-results", servers)
    twice = verify_topic(of_arm)
    assert (twice.outcome, twice.exit_code, twice.rows_stream - twice.rows_batch) == ("differ", 1, 1)


def test_a_producer_that_stands_still_shows_in_p99_in_real_time_too(bench: Bench) -> None:
    stalled = threading.Thread(target=stall, args=(6.0,), daemon=True)
    stalled.start()

    found = run_arm(bench, ARM, 0, lambda _: None)

    stalled.join()
    assert found.freshness is not None
    assert found.freshness.total is not None
    assert found.freshness.total.p50 < 2
    assert found.freshness.total.p99 > STALL_S - 1


def test_a_query_that_is_killed_under_load_has_no_figures_but_a_sentence(bench: Bench) -> None:
    def kill() -> None:
        while not loads_now():
            time.sleep(0.1)
        time.sleep(6.0)
        next(p for p in psutil.Process().children() if "twinrun.measure.real_time" in " ".join(p.cmdline())).kill()

    threading.Thread(target=kill, daemon=True).start()
    with pytest.raises(MachineError, match="ended by itself"):
        run_real_time(bench.tables_of("killed"), ARM)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("cents_of_a", ""),
        ("each_once", "keeps state: its plan has the operator Deduplicate"),
        ("named_clicks", "not all keys"),
        ("shouted_clicks", "ArrowEvalPythonExec is not among the operators"),
    ],
)
def test_what_spark_would_not_take_is_said_before_any_arm_runs(
    spark_session: SparkSession, broker: BrokerInfo, tmp_path: Path, make_world: object, name: str, why: str
) -> None:
    world: World = make_world(partitions=2, **{"stream.max_offsets_per_trigger": "null"})  # type: ignore[operator]
    told = why_not(bench_of(spark_session, broker, tmp_path, world, name))
    assert (why in told) if why else (told == ""), told
