"""doctor looks at each thing once, and says what to do about those that are not in order."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from twinrun.broker.topics import TopicInfo
from twinrun.cli import health
from twinrun.config.load import load_config
from twinrun.errors import BrokerError, MachineError


class Java(NamedTuple):
    version: str = "21.0.8"
    source: str = "PATH"
    home: str = "/java"


@pytest.fixture
def healthy(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which everything is in order, also where this one lacks jars or a broker."""
    topic = TopicInfo("orders", 1, "id", {"message.timestamp.type": "CreateTime"})
    monkeypatch.setattr(health, "find_java", Java)
    monkeypatch.setattr(health, "verify_jars", lambda name: [name])
    monkeypatch.setattr(health, "cluster_id", lambda *_: "abc")
    monkeypatch.setattr(health, "describe_topic", lambda *_: topic)
    monkeypatch.setattr(health, "broker_status", lambda _: None)


@pytest.mark.usefixtures("healthy")
def test_all_in_order_is_0(run: Any) -> None:
    done = run("doctor")

    assert done.code == 0, done.out
    assert all(line.startswith("ok ") for line in done.out.splitlines())
    assert "orders, 1 partition\n" in done.out


@pytest.mark.usefixtures("healthy")
def test_a_missing_java_is_a_problem_with_a_way_out(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_java() -> None:
        raise MachineError("No usable Java: none.", expected="Java 17 or 21", fix="install Java 17 or 21")

    monkeypatch.setattr(health, "find_java", find_java)

    done = run("doctor")

    assert done.code == 2
    assert "problem  Java" in done.out
    assert "to fix Java: install Java 17 or 21" in done.out


@pytest.mark.usefixtures("healthy")
def test_json_names_every_finding(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LEAST_FREE_GB", 1e9)

    done = run("doctor", "--json")

    found = json.loads(done.out)
    assert done.code == 2
    assert not found["healthy"]
    assert [finding["name"] for finding in found["findings"] if not finding["ok"]] == ["disk"]
    assert len(found["findings"]) == 13


@pytest.mark.usefixtures("healthy")
def test_a_bad_configuration_does_not_hide_the_machine(run: Any) -> None:
    done = run("doctor", "--set", "strem.interval_ms=1")

    assert done.code == 2
    assert "ok       Java" in done.out
    assert "problem  configuration" in done.out
    assert "to fix configuration: write stream" in done.out


@pytest.mark.usefixtures("healthy")
def test_a_broker_that_does_not_answer(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def cluster_id(*_: Any) -> str:
        raise BrokerError("No Kafka broker answers at 127.0.0.1:1.", fix="look at the address")

    monkeypatch.setattr(health, "cluster_id", cluster_id)
    monkeypatch.setattr(health, "port_is_free", lambda _: True)
    done = run("doctor", "--set", "kafka.bootstrap_servers=127.0.0.1:1")
    assert done.code == 2
    assert "to fix broker: start the development broker: twinrun broker start" in done.out
    assert "topic of" not in done.out
    assert "look at the address" in run("doctor", "--set", "kafka.bootstrap_servers=kafka.example:9092").out


@pytest.mark.usefixtures("healthy")
def test_a_missing_topic_and_a_broken_job(run: Any, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def describe_topic(*_: Any) -> None:
        raise BrokerError("The broker has no topic 'orders'.", fix="create it")

    monkeypatch.setattr(health, "describe_topic", describe_topic)
    (project / "jobs/first_job.py").write_text("JOB = 1\n", encoding="utf-8")

    done = run("doctor")

    assert "problem  topic of orders" in done.out
    assert "problem  jobs" in done.out


def test_packages_that_are_missing_or_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["pytest>=1", "pytest<1", "no-such-package>2", "other; extra == 'demo'"]
    monkeypatch.setattr(health, "requires", lambda _: wanted)

    found = next(each for each in health.machine_findings() if each.name == "packages")

    assert not found.ok
    assert "no-such-package is missing" in found.found
    assert "not <1" in found.found
    assert "other" not in found.found
    monkeypatch.setattr(health, "requires", lambda _: wanted[:1])
    assert next(each for each in health.machine_findings() if each.name == "packages").ok


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_warehouse_without_rights(project: Path) -> None:
    (project / "closed").mkdir(mode=0o500)
    cfg = load_config(project / "conf/local.yaml", ["warehouse=./closed/warehouse"], env={})

    assert not health._warehouse(cfg).ok


def test_a_warehouse_on_a_file_and_elsewhere(project: Path) -> None:
    elsewhere = load_config(project / "conf/local.yaml", ["warehouse=s3a://bucket/warehouse"], env={})
    proc = load_config(project / "conf/local.yaml", ["warehouse=/proc/none/warehouse"], env={})

    assert "not checked" in health._warehouse(elsewhere).found
    assert not health._warehouse(proc).ok
    assert not list(project.glob(".data/*"))
