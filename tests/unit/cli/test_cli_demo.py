"""The demo keeps to its own folder, runs alone, and leaves no broker behind however it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import types
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from verdicts import verdict

from twinrun.broker.process import BrokerInfo
from twinrun.cli import demo, whole
from twinrun.cli.workplace import MARK, fresh_folder
from twinrun.errors import BrokerError, InputError, QueryError
from twinrun.produce.counts import ProduceSummary
from twinrun.results.records import Progress, RunSummary

FOLDER = Path(".data/demo")


class Stage:
    """Records what the demo does, in order; ``fail_at`` raises there."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.fail_at: dict[str, BaseException] = {}
        self.signal_at: str = ""
        self.settings: dict[str, Any] = {}

    def at(self, name: str) -> None:
        self.done.append(name)
        if name in self.fail_at:
            raise self.fail_at[name]
        if name == self.signal_at:
            os.kill(os.getpid(), signal.SIGINT)

    def runner(self, module: str) -> Any:
        def run(spark: Any, cfg: Any, target: Any, *rest: Any) -> RunSummary:
            self.at(module)
            self.settings = {"cfg": cfg}
            if module != "batch.runner":
                rest[-1](Progress(1, 60, None))
            if self.signal_at == module:
                rest[-2 if module != "batch.runner" else -1].wait(5)
            return RunSummary(module, "x", "r", 60, "/t", 1, 52)

        return run


