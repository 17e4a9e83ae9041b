"""Names of tables and checkpoints, and the configurations that are shipped."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from twinrun.config.load import load_config
from twinrun.config.model import Config, Layout
from twinrun.config.sections import Broker, Stream, Verify
from twinrun.errors import ConfigError
from twinrun.gallery.entries import ENTRIES

ROOT = Path(__file__).resolve().parents[3]
KAFKA_ENV = {"KAFKA_BOOTSTRAP_SERVERS": "b:9093", "KAFKA_USERNAME": "me", "KAFKA_PASSWORD": "hunter2"}
HOSTILE = [
    "..",
    "a/../b",
    "a/b",
    "a`b",
    "a\nb",
    "a\x00b",
    "a\u2028b",
    " ",
    "",
    "a b",
    "*",
    "{x}",
    ".",
    "a..b",
    "\x1b[0m",
]


def made(**more: Any) -> Config:
    return Config(**({"kafka": {"bootstrap_servers": "a:1"}, "warehouse": "/wh", "report": {"folder": "r"}} | more))


def test_paths_of_tables() -> None:
    cfg = made(sources={"flights": {"topic": "prod.flights-v1"}})

    assert cfg.table("bronze", topic="t.x") == "/wh/bronze/t.x"
    assert cfg.table("bronze", source="flights") == "/wh/bronze/prod.flights-v1"
    assert cfg.table("bronze", source="other") == "/wh/bronze/other"
    assert cfg.table("events", source="flights", topic="ignored") == "/wh/events/flights"
    assert cfg.table("quarantine", source="flights") == "/wh/quarantine/flights"
    assert cfg.table("batch_results", job="j-1", version=2) == "/wh/results/j-1/batch_v2"
    assert cfg.table("stream_results", job="j-1", version=2) == "/wh/results/j-1/stream_v2"
    assert cfg.table("static", table="weather") == "/wh/static/weather"
    for name in ("control", "micro_batches", "ledger", "late_events", "duplicate_events", "differences", "requeue"):
        assert cfg.table(name) == f"/wh/twinrun/{name}"
    assert cfg.checkpoint("stream", "j", 3) == "/wh/checkpoints/stream/j/v3"
    assert made(checkpoints="hdfs:///c/").checkpoint("stream", "j", 3) == "hdfs:///c/stream/j/v3"


def test_every_name_of_the_layout_leads_to_another_table() -> None:
    cfg = made()
    parts: dict[str, str | int] = {"source": "x", "topic": "x", "job": "x", "table": "x", "version": 1}
    assert len({cfg.table(name, **parts) for name in Layout.model_fields}) == len(Layout.model_fields)


def test_a_catalog_has_identifiers_and_needs_a_folder_for_checkpoints() -> None:
    cfg = made(warehouse="main.lake", checkpoints="s3a://b/c")

    assert cfg.table("bronze", topic="prod.flights-v1") == "main.lake.bronze_prod_flights_v1"
    assert cfg.table("batch_results", job="my-job", version=2) == "main.lake.results_my_job_batch_v2"
    assert cfg.checkpoint("stream", "my-job", 1) == "s3a://b/c/stream/my-job/v1"
    with pytest.raises(ValueError, match="several problems"):
        made(warehouse="main.lake")


def test_the_message_for_a_catalog_without_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("kafka: {bootstrap_servers: 'a:1'}\nwarehouse: main.lake\nreport: {folder: r}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="checkpoints is missing; a catalog has no folder for them"):
        load_config(path, (), {})
    assert load_config(path, ["checkpoints=/c"], {}).warehouse == "main.lake"


def test_topics_that_a_catalog_would_mix_up_are_refused() -> None:
    sources = {"one": {"topic": "a.b"}, "two": {"topic": "a_b"}}
    catalog = {"warehouse": "main.lake", "checkpoints": "/c"}

    with pytest.raises(ValueError, match="several problems"):
        made(sources=sources, **catalog)
    assert made(sources={"one": {"topic": "a.b"}, "two": {"topic": "a_c"}}, **catalog)
    assert made(sources={"one": {"topic": "same"}, "two": {"topic": "same"}}, **catalog)
    assert made(sources=sources)


@pytest.mark.parametrize("text", HOSTILE)
def test_parts_that_could_leave_the_warehouse_are_refused(text: str) -> None:
    cfg = made()
    for name, part in (("bronze", "topic"), ("events", "source"), ("static", "table")):
        with pytest.raises(ConfigError, match="cannot be part of a table's name"):
            cfg.table(name, **{part: text})
    with pytest.raises(ConfigError, match="cannot be part of a table's name"):
        cfg.table("batch_results", job=text, version=1)
    with pytest.raises(ConfigError, match="cannot be part of a table's name"):
        cfg.checkpoint("stream", text, 1)


@pytest.mark.parametrize("text", ["/wh/../x", "/wh`", "/w\nh", "  ", "lake", "a.b.c.d", "s3a://k:s@b/wh"])
def test_a_warehouse_that_is_no_safe_path_or_catalog(text: str) -> None:
    with pytest.raises(ValueError, match="Value error"):
        made(warehouse=text)


@pytest.mark.parametrize(
    "text", ["/wh", "s3a://b/wh", "abfss://fs@acct.dfs.core/wh", "file:/wh", "gs://b/w", "hdfs:///w/"]
)
def test_a_warehouse_on_any_file_system(text: str) -> None:
    assert made(warehouse=text).table("control") == f"{text.rstrip('/')}/twinrun/control"


def test_an_unknown_name_and_a_missing_part() -> None:
    with pytest.raises(ConfigError, match="no table 'bronz'") as caught:
        made().table("bronz", topic="t")
    assert caught.value.fix == "use 'bronze'"
    with pytest.raises(ConfigError, match=r"layout\.batch_results needs version"):
        made().table("batch_results", job="j")
    with pytest.raises(ConfigError, match="no table 'model_fields'"):
        made().table("model_fields")


def test_own_templates() -> None:
    cfg = made(layout={"bronze": "s3a://raw/{topic}", "ledger": "{warehouse}/l"})
    assert cfg.table("bronze", topic="t") == "s3a://raw/t"
    assert cfg.table("ledger") == "/wh/l"


def test_the_shipped_configurations_load() -> None:
    local = load_config(ROOT / "conf/local.yaml", (), {})
    kafka = load_config(ROOT / "conf/kafka.yaml", (), KAFKA_ENV)
    cluster = load_config(ROOT / "conf/cluster.yaml", (), KAFKA_ENV)

    names = ["departures_per_hour", "delayed_departures", "carrier_delays", "carrier_sessions", "route_totals"]
    assert list(local.jobs) == [*names, *(entry.job for entry in ENTRIES)]
    assert local.source("web_events").topic == "web_events"
    assert all(binding.path.is_file() for binding in local.jobs.values())
    assert (local.sources["flights"].topic, local.tables["weather"].format) == ("flights", "delta")
    assert local.warehouse == f"{ROOT}/.data/warehouse"
    assert kafka.kafka.client_options()["sasl.password"] == "hunter2"
    assert kafka.warehouse != local.warehouse
    assert (cluster.spark.master, cluster.kafka.options) == (None, kafka.kafka.options)
    assert cluster.table("bronze", source="flights") == "hdfs:///twinrun/warehouse/bronze/flights"
    assert load_config(ROOT / "conf/cluster.yaml", ["warehouse=main.lake"], KAFKA_ENV).warehouse == "main.lake"


def test_the_local_file_names_every_key_with_a_comment_and_its_default() -> None:
    text = (ROOT / "conf/local.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)

    assert set(values) == set(Config.model_fields) - {"layout"}
    for section, model in (("stream", Stream), ("verify", Verify)):
        assert values[section] == model().model_dump()
    assert set(values["broker"]) == set(Broker.model_fields)
    for line in text.splitlines():
        assert (
            line.strip() == "" or line.lstrip().startswith("#") or "#" in line or re.match(r"\s*[\w]+:|\s+path:", line)
        )


@pytest.mark.parametrize("name", ["local", "kafka", "cluster"])
def test_the_shipped_files_hold_no_secret_and_no_path_of_a_machine(name: str) -> None:
    text = (ROOT / f"conf/{name}.yaml").read_text(encoding="utf-8")
    assert not re.search(r"(?:^|[\s:])/(?:home|root|work|Users|tmp)/", text)
    assert not re.search(r"password:\s*(?!\$\{env:|file:)\S", text)
