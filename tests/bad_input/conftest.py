"""A small project, its commands through the CLI's own main, and what a refusal has to look like."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from tests.integration.commands import Ran, on_session, run
from twinrun.broker.process import BrokerInfo
from twinrun.broker.topics import create_topic
from twinrun.config.load import load_config
from twinrun.config.model import Config
from twinrun.produce.producer import produce
from twinrun.produce.records import Record

JOBS = Path(__file__).parent / "jobs"
T0_MS = 1_357_466_400_000
JAVA_WORDS = re.compile(r"\borg\.|\bjava\.|\bio\.delta|\bscala\.|\tat |Traceback|py4j|SQLSTATE|\w+Exception")


def refused(done: Ran, *words: str) -> None:
    """Exit code 2; one plain sentence, a fix, nothing of Java; and these words."""
    assert done.code == 2, done.out + done.err
    first, *rest = [line for line in done.err.splitlines() if line.strip()]
    assert re.fullmatch(r"error: \S.*[^:]", first), done.err
    assert any(line.startswith("  to fix: ") for line in rest), done.err
    assert not JAVA_WORDS.search(done.err), done.err
    assert done.out == ""
    for word in words:
        assert word in done.err, f"{word!r} is not in: {done.err}"


@dataclass
class Place:
    """A project on one topic: configuration, jobs, tables and checkpoints below one folder."""

    root: Path
    topic: str
    bootstrap: str

    def __post_init__(self) -> None:
        (self.root / "conf").mkdir(parents=True)
        (self.root / "jobs").mkdir()
        for file in JOBS.glob("*.py"):
            (self.root / "jobs" / file.name).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
        self.bind()

    def bind(self, **more: Any) -> None:
        """Write the configuration, with these sections changed."""
        text = {
            "kafka": {"bootstrap_servers": self.bootstrap},
            "warehouse": str(self.root / "wh"),
            "checkpoints": str(self.root / "cp"),
            "sources": {"clicks": {"topic": self.topic}},
            "jobs": {name: {"path": f"./jobs/{name}.py"} for name in ("seen", "named")},
            "spark": {"master": "local[2]"},
            "report": {"folder": str(self.root / "reports")},
            "verify": {"max_lag_events": 0},
            **more,
        }
        self.conf.write_text(json.dumps(text), encoding="utf-8")

    @property
    def conf(self) -> Path:
        return self.root / "conf" / "local.yaml"

    def cfg(self) -> Config:
        return load_config(self.conf, env={})

    def run(self, *arguments: str) -> Ran:
        """One command line through the program's main function."""
        return run(*arguments, "--conf", str(self.conf))

    def works(self, *commands: str) -> None:
        """Run commands, such as ``stream seen``, that must succeed."""
        for command in commands:
            done = self.run(*command.split())
            assert done.code == 0, f"{command}: {done.out}{done.err}"

    def make_topic(self, partitions: int = 1) -> None:
        create_topic(self.bootstrap, self.topic, partitions)

    def produce(self, names: Sequence[str]) -> None:
        """One click per name."""
        log = [
            Record(name.encode(), json.dumps({"id": name, "at": T0_MS + i, "page": "ab"[i % 2]}).encode(), T0_MS + i)
            for i, name in enumerate(names)
        ]
        assert produce(log, self.topic, {"bootstrap.servers": self.bootstrap}).failed == 0

    def result(self, kind: str, job: str = "seen", version: int = 1) -> Path:
        return self.root / "wh" / "results" / job / f"{kind}_v{version}"

    def ids(self, kind: str, job: str = "seen", version: int = 1) -> list[str]:
        """Ids in a result table, sorted and with copies, read without Spark."""
        return ids_in(self.result(kind, job, version))


def ids_in(table: Path) -> list[str]:
    rows = pl.from_arrow(DeltaTable(table).to_pyarrow_table(columns=["id"]))
    assert isinstance(rows, pl.DataFrame)
    return sorted(rows["id"].to_list())


def offsets_in(bronze: Path) -> list[int]:
    """Offsets in a bronze table, sorted and with copies."""
    return sorted(DeltaTable(bronze).to_pyarrow_table(columns=["offset"])["offset"].to_pylist())


def tree(folder: Path) -> dict[str, int]:
    """Every file below a folder with its size: what a run that wrote nothing leaves unchanged."""
    return {str(file.relative_to(folder)): file.stat().st_size for file in folder.rglob("*") if file.is_file()}


def names(start: int, end: int) -> list[str]:
    return [f"e{number:03}" for number in range(start, end)]


@pytest.fixture(scope="module")
def make_place(broker: BrokerInfo, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Place]:
    """Make projects, each with a topic name of its own; the topic is not created."""

    def make() -> Place:
        root = tmp_path_factory.mktemp("place") / "project"
        return Place(root, f"clicks-{uuid.uuid4().hex[:8]}", broker.bootstrap_servers)

    return make


@pytest.fixture(scope="module")
def one_session(spark_session: SparkSession) -> Iterator[SparkSession]:
    with on_session(spark_session) as spark:
        yield spark
