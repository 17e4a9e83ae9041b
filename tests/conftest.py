"""What every test may use: temporary configurations, raw records, and pytest-spark's session with Delta and Kafka.

pytest-spark starts the session; its settings come from here, since the jars' paths depend on the machine's cache.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from twinrun.broker.process import BrokerInfo

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Give pytest-spark the same settings as a local run; they must be known before its first fixture."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    from pytest_spark.config import SparkConfigBuilder

    from twinrun.session.jars import jar_paths
    from twinrun.session.java import export_java, find_java
    from twinrun.session.settings import session_conf

    export_java(find_java())
    settings = session_conf({}, master="local[2]", jars=jar_paths("spark"))
    # No generated code: tests run many small queries, where compiling costs more than running. Java's own compiler has
    # both tiers: with the first alone a verify takes twice as long from the third minute on (tried). The second one
    # took a third of the CPU, so that it compiles only what runs often; with more room to allocate in, 8 % in all.
    tiers = {"Invocation": 25_000, "MinInvocation": 6_000, "Compile": 60_000, "BackEdge": 200_000}
    options = [*(f"-XX:Tier4{name}Threshold={times}" for name, times in tiers.items()), "-Xms1200m", "-Xmn600m"]
    options += ["-XX:ReservedCodeCacheSize=256m", "-XX:+UseSerialGC"]
    settings["spark.driver.extraJavaOptions"] += " " + " ".join(options)
    if "TWINRUN_GALLERY_EVENTS" not in os.environ:
        settings |= {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
    # A checkpoint of Delta's log after each tenth commit is a second each time; slow lanes read through the product's.
    settings["spark.databricks.delta.properties.defaults.checkpointInterval"] = "100"
    # Without its native library Hadoop starts a process per chmod and readlink: thousands in a minute of streams.
    settings["spark.driver.extraJavaOptions"] += " -Djdk.lang.Process.launchMechanism=VFORK"
    # One warehouse per worker of pytest-xdist: they start on the same tables otherwise.
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    temporary = Path(os.environ.get("TMPDIR", "/tmp"))
    settings["spark.sql.warehouse.dir"] = str(temporary / f"twinrun-test-warehouse-{worker}")
    SparkConfigBuilder.DEFAULTS.update(settings)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty project folder with conf/ and jobs/ of its own."""
    (tmp_path / "conf").mkdir()
    return tmp_path


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerInfo]:
    """A development broker on free ports, one for all workers: idle brokers take CPU too. The last user stops it."""
    from twinrun.broker.process import start_broker, stop_broker

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, users = shared / "broker", shared / "broker-users"
    with _one_at_a_time(shared):
        users.write_text(str(_number_in(users) + 1), encoding="utf-8")
        info = start_broker(folder)
    yield info
    with _one_at_a_time(shared):
        users.write_text(str(_number_in(users) - 1), encoding="utf-8")
        if _number_in(users) == 0:
            stop_broker(folder)


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    with (folder / "broker-lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _number_in(file: Path) -> int:
    return int(file.read_text(encoding="utf-8")) if file.exists() else 0
