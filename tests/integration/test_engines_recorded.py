"""What other engines really wrote, verified again: each difference by the engine's own rule, and by no other.

Recorded by ``python -m bench.engines --events 2000 --minutes 20 --no-controls --keep tests/integration/engines``.
`make test` holds each rule; engines without one, and rules that are declared wrongly, are slow: `make engines` holds
all of them on what it has just run, and tests/unit/external each rule against its neighbours.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from bench.engine_judge import against_oracle, declaration, deliberate, judge
from bench.engine_log import Log, expected, planned, sums_of
from bench.engine_records import lay_again
from bench.engine_runs import ENGINES, Engine
from bench.engine_world import SO_FAR, TOPICS, World, run_batches
from tests.integration.counted import with_jobs
from twinrun.broker.process import BrokerInfo
from twinrun.broker.topics import create_topic

RECORDED = Path(__file__).parent / "engines"
BY_RULE = [engine for engine in ENGINES if engine.rule != "none"]
MOST_JOBS = 60
"""Spark jobs that a verify of an engine's result is promised to take at most."""


@dataclass
class Laid:
    """The log that the engines read, and the batch's tables over it."""

    world: World
    log: Log


@pytest.fixture(scope="module")
def laid(spark_session: SparkSession, broker: BrokerInfo, tmp_path_factory: pytest.TempPathFactory) -> Laid:
    world = World(
        broker.bootstrap_servers, tmp_path_factory.mktemp("engines"), spark_session, f"e{uuid.uuid4().hex[:8]}-"
    )
    for job, (_, partitions) in TOPICS.items():
        create_topic(world.bootstrap, world.topic(job), partitions)
    log = planned(2_000, 20)
    world.lay(log.events)
    run_batches(world, tuple(TOPICS))
    return Laid(world, log)


@pytest.mark.parametrize(
    "engine",
    [pytest.param(each, id=each.name, marks=() if each in BY_RULE else pytest.mark.slow) for each in ENGINES],
)
def test_every_difference_of_a_real_engine_is_explained_by_its_own_rule(laid: Laid, engine: Engine) -> None:
    if engine.so_far:
        run_batches(laid.world, (SO_FAR,))
    ran = lay_again(laid.world.bootstrap, engine, f"{laid.world.prefix}{engine.rule}-{ENGINES.index(engine)}", RECORDED)
    if engine.rule.startswith("quix-"):
        engine = replace(engine, own_form={})  # held by tests/unit/external and by make engines
    assert laid.world.spark is not None
    report, jobs = with_jobs(laid.world.spark, lambda: judge(laid.world, laid.log, engine, ran, controls=False))
    assert jobs <= MOST_JOBS * (2 if engine.own_form else 1)
    assert report.problems == []
    told = report.fields
    assert told["equal"] > 0
    assert told["wrong"] == 0
    if engine.rule != "none":
        assert told["explained"] > 0
        assert told["unexplained"] == 0
    else:
        assert told["explained"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "number"), [pytest.param(each, n, id=each.name) for n, each in enumerate(BY_RULE)])
def test_a_rule_that_is_declared_wrongly_explains_nothing_wrongly(laid: Laid, engine: Engine, number: int) -> None:
    out = f"{laid.world.prefix}wrong-{number}"
    job, declared = declaration(laid.log, engine, lay_again(laid.world.bootstrap, engine, out, RECORDED))
    errors = list(deliberate(engine, declared).values())
    verdict, rows = laid.world.external(job, **{**declared, **errors[number % len(errors)]})
    lost = expected(laid.log, engine.rule, one_partition=engine.one_partition)
    wrong, _ = against_oracle(rows, lost, sums_of(laid.log.events), verdict)
    assert wrong == []
    assert verdict.rows_unexplained > 0
    assert verdict.exit_code == 1
