"""lint: what it prints, its exit codes, and the warnings before a first run. The findings are made up here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import twinrun.cli.lint
import twinrun.lint.lint
import twinrun.results.state
from twinrun.errors import JobError
from twinrun.lint.result import Finding, LintResult
from twinrun.lint.rules import RULES

REFUSED = Finding(RULES["TR103"], 12, "", "refused")
DIFFERS = Finding(RULES["TR233"], 14, "column mean", "differs")
TOLERATED = Finding(RULES["TR233"], 15, "column spread", "note")
SetFindings = Callable[..., None]


@pytest.fixture
def findings(monkeypatch: pytest.MonkeyPatch, project: Path) -> SetFindings:
    def put(*found: Finding, error: Exception | None = None) -> None:
        def lint_job(*_: Any) -> LintResult:
            if error is not None:
                raise error
            return LintResult("first_job", str(project / "jobs/first_job.py"), found)

        monkeypatch.setattr(twinrun.lint.lint, "lint_job", lint_job)

    return put


@pytest.mark.usefixtures("spark")
def test_a_finding_has_its_place_its_reason_and_its_remedy(run: Any, findings: SetFindings) -> None:
    findings(REFUSED, DIFFERS, TOLERATED)

    done = run("lint", "first_job")

    assert done.code == 1
    assert done.out.splitlines()[:3] == [
        "jobs/first_job.py:12 TR103 refused, sort",
        f"    why: {RULES['TR103'].why}",
        f"    instead: {RULES['TR103'].instead}",
    ]
    assert "jobs/first_job.py:14 TR233 can differ, floating-point sum: column mean\n" in done.out
    assert "jobs/first_job.py:15 TR233 note, floating-point sum: column spread\n" in done.out
    assert done.out.splitlines()[-1] == "first_job: 1 refused, 0 can fail, 1 can differ, 1 note"


@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize(
    ("found", "code", "strict_code"),
    [((), 0, 0), ((TOLERATED,), 0, 0), ((DIFFERS, TOLERATED), 0, 1), ((REFUSED,), 1, 1)],
    ids=["nothing", "notes", "differs", "refused"],
)
def test_exit_codes(found: Any, code: int, strict_code: int, run: Any, findings: SetFindings) -> None:
    findings(*found)

    assert run("lint", "first_job").code == code
    assert run("lint", "first_job", "--strict").code == strict_code


@pytest.mark.usefixtures("spark")
def test_a_job_that_cannot_be_used_is_2(run: Any, findings: SetFindings, project: Path) -> None:
    findings(error=JobError("first_job: there is no column 'x'", fix="name one that is there"))

    done = run("lint", "first_job")
    assert done.code == 2
    assert "there is no column 'x'" in done.err
    (project / "jobs/first_job.py").write_text("JOB = 1\n", encoding="utf-8")
    assert run("lint", "first_job").code == 2
    assert run("lint", "frist_job").code == 2


@pytest.mark.usefixtures("spark")
def test_json_has_the_same(run: Any, findings: SetFindings) -> None:
    findings(DIFFERS)

    payload = json.loads(run("lint", "first_job", "--json").out)

    assert payload["file"] == "jobs/first_job.py"
    assert payload["counts"] == {"refused": 0, "fails": 0, "differs": 1, "note": 0}
    [finding] = payload["findings"]
    assert (finding["line"], finding["rule"], finding["severity"]) == (14, "TR233", "differs")
    assert finding["instead"] == RULES["TR233"].instead


class Said:
    """Stands for a call whose notes are kept."""

    def __init__(self) -> None:
        self.out = self
        self.notes: list[str] = []

    def note(self, line: str) -> None:
        self.notes.append(line)


@pytest.mark.parametrize("mode", ["batch", "stream"])
@pytest.mark.parametrize(("state", "expected"), [(None, 4), ("an earlier run", 0)])
def test_the_first_run_of_a_mode_warns_without_notes(
    mode: str, state: Any, expected: int, findings: SetFindings, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings(REFUSED, DIFFERS, TOLERATED)
    monkeypatch.setattr(twinrun.results.state, f"{mode}_state", lambda *_: state)
    monkeypatch.setattr(twinrun.cli.lint, "_reading", lambda _: None)
    said: Any = Said()

    looked = twinrun.cli.lint.warn_before_first_run(said, FakeSpark, FakeConfig, FakeJob, mode)

    assert (looked, len(said.notes)) == (state is None, expected)
    if expected:
        assert said.notes[0] == "warning: jobs/first_job.py:12 TR103 refused, sort"
        assert not any(":15" in line for line in said.notes)


@pytest.mark.parametrize("error", [JobError("wrong"), RuntimeError("Spark is gone")])
def test_a_lint_that_fails_stops_no_run(
    error: Exception, findings: SetFindings, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings(error=error)
    monkeypatch.setattr(twinrun.results.state, "batch_state", lambda *_: None)
    said: Any = Said()

    assert twinrun.cli.lint.warn_before_first_run(said, FakeSpark, FakeConfig, FakeJob, "batch") is False

    assert said.notes == []


class Named:
    job_name = "first_job"
    tables: tuple[()] = ()


FakeJob: Any = Named()
FakeSpark: Any = None
FakeConfig: Any = None
