"""``demo --all`` runs every job of the gallery once, on shared topics, and a job that fails does not end the others."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from shutil import copytree, ignore_patterns, rmtree
from typing import Any

import pytest
from verdicts import verdict

from twinrun.broker.process import BrokerInfo
from twinrun.cli import demo, demo_all
from twinrun.errors import QueryError
from twinrun.gallery.entries import ENTRIES
from twinrun.produce.counts import ProduceSummary
from twinrun.results.records import RunSummary

ROOT = Path(__file__).resolve().parents[3]
JOBS = [entry.job for entry in ENTRIES]


@pytest.fixture
def done(project: Path, spark: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A checkout, with stand-ins for broker, producer, runners and verify; what they were asked for, in order."""
    for name in ("conf", "jobs"):
        rmtree(project / name)
        copytree(ROOT / name, project / name, ignore=ignore_patterns("__pycache__"))
    seen: list[Any] = []

    def runner(module: str) -> Any:
        def run(spark: Any, cfg: Any, target: Any, *rest: Any) -> RunSummary:
            seen.append((module, getattr(target, "job_name", None) or target.name))
            if getattr(target, "job_name", "") == "page_visits":
                raise QueryError("the stream of page_visits failed: the disk is full.")
            return RunSummary(module, "x", "r", 60, "/t", 1, 5)

        return run

    def produce(records: Any, topic: str, options: Any) -> ProduceSummary:
        seen.append(("sent", topic))
        return ProduceSummary(1, len(list(records)), 0, None, 1.0, {0: 1})

    monkeypatch.setattr(demo_all, "start_broker", lambda at: BrokerInfo("127.0.0.1:50000", 77, at, at / "broker.log"))
    monkeypatch.setattr(demo, "stop_broker", lambda _: seen.append(("broker", "stop")))
    monkeypatch.setattr(demo_all, "create_topic", lambda _, topic, *__: seen.append(("topic", topic)))
    monkeypatch.setattr("twinrun.produce.producer.produce", produce)
    monkeypatch.setattr(demo_all, "runner", runner)
    monkeypatch.setattr("twinrun.cli.runs.runner", runner)
    monkeypatch.setattr("twinrun.gallery.entries.write_static", lambda *given: seen.append(("static", given[-1])))
    monkeypatch.setattr("twinrun.explain.verify.verify", lambda spark, cfg, job, **_: verdict(job=job.job_name))
    return seen


def test_every_job_has_its_verdict_and_a_card_and_one_that_fails_is_told(
    run: Any, done: list[Any], project: Path
) -> None:
    found = run("demo", "--all", "--events", "300", "--json")
    told = json.loads(found.out)
    assert [each["job"] for each in told["jobs"]] == JOBS
    outcomes = Counter(each["outcome"] for each in told["jobs"])
    assert outcomes == {"failed": 1, verdict().outcome: len(JOBS) - 1}
    failed = next(each for each in told["jobs"] if each["outcome"] == "failed")
    assert (failed["job"], found.code) == ("page_visits", 1)
    assert "the disk is full" in failed["failure"]

    folder = project / ".data/gallery/all"
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert page.count('<li class="card') == len(JOBS)
    for job in JOBS:
        assert (f'href="reports/{job}/report.html"' in page) == (folder / f"reports/{job}/report.html").exists()
    assert "the disk is full" in page


def test_a_topic_that_several_jobs_read_is_made_sent_and_landed_once(run: Any, done: list[Any]) -> None:
    run("demo", "--all", "--events", "300")
    counts = Counter(done)
    for kind in ("topic", "sent"):
        assert counts[kind, "gallery_web_events"] == 1
    assert counts["streaming.ingest", "web_events"] == 1
    assert counts["topic", "receipts_sent"] == 1
    assert {what for what, _ in done} >= {"static", "streaming.runner", "batch.runner", "broker"}
    assert done[-1] == ("broker", "stop")


@pytest.mark.parametrize("words", [["receipts", "--all"], ["--all", "--days", "3"]])
def test_all_and_one_do_not_go_together(run: Any, done: list[Any], words: list[str]) -> None:
    refused = run("demo", *words)
    assert refused.code == 2
    assert "--all runs every job of the gallery" in refused.err
    assert done == []
