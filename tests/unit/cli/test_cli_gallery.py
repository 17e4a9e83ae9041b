"""``gallery`` lists the use cases, their page is what the jobs say, and ``demo JOB`` and ``jobs`` know of them."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from verdicts import verdict

from twinrun.broker.process import BrokerInfo
from twinrun.cli import demo, gallery, whole
from twinrun.gallery import entries
from twinrun.gallery.entries import ENTRIES
from twinrun.produce.counts import ProduceSummary
from twinrun.report.write import write_report
from twinrun.results.records import RunSummary
from twinrun.session.settings import Size

ROOT = Path(__file__).resolve().parents[3]
JOBS = [entry.job for entry in ENTRIES]


@pytest.fixture
def checkout(project: Path) -> Path:
    """The project of the test with the configuration and the jobs of the checkout."""
    for name in ("conf", "jobs"):
        shutil.rmtree(project / name)
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    return project


@pytest.fixture
def steps(checkout: Path, spark: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stand-ins for broker, producer, runners and verify, and what they were given."""
    seen: dict[str, Any] = {"done": [], "records": {}}

    def produce(records: Any, topic: str, options: Any, *, on_progress: Any) -> ProduceSummary:
        seen["records"][topic] = list(records)
        return ProduceSummary(1, len(seen["records"][topic]), 0, None, 1.0, {0: 1})

    def runner(module: str) -> Any:
        def run(spark: Any, cfg: Any, target: Any, *rest: Any) -> RunSummary:
            seen["done"].append(module)
            seen["cfg"] = cfg
            return RunSummary(module, "x", "r", 60, "/t", 1, 5)

        return run

    monkeypatch.setattr(demo, "start_broker", lambda at: BrokerInfo("127.0.0.1:50000", 77, at, at / "broker.log"))
    monkeypatch.setattr(demo, "stop_broker", lambda _: seen["done"].append("stop"))
    monkeypatch.setattr(demo, "create_topic", lambda _, topic, *__: seen["done"].append(topic))
    monkeypatch.setattr(demo, "produce", produce)
    monkeypatch.setattr(whole, "runner", runner)
    monkeypatch.setattr("twinrun.cli.runs.runner", runner)
    monkeypatch.setattr("twinrun.explain.verify.verify", lambda spark, cfg, job, **_: verdict(job=job.job_name))
    monkeypatch.setattr("twinrun.history.history.with_history", lambda _, __, found: found)
    return seen


def test_the_gallery_lists_every_job_by_its_question_with_its_shape(run: Any, checkout: Path) -> None:
    found = json.loads(run("gallery", "--json").out)["gallery"]
    assert [each["job"] for each in found] == JOBS
    assert {each["shape"] for each in found} == {"stateless", "tumbling", "sliding", "session", "latest"}
    lines = run("gallery").out.splitlines()
    assert lines[0] == ENTRIES[0].question
    assert lines[1].strip() == "receipts (stateless, final): twinrun demo receipts"
    assert len(lines) == 2 * len(JOBS)


def test_elsewhere_the_questions_are_told_and_where_the_jobs_are(run: Any, project: Path) -> None:
    done = run("gallery")
    assert done.code == 0
    assert done.out.splitlines()[1].strip() == "receipts"
    assert "the checkout of twinrun has them all" in done.out


def test_the_committed_page_is_what_the_jobs_say() -> None:
    page = gallery.gallery_page(ROOT)
    assert (ROOT / gallery.PAGE).read_text(encoding="utf-8") == page, "write it anew: python -m twinrun.cli.gallery"
    assert all(f"## {job}\n\n> " in page for job in JOBS)


