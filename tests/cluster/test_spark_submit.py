"""ingest, stream and batch by spark-submit on a real standalone cluster give the tables that the command line gives."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

from tests.cluster.conftest import CHEAP, CHEAP_JVM, Cluster, outside, submit
from twinrun.broker.process import BrokerInfo, start_broker, stop_broker
from twinrun.broker.topics import create_topic
from twinrun.produce.producer import produce
from twinrun.produce.records import Record

JOB = "submitted"
JOB_FILE = Path(__file__).parent / "jobs" / "submitted.py"
SCRIPTS = {"ingest": "streaming/ingest.py", "stream": "streaming/runner.py", "batch": "batch/runner.py"}
T0 = datetime.fromisoformat("2013-01-06T10:00:00+00:00")
# Seconds after T0, in the order of their arrival: the one at 7 comes when its minute has long been closed.
SECONDS = [1, 20, 40, 70, 75, 130, 131, 190, 200, 210, 260, 261, 262, 320, 7, 330, 331, 390, 391, 400]
LATE = (14, 7)
LIMIT_S = 600


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerInfo]:
    data_dir = tmp_path_factory.mktemp("broker")
    yield start_broker(data_dir)
    stop_broker(data_dir)


@pytest.fixture(scope="module")
def conf(broker: BrokerInfo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A topic with late events, and a configuration that names no master; the warehouse is given with each run."""
    topic = f"clicks-{uuid.uuid4().hex[:8]}"
    create_topic(broker.bootstrap_servers, topic, 1)
    assert produce(records(), topic, {"bootstrap.servers": broker.bootstrap_servers}).failed == 0
    file = tmp_path_factory.mktemp("project") / "conf" / "cluster.yaml"
    file.parent.mkdir()
    text = {
        "kafka": {"bootstrap_servers": broker.bootstrap_servers},
        "warehouse": "./unused",
        "checkpoints": "./unused",
        "sources": {"clicks": {"topic": topic}},
        "jobs": {JOB: {"path": str(JOB_FILE)}},
        "stream": {"max_offsets_per_trigger": 7},
        "spark": {"master": None},
        "report": {"folder": "./reports"},
    }
    file.write_text(json.dumps(text), encoding="utf-8")
    return file


def records() -> list[Record]:
    found = []
    for number, second in enumerate(SECONDS):
        at_ms = int((T0 + timedelta(seconds=second)).timestamp() * 1000)
        # Weights are sums of powers of two, so that no order of adding them changes the mean.
        value = {"id": f"e{number}", "at": at_ms, "page": "ab"[number % 2], "amount": 1.25, "weight": 0.25 * number}
        found.append(Record(value["page"].encode(), json.dumps(value).encode(), at_ms))
    return found


