"""Which results may go to a topic: said before anything is written, without asking Kafka where the job is at fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from twinrun import Job, Source
from twinrun.config.load import load_config
from twinrun.errors import ConfigError
from twinrun.results.publish import need_sink


def logic(clicks: Any) -> Any:
    return clicks


JOB = Job(logic, sources=[Source("clicks", schema="id STRING, at BIGINT", event_time="at")], keys=["id"])
CONF = """\
kafka: {bootstrap_servers: localhost:1}
warehouse: /nowhere
report: {folder: out}
sources: {clicks: {topic: clicks_in}}
sinks: {logic: {topic: %s}}
"""


def test_a_result_with_a_column_named_as_the_id_of_a_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONF % "clicks_out", encoding="utf-8")
    cfg = load_config(tmp_path / "c.yaml", env={})
    with pytest.raises(ConfigError, match=r"result of logic has a column Record_ID, .* sinks\.logic\.topic") as refused:
        need_sink(cfg, JOB, ["id", "Record_ID"])
    assert refused.value.fix == "name the column otherwise, or take sinks.logic out of the configuration"


def test_a_topic_that_the_job_reads_is_refused_and_a_job_without_a_sink_has_none(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONF % "clicks_in", encoding="utf-8")
    cfg = load_config(tmp_path / "c.yaml", env={})
    with pytest.raises(ConfigError, match="would come back as events"):
        need_sink(cfg, JOB, ["id"])
    assert need_sink(cfg.model_copy(update={"sinks": {}}), JOB, ["id", "record_id"]) is None
