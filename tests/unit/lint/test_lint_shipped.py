"""What the lint says of the jobs that come along: nothing refused, nothing that can differ beyond a tolerance."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from twinrun.errors import JobError
from twinrun.gallery.entries import ENTRIES
from twinrun.job.loader import load_job
from twinrun.lint.lint import lint_job
from twinrun.lint.rules import RULES

JOBS = Path(__file__).resolve().parents[3] / "jobs"
TABLES = {
    "weather": "origin STRING NOT NULL, hour TIMESTAMP NOT NULL, wind_speed DOUBLE, precip DOUBLE",
    **{name: table.schema for entry in ENTRIES for name, table in entry.tables.items()},
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("departures_per_hour", ["TR201", "TR202", "TR250"]),
        ("delayed_departures", []),
        ("carrier_delays", ["TR201", "TR202", "TR233"]),
        ("carrier_sessions", ["TR201", "TR202"]),
        ("route_totals", []),
        ("receipts", []),
        ("page_load_times", ["TR201", "TR202", "TR203"]),
        ("button_clicks", ["TR201", "TR202"]),
        ("user_activity_hourly", ["TR201", "TR202"]),
        ("service_metrics", ["TR201", "TR202"]),
        ("page_visits", ["TR201", "TR203"]),
        ("page_visits_final", ["TR201", "TR202", "TR203"]),
        ("error_alerts", ["TR201"]),
        ("error_alerts_audit", ["TR201", "TR202"]),
        ("department_tally", ["TR201"]),
        ("market_orders_daily", []),
        ("customers_latest", []),
        ("session_durations", ["TR201", "TR202", "TR305"]),
        ("review_sentiment", ["TR201", "TR202", "TR205"]),
        ("trade_signals", ["TR201", "TR201", "TR201", "TR202"]),
        ("surge_prices", ["TR201", "TR201", "TR250"]),
        ("request_journeys", ["TR201", "TR201", "TR201", "TR202", "TR305"]),
        ("request_answers", ["TR201", "TR201", "TR263", "TR305"]),
        ("fraud_detection", ["TR201", "TR202", "TR250", "TR305"]),
        ("failure_prediction", ["TR201", "TR201", "TR202", "TR250"]),
    ],
)
def test_the_shipped_jobs_have_notes_only(spark_session: SparkSession, name: str, expected: list[str]) -> None:
    file = JOBS / f"{name}.py"
    result = lint_job(spark_session, load_job(file), {name: StructType.fromDDL(ddl) for name, ddl in TABLES.items()})

    assert sorted(finding.rule.id for finding in result.findings) == expected
    assert result.count("note") == len(expected)
    assert result.exit_code(strict=True) == 0
    assert result.not_looked_at == ()
    source = file.read_text(encoding="utf-8").splitlines()
    for finding in result.findings:
        if finding.rule.id == "TR233":
            assert "stddev_pop" in source[finding.line - 1]
            assert finding.detail == "column delay_spread, within a tolerance"


PLANTED = {
    'F.avg("dep_delay")': ('F.first("dep_delay").cast("double")', "TR230"),
    'F.max("dep_delay")': ('F.max_by("dep_delay", "flight_id")', "TR232"),
    'tolerances={"mean_delay": 1e-9, "delay_spread": rel(1e-9)}': ('tolerances={"mean_delay": 1e-9}', "TR233"),
    'F.size(F.collect_set("dest"))': ('F.count_distinct("dest")', "TR101"),
}


@pytest.mark.parametrize("before", PLANTED)
def test_a_fault_planted_in_a_shipped_job_is_found(spark_session: SparkSession, before: str, tmp_path: Path) -> None:
    after, rule = PLANTED[before]
    text = (JOBS / "carrier_delays.py").read_text(encoding="utf-8")
    assert text.count(before) == 1
    shutil.copy(JOBS / "sources.py", tmp_path)
    file = tmp_path / "carrier_delays.py"
    file.write_text(text.replace(before, after), encoding="utf-8")

    result = lint_job(spark_session, load_job(file), {})

    assert result.exit_code(strict=True) == 1
    [finding] = [finding for finding in result.findings if finding.severity != "note"]
    assert finding.rule == RULES[rule]
    if rule != "TR233":
        assert after in file.read_text(encoding="utf-8").splitlines()[finding.line - 1]


def test_a_job_that_breaks_its_contract_is_no_finding_but_an_error(spark_session: SparkSession, tmp_path: Path) -> None:
    text = (JOBS / "route_totals.py").read_text(encoding="utf-8")
    shutil.copy(JOBS / "sources.py", tmp_path)
    file = tmp_path / "route_totals.py"
    file.write_text(text.replace('keys=["origin", "dest"]', 'keys=["origin", "destination"]'), encoding="utf-8")

    with pytest.raises(JobError, match="destination"):
        lint_job(spark_session, load_job(file), {})


def test_a_table_without_a_schema_is_an_error(spark_session: SparkSession) -> None:
    with pytest.raises(JobError, match="weather"):
        lint_job(spark_session, load_job(JOBS / "departures_per_hour.py"), {})


def test_nothing_of_pyspark_stays_replaced(spark_session: SparkSession) -> None:
    before = dict(vars(type(spark_session.range(1))))
    lint_job(spark_session, load_job(JOBS / "route_totals.py"), {})

    frame: DataFrame = spark_session.range(3)
    assert dict(vars(type(frame))) == before
    assert frame.count() == 3


def test_no_spark_job_is_started(spark_session: SparkSession) -> None:
    tracker = spark_session.sparkContext.statusTracker()
    spark_session.sparkContext.setJobGroup("lint", "lint")
    try:
        lint_job(spark_session, load_job(JOBS / "carrier_delays.py"), {})
        assert list(tracker.getJobIdsForGroup("lint")) == []
        spark_session.range(1).count()
        assert len(tracker.getJobIdsForGroup("lint")) > 0
    finally:
        spark_session.sparkContext._jsc.clearJobGroup()
