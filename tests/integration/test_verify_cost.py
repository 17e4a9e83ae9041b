"""How many Spark jobs a verify takes, by the shape of the job and by what it finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.integration.conftest import World, click
from tests.integration.counted import with_jobs
from twinrun.explain.verify import verify
from twinrun.session.settings import with_settings

WINDOWED, STATELESS, UPDATES = "per_minute", "cents_of_a", "minutes_so_far"
JOBS = (WINDOWED, STATELESS, UPDATES)
ALL_AGREE, CLOSED_FORM = 25, 40


@pytest.fixture(scope="module")
def world(make_world: Any, spark_session: Any) -> Iterator[World]:
    """One log for three jobs, and Delta tables without checkpoints of their own logs, which come every tenth commit."""
    unbroken = {"spark.databricks.delta.properties.defaults.checkpointInterval": "10000"}
    with with_settings(spark_session, unbroken):
        world = make_world(partitions=2)
        world.produce([click(s, p, name=f"{p}-{s}") for s in (1, 61, 121, 200) for p in "ab"])
        _run(world)
        yield world


def _run(world: World) -> None:
    world.ingest()
    for job in JOBS:
        world.stream(job)
        world.batch(job)


def _expected() -> list[Any]:
    from great_expectations import expectations as gx

    return [
        gx.ExpectColumnValuesToNotBeNull(column="page"),
        gx.ExpectColumnMaxToBeBetween(column="clicks", max_value=9),
    ]


def _expected_of_events() -> list[Any]:
    from great_expectations import expectations as gx

    return [gx.ExpectColumnValuesToNotBeNull(column="id"), gx.ExpectColumnMaxToBeBetween(column="cents", max_value=125)]


def _jobs_of_verify(world: World, name: str, outcome: str, *, expect: bool = False) -> int:
    """Spark jobs of one verify, under the settings that little data gets."""
    job, suite = world.job(name), _expected_of_events if name == STATELESS else _expected
    job = replace(job, expect=suite) if expect else job
    found, jobs = with_jobs(world.spark, lambda: verify(world.spark, world.cfg(), job))
    assert found.outcome == outcome
    assert len([each for each in found.expectations if each.table != "ledger"]) == (4 if expect else 0)
    return jobs


def test_a_verify_takes_few_spark_jobs_where_all_agree(world: World) -> None:
    first = {name: _jobs_of_verify(world, name, "agree") for name in JOBS}
    assert max(first.values()) <= ALL_AGREE, first
    expected = {name: _jobs_of_verify(world, name, "agree", expect=True) for name in JOBS}
    assert max(expected.values()) <= ALL_AGREE, expected


def test_a_verify_takes_some_more_where_a_closed_form_explains(world: World) -> None:
    world.produce([click(201, name="in time"), click(2, name="too late")])
    _run(world)
    assert _jobs_of_verify(world, STATELESS, "agree") <= ALL_AGREE
    counted = {name: _jobs_of_verify(world, name, "explained") for name in (WINDOWED, UPDATES)}
    counted["with expectations"] = _jobs_of_verify(world, WINDOWED, "explained", expect=True)
    assert max(counted.values()) <= CLOSED_FORM, counted
