"""Secrets: only as references, resolved at the last moment, and never to be seen."""

from __future__ import annotations

import os
import pickle
import traceback
from pathlib import Path

import pytest

from twinrun.config.load import load_config
from twinrun.config.secrets import REDACTED, is_secret_key, redact, redact_text
from twinrun.config.sections import java_options, librdkafka_options
from twinrun.errors import ConfigError

CANARY = 'hunter2-"x\\y'
BASE = "kafka:\n  bootstrap_servers: a:1\n  options:\n    {}\nwarehouse: ./wh\nreport: {{folder: out}}\n"


def written(folder: Path, *options: str, more: str = "") -> Path:
    path = folder / "here.yaml"
    path.write_text(BASE.format("\n    ".join(options)) + more, encoding="utf-8")
    return path


def secret_file(folder: Path, mode: int = 0o600, text: str = CANARY + "\n") -> Path:
    path = folder / "secret"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    "line",
    [
        f"sasl.password: '{CANARY}'",
        f"sasl.jaas.config: 'x required password=\"{CANARY}\";'",
        f"ssl.keystore.key: '{CANARY}'",
        f"ssl.key.pem: '{CANARY}'",
        f"ssl.key.password: '{CANARY}'",
        f"sasl.login.credentials: '{CANARY}'",
        f"my.api.key: '{CANARY}'",
        f"client.secret: '{CANARY}'",
        f"delegation.token: '{CANARY}'",
        f"sasl.password: '${{env:PW:-{CANARY}}}'",
        f"sasl.password: 'x${{env:PW}}{CANARY}'",
        f"harmless: 'http://user:{CANARY}@host'",
        f"harmless: '-Dpassword={CANARY}'",
    ],
)
def test_a_literal_secret_is_refused_and_not_repeated(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError, match="holds a secret as plain text") as caught:
        load_config(written(tmp_path, line), (), {"PW": "p"})

    assert line.split(":")[0] in str(caught.value)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_literal_secrets_of_set_and_spark_conf_are_refused_too(tmp_path: Path) -> None:
    path = written(tmp_path, more="spark:\n  conf:\n    spark.hadoop.fs.s3a.secret.key: hunter2\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, ["kafka.options.ssl.key.password=hunter2"], {})
    message = str(caught.value)

    assert "--set kafka.options.ssl.key.password: kafka.options.ssl.key.password holds a secret" in message
    assert "spark.conf.spark.hadoop.fs.s3a.secret.key holds a secret" in message
    assert "hunter2" not in message


def test_a_password_in_a_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds a password") as caught:
        load_config(written(tmp_path), ["warehouse=s3a://me:hunter2@bucket/wh"], {})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["sasl.password: *hunter2", "sasl.password: 'hunter2", "a: !hunter2 b", "a: {hunter2"])
def test_bad_yaml_does_not_repeat_the_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, text), (), {})
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "line",
    [
        "sasl.username: me",
        "ssl.keystore.location: /etc/x.p12",
        "ssl.truststore.type: PEM",
        "sasl.oauthbearer.token.endpoint.url: https://id/token",
        "sasl.mechanism: PLAIN",
        "linger.ms: 5",
        "enable.idempotence: true",
    ],
)
def test_options_that_are_no_secret_pass_through_as_text(tmp_path: Path, line: str) -> None:
    key, value = line.split(": ", 1)
    assert load_config(written(tmp_path, line), (), {}).kafka.client_options()[key] == value


def test_a_reference_is_resolved_only_for_the_client(tmp_path: Path) -> None:
    path = written(tmp_path, "sasl.password: ${env:PW}", f"ssl.key.password: file:{secret_file(tmp_path)}")
    cfg = load_config(path, (), {"PW": CANARY})
    seen = [repr(cfg), str(cfg), str(cfg.model_dump()), cfg.model_dump_json(), str(vars(cfg)), repr(cfg.kafka._reader)]

    assert not any("hunter2" in text for text in seen)
    assert cfg.kafka.options["sasl.password"] == "${env:PW}"
    assert cfg.kafka.client_options()["sasl.password"] == CANARY
    assert cfg.kafka.client_options()["ssl.key.password"] == CANARY
    assert cfg.secret_values() == (CANARY, CANARY)


def test_a_pickled_configuration_carries_no_environment(tmp_path: Path) -> None:
    cfg = load_config(written(tmp_path, "sasl.password: ${env:PW}"), (), {"PW": CANARY})
    assert b"hunter2" not in pickle.dumps(cfg)


def test_a_secret_in_a_variable_of_its_own_becomes_a_reference(tmp_path: Path) -> None:
    cfg = load_config(written(tmp_path), (), {"TWINRUN__KAFKA__OPTIONS__SASL_PASSWORD": CANARY})

    assert cfg.kafka.options == {"sasl.password": "${env:TWINRUN__KAFKA__OPTIONS__SASL_PASSWORD}"}
    assert cfg.kafka.client_options()["sasl.password"] == CANARY


def test_loading_needs_no_secret_but_the_client_does(tmp_path: Path) -> None:
    cfg = load_config(written(tmp_path, "sasl.password: ${env:PW}"), (), {})
    with pytest.raises(ConfigError, match=r"kafka\.options\.sasl\.password needs the environment variable PW"):
        cfg.kafka.client_options()
    assert cfg.secret_values() == ()


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o606 | 0o004])
def test_a_secret_file_that_all_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    cfg = load_config(written(tmp_path, f"sasl.password: file:{secret_file(tmp_path, mode)}"), (), {})
    with pytest.raises(ConfigError, match="every user of this machine can read") as caught:
        cfg.kafka.client_options()
    assert "chmod 600" in caught.value.fix
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640])
def test_a_secret_file_of_its_owner_is_read_without_its_last_line_end(tmp_path: Path, mode: int) -> None:
    secret_file(tmp_path, mode, "a\nb\n")
    cfg = load_config(written(tmp_path, "sasl.password: file:secret"), (), {})
    assert cfg.kafka.client_options()["sasl.password"] == "a\nb"


