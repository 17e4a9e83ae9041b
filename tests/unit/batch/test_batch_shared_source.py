"""Jobs that share a source: each event counts once whoever decodes it, and runs that start together take turns."""

from __future__ import annotations

import importlib
import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun import Job, Source
from twinrun.config.load import load_config
from twinrun.config.model import Config
from twinrun.errors import CheckpointError
from twinrun.tables.delta import append, read_table
from twinrun.tables.lease import held_lease

decode = importlib.import_module("twinrun.batch.decode")
requeue = importlib.import_module("twinrun.batch.requeue")
runner = importlib.import_module("twinrun.batch.runner")

T0_MS = 1_704_067_200_000
CLICKS = Source("clicks", schema="id STRING NOT NULL, at BIGINT NOT NULL", event_time="at", id=["id"])


def named(clicks: DataFrame) -> DataFrame:
    return clicks.select("id", "at")


JOB = Job(named, sources=[CLICKS], keys=["id"], name="named")


@pytest.fixture
def cfg(tmp_path: Path) -> Config:
    text = {
        "kafka": {"bootstrap_servers": "localhost:1"},
        "sources": {"clicks": {"topic": "clicks"}},
        "report": {"folder": "out"},
    }
    (tmp_path / "c.yaml").write_text(json.dumps(text), encoding="utf-8")
    return load_config(tmp_path / "c.yaml", [f"warehouse={tmp_path}/wh"], env={})


def land(spark: SparkSession, cfg: Config, start: int, *values: str) -> None:
    """Records as the ingest appends them, from this offset on."""
    rows = [("clicks", 0, start + n, T0_MS, 0, value) for n, value in enumerate(values)]
    frame = spark.createDataFrame(
        rows, "topic STRING, partition INT, offset BIGINT, at BIGINT, timestampType INT, value STRING"
    )
    nothing = {"key": F.lit(None).cast("binary"), "headers": F.lit(None).cast("array<struct<key:string,value:binary>>")}
    times = {"timestamp": F.timestamp_millis("at"), "_landed_at": F.timestamp_millis("at")}
    landed = frame.withColumns({**nothing, **times, "value": F.col("value").cast("binary")}).drop("at")
    append(landed, cfg.table("bronze", topic="clicks"))


def click(name: str) -> str:
    return json.dumps({"id": name, "at": T0_MS})


def results(spark: SparkSession, cfg: Config) -> list[str]:
    return sorted(row["id"] for row in read_table(spark, cfg.table("batch_results", job="named", version=1)).collect())


def test_what_another_job_decodes_meanwhile_is_appended_by_the_next_run_and_only_once(
    spark_session: SparkSession, cfg: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(spark_session, cfg, 0, click("a"))
    runner.run(spark_session, cfg, JOB)
    land(spark_session, cfg, 1, click("b"))
    own = decode.run

    def overtaken(*args: Any) -> Any:
        """This run's decode; then another job decodes a newer record before this one reads the events."""
        mine = own(*args)
        land(spark_session, cfg, 2, click("c"))
        own(spark_session, cfg, CLICKS)
        return mine

    with monkeypatch.context() as between:
        between.setattr(runner.decode, "run", overtaken)
        runner.run(spark_session, cfg, JOB)
    assert results(spark_session, cfg) == ["a", "b"]
    runner.run(spark_session, cfg, JOB)
    assert results(spark_session, cfg) == ["a", "b", "c"]


def test_a_decode_without_a_control_table_skips_nothing_that_an_older_one_had_numbered(
    spark_session: SparkSession, cfg: Config
) -> None:
    land(spark_session, cfg, 0, click("a"))
    decode.run(spark_session, cfg, CLICKS)
    shutil.rmtree(cfg.table("control"))
    land(spark_session, cfg, 1, click("b"))
    decode.run(spark_session, cfg, CLICKS)
    events = read_table(spark_session, cfg.table("events", source="clicks"))
    assert sorted(row["id"] for row in events.collect()) == ["a", "b"]


@pytest.mark.slow
def test_events_of_a_requeue_that_died_before_it_was_recorded_count_once(
    spark_session: SparkSession, cfg: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(spark_session, cfg, 0, click("a"), "neither nor")
    runner.run(spark_session, cfg, JOB)
    accepts = decode.decode

    def corrected(records: DataFrame, source: Source) -> DataFrame:
        healed = F.when(F.col("value") == F.lit(b"neither nor"), F.lit(click("old").encode())).otherwise(F.col("value"))
        return accepts(records.withColumn("value", healed), source)

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as crash:
        crash.setattr(requeue, "decode", corrected)
        crash.setattr(requeue, "add_record", dies)
        with pytest.raises(KeyboardInterrupt):
            requeue.run(spark_session, cfg, CLICKS, "not_json")
    land(spark_session, cfg, 2, click("b"))
    for _ in range(2):
        runner.run(spark_session, cfg, JOB)
        assert results(spark_session, cfg) == ["a", "b", "old"]
    land(spark_session, cfg, 3, click("c"))
    runner.run(spark_session, cfg, JOB)
    assert results(spark_session, cfg) == ["a", "b", "c", "old"]


def test_a_run_waits_for_the_job_that_decodes_its_source_and_gives_up_after_its_time(
    spark_session: SparkSession, cfg: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(spark_session, cfg, 0, click("a"))
    taken, give_back = threading.Event(), threading.Event()

    def other() -> None:
        with held_lease(spark_session, cfg, "decode:clicks", "twinrun batch another_job"):
            taken.set()
            give_back.wait(120)

    beside = threading.Thread(target=other)
    beside.start()
    assert taken.wait(120)
    try:
        with monkeypatch.context() as hasty:
            hasty.setattr(runner, "DECODE_WAIT_S", 0)
            with pytest.raises(CheckpointError, match="twinrun batch another_job"):
                runner.run(spark_session, cfg, JOB)
        threading.Timer(1.0, give_back.set).start()
        began = time.monotonic()
        runner.run(spark_session, cfg, JOB)
        assert time.monotonic() - began > 1.0
    finally:
        give_back.set()
        beside.join()
    assert results(spark_session, cfg) == ["a"]