def by_hand(numbers: list[int]) -> pl.DataFrame:
    """The result over the events of these numbers, in plain Python."""
    groups: dict[tuple[str, datetime], list[int]] = defaultdict(list)
    for number in numbers:
        groups["ab"[number % 2], T0 + timedelta(minutes=SECONDS[number] // 60)].append(number)
    rows = [
        (page, start, len(found), Decimal("1.25") * len(found), sum(0.25 * n for n in found) / len(found))
        for (page, start), found in groups.items()
    ]
    return pl.DataFrame(rows, schema=["page", "window_start", "clicks", "amount", "weight"], orient="row").sort(
        "page", "window_start"
    )


def table(warehouse: Path, kind: str) -> pl.DataFrame:
    """The rows of a result table without its lineage, read without Spark."""
    rows = pl.from_arrow(DeltaTable(warehouse / "results" / JOB / f"{kind}_v1").to_pyarrow_table())
    assert isinstance(rows, pl.DataFrame)
    return rows.select(name for name in rows.columns if not name.startswith("_")).sort("page", "window_start")


def rows_of(rows: pl.DataFrame) -> list[tuple[Any, ...]]:
    return rows.rows()


def places(warehouse: Path) -> list[str]:
    return ["--set", f"warehouse={warehouse / 'wh'}", "--set", f"checkpoints={warehouse / 'cp'}"]


@pytest.fixture(scope="module")
def submitted(cluster: Cluster, zip_file: Path, conf: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All three runs by spark-submit, started in an empty folder."""
    elsewhere, home = tmp_path_factory.mktemp("elsewhere"), tmp_path_factory.mktemp("submitted")
    said = {}
    for mode, script in SCRIPTS.items():
        code, out, err = submit(cluster, zip_file, elsewhere, script, JOB, "--conf", str(conf), *places(home))
        assert code == 0, f"{mode}: {out}\n{err[-3000:]}"
        said[mode] = out
    return {"home": home, "said": said}


CLI = """
import sys
from twinrun.cli.app import main
for mode in sys.argv[1].split(","):
    code = main([mode, *sys.argv[2:]])
    if code:
        sys.exit(code)
"""


@pytest.fixture(scope="module")
def by_cli(conf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same three runs by the command line on this machine alone, into another warehouse."""
    home = tmp_path_factory.mktemp("cli")
    command_line(["ingest", "stream", "batch"], "local[2]", conf, home, cwd=home)
    return home


def command_line(modes: list[str], master: str, conf: Path, home: Path, cwd: Path, *more: str) -> str:
    """Run ``twinrun`` commands in a process of their own; what they printed."""
    cheap = {"spark.driver.extraJavaOptions": " ".join(CHEAP_JVM), "spark.executor.memory": "700m"}
    cheap |= {f"spark.{key}": value for key, value in CHEAP.items()}
    arguments = [",".join(modes), JOB, "--conf", str(conf), *places(home), "--set", f"spark.master={master}", *more]
    arguments += [part for key, value in cheap.items() for part in ("--set", f"spark.conf.{key}={value}")]
    done = subprocess.run(
        [sys.executable, "-c", CLI, *arguments],
        cwd=cwd,
        env=outside(),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S)
def test_what_ran_was_the_code_of_the_zip_on_driver_and_workers(submitted: dict[str, Any], zip_file: Path) -> None:
    """That the workers' code was the driver's is checked by the job itself, which fails otherwise."""
    for mode, out in submitted["said"].items():
        (line,) = [line for line in out.splitlines() if line.startswith("driver code: ")]
        assert line.endswith("/twinrun.zip/twinrun/__init__.py"), (mode, line)


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S)
def test_the_tables_are_the_right_ones(submitted: dict[str, Any]) -> None:
    """The watermark ends at 400 - 10 s: minutes 0 to 5 are closed; the late event is in no row of the stream."""
    every = by_hand(list(range(len(SECONDS))))
    in_time = by_hand([number for number, second in enumerate(SECONDS) if (number, second) != LATE])
    closed = in_time.filter(pl.col("window_start") < T0 + timedelta(minutes=6))
    assert rows_of(table(submitted["home"] / "wh", "batch")) == rows_of(every)
    assert rows_of(table(submitted["home"] / "wh", "stream")) == rows_of(closed)
    assert rows_of(every.join(closed, on="window_start", how="semi")) != rows_of(closed)


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("kind", ["batch", "stream"])
def test_the_tables_are_those_of_the_command_line(kind: str, submitted: dict[str, Any], by_cli: Path) -> None:
    ours, theirs = table(submitted["home"] / "wh", kind), table(by_cli / "wh", kind)
    assert ours.height > 0
    assert ours.schema == theirs.schema
    assert ours.equals(theirs)


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S)
def test_verify_by_the_command_line_on_the_cluster_explains_the_late_event(
    submitted: dict[str, Any], cluster: Cluster, conf: Path, tmp_path: Path
) -> None:
    said = command_line(["verify"], cluster.master, conf, submitted["home"], tmp_path, "--json")
    verdict = json.loads(said)
    assert (verdict["outcome"], verdict["rows_explained"], verdict["rows_unexplained"]) == ("explained", 1, 0)
    assert [event["id"] for event in verdict["late_events"]] == [{"id": f"e{LATE[0]}"}]
