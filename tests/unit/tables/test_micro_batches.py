"""The log of micro-batches has each of them once, with what is known of its run, and no hole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from twinrun.config.load import load_config
from twinrun.errors import CheckpointError
from twinrun.tables import checkpoint as module
from twinrun.tables.checkpoint import RunFacts, flush
from twinrun.tables.delta import read_table


def plan(checkpoint: Path, *numbers: int) -> None:
    """The offsets files that Spark writes for micro-batches."""
    folder = checkpoint / "offsets"
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        header = {"batchWatermarkMs": number * 1000, "batchTimestampMs": number, "conf": {}}
        offsets = {"clicks": {"0": number + 1, "1": number}}
        (folder / str(number)).write_text(f"v1\n{json.dumps(header)}\n{json.dumps(offsets)}", encoding="utf-8")


def test_each_micro_batch_is_logged_once_with_its_run_and_a_hole_is_refused(
    spark_session: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spark, checkpoint = spark_session, tmp_path / "cp"
    settings: dict[str, Any] = {"kafka": {"bootstrap_servers": "127.0.0.1:1"}, "warehouse": str(tmp_path / "wh")}
    settings |= {"checkpoints": str(tmp_path / "cp"), "report": {"folder": str(tmp_path / "reports")}}
    (tmp_path / "c.yaml").write_text(json.dumps(settings), encoding="utf-8")
    cfg = load_config(tmp_path / "c.yaml", [], env={})

    def log(run: str, durations_ms: dict[int, int], newest: int | None = None) -> int:
        facts = RunFacts("j", run, {"weather": 3}, {"clicks": "d"}, durations_ms)
        return flush(spark, cfg, "q", str(checkpoint), facts, newest)

    plan(checkpoint, 0)
    assert log("a", {}) == 0
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    plan(checkpoint, *range(1, 6))
    assert log("b", {1: 70, 5: 90}) == 5  # looked up in the log
    assert log("c", {}, 5) == 5  # nothing is new
    for file in (checkpoint / "offsets").iterdir():
        file.unlink()
    plan(checkpoint, 7)
    with pytest.raises(CheckpointError, match="micro-batches 6 to 6 of j are gone"):
        log("c", {}, 5)
    rows = read_table(spark, cfg.table("micro_batches")).orderBy("micro_batch").collect()
    assert [row["micro_batch"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [row["run_id"] for row in rows] == ["a", *"bbbbb"]
    assert [row["duration_ms"] for row in rows] == [None, 70, None, None, None, 90]
    assert {(row["query_id"], row["job"], str(row["static_versions"]), str(row["decoders"])) for row in rows} == {
        ("q", "j", "{'weather': 3}", "{'clicks': 'd'}")
    }
    assert [(row["watermark_ms"], row["started_at_ms"]) for row in rows] == [(n * 1000, n) for n in range(6)]
    ends = {(end["topic"], end["partition"], end["offset"]) for end in rows[4]["end_offsets"]}
    assert ends == {("clicks", 0, 5), ("clicks", 1, 4)}


def over_table(checkpoint: Path, number: int, version: int, index: int = -1, *, starting: bool = False) -> None:
    """The offsets file of a micro-batch over a Delta table, as delta-spark writes it."""
    folder = checkpoint / "offsets"
    folder.mkdir(parents=True, exist_ok=True)
    told = {"sourceVersion": 1, "reservoirId": "t-1", "reservoirVersion": version, "index": index}
    header = {"batchWatermarkMs": 0, "batchTimestampMs": number, "conf": {}}
    lines = ("v1", json.dumps(header), json.dumps({**told, "isStartingVersion": starting}))
    (folder / str(number)).write_text("\n".join(lines), encoding="utf-8")


def test_versions_of_a_table_are_read_alike_by_name_and_as_data(spark_session: SparkSession, tmp_path: Path) -> None:
    over_table(tmp_path, 0, 7, starting=True)
    over_table(tmp_path, 1, 8)
    over_table(tmp_path, 2, 9, index=3)
    rows = module.planned_micro_batches(spark_session, str(tmp_path)).orderBy("micro_batch").collect()
    as_data = [{end["topic"]: {end["partition"]: end["offset"]} for end in row["end_offsets"]} for row in rows]
    by_name = [module.planned_ends(spark_session, str(tmp_path), number) for number in range(3)]
    assert as_data == by_name
    assert [module.versions_of(each) for each in by_name[:2]] == [{"t-1": 0}, {"t-1": 8}]
    with pytest.raises(CheckpointError, match="ended within a version of the table"):
        module.versions_of(by_name[2])
    with pytest.raises(CheckpointError, match="belongs to a query over clicks, not over bronze"):
        module.versions_of({"clicks": {0: 3}})
