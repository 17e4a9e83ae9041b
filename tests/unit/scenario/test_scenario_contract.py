"""What is read off a job's definition; and the built-in shapes are those of the jobs that scenarios run over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import DataFrame

from bench.scenario_jobs import ONE_LOG, contract_for, shape_of
from tests.integration.conftest import World
from tests.unit.scenario.oracle import ONLY_IN
from twinrun import Job, Source
from twinrun.errors import InputError
from twinrun.scenario.contract import BUILT_IN, contract_of
from twinrun.scenario.generate import generate
from twinrun.scenario.plan import log_bytes
from twinrun.scenario.plants import PRESETS

SCHEMA = "id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL, n INT"
EVENTS = Source("events", schema=SCHEMA, event_time="at", lateness="1 minute", id=["id"])


def counted(events: DataFrame) -> DataFrame:
    """Never called here."""
    return events


def test_each_shape_has_a_job_that_it_is_proven_with() -> None:
    world = World(None, Path(), "", "", {})  # type: ignore[arg-type]  # only its job files are read
    assert sorted(shape_of(contract_for(world, name)) for name in ONE_LOG) == sorted(BUILT_IN)


@pytest.mark.parametrize(
    ("job", "says"),
    [
        (Job(counted, sources=[EVENTS, replace(EVENTS, name="more")], keys=["page"]), "2 sources"),
        (Job(counted, sources=[replace(EVENTS, distinct=["page"])], keys=["page"]), "distinct by more than its id"),
        (Job(counted, sources=[replace(EVENTS, id=[])], keys=["page"], emit="updates"), "names an event by 0 fields"),
        (Job(counted, sources=[replace(EVENTS, schema="id STRING, at")], keys=["page"]), "cannot be read"),
        (Job(counted, sources=[EVENTS], keys=["n", "window_start"], window="1 minute"), "no text field"),
    ],
)
def test_a_job_that_no_scenario_fits_is_refused(job: Job, says: str) -> None:
    with pytest.raises(InputError, match=says):
        contract_of(job)


def test_a_required_field_that_cannot_be_made_up_is_refused() -> None:
    source = replace(EVENTS, schema=f"{SCHEMA}, tags ARRAY<STRING> NOT NULL")
    contract = contract_of(Job(counted, sources=[source], keys=["page", "window_start"], window="1 minute"))
    with pytest.raises(InputError, match="requires the field tags of type array"):
        generate("calm", 1, contract)


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in ONLY_IN])
def test_a_job_with_iso_times_and_ranges_of_its_own(name: str) -> None:
    source = replace(
        EVENTS,
        schema="id STRING NOT NULL, at STRING NOT NULL, page STRING NOT NULL, n INT, ok BOOLEAN, s STRING, f DOUBLE",
        event_time_format="iso8601",
        ranges={"n": (None, 5), "f": (100, 101)},
    )
    job = Job(counted, sources=[source], keys=["page", "window_start"], window="1 hour", slide="15 minutes")
    log = log_bytes(generate(name, 3, contract_of(job)))
    assert b'"at":"2013-01-01T' in log
    assert b'"f":10' in log


def test_rules_that_cannot_be_broken_are_refused() -> None:
    source = replace(EVENTS, event_time_format="iso8601", schema=SCHEMA.replace("BIGINT", "STRING"), max_ahead=None)
    contract = contract_of(Job(counted, sources=[source], keys=["page", "window_start"], window="1 hour"))
    from twinrun.scenario.plants import parse_plants

    for text, says in (("poison:wrong_time_unit=1", "can break the rule"), ("clock_skew=1", "sets no max_ahead")):
        with pytest.raises(InputError, match=says):
            generate("own", 1, contract, parse_plants([text]))
