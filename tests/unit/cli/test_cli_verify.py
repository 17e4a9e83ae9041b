"""verify prints the summary, writes the reports and exits with the verdict; report does the same from its JSON."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from verdicts import verdict

from twinrun.cli.reread import read_verdict
from twinrun.errors import CheckpointError, InputError
from twinrun.report.json_ import render_json

FOLDER = Path(".data/reports/first_job")


@pytest.fixture
def verifier(project: Path, spark: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stands for twinrun.explain.verify: returns or raises ``outcome`` and keeps what it was asked."""
    (project / ".data/warehouse/twinrun/control").mkdir(parents=True)
    fake: Any = types.ModuleType("twinrun.explain.verify")
    fake.outcome, fake.asked = verdict(), []

    def verify(_: Any, cfg: Any, job: Any, **options: Any) -> Any:
        options.pop("on_step")("comparing")
        assert callable(options.pop("on_warning"))
        fake.asked.append((job.job_name, options))
        if isinstance(fake.outcome, Exception):
            raise fake.outcome
        return fake.outcome

    fake.verify = verify
    monkeypatch.setitem(sys.modules, "twinrun.explain.verify", fake)
    attach: Any = types.ModuleType("twinrun.history.history")
    attach.with_history = lambda _, cfg, found: replace(found, notes=(*found.notes, "the ledger was asked"))
    monkeypatch.setitem(sys.modules, "twinrun.history.history", attach)
    monkeypatch.setattr("twinrun.cli.repeat.standing", lambda *_: None)
    monkeypatch.setattr("twinrun.explain.coverage.silent_kafka", lambda _: "")
    return fake


@pytest.mark.parametrize(("outcome", "code"), [("explained", 0), ("differ", 1), ("stale", 1), ("nothing_compared", 1)])
def test_the_exit_code_is_the_verdicts(outcome: Any, code: int, run: Any, verifier: Any, project: Path) -> None:
    verifier.outcome = verdict(outcome=outcome, exit_code=code, problems=("one problem",) if code else ())

    done = run("verify", "first_job")

    assert done.code == code
    assert len(done.out.splitlines()) <= 15
    assert f"(exit code {code})" in done.out
    # From here, as one would type it.
    assert done.out.splitlines()[-1].split() == ["report", str(FOLDER / "report.html")]
    assert (project / FOLDER / "report.html").exists()
    assert sorted(f.name for f in (project / FOLDER).iterdir()) == ["report.html", "report.json", "report.md"]
    assert verifier.asked == [("first_job", {"strict": False, "wait_s": None, "full": False, "silent": False})]


def test_options_reach_the_verify(run: Any, verifier: Any) -> None:
    run("verify", "first_job", "--strict", "--wait", "30", "--full")

    assert verifier.asked == [("first_job", {"strict": True, "wait_s": 30.0, "full": True, "silent": False})]


def test_a_silent_kafka_is_said_before_spark_starts_and_is_not_asked_again(
    run: Any, verifier: Any, spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(_: Any) -> str:
        assert not spark.started
        return "Kafka did not answer: lag and staleness are unknown"

    def standing(*_: Any) -> None:
        pytest.fail("the topics were asked for, which takes as long as a request may")

    monkeypatch.setattr("twinrun.explain.coverage.silent_kafka", silent)
    monkeypatch.setattr("twinrun.cli.repeat.standing", standing)
    assert run("verify", "first_job").err.splitlines()[0].startswith("Kafka did not answer")
    assert verifier.asked[0][1]["silent"] is True


def test_json_is_the_verdict_and_where_the_reports_are(run: Any, verifier: Any) -> None:
    found = json.loads(run("verify", "first_job", "--json").out)

    assert found["schema_version"] == 3
    assert found["notes"][-1] == "the ledger was asked"
    assert found["outcome"] == "explained"
    assert found["report"]["html"].endswith("first_job/report.html")


def test_an_error_is_2_and_writes_nothing(run: Any, verifier: Any, project: Path) -> None:
    verifier.outcome = CheckpointError("verify:first_job is held by another run.", fix="wait")

    assert run("verify", "first_job").code == 2
    assert not (project / FOLDER).exists()


def test_hostile_text_reaches_the_terminal_harmlessly(run: Any, verifier: Any) -> None:
    verifier.outcome = verdict(exit_code=1, outcome="differ", problems=("\x1b[2J<script>alert(1)</script>",))

    done = run("verify", "first_job")

    assert "\x1b" not in done.out
    assert "\\x1b[2J" in done.out


@pytest.mark.usefixtures("verifier")
def test_report_renders_the_last_verify_again(run: Any, project: Path) -> None:
    first = run("verify", "first_job")
    (project / FOLDER / "report.html").unlink()

    done = run("report", "first_job")

    assert done == first
    assert (project / FOLDER / "report.html").exists()


def test_a_verdict_survives_its_json(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text(render_json(verdict()), encoding="utf-8")

    assert read_verdict(file) == verdict()


def test_a_report_of_schema_version_1_is_read_without_what_it_did_not_have(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    old = json.loads(render_json(verdict()))
    old["schema_version"] = 1
    del old["history"]
    for sample in old["samples"]:
        del sample["events"], sample["events_of"]
    file.write_text(json.dumps(old), encoding="utf-8")

    found = read_verdict(file)

    assert found.history is None
    assert {sample.events for sample in found.samples} == {()}
    assert found == replace(verdict(), history=None, samples=found.samples)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a JSON report"),
        ("[]", "not a JSON report"),
        ('{"schema_version": 99}', "schema version 99"),
        ('{"schema_version": 1, "job": "x"}', "does not fit"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "report.json"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(InputError, match=why):
        read_verdict(file)


@pytest.fixture
def external(project: Path, verifier: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stands for twinrun.external.verify; a table of another engine is there."""
    (project / "out").mkdir()
    fake: Any = types.ModuleType("twinrun.external.verify")
    fake.asked = []

    def verify_external(_: Any, cfg: Any, job: Any, binding: Any, **options: Any) -> Any:
        options.pop("on_step")("comparing")
        fake.asked.append((job.job_name, binding.table, options))
        return verifier.outcome

    fake.verify_external = verify_external
    monkeypatch.setitem(sys.modules, "twinrun.external.verify", fake)
    return fake


def test_external_goes_to_the_bound_table_and_to_a_report_of_its_own(
    run: Any, external: Any, verifier: Any, project: Path
) -> None:
    done = run("verify", "first_job", "--external", "--strict", "--set", "external.first_job.table=./out")

    assert done.code == 0
    assert external.asked == [("first_job", str(project / "out"), {"strict": True, "wait_s": None, "full": False})]
    assert verifier.asked == []
    assert (project / ".data/reports/first_job.external/report.html").exists()
    assert not (project / FOLDER).exists()
    assert run("report", "first_job", "--external") == done


@pytest.mark.usefixtures("external")
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ([], "does not say where another engine's result of first_job is"),
        (["external.first_job.table=./absent"], "there is no table at"),
        (["external.first_jog.table=./out"], "rename external.first_jog"),
        (["external.first_job.tabel=./out"], "write external.first_job.table"),
        (["external.first_job.table=./out", "external.first_job.late_rule=partition-order"], "add lateness"),
    ],
)
def test_a_bad_binding_is_2_before_spark_starts(run: Any, settings: list[str], says: str, project: Path) -> None:
    options = [word for each in settings for word in ("--set", each)]

    done = run("verify", "first_job", "--external", *options)

    assert done.code == 2
    assert says in done.err
    assert not (project / ".data/reports").exists()
