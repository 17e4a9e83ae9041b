"""Static tables by the versions that runs have recorded: those stay, whatever replaced them since."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from twinrun.config.load import load_config
from twinrun.config.model import Config
from twinrun.maintain.expire import expire
from twinrun.maintain.tidy import tidy
from twinrun.maintain.warehouse import known, pins_of
from twinrun.results.state import BatchState, StreamState, save_batch_state, save_stream_state
from twinrun.tables.control import add_record
from twinrun.tables.delta import append, read_table

STREAM = StreamState(1, "/cp", "/wh/stream", "earliest", {"emit": '["final", null]'}, "q1", {"prices": 3}, {}, "r1")
BATCH = BatchState(1, "/wh/batch", 5, {}, {"clicks": {0: 7}}, {"clicks": 1}, {"clicks": 2}, {"prices": 4}, "r2", 0)


def conf(folder: Path) -> Config:
    text: dict[str, Any] = {
        "kafka": {"bootstrap_servers": "127.0.0.1:1"},
        "warehouse": str(folder / "wh"),
        "checkpoints": str(folder / "cp"),
        "report": {"folder": str(folder / "reports")},
        "tables": {"prices": {"path": str(folder / "prices"), "format": "parquet"}},
    }
    file = folder / "test.yaml"
    file.write_text(json.dumps(text), encoding="utf-8")
    return load_config(file, [], env={})


def numbers(spark: SparkSession, ref: str, version: int) -> list[int]:
    return [row[0] for row in read_table(spark, ref, version).collect()]


def test_a_static_table_stays_at_the_versions_that_streams_and_batches_have_pinned(
    spark_session: SparkSession, tmp_path: Path
) -> None:
    """Version 1 by a micro-batch of the stream, 3 by its state, 4 by the batch; 0 and 2 by nobody, 5 is the newest."""
    spark, cfg = spark_session, conf(tmp_path)
    ref = cfg.table("static", table="prices")
    for number in range(6):
        writer = spark.range(0, 1, 1, 1).selectExpr(f"{number} AS n").write.format("delta").mode("overwrite")
        writer.option("delta.deletedFileRetentionDuration", "interval 0 seconds").save(ref)
    save_stream_state(spark, cfg, "j", STREAM)
    save_batch_state(spark, cfg, "j", BATCH)
    seen = spark.range(1).select(
        F.lit("q1").alias("query_id"),
        F.create_map(F.lit("prices"), F.lit(1).cast("bigint")).alias("static_versions"),
    )
    former = seen.withColumn("query_id", F.lit("q0")).withColumn(
        "static_versions", F.create_map(F.lit("prices"), F.lit(2).cast("bigint"))
    )
    append(seen.unionByName(former), cfg.table("micro_batches"))

    pins = pins_of(spark, cfg, known(spark, cfg))
    assert [(pin.version, pin.why) for pin in pins[ref]] == [(1, "stream of j"), (3, "stream of j"), (4, "batch of j")]
    assert [pin.version for pin in pins[cfg.table("events", source="clicks")]] == [2]

    said: list[str] = []
    (done,) = tidy(spark, cfg, apply=True, only=("static",), on_table=said.append).tables
    assert said == [f"static at {ref}", f"static at {ref}: 0 files compacted, 2 removed"]
    assert (done.compacted, done.removed, done.left_alone) == (0, 2, "")
    assert [numbers(spark, ref, version) for version in (1, 3, 4, 5)] == [[1], [3], [4], [5]]
    for version in (0, 2):
        with pytest.raises(Exception, match="FILE_NOT_EXIST"):
            numbers(spark, ref, version)


def test_what_was_erased_is_not_pinned_any_more(spark_session: SparkSession, tmp_path: Path) -> None:
    spark, cfg = spark_session, conf(tmp_path)
    save_batch_state(spark, cfg, "j", BATCH)
    events = cfg.table("events", source="clicks")
    assert [pin.version for pin in pins_of(spark, cfg, known(spark, cfg))[events]] == [2]
    add_record(spark, cfg, "erasure", "clicks", {"versions": {events: 3}})
    found = known(spark, cfg)
    assert found.erased_at == {events: 3}
    assert events not in pins_of(spark, cfg, found)
    said: list[str] = []
    expire(spark, cfg, [], 30, apply=True, on_step=said.append)
    assert said == ["taking 3 leases in one commit", "verifies, logs and spent leases"]
