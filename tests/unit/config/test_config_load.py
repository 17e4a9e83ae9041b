"""Reading a configuration: order of the places, references, and every message with its file and line."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from twinrun.config.load import load_config
from twinrun.config.model import Config
from twinrun.errors import ConfigError

MINIMAL = """\
kafka:
  bootstrap_servers: broker:9092
warehouse: ./wh
report:
  folder: out
"""


def written(folder: Path, text: str, name: str = "conf/here.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path, overrides: tuple[str, ...] = (), env: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides, env or {})
    # One problem is told on lines of its own, several on one line each.
    return str(caught.value).replace("\n  expected: ", "; expected ").replace("\n  to fix: ", "; to fix: ")


def test_a_minimal_file_loads_with_the_defaults_of_the_contract(tmp_path: Path) -> None:
    cfg = load_config(written(tmp_path, MINIMAL), (), {})

    assert cfg.kafka.client_options() == {"bootstrap.servers": "broker:9092"}
    assert (cfg.stream.trigger, cfg.stream.interval_ms, cfg.stream.max_offsets_per_trigger) == (
        "available-now",
        0,
        None,
    )
    assert (cfg.stream.log_flush_micro_batches, cfg.stream.log_flush_s) == (50, 120)
    assert (cfg.stream.lease_ttl_s, cfg.stream.heartbeat_s, cfg.stream.state_store) == (180, 60, "rocksdb")
    assert (cfg.verify.wait_s, cfg.verify.max_lag_events, cfg.verify.max_age_s) == (0, 100, 3_600)
    assert (cfg.verify.sample_rows, cfg.verify.max_late_samples) == (20, 200)
    assert (cfg.spark.master, cfg.spark.conf_file, cfg.spark.conf) == (None, None, {})
    assert cfg.file == tmp_path / "conf/here.yaml"
    assert cfg.folder == tmp_path / "conf"


def test_the_project_is_above_conf_and_relative_paths_start_there(tmp_path: Path) -> None:
    extra = "jobs: {one: {path: jobs/one.py}}\ntables: {t: {path: ./data/t}, far: {path: 's3a://b/t'}}\n"
    cfg = load_config(written(tmp_path, MINIMAL + extra), (), {})

    assert cfg.root == tmp_path
    assert cfg.warehouse == f"{tmp_path}/wh"
    assert cfg.report.folder == f"{tmp_path}/out"
    assert cfg.jobs["one"].path == tmp_path / "jobs/one.py"
    assert cfg.tables["t"].path == f"{tmp_path}/data/t"
    assert cfg.tables["far"].path == "s3a://b/t"


def test_a_file_outside_conf_has_its_own_folder_as_project(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, MINIMAL, "mine.yaml"), (), {}).warehouse == f"{tmp_path}/wh"


def test_set_wins_over_environment_wins_over_file_wins_over_base(tmp_path: Path) -> None:
    written(tmp_path, MINIMAL + "stream: {interval_ms: 1, log_flush_s: 1, lease_ttl_s: 100, heartbeat_s: 10}\n")
    top = written(
        tmp_path, "extends: here.yaml\nstream: {interval_ms: 2, log_flush_s: 2, lease_ttl_s: 200}\n", "conf/top.yaml"
    )
    env = {"TWINRUN__STREAM__INTERVAL_MS": "3", "TWINRUN__STREAM__LOG_FLUSH_S": "3"}

    stream = load_config(top, ["stream.interval_ms=4"], env).stream

    assert (stream.interval_ms, stream.log_flush_s, stream.lease_ttl_s, stream.heartbeat_s) == (4, 3, 200, 10)


def test_a_later_set_wins_over_an_earlier_one(tmp_path: Path) -> None:
    cfg = load_config(written(tmp_path, MINIMAL), ["verify.wait_s=1", "verify.wait_s=2"], {})
    assert cfg.verify.wait_s == 2


@pytest.mark.parametrize(
    ("override", "value"),
    [("max_offsets_per_trigger=100", 100), ("max_offsets_per_trigger=null", None), ("max_offsets_per_trigger=", None)],
)
def test_values_of_set_are_yaml(tmp_path: Path, override: str, value: int | None) -> None:
    cfg = load_config(written(tmp_path, MINIMAL), [f"stream.{override}"], {})
    assert cfg.stream.max_offsets_per_trigger == value


def test_an_option_with_dots_is_one_key(tmp_path: Path) -> None:
    env = {
        "TWINRUN__KAFKA__OPTIONS__SASL_MECHANISM": "PLAIN",
        "TWINRUN__SPARK__CONF__spark.sql.adaptive.enabled": "false",
    }
    overrides = ["kafka.options.security.protocol=SSL", "spark.conf.spark.sql.shuffle.partitions=4"]
    cfg = load_config(written(tmp_path, MINIMAL), overrides, env)

    assert cfg.kafka.options == {"security.protocol": "SSL", "sasl.mechanism": "PLAIN"}
    assert cfg.spark.conf == {"spark.sql.shuffle.partitions": "4", "spark.sql.adaptive.enabled": "false"}


def test_a_section_may_be_empty_and_does_not_hide_the_base(tmp_path: Path) -> None:
    written(tmp_path, MINIMAL + "spark: {master: 'local[1]'}\n")
    top = written(tmp_path, "extends: here.yaml\nspark:\nsources:\n  flights:\n", "conf/top.yaml")
    cfg = load_config(top, (), {})

    assert cfg.spark.master == "local[1]"
    assert cfg.sources["flights"].topic == "flights"


def test_references_are_filled_in_and_defaults_used(tmp_path: Path) -> None:
    text = MINIMAL.replace("broker:9092", "${env:HOST}:${env:PORT:-9092}") + "stream: {interval_ms: '${env:MS:-7}'}\n"
    cfg = load_config(written(tmp_path, text), (), {"HOST": "h"})

    assert cfg.kafka.bootstrap_servers == "h:9092"
    assert cfg.stream.interval_ms == 7


def test_a_reference_that_is_overridden_need_not_be_set(tmp_path: Path) -> None:
    path = written(tmp_path, MINIMAL.replace("broker:9092", "${env:HOST}"))
    assert load_config(path, ["kafka.bootstrap_servers=a:1"], {}).kafka.bootstrap_servers == "a:1"


def test_a_missing_variable_names_file_line_key_and_variable(tmp_path: Path) -> None:
    message = refusal(written(tmp_path, MINIMAL.replace("broker:9092", "${env:HOST}")))
    assert "here.yaml line 2: kafka.bootstrap_servers needs the environment variable HOST" in message


def test_an_unknown_key_names_file_line_key_allowed_keys_and_the_nearest(tmp_path: Path) -> None:
    message = refusal(written(tmp_path, MINIMAL + "stream:\n  triger: available-now\n"))

    assert "here.yaml line 7: stream.triger is not a known key" in message
    assert "max_offsets_per_trigger, reads, state_store, trigger" in message
    assert "write stream.trigger" in message


def test_all_problems_are_told_together_each_with_its_origin(tmp_path: Path) -> None:
    path = written(tmp_path, "kafka: {bootstrap_server: a:1}\nwarehouse: lake\nverify: {wait_s: soon}\n")
    env = {"TWINRUN__STREAM__INTERVAL_MS": "abc", "TWINRUN__KAFKAA__X": "1"}
    message = refusal(path, ("stream.trigger=available", "broker.partitions=0", "nonsense"), env)

    for part in (
        "has 9 problems",
        "line 1: kafka.bootstrap_server is not a known key",
        "write kafka.bootstrap_servers",
        "line 2: warehouse cannot be used: 'lake' is not a path",
        "line 3: verify.wait_s is text; expected a whole number",
        "report is missing",
        "the variable TWINRUN__STREAM__INTERVAL_MS: stream.interval_ms is text; expected a whole number",
        "the variable TWINRUN__KAFKAA__X: kafkaa is not a known key",
        "--set stream.trigger: stream.trigger is 'available'; expected 'available-now' or 'processing-time'",
        "--set broker.partitions: broker.partitions is 0; expected at least 1",
        "--set needs key=value",
    ):
        assert part in message
    assert "kafka.bootstrap_servers is missing" not in message


def test_a_key_that_is_missing_since_it_is_misspelt_is_one_problem(tmp_path: Path) -> None:
    message = refusal(written(tmp_path, MINIMAL.replace("warehouse:", "warehose:")))

    assert "warehose is not a known key" in message
    assert "write warehouse" in message
    assert "is missing" not in message
    assert "warehouse is missing" in refusal(written(tmp_path, MINIMAL.replace("warehouse:", "sources:")))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("stream: 3", "stream is a whole number; expected a section with the keys heartbeat_s"),
        ("verify: {wait_s: true}", "verify.wait_s is true or false; expected a whole number"),
        ("verify: {wait_s: 1.5}", "verify.wait_s is a number with a fraction; expected a whole number"),
        ("verify: {wait_s: -1}", "verify.wait_s is -1; expected at least 0"),
        ("sources: {s: {topic: 2013}}", "sources.s.topic is a whole number; expected text"),
        ("sources: {s: {topic: a b}}", "'a b' is not a Kafka topic name"),
        ("sources: {s: {topic: ..}}", "'..' is not a Kafka topic name"),
        ("sources: {s: {starting_offsets: 2013-01-06}}", "is not earliest, latest or a time with a zone"),
        (
            "sources: {s: {isolation_level: committed}}",
            "sources.s.isolation_level is 'committed'; expected 'read_committed' or 'read_uncommitted'",
        ),
        (
            "kafka: {bootstrap_servers: 'b:9092', options: {isolation.level: read_committed}}",
            "write sources.NAME.isolation_level: read_committed",
        ),
        ("sources: [s]", "sources is a list; expected a section of keys and values"),
        ("tables: {t: {path: ./t, format: csv}}", "tables.t.format is 'csv'; expected 'delta' or 'parquet'"),
        ("tables: {'a/b': {path: ./t}}", "is not a name"),
        ("stream: {heartbeat_s: 100}", "at most half of stream.lease_ttl_s"),
        ("layout: {bronze: '{warehouse}/b'}", "layout.bronze lacks {topic}"),
        ("layout: {ledger: '{warehouse}/{job}'}", "layout.ledger has the placeholder {job}"),
        ("layout: {ledger: '{warehouse.__class__}'}", "layout.ledger has the placeholder {warehouse.__class__}"),
        ("layout: {ledger: '{warehouse}/../x'}", "layout.ledger holds '..'"),
        ("layout: {ledger: '{warehouse}/{'}", "layout.ledger is not a template"),
        ("layout: {ledger: '{warehouse}/twinrun/control'}", "lead to the same table"),
        ("layout: {leger: x}", "write layout.ledger"),
        ("checkpoints: main.lake", "is not a path"),
        ("checkpoints: './run[1]'", "which Spark takes for a pattern; expected a path without any of * ? [ ]"),
        ("spark: {conf: {sparc.sql: 1}}", "is not a Spark setting"),
        ("kafka: {bootstrap_servers: broker}", "'broker' is not host:port"),
        ("1: x", "the key '1' is not text"),
        ("warehouse: ./b", "the key warehouse stands twice"),
        ("verify: *other", "aliases (*name) are not allowed"),
        ("verify: {wait_s: [}", "it is not valid YAML"),
        ("verify: ${env:bad-name}", "has a reference that cannot be read"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_expected(tmp_path: Path, line: str, says: str) -> None:
    text = MINIMAL.replace("kafka:\n  bootstrap_servers: broker:9092\n", "") if line.startswith("kafka") else MINIMAL
    assert says in refusal(written(tmp_path, f"{text}{line}\n"))


@pytest.mark.parametrize("start", ["earliest", "latest", "2013-01-06T00:00:00Z", "2013-01-06T00:00:00+01:00"])
def test_starting_offsets_that_are_allowed(tmp_path: Path, start: str) -> None:
    text = MINIMAL + f"sources: {{s: {{starting_offsets: {start}}}}}\n"
    assert load_config(written(tmp_path, text), (), {}).sources["s"].starting_offsets == start


def test_a_missing_file_and_files_that_are_no_sections(tmp_path: Path) -> None:
    assert "none.yaml cannot be read" in refusal(tmp_path / "none.yaml")
    assert "it holds no keys" in refusal(written(tmp_path, "- a\n"))
    assert "3 problems" in refusal(written(tmp_path, ""))
    (tmp_path / "latin.yaml").write_bytes(b"warehouse: \xe9\n")
    assert "not UTF-8" in refusal(tmp_path / "latin.yaml")


def test_extends_that_leads_back_or_nowhere(tmp_path: Path) -> None:
    written(tmp_path, "extends: b.yaml\n", "conf/a.yaml")
    path = written(tmp_path, "extends: a.yaml\n", "conf/b.yaml")
    assert "b.yaml line 1: extends leads back" not in refusal(path)
    assert "extends leads back to" in refusal(path)
    assert "cannot be read" in refusal(written(tmp_path, "extends: none.yaml\n", "conf/c.yaml"))
    assert "not the name of a file" in refusal(written(tmp_path, "extends: [a]\n", "conf/d.yaml"))
    assert "extends is not a known key" in refusal(written(tmp_path, MINIMAL), ("extends=a",))


def test_a_configuration_is_frozen_and_reads_nothing_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAREHOUSE", "./elsewhere")
    monkeypatch.setenv("TWINRUN__WAREHOUSE", "./elsewhere")
    cfg = load_config(written(tmp_path, MINIMAL), (), {})

    assert cfg.warehouse == f"{tmp_path}/wh"
    with pytest.raises(ValidationError):
        cfg.warehouse = "x/y"
    made = Config(kafka={"bootstrap_servers": "a:1"}, warehouse="/w", report={"folder": "r"})  # type: ignore[arg-type]
    assert made.warehouse == "/w"