def test_the_committed_results_are_those_of_the_last_run() -> None:
    if not (ROOT / gallery.RUN).exists():
        assert not (ROOT / gallery.RESULTS).exists(), "results of no run"
        return
    page = gallery.results_page(json.loads((ROOT / gallery.RUN).read_text(encoding="utf-8")))
    assert (ROOT / gallery.RESULTS).read_text(encoding="utf-8") == page, "write it anew: make gallery"
    assert all(f"[{job}](gallery.md#{job})" in page for job in JOBS)
    told = json.loads((ROOT / gallery.RUN).read_text(encoding="utf-8"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert gallery.readme_with(readme, told) == readme, "write it anew: make gallery"
    assert all(f"| [{job}](docs/gallery.md#{job}) |" in readme for job in JOBS)


def test_a_demo_of_the_gallery_sends_its_log_and_takes_every_step(
    run: Any, steps: dict[str, Any], checkout: Path
) -> None:
    done = run("demo", "error_alerts", "--events", "300", "--seed", "5", "--json")
    found = json.loads(done.out)

    assert (found["job"], found["events"], found["seed"]) == ("error_alerts", 300, 5)
    assert steps["done"] == [*("gallery_service_logs", "streaming.ingest", "streaming.runner", "batch.runner", "stop")]
    assert len(steps["records"]["gallery_service_logs"]) >= 300
    cfg, folder = steps["cfg"], str(checkout / ".data/gallery/error_alerts")
    assert cfg.source("service_logs").topic == "gallery_service_logs"
    assert all(place.startswith(folder) for place in (cfg.warehouse, cfg.checkpoints, cfg.report.folder))
    assert (checkout / ".data/gallery/error_alerts/reports/error_alerts/report.html").exists()
    assert done.code == found["exit_code"]


def test_a_demo_of_several_logs_and_a_static_table_makes_them_all_in_its_own_folder(
    run: Any, steps: dict[str, Any], checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: dict[str, Any] = {}
    monkeypatch.setattr(demo, "write_static", lambda _, table, seed, events, path: written.update({path: table}))
    done = run("demo", "surge_prices", "--events", "300", "--json")

    folder = str(checkout / ".data/gallery/surge_prices")
    assert json.loads(done.out)["job"] == "surge_prices"
    assert list(written) == [f"{folder}/static/zone_weather"]
    assert steps["cfg"].tables["zone_weather"].path == f"{folder}/static/zone_weather"
    topics = ["gallery_ride_requests", "gallery_driver_pings"]
    assert steps["done"][:4] == [*topics, "streaming.ingest", "streaming.ingest"]
    assert {topic: len(records) >= 300 for topic, records in steps["records"].items()} == dict.fromkeys(topics, True)


@pytest.mark.parametrize(
    ("words", "found", "fix"),
    [
        (["page_visit"], "the gallery has no job 'page_visit'", "write page_visits"),
        (["carrier_delays"], "the gallery has no job 'carrier_delays'", "twinrun gallery lists them"),
        (["receipts", "--days", "3"], "--days is of real flights", "write --events"),
        (["--seed", "3"], "--events and --seed are of made-up events", "name a job of twinrun gallery"),
        (["receipts", "--events", "5"], "Invalid value for '--events'", "twinrun demo --help"),
    ],
)
def test_a_demo_that_cannot_be_is_refused_before_anything_starts(
    run: Any, steps: dict[str, Any], words: list[str], found: str, fix: str
) -> None:
    done = run("demo", *words)
    assert done.code == 2
    assert found in done.err
    assert fix in done.err
    assert steps["done"] == []


def test_a_job_that_reads_a_source_without_a_log_is_refused(run: Any, steps: dict[str, Any], checkout: Path) -> None:
    shutil.copy(checkout / "jobs/service_metrics.py", checkout / "jobs/receipts.py")
    done = run("demo", "receipts")
    assert done.code == 2
    assert "receipts reads service_requests, of which the gallery has no log and no table" in done.err
    assert steps["done"] == []


def test_a_demo_whose_package_is_not_installed_says_so_before_anything_starts(
    run: Any, steps: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "find_spec", lambda _: None)
    done = run("demo", "review_sentiment")
    assert done.code == 2
    assert "review_sentiment needs the package vaderSentiment, and it is not installed" in done.err
    assert "pip install 'twinrun[gallery]'" in done.err
    assert steps["done"] == []


def test_jobs_lists_the_last_verdict_of_each_job(run: Any, checkout: Path) -> None:
    folder = checkout / ".data/reports"
    write_report(verdict(job="receipts", exit_code=1, outcome="stale", problems=("p",)), folder / "receipts")
    (folder / "page_visits").mkdir()
    (folder / "page_visits/report.json").write_text("{", encoding="utf-8")

    jobs = {each["name"]: each for each in json.loads(run("jobs", "--json").out)["jobs"]}

    assert set(JOBS) < set(jobs)
    last = jobs["receipts"]["last_verdict"]
    assert (last["outcome"], last["exit_code"]) == ("stale", 1)
    assert "it is not a JSON report" in jobs["page_visits"]["last_verdict"]["problem"]
    assert jobs["error_alerts"]["last_verdict"] is None
    assert (jobs["page_visits"]["shape"], jobs["page_visits"]["slide"]) == ("sliding", "5 minutes")


def test_a_run_is_told_as_a_table_and_by_one_row_of_each_job_that_has_a_proven_one() -> None:
    example = {
        "row": "page /cart",
        "cause": "late_dropped",
        "differs": "clicks is 3 in the batch and 2 in the stream.",
        "happened": "The stream dropped *it*.",
        "proven": "",
    }
    jobs = [
        {"job": "receipts", "outcome": "agree", "causes": {}, "example": None},
        {"job": "page_visits", "outcome": "explained", "causes": {"late_dropped": 1200}, "example": example},
        {"job": "surge_prices", "outcome": "failed", "failure": "no broker"},
    ]
    page = gallery.results_page({"events": 4000, "seed": 2, "jobs": jobs})
    assert "| [page_visits](gallery.md#page_visits) | explained | 0 | 0 | 0 | 0 | `late_dropped` 1,200 |" in page
    assert "### page_visits: `late_dropped`\n\n**page /cart**: clicks is 3 in the batch" in page
    assert r"\*it\*" in page
    assert page.count("###") == 1
    begin, end = gallery._BEGIN, gallery._END
    told = gallery.readme_with(f"before\n{begin}| old |\n{end}after\n", {"jobs": jobs})
    assert told.startswith(f"before\n{begin}| job |")
    assert told.endswith(f"{end}after\n")
    assert "| [page_visits](docs/gallery.md#page_visits) | explained | 0 | `late_dropped` 1,200 |" in told
    assert "| old |" not in told


def test_run_takes_every_step_of_both_modes_in_one_session(
    run: Any, steps: dict[str, Any], spark: Any, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(whole, "need_topics", lambda _, sources: asked.extend(source.name for source in sources))
    monkeypatch.setattr(whole, "warn_before_first_run", lambda *given: asked.append(given[-1]))
    monkeypatch.setattr(whole, "topic_size", lambda *_, **__: Size(0, 60))
    done = run("run", "error_alerts", "--set", "stream.trigger=processing-time", "--json")

    found = json.loads(done.out)
    assert (done.code, found["job"]) == (verdict().exit_code, "error_alerts")
    assert steps["done"] == ["streaming.ingest", "streaming.runner", "batch.runner"]
    assert steps["cfg"].stream.trigger == "available-now", "a stream that stays up would never come to the batch"
    assert asked == ["service_logs", "stream", "batch"], "a job whose stream ran before is looked at for its batch"
    assert [each["step"] for each in found["steps"]] == ["ingest", "stream", "batch", "verify"]
    assert spark.stopped == 1
    monkeypatch.setattr(whole, "warn_before_first_run", lambda *given: not asked.append(given[-1]))
    run("run", "error_alerts")
    assert asked[3:] == ["service_logs", "stream"], "what was said of the stream holds what is to be said of the batch"


def test_run_begins_nothing_after_a_signal(
    run: Any, steps: dict[str, Any], checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole, "need_topics", lambda *_: None)
    monkeypatch.setattr(whole, "warn_before_first_run", lambda *_: None)
    monkeypatch.setattr(whole, "topic_size", lambda *_, **__: Size(0, 60))
    own = whole.runner

    def runner(module: str) -> Any:
        def stopped(spark: Any, cfg: Any, target: Any, *rest: Any) -> RunSummary:
            next(each for each in rest if isinstance(each, threading.Event)).set()
            return own(module)(spark, cfg, target, *rest)

        return stopped

    monkeypatch.setattr(whole, "runner", runner)
    assert run("run", "error_alerts").code == 130
    assert steps["done"] == ["streaming.ingest"]
