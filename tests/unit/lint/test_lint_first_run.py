"""The warning before a first run, with a real session and a project of its own; nothing of it is made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from twinrun.cli.lint import warn_before_first_run
from twinrun.cli.project import write_project
from twinrun.config.load import load_config
from twinrun.config.model import Config
from twinrun.job.job import Job
from twinrun.job.loader import load_job
from twinrun.tables.control import add_record


class Said:
    """Stands for a call whose notes are kept."""

    def __init__(self) -> None:
        self.out = self
        self.notes: list[str] = []

    def note(self, line: str) -> None:
        self.notes.append(line)


def project(folder: Path, before: str = "", after: str = "") -> tuple[Config, Job]:
    write_project(folder)
    file = folder / "jobs/first_job.py"
    text = file.read_text(encoding="utf-8")
    assert before in text
    file.write_text(text.replace(before, after), encoding="utf-8")
    return load_config(folder / "conf/local.yaml", [f"warehouse={folder}/wh"], env={}), load_job(file)


def warned(spark: SparkSession, cfg: Config, job: Job, mode: str) -> list[str]:
    said: Any = Said()
    warn_before_first_run(said, spark, cfg, job, mode)
    return list(said.notes)


@pytest.mark.parametrize("mode", ["batch", "stream"])
def test_a_fault_is_warned_of_only_before_the_first_run(
    spark_session: SparkSession, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg, job = project(tmp_path / "p", 'F.max("cents")', 'F.first("cents")')

    first = warned(spark_session, cfg, job, mode)
    add_record(spark_session, cfg, "noise", job.job_name, {})
    state = {"version": 1, "table": "t", "fingerprint": {}, "static": {}, "run_id": "r"}
    more = {
        "stream": {"checkpoint": "c", "starting": "earliest", "query_id": None, "decoders": {}},
        "batch": {"table_version": 0, "ends": {}, "decoded_seq": {}, "events_version": {}, "finished_at_ms": 0},
    }
    add_record(spark_session, cfg, mode, job.job_name, state | more[mode])

    assert len(first) == 2
    assert first[0].startswith("warning: p/jobs/first_job.py:24 TR230 can differ, ")
    assert first[0].endswith(": column largest")
    assert first[1].startswith("  instead: F.min_by")
    assert warned(spark_session, cfg, job, mode) == []


def test_a_filter_that_decides_what_is_late_is_told_before_the_first_run_with_the_way_out(
    spark_session: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg, job = project(tmp_path / "p", "= orders.groupBy", "= orders.filter('cents >= 400').groupBy")

    head, way_out = warned(spark_session, cfg, job, "batch")

    assert head.startswith("note: p/jobs/first_job.py:21 TR203 note, filter that Spark moves before the watermark: ")
    assert head.endswith("source orders: cents >= 400")
    assert way_out.startswith("  instead: aggregate all events and count those that matter with F.count_if")


def test_a_sound_job_starts_without_a_word(spark_session: SparkSession, tmp_path: Path) -> None:
    cfg, job = project(tmp_path / "p")

    assert warned(spark_session, cfg, job, "batch") == []