def test_a_missing_or_empty_secret_file(tmp_path: Path) -> None:
    cfg = load_config(written(tmp_path, "sasl.password: file:none"), (), {})
    with pytest.raises(ConfigError, match="cannot be read"):
        cfg.kafka.client_options()
    secret_file(tmp_path, text="\n")
    cfg = load_config(written(tmp_path, "sasl.password: file:secret"), (), {})
    with pytest.raises(ConfigError, match="is empty"):
        cfg.kafka.client_options()


def test_spark_conf_resolves_for_the_session_only(tmp_path: Path) -> None:
    more = "spark:\n  conf:\n    spark.hadoop.fs.s3a.secret.key: ${env:PW}\n    spark.ui.port: 4040\n"
    cfg = load_config(written(tmp_path, more=more), (), {"PW": CANARY})

    assert "hunter2" not in repr(cfg)
    assert cfg.spark.session_conf() == {"spark.hadoop.fs.s3a.secret.key": CANARY, "spark.ui.port": "4040"}


def test_one_login_serves_both_clients(tmp_path: Path) -> None:
    lines = ("security.protocol: SASL_SSL", "sasl.mechanism: SCRAM-SHA-512", "sasl.username: me")
    path = written(tmp_path, *lines, "sasl.password: ${env:PW}", "ssl.ca.location: /ca.pem")
    kafka = load_config(path, (), {"PW": CANARY}).kafka

    assert kafka.spark_options() == {
        "kafka.bootstrap.servers": "a:1",
        "kafka.security.protocol": "SASL_SSL",
        "kafka.sasl.mechanism": "SCRAM-SHA-512",
        "kafka.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required "
        'username="me" password="hunter2-\\"x\\\\y";',
        "kafka.ssl.truststore.location": "/ca.pem",
        "kafka.ssl.truststore.type": "PEM",
    }
    assert kafka.confluent_options() == kafka.client_options()


def test_javas_spelling_for_confluent_kafka_is_translated_or_refused_in_words() -> None:
    pem = {"ssl.truststore.location": "/ca.pem", "ssl.truststore.type": "PEM"}
    assert librdkafka_options(pem) == {"ssl.ca.location": "/ca.pem"}
    assert java_options(pem) == pem
    with pytest.raises(ConfigError, match="trust store of type JKS"):
        librdkafka_options({"ssl.truststore.location": "/x.jks"})
    with pytest.raises(ConfigError, match="confluent-kafka cannot read"):
        librdkafka_options({"sasl.mechanism": "PLAIN", "sasl.jaas.config": "x"})
    with pytest.raises(ConfigError, match=r"no sasl\.mechanism"):
        java_options({"sasl.username": "a", "sasl.password": "b"})
    with pytest.raises(ConfigError, match="line break"):
        java_options({"sasl.mechanism": "PLAIN", "sasl.username": "a", "sasl.password": "b\nc"})


@pytest.mark.parametrize("name", ["bootstrap.servers", "kafka.security.protocol"], ids=["own key", "prefix of Spark"])
def test_options_that_belong_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="to fix: write kafka"):
        load_config(written(tmp_path, f"{name}: x"), (), {})


def test_redact_masks_values_at_any_depth_and_keeps_the_rest() -> None:
    shown = redact(
        {
            "sasl.password": "p",
            "sasl.username": "u",
            "ssl.keystore.key": "k",
            "ssl.keystore.location": "/k",
            "token": 7,
            "rows": 7,
            "reference": {"sasl.password": "${env:PW}", "inner": [{"secret": "s"}, "a://u:p@h"]},
        }
    )
    assert shown == {
        "sasl.password": REDACTED,
        "sasl.username": "u",
        "ssl.keystore.key": REDACTED,
        "ssl.keystore.location": "/k",
        "token": REDACTED,
        "rows": 7,
        "reference": {"sasl.password": "${env:PW}", "inner": [{"secret": REDACTED}, REDACTED]},
    }


def test_redact_text_masks_secrets_in_every_spelling() -> None:
    text = (
        f'raw {CANARY} json "hunter2-\\"x\\\\y" url hunter2-%22x%5Cy jaas username="me" password="other"; '
        "token=abc http://u:pw@h -----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY----- end"
    )
    shown = redact_text(text, [CANARY, ""])

    for secret in ("hunter2", "other", "abc", "pw@", "MII"):
        assert secret not in shown
    for kept in ('username="me"', "http://u:", "@h", " end"):
        assert kept in shown
    assert redact_text("a plain line, 3 passwords changed", []) == "a plain line, 3 passwords changed"
    assert redact_text(shown, [CANARY]) == shown


@pytest.mark.parametrize("key", ["key.serializer", "keys", "ssl.keystore.type", "max.poll.records", "primary_key"])
def test_names_that_are_no_secrets(key: str) -> None:
    assert not is_secret_key(key)


def test_the_environment_is_read_when_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = load_config(written(tmp_path, "sasl.password: ${env:TWINRUN_TEST_PW}"), (), os.environ)
    monkeypatch.setenv("TWINRUN_TEST_PW", "late")
    assert cfg.kafka.client_options()["sasl.password"] == "late"