@pytest.fixture
def stage(project: Path, spark: Any, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A checkout in the current folder, and stand-ins for broker, producer, runners and verify."""
    root = Path(demo.__file__).parents[2]
    for name in ("conf", "jobs"):
        shutil.rmtree(project / name)
        shutil.copytree(root / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    stage = Stage()

    def start_broker(folder: Path) -> BrokerInfo:
        stage.at("start")
        return BrokerInfo("127.0.0.1:50000", 77, folder, folder / "broker.log")

    def produce(records: Any, topic: str, options: Any, *, on_progress: Any) -> ProduceSummary:
        stage.at("produce")
        return ProduceSummary(6118, 6118, 0, None, 1.0, {0: 6118})

    def verify(*_: Any, **__: Any) -> Any:
        stage.at("verify")
        return verdict(job="departures_per_hour", exit_code=1, outcome="stale", problems=("p",))

    flights: Any = types.ModuleType("twinrun.produce.flights")
    flights.flight_records = lambda day, days: pd.DataFrame({"n": range(6118)})
    flights.flight_events = lambda frame: iter(())
    flights.write_weather = lambda spark, path: stage.at("weather")
    verifier: Any = types.ModuleType("twinrun.explain.verify")
    verifier.verify = verify
    monkeypatch.setitem(sys.modules, "twinrun.produce.flights", flights)
    monkeypatch.setitem(sys.modules, "twinrun.explain.verify", verifier)
    attach: Any = types.ModuleType("twinrun.history.history")
    attach.with_history = lambda _, cfg, found: found
    monkeypatch.setitem(sys.modules, "twinrun.history.history", attach)
    monkeypatch.setattr(demo, "start_broker", start_broker)
    monkeypatch.setattr(demo, "stop_broker", lambda _: stage.done.append("stop"))
    monkeypatch.setattr(demo, "create_topic", lambda *_: stage.at("topic"))
    monkeypatch.setattr(demo, "produce", produce)
    monkeypatch.setattr(whole, "runner", stage.runner)
    monkeypatch.setattr("twinrun.cli.runs.runner", stage.runner)
    return stage


STEPS = ["start", "topic", "produce", "weather", "streaming.ingest", "streaming.runner", "batch.runner", "verify"]


def test_every_step_in_order_and_the_verdicts_exit_code(run: Any, stage: Stage, spark: Any, project: Path) -> None:
    done = run("demo")

    assert done.code == 1
    assert stage.done == [*STEPS, "stop"]
    assert spark.stopped == 1
    assert [line.split()[2] for line in done.err.splitlines()] == [
        *("broker", "produce", "weather", "ingest", "stream", "batch", "verify")
    ]
    assert "52 micro-batches (stream.max_offsets_per_trigger 150)" in done.err
    assert len(done.out.splitlines()) <= 15
    assert done.out.splitlines()[-1].split() == ["report", str(FOLDER / "reports/departures_per_hour/report.html")]
    assert (project / FOLDER / "reports/departures_per_hour/report.html").exists()


def test_json_is_one_document_with_the_steps(run: Any, stage: Stage) -> None:
    found = json.loads(run("demo", "--json").out)

    assert found["stream.max_offsets_per_trigger"] == 150
    assert [each["step"] for each in found["steps"]][-1] == "verify"


def test_everything_is_written_below_its_own_folder(run: Any, stage: Stage, project: Path) -> None:
    run("demo", "--set", "stream.max_offsets_per_trigger=60", "--set", "warehouse=/elsewhere")

    cfg, folder = stage.settings["cfg"], str(project / FOLDER)
    places = [cfg.warehouse, cfg.checkpoints, cfg.report.folder, cfg.broker.data_dir, cfg.tables["weather"].path]
    assert all(place.startswith(f"{folder}/") for place in places)
    assert cfg.kafka.bootstrap_servers == "127.0.0.1:50000"
    assert cfg.stream.max_offsets_per_trigger == 60


@pytest.mark.parametrize("step", STEPS)
def test_the_broker_is_stopped_after_a_failure_anywhere(step: str, run: Any, stage: Stage, spark: Any) -> None:
    stage.fail_at[step] = QueryError("it failed")

    done = run("demo")

    assert done.code == 2
    assert "error: it failed" in done.err
    assert stage.done[-1] == "stop"
    assert spark.stopped == len(spark.started)


@pytest.mark.parametrize("step", ["start", "produce", "streaming.ingest", "streaming.runner", "batch.runner"])
def test_the_broker_is_stopped_after_an_interrupt_anywhere(step: str, run: Any, stage: Stage, spark: Any) -> None:
    stage.signal_at = step

    done = run("demo")

    assert done.code == 130
    assert stage.done[-1] == "stop"
    assert "verify" not in stage.done
    assert spark.stopped == len(spark.started)


def test_the_demo_needs_the_checkout(run: Any, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    done = run("demo")

    assert done.code == 2
    assert "the demo needs the checkout of twinrun" in done.err
    assert stage.done == []


@pytest.mark.parametrize(
    ("days", "first", "flights", "size"),
    [
        (7, "2013-01-06", 6118, 150),
        (31, "2013-01-06", 27_000, 160),
        (360, "2013-01-06", 0, 150),
        (365, "2013-01-01", 336_776, 1930),
    ],
)
def test_days_and_micro_batches(days: int, first: str, flights: int, size: int) -> None:
    assert demo.first_day(days).isoformat() == first
    assert demo.micro_batch_size(flights) == size
    assert flights / size <= 175


def test_only_its_own_folder_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    with fresh_folder(folder):
        (folder / "old").touch()
    with fresh_folder(folder):
        assert [f.name for f in folder.iterdir()] == [MARK]
    (folder / MARK).unlink()
    (folder / "mine").touch()
    with pytest.raises(InputError, match="was not made by a demo"), fresh_folder(folder):
        pass
    assert (folder / "mine").exists()
    shutil.rmtree(folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/keep").touch()
    folder.symlink_to(tmp_path / "other")
    with pytest.raises(InputError, match="not a folder of its own"), fresh_folder(folder):
        pass
    assert (tmp_path / "other/keep").exists()


def test_a_broker_that_a_killed_demo_left_is_stopped_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = []
    monkeypatch.setattr("twinrun.cli.workplace.stop_broker", lambda folder: stopped.append((folder, folder.exists())))
    folder = tmp_path / "demo"
    with fresh_folder(folder):
        (folder / "broker").mkdir()

    with fresh_folder(folder):
        pass

    assert stopped == [(folder / "broker", True)]


def test_two_demos_at_once_are_refused(run: Any, stage: Stage, project: Path) -> None:
    with fresh_folder(project / FOLDER):
        (project / FOLDER / "running").touch()
        done = run("demo")

        assert done.code == 2
        assert f"another demo runs on {project / FOLDER} (process {os.getpid()})" in done.err
        assert (project / FOLDER / "running").exists()
        assert stage.done == []
    assert run("demo").code == 1


def test_a_broker_that_does_not_start_is_an_error(run: Any, stage: Stage) -> None:
    stage.fail_at["start"] = BrokerError("The broker ended while it started: no memory.", fix="read broker.log")

    done = run("demo")

    assert done.code == 2
    assert "to fix: read broker.log" in done.err
