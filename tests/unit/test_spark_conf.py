"""The Spark settings: the file that users write, and the defaults under it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from twinrun.errors import ConfigError
from twinrun.session.settings import DRIVER_JAVA_OPTIONS, REDACTION, is_local, session_conf
from twinrun.session.sparkconf import read_spark_conf

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINRUN_CACHE", str(tmp_path / "cache"))


def written(folder: Path, text: str) -> Path:
    path = folder / "own.conf"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_syntax_is_that_of_spark_defaults(tmp_path: Path) -> None:
    text = (
        "# a note\n! another\n\n"
        "spark.a   1 2 3  \n"
        "spark.b=x=y\n"
        "spark.c : z\n"
        "\tspark.d\tq\n"
        "spark.e one \\\n   two\n"
        "spark.a 4\n"
        "spark.url s3a://b/c\n"
    )
    assert read_spark_conf(written(tmp_path, text)) == {
        "spark.a": "4",
        "spark.b": "x=y",
        "spark.c": "z",
        "spark.d": "q",
        "spark.e": "one two",
        "spark.url": "s3a://b/c",
    }


def test_all_wrong_lines_are_named_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_spark_conf(written(tmp_path, "spark.a 1\nspark.b\n\ndriver.memory 2g\n"))
    assert "line 2 has no value for 'spark.b'; line 4 has the key 'driver.memory'" in caught.value.found


def test_an_absent_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"own\.conf cannot be read"):
        read_spark_conf(tmp_path / "own.conf")


@pytest.mark.parametrize("name", ["local.conf", "cluster.conf"])
def test_the_files_that_are_shipped_can_be_read(name: str) -> None:
    assert "spark.sql.shuffle.partitions" in read_spark_conf(REPOSITORY / "conf" / "spark" / name)


def test_the_user_wins_over_the_defaults() -> None:
    assert session_conf({})["spark.sql.session.timeZone"] == "UTC"
    changed = session_conf({"spark.sql.shuffle.partitions": "7", "spark.ui.enabled": "true"})
    assert (changed["spark.sql.shuffle.partitions"], changed["spark.ui.enabled"]) == ("7", "true")


def test_java_options_are_joined_with_the_users_last() -> None:
    options = session_conf({DRIVER_JAVA_OPTIONS: "-Xss8m"})[DRIVER_JAVA_OPTIONS].split()
    assert options[0] == "-Xss4m"
    assert options[-1] == "-Xss8m"
    log_settings = next(option for option in options if option.startswith("-Dlog4j2.configurationFile=file://"))
    assert Path(log_settings.partition("file://")[2]).read_text(encoding="utf-8").count("rootLogger.level = warn") == 1


@pytest.mark.parametrize(("master", "local"), [("local", True), ("local[2]", True), ("local-cluster[1,1,512]", True)])
def test_one_machine_is_bound_to_loopback(master: str, local: bool) -> None:
    assert is_local(master) is local
    conf = session_conf({}, master=master)
    assert (conf["spark.driver.bindAddress"], conf["spark.ui.enabled"]) == ("127.0.0.1", "false")


@pytest.mark.parametrize("master", ["spark://10.0.0.1:7077", "yarn", "k8s://https://10.0.0.1", None])
def test_a_cluster_is_left_to_its_own_addresses_and_partitions(master: str | None) -> None:
    conf = session_conf({}, master=master)
    assert not is_local(master)
    assert {"spark.driver.host", "spark.driver.bindAddress", "spark.sql.shuffle.partitions"}.isdisjoint(conf)
    assert conf["spark.sql.extensions"].startswith("io.delta")


def test_jars_are_local_paths_and_only_where_the_user_named_none() -> None:
    assert session_conf({}, jars=[Path("/c/a.jar"), Path("/c/b.jar")])["spark.jars"] == "/c/a.jar,/c/b.jar"
    assert session_conf({"spark.jars": "/own.jar"}, jars=[Path("/c/a.jar")])["spark.jars"] == "/own.jar"
    assert "spark.jars" not in session_conf({})


@pytest.mark.parametrize(
    "key",
    [
        "kafka.ssl.keystore.key",
        "kafka.sasl.login.credentials",
        "kafka.sasl.jaas.config",
        "spark.hadoop.fs.s3a.access.key",
        "my.api.key",
        "kafka.ssl.key.password",
        "spark.hadoop.fs.s3a.secret.key",
    ],
)
def test_secrets_are_redacted_by_key(key: str) -> None:
    assert re.search(REDACTION, key)


@pytest.mark.parametrize("key", ["spark.sql.shuffle.partitions", "kafka.bootstrap.servers", "spark.app.name"])
def test_what_is_no_secret_stays_readable(key: str) -> None:
    assert not re.search(REDACTION, key)
