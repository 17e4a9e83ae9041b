"""The session as a process of its own: what it can do, what it leaves behind, and what a dead JVM does to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from twinrun.session.jars import jar_paths

LIMIT_S = 240
DEATH_LIMIT_S = 10
BEGIN = """
import sys
from twinrun.session.spark import build_session, jvm_process, stop_session, watch_jvm
"""
ROUND_TRIP = """
from delta.tables import DeltaTable
from pyspark.sql import functions as F
spark.range(4).write.format("delta").save(folder)
assert spark.read.format("delta").load(folder).count() == 4
assert DeltaTable.isDeltaTable(spark, folder)
kafka = spark.readStream.format("kafka").option("kafka.bootstrap.servers", "127.0.0.1:1").option("subscribe", "x")
assert "timestampType" in kafka.load().columns
assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
"""
STATE_AT_REST = """
from pyspark.sql import Row
from pyspark.sql.streaming import StatefulProcessor
class Counted(StatefulProcessor):
    def init(self, handle):
        self.kept = handle.getValueState("kept", "n BIGINT")
    def handleInputRows(self, key, rows, timerValues):
        self.kept.update((sum(1 for _ in rows),))
        yield Row(k=key[0], n=self.kept.get()[0])
    def close(self):
        pass
groups = spark.range(5).selectExpr("id % 2 AS k", "id").groupBy("k")
counted = groups.transformWithState(Counted(), "k BIGINT, n BIGINT", "update", "none")
assert sorted(map(tuple, counted.collect())) == [(0, 3), (1, 2)], counted.collect()
"""
ONE_LIFE = (
    BEGIN
    + """
folder = sys.argv[1]
spark = build_session("one life", {"spark.driver.memory": "1g"})
"""
    + ROUND_TRIP
    + STATE_AT_REST
    + """
try:
    spark.sql("select * from text.`/etc/hostname`").count()
    print("FILE WAS READ")
except Exception as error:
    print("refused", error.getCondition())
import os
from pyspark.sql.types import StringType
assert spark.range(1).select(F.udf(lambda _: sys.executable, StringType())("id")).first()[0] == sys.executable
process = jvm_process(spark)
stop_session(spark)
stop_session(spark)
print("jvm", process.pid, process.poll())
spark = build_session("next life", {"spark.driver.memory": "1g"})
watch_jvm(spark, on_death=lambda: print("cleaned up", flush=True))
print("kill", jvm_process(spark).pid, flush=True)
import time
time.sleep(60)
print("STILL HERE")
"""
)


def run_until(text: str, process: subprocess.Popen[str]) -> list[str]:
    """The lines that a process says up to the one that begins with ``text``."""
    lines: list[str] = []
    for line in process.stdout or ():
        lines.append(line.strip())
        if line.startswith(text):
            break
    return lines


@pytest.mark.timeout(LIMIT_S)
def test_a_session_lives_ends_and_does_not_outlive_its_jvm(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ONE_LIFE, str(tmp_path / "table")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        said = run_until("kill", process)
        assert said[-1].startswith("kill"), process.communicate()
        assert said[0] == "refused TABLE_OR_VIEW_NOT_FOUND"
        first, status = said[1].split()[1:]
        assert status == "0"
        assert not psutil.pid_exists(int(first))
        os.kill(int(said[-1].split()[1]), signal.SIGKILL)
        killed = time.monotonic()
        out, err = process.communicate(timeout=60)
        assert time.monotonic() - killed < DEATH_LIMIT_S
    assert (process.returncode, out) == (2, "cleaned up\n")
    assert "Spark's Java process" in err
    assert "Traceback" not in err


@pytest.mark.timeout(LIMIT_S)
def test_a_jvm_that_cannot_start_is_one_sentence(tmp_path: Path) -> None:
    script = BEGIN + (
        "from twinrun.errors import MachineError\n"
        'try:\n    build_session("none", {"spark.driver.memory": "1m"})\n'
        "except MachineError as error:\n    print(error.found)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=LIMIT_S, cwd=tmp_path, check=True
    )
    assert done.stdout.splitlines()[-1] == "Spark's Java process ended before it was ready; its own words are above."


def submit(folder: Path, body: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = folder / "submitted.py"
    script.write_text(body, encoding="utf-8")
    spark_submit = Path(sys.executable).parent / "spark-submit"
    command = [str(spark_submit), "--master", "local[1]", "--driver-memory", "1g", *arguments, str(script)]
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    return subprocess.run(
        [*command, str(folder / "table")], capture_output=True, text=True, timeout=LIMIT_S, cwd=folder, env=environment
    )


@pytest.mark.timeout(LIMIT_S)
def test_spark_submit_gives_its_session_and_wins(tmp_path: Path) -> None:
    body = BEGIN + (
        'folder = sys.argv[1]\nspark = build_session("mine", {"spark.sql.shuffle.partitions": "5"})\n'
        'spark.range(4).write.format("delta").save(folder)\n'
        'assert spark.read.format("delta").load(folder).count() == 4\n'
        'print("got", spark.sparkContext.master, spark.conf.get("spark.sql.shuffle.partitions"))\n'
        "assert jvm_process(spark) is None\nwatch_jvm(spark)\n"
        "stop_session(spark)\n"
    )
    jars = ",".join(str(path) for path in jar_paths("spark"))
    done = submit(tmp_path, body, "--jars", jars, "--conf", "spark.sql.shuffle.partitions=3")
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["got local[1] 3"]), done.stderr


@pytest.mark.timeout(LIMIT_S)
def test_a_submitted_job_does_not_outlive_its_jvm(tmp_path: Path) -> None:
    body = BEGIN + (
        "import os, pathlib, signal, time\nfolder = pathlib.Path(sys.argv[1])\nfolder.mkdir()\n"
        'spark = build_session("mine", {})\nwatch_jvm(spark, on_death=(folder / "cleaned").touch)\n'
        '(folder / "pid").write_text(str(os.getpid()))\nos.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(60)\n'
    )
    done = submit(tmp_path, body, "--jars", ",".join(str(path) for path in jar_paths("spark")))
    assert done.returncode == -signal.SIGKILL, done.stderr
    orphan = int((tmp_path / "table" / "pid").read_text(encoding="utf-8"))
    deadline = time.monotonic() + DEATH_LIMIT_S
    while psutil.pid_exists(orphan) and psutil.Process(orphan).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert (tmp_path / "table" / "cleaned").exists()


@pytest.mark.timeout(LIMIT_S)
def test_spark_submit_without_the_jars_is_one_sentence(tmp_path: Path) -> None:
    body = BEGIN + (
        "from twinrun.errors import MachineError\n"
        'try:\n    build_session("mine", {})\nexcept MachineError as error:\n    print(error)\n'
    )
    done = submit(tmp_path, body)
    assert done.stdout.startswith("spark-submit was started without Delta."), done.stderr
    assert "--jars" in done.stdout
