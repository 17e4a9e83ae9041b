"""Settings by size: little data gets quick ones, everything else keeps its own, and the user has the last word."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame

from twinrun.broker import topics
from twinrun.cli.session import job_size, topic_size
from twinrun.config.load import load_config
from twinrun.config.model import Config
from twinrun.errors import BrokerError
from twinrun.events.source import Source
from twinrun.job.job import Job
from twinrun.session.settings import (
    DRIVER_JAVA_OPTIONS,
    MOST_BYTES,
    MOST_RECORDS,
    SMALL,
    UNKNOWN,
    Size,
    by_size,
    tables_size,
)

LITTLE = Size(1_000, 10)


def config(project: Path, **stream: Any) -> Config:
    file = project / "conf" / "local.yaml"
    file.write_text(
        "kafka: {bootstrap_servers: '127.0.0.1:9'}\nwarehouse: ./wh\nreport: {folder: ./r}\nspark: {master: local}\n"
    )
    return load_config(file, [f"stream.{name}={value}" for name, value in stream.items()])


def _as_they_are(clicks: DataFrame) -> DataFrame:
    return clicks


def test_little_data_on_one_machine_gets_quick_settings() -> None:
    found = by_size({}, LITTLE, master="local[2]")
    assert SMALL.items() <= found.items()
    assert "-XX:+UseSerialGC" in found[DRIVER_JAVA_OPTIONS]


@pytest.mark.parametrize(
    ("master", "size", "wanted"),
    [
        ("yarn", LITTLE, "always"),
        ("spark://host:7077", LITTLE, "auto"),
        ("local[2]", LITTLE, "never"),
        ("local[2]", UNKNOWN, "auto"),
        ("local[2]", Size(MOST_BYTES + 1, 0), "auto"),
        ("local[2]", Size(0, MOST_RECORDS + 1), "auto"),
        ("local[2]", Size(0, None), "auto"),
    ],
    ids=["a cluster", "a standalone cluster", "never", "unknown", "large tables", "many records", "unknown topics"],
)
def test_all_else_keeps_what_it_has(master: str, size: Size, wanted: str) -> None:
    assert by_size({"spark.x": "y"}, size, wanted, master=master) == {"spark.x": "y"}


def test_what_the_user_set_wins_and_what_was_chosen_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    mine = {"spark.sql.codegen.wholeStage": "true", DRIVER_JAVA_OPTIONS: "-XX:+UseZGC -Xmx3g"}
    with caplog.at_level(logging.INFO, "twinrun.session"):
        found = by_size(mine, UNKNOWN, "always", master="local")
    assert found["spark.sql.codegen.wholeStage"] == "true"
    # Java refuses to start with two collectors.
    assert "SerialGC" not in found[DRIVER_JAVA_OPTIONS]
    assert found[DRIVER_JAVA_OPTIONS].endswith("-XX:+UseZGC -Xmx3g")
    assert "little data: tables of unknown size" in caplog.text
    assert mine == {"spark.sql.codegen.wholeStage": "true", DRIVER_JAVA_OPTIONS: "-XX:+UseZGC -Xmx3g"}


def test_only_what_reads_no_topic_gets_no_broadcast_joins() -> None:
    at_rest = by_size({}, Size(0, at_rest=True), master="local[2]")
    assert at_rest["spark.sql.autoBroadcastJoinThreshold"] == "-1"
    assert "-XX:Tier4InvocationThreshold=125000 " in at_rest["spark.driver.extraJavaOptions"]
    moving = by_size({}, Size(0, 100), master="local[2]")
    assert "spark.sql.autoBroadcastJoinThreshold" not in moving
    assert "-XX:Tier4InvocationThreshold=25000 " in moving["spark.driver.extraJavaOptions"]
    assert by_size({}, Size(None, at_rest=True), master="local[2]") == {}


def test_the_size_of_a_job_is_that_of_its_tables(project: Path) -> None:
    cfg = config(project)
    job = Job(_as_they_are, sources=[Source("clicks", schema="a STRING, t BIGINT", event_time="t")], keys=["a"])
    assert job_size(cfg, job) == Size(0, at_rest=True)
    for ref in (cfg.table("events", source="clicks"), cfg.table("bronze", topic="other")):
        Path(ref).mkdir(parents=True)
        (Path(ref) / "part-0.parquet").write_bytes(b"x" * 500)
    assert job_size(cfg, job) == Size(500, at_rest=True)
    results = Path(cfg.table("stream_results", job=job.job_name, version=3))
    results.mkdir(parents=True)
    (results / "part-0.parquet").write_bytes(b"x" * 70)
    assert job_size(cfg, job) == Size(570, at_rest=True)


def test_tables_elsewhere_have_no_known_size(tmp_path: Path) -> None:
    assert tables_size([str(tmp_path), "s3a://bucket/table"]) == Size(None, at_rest=True)
    assert tables_size([str(tmp_path), "main.sales.orders"]) == Size(None, at_rest=True)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    assert not tables_size([f"file://{tmp_path}"]).small


def test_the_size_of_a_run_is_what_its_topics_hold_or_what_a_micro_batch_may(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics, "offset_ranges", lambda *_: {0: (10, 60), 1: (0, 100)})
    assert topic_size(config(project), ["clicks", "orders"], bounded=True) == Size(0, 300)
    # A run without an end reads what comes.
    assert topic_size(config(project), ["clicks"], bounded=False) == Size(0, None)
    assert topic_size(config(project, max_offsets_per_trigger=150), ["clicks"], bounded=False) == Size(0, 150)
    assert topic_size(config(project, max_offsets_per_trigger=5_000_000), ["clicks"], bounded=True) == Size(0, 150)

    def silent(*_: object) -> None:
        raise BrokerError("no broker answers.")

    monkeypatch.setattr(topics, "offset_ranges", silent)
    assert topic_size(config(project), ["clicks"], bounded=True) == Size(0, None)
