"""What all shipped job files have in common: sound definitions, one source, expectations on real columns."""

from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from twinrun.errors import JobError
from twinrun.events.decode import decode, decoder_fingerprint
from twinrun.gallery.entries import ENTRIES
from twinrun.job.check import definition_problems
from twinrun.job.job import Job
from twinrun.job.ready import check_job
from twinrun.produce.flights import flight_events, flight_records
from twinrun.quality.expect import declared_expectations

NAMES = ["carrier_delays", "carrier_sessions", "delayed_departures", "departures_per_hour", "route_totals"]
GALLERY = [entry.job for entry in ENTRIES]
JOBS = Path(__file__).parents[3] / "jobs"
WEATHER = "origin STRING, hour TIMESTAMP, temp DOUBLE, wind_speed DOUBLE, visib DOUBLE, precip DECIMAL(5,2)"
TABLES = {"weather": WEATHER, **{name: table.schema for entry in ENTRIES for name, table in entry.tables.items()}}
EARLIEST = date(2013, 12, 7)


def test_every_shipped_job_is_tested_here() -> None:
    shown = {entry.job for entry in ENTRIES}
    assert shown.isdisjoint(NAMES)
    assert {path.stem for path in JOBS.glob("*.py") if not path.stem.startswith("sources")} == {*NAMES, *shown}


@pytest.mark.parametrize("name", [*NAMES, *GALLERY])
def test_the_definition_is_sound(name: str, load) -> None:
    job: Job = load(name)
    assert definition_problems(job) == []
    assert job.job_name == name
    assert definition_problems(replace(job, keys=[])) != []


def test_shapes_cover_the_contract(load) -> None:
    assert [load(name).shape for name in NAMES] == ["sliding", "session", "stateless", "tumbling", "latest"]
    assert {load(name).shape for name in GALLERY} == {"sliding", "session", "stateless", "tumbling", "latest"}


def test_jobs_on_one_topic_decode_it_alike_and_describe_its_fields(load) -> None:
    """They share one table of events by the name of the source; lateness and distinct are each job's own."""
    sources = [source for name in GALLERY for source in load(name).sources]
    for name in {source.name for source in sources}:
        assert len({decoder_fingerprint(source) for source in sources if source.name == name}) == 1
    for source in sources:
        assert f"{source.event_time} BIGINT NOT NULL COMMENT" in source.schema


def test_all_jobs_decode_the_same_events(load) -> None:
    """They share one source by name, hence one table of events: only lateness may differ."""
    sources = [load(name).sources[0] for name in NAMES]
    assert len({decoder_fingerprint(source) for source in sources}) == 1
    assert len({source.lateness for source in sources}) == 2
    assert decoder_fingerprint(replace(sources[0], max_ahead="2 hours")) != decoder_fingerprint(sources[0])


@pytest.mark.parametrize("name", [*NAMES, "session_durations"])
def test_a_job_file_stays_cheap_to_load(name: str) -> None:
    """Great Expectations takes seconds to import: a job file may need it only when it is asked."""
    load = f"from twinrun.job.loader import load_job; load_job(Path({str(JOBS / name) + '.py'!r}))"
    code = f"import sys; from pathlib import Path; {load}; print('great_expectations' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=JOBS.parent)
    assert (done.stdout.strip(), done.returncode) == ("False", 0), done.stderr


def columns_of(expectations: list[Any]) -> set[str]:
    named = [value for each in expectations for key, value in each.configuration.kwargs.items() if "column" in key]
    return {str(name) for name in named}


@pytest.mark.parametrize("name", [*NAMES, *GALLERY])
def test_plan_and_expectations_fit_the_result(name: str, load, spark_session: SparkSession) -> None:
    job: Job = load(name)
    tables = {name: StructType.fromDDL(ddl) for name, ddl in TABLES.items()}
    result = check_job(spark_session, job, tables)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library imports deprecated modules
        expected = columns_of(declared_expectations(job))
    assert expected
    assert expected <= set(result.names)
    without = set(result.names) - {next(iter(expected))}
    assert not expected <= without
    with pytest.raises(JobError):
        check_job(spark_session, replace(job, keys=["absent"]), tables)


def test_every_flight_is_a_valid_event(load, spark_session: SparkSession, tmp_path: Path) -> None:
    """The bytes that the producer sends pass every quarantine rule, also the flight that left 43 minutes early."""
    records = list(flight_events(flight_records(EARLIEST, 2)))
    raw = pl.DataFrame(
        {
            "value": [*(record.value for record in records), b'{"flight_id": "x"}'],
            "timestamp_ms": [*(record.timestamp_ms for record in records), records[-1].timestamp_ms],
        }
    ).with_columns(
        pl.lit("flights").alias("topic"),
        pl.lit(0).cast(pl.Int32).alias("partition"),
        pl.int_range(pl.len()).alias("offset"),
    )
    raw.write_parquet(tmp_path / "raw.parquet")
    kafka = spark_session.read.parquet(str(tmp_path)).withColumn("timestamp", F.timestamp_millis("timestamp_ms"))
    source = load("departures_per_hour").sources[0]

    def refused(max_ahead: str) -> dict[str, int]:
        decoded = decode(kafka, replace(source, max_ahead=max_ahead))
        return {row["_rule"]: row["count"] for row in decoded.groupBy("_rule").count().collect()}

    assert refused(source.max_ahead) == {None: len(records), "missing_field": 1}
    assert refused("40 minutes")["event_time_ahead"] == 1
