"""A project to run commands in, and stand-ins for what would start Spark or Kafka."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import twinrun.session.spark
from twinrun.cli.app import main
from twinrun.cli.project import write_project


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh project as the current folder; nothing of this machine's settings counts."""
    folder = tmp_path / "project"
    write_project(folder)
    monkeypatch.chdir(folder)
    for name in ("TWINRUN_CONF", "TWINRUN_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def run(project: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> Ran:
        capsys.readouterr()
        code = main(list(arguments))
        printed = capsys.readouterr()
        return Ran(code, printed.out, printed.err)

    return call


@dataclass
class FakeContext:
    cancelled: threading.Event = field(default_factory=threading.Event)
    log_level: str = "WARN"

    def setLogLevel(self, level: str) -> None:
        self.log_level = level


@dataclass
class FakeSpark:
    """Counts what happens to the session."""

    sparkContext: FakeContext = field(default_factory=FakeContext)
    started: list[dict[str, str]] = field(default_factory=list)
    stopped: int = 0

    def interruptAll(self) -> None:
        assert self.sparkContext.log_level == "OFF", "what was asked for would be told as an error of Spark"
        self.sparkContext.cancelled.set()


@pytest.fixture
def spark(monkeypatch: pytest.MonkeyPatch) -> FakeSpark:
    fake = FakeSpark()

    def build_session(name: str, conf: dict[str, str], *, master: str | None, drivers: Any = ()) -> FakeSpark:
        fake.started.append({"name": name, "master": str(master), **conf})
        return fake

    def stop_session(_: Any) -> None:
        fake.stopped += 1

    monkeypatch.setattr(twinrun.session.spark, "build_session", build_session)
    monkeypatch.setattr(twinrun.session.spark, "stop_session", stop_session)
    monkeypatch.setattr(twinrun.session.spark, "watch_jvm", lambda *_: None)
    return fake
