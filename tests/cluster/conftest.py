"""A real standalone master and worker from pyspark's own classes, a zip as `make dist` makes it, and spark-submit."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyspark
import pytest

from tests.conftest import ROOT
from twinrun.session.jars import jar_paths
from twinrun.session.java import find_java

HOST = "127.0.0.1"
READY_LIMIT_S = 60
SUBMIT_LIMIT_S = 240
SPARK_HOME = Path(pyspark.__file__).parent
ENVIRONMENT = Path(sys.executable).parent
# As in tests/conftest.py: these runs are so small that compiling would cost more than running.
CHEAP_JVM = ("-XX:TieredStopAtLevel=1", "-XX:ReservedCodeCacheSize=256m", "-XX:+UseSerialGC")
CHEAP = {
    "sql.shuffle.partitions": "2",
    "sql.codegen.wholeStage": "false",
    "sql.codegen.factoryMode": "NO_CODEGEN",
    "databricks.delta.snapshotPartitions": "2",
    "sql.adaptive.enabled": "false",
}
MASTER, WORKER = "org.apache.spark.deploy.master.Master", "org.apache.spark.deploy.worker.Worker"


@dataclass(frozen=True)
class Cluster:
    """A running standalone cluster; ``work_dir`` is where executors unpack what they are sent."""

    master: str
    work_dir: Path


@pytest.fixture(scope="session")
def zip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of `make dist` in a copy of the sources, so that neither build/ nor dist/ of the checkout changes."""
    copy = tmp_path_factory.mktemp("dist")
    for name in ("twinrun", "batch", "streaming"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "Makefile"):
        shutil.copy(ROOT / name, copy)
    # -o setup: the environment is the one that runs this test, and nothing is installed into it.
    command = ["make", "-o", "setup", "dist", f"VENV={ENVIRONMENT.parent}", f"DONE={copy}"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return copy / "dist" / "twinrun.zip"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One master and one worker with two cores, on free ports of the loopback interface."""
    folder = tmp_path_factory.mktemp("cluster")
    master = f"spark://{HOST}:{free_port()}"
    processes = []
    try:
        processes.append(start(MASTER, folder, "--host", HOST, "--port", master.rsplit(":", 1)[1], "--webui-port", "0"))
        wait_for("New state: ALIVE", folder / "Master.log", processes[-1])
        size = ("--cores", "2", "--memory", "3g", "--work-dir", str(folder / "work"))
        processes.append(start(WORKER, folder, "--host", HOST, "--port", "0", "--webui-port", "0", *size, master))
        wait_for("Successfully registered with master", folder / "Worker.log", processes[-1])
        yield Cluster(master, folder / "work")
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(timeout=30)


def start(main_class: str, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start one of Spark's daemons in the foreground of a process of its own."""
    command = [
        str(find_java().binary),
        "-Xmx256m",
        *CHEAP_JVM,
        "-cp",
        f"{SPARK_HOME}/jars/*",
        "-Dspark.master.rest.enabled=false",
    ]
    log: BinaryIO
    with (folder / f"{main_class.rsplit('.', 1)[1]}.log").open("wb") as log:
        return subprocess.Popen(
            [*command, main_class, *arguments], cwd=folder, env=outside(), stdout=log, stderr=subprocess.STDOUT
        )


def wait_for(text: str, log: Path, process: subprocess.Popen[bytes]) -> None:
    """Return when the daemon has said ``text``."""
    deadline = time.monotonic() + READY_LIMIT_S
    while text not in log.read_text(encoding="utf-8", errors="replace"):
        assert process.poll() is None, log.read_text(encoding="utf-8", errors="replace")[-3000:]
        assert time.monotonic() < deadline, f"{log.name} does not say {text!r}"
        time.sleep(0.1)


def outside() -> dict[str, str]:
    """The environment of somebody who is not in the checkout: no path to it, Spark on the loopback interface."""
    mine = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYSPARK_SUBMIT_ARGS")}
    return {
        **mine,
        "JAVA_HOME": str(find_java().home),
        "SPARK_HOME": str(SPARK_HOME),
        # Spark's start scripts export it; without it a worker cannot put an executor's command together.
        "SPARK_SCALA_VERSION": "2.13",
        "SPARK_LOCAL_IP": HOST,
        "PYSPARK_PYTHON": sys.executable,
    }


def submit(cluster: Cluster, zip_file: Path, folder: Path, script: str, *arguments: str) -> tuple[int, str, str]:
    """The command of docs/operations.md from another folder; its exit code and what it said."""
    command = [str(ENVIRONMENT / "spark-submit"), "--master", cluster.master, "--deploy-mode", "client"]
    command += ["--properties-file", str(ROOT / "conf/spark/cluster.conf"), "--py-files", str(zip_file)]
    command += ["--jars", ",".join(str(jar) for jar in jar_paths("spark"))]
    command += ["--driver-java-options", " ".join(CHEAP_JVM)]
    settings = {"executor.memory": "700m", "executor.extraJavaOptions": " ".join(CHEAP_JVM), "ui.enabled": "false"}
    command += [part for name, value in {**settings, **CHEAP}.items() for part in ("--conf", f"spark.{name}={value}")]
    done = subprocess.run(
        [*command, str(ROOT / script), *arguments],
        cwd=folder,
        env=outside(),
        capture_output=True,
        text=True,
        timeout=SUBMIT_LIMIT_S,
    )
    return done.returncode, done.stdout, done.stderr


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        return int(taken.getsockname()[1])
