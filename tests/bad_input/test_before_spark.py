"""What is surely missing is refused before Java is even looked for, and nothing is written."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bad_input.conftest import Place, names, refused, tree
from tests.integration.commands import Ran

LIMIT_S = 120
COMMANDS = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from twinrun.cli.app import main
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(arguments)
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""
BROKEN = {
    "syntax": "def seen(clicks:\n",
    "no_job": "x = 1\n",
    "fails": "raise ValueError('no such thing')\n",
    "imports": "import no_such_package\n",
}
# Name, command line, words of the answer.
CASES: list[tuple[str, list[str], list[str]]] = [
    ("no topic for a stream", ["stream", "seen"], ["has no topic 'clicks-", "create it"]),
    ("no topic for an ingest", ["ingest", "clicks"], ["has no topic 'clicks-", "create it"]),
    ("nothing landed", ["batch", "seen"], ["there is no table at", "twinrun ingest clicks"]),
    ("nothing ran", ["verify", "seen"], ["there is no table at", "twinrun stream seen, twinrun batch seen"]),
    ("no report", ["report", "seen"], ["twinrun verify seen"]),
    ("no quarantine", ["requeue", "clicks", "--rule", "not_json"], ["run the batch first"]),
    ("static table not bound", ["stream", "named"], ["'pages'", "does not bind", "tables.pages.path=PATH"]),
    (
        "static table absent",
        ["stream", "named", "--set", "tables.pages.path=./static/pages"],
        ["there is no table at", "static/pages", "correct tables.pages.path"],
    ),
    ("no such job", ["batch", "sen"], ["lists no job 'sen'", "write seen"]),
    ("no such job file", ["stream", "./jobs/none.py"], ["there is no job file jobs/none.py"]),
    ("job file with a syntax error", ["stream", "./jobs/syntax.py"], ["jobs/syntax.py line 1 is not valid Python"]),
    ("job file without a job", ["stream", "./jobs/no_job.py"], ["defines no JOB"]),
    ("job file that fails", ["batch", "./jobs/fails.py"], ["jobs/fails.py line 1 fails", "no such thing"]),
    ("job file with an import that fails", ["batch", "./jobs/imports.py"], ["line 1: an import fails", "install it"]),
    ("no such tables", ["compare", "./a", "./b", "--keys", "id"], ["there is no table at"]),
    ("no such source", ["ingest", "click"], ["no source and no job 'click'", "write clicks"]),
    ("no such key in conf", ["batch", "seen", "--set", "warehous=./x"], ["warehouse"]),
]
UNREACHABLE = [["stream", "seen"], ["ingest", "clicks"]]


@pytest.fixture(scope="module")
def place(make_place: Callable[[], Place]) -> Place:
    place = make_place()
    for name, text in BROKEN.items():
        (place.root / "jobs" / f"{name}.py").write_text(text, encoding="utf-8")
    return place


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def start(place: Place, java: Path, commands: list[list[str]], *more: str) -> subprocess.Popen[str]:
    """All command lines in one process that would find only a Java that leaves a mark."""
    given = json.dumps([[*command, "--conf", str(place.conf), *more] for command in commands])
    environment = {**os.environ, "JAVA_HOME": str(java), "PATH": f"{java / 'bin'}:{os.environ['PATH']}"}
    return subprocess.Popen(
        [sys.executable, "-c", COMMANDS, given],
        cwd=place.root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def answers(place: Place, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every command's end; each runs in one of three processes, since an absent broker is waited for."""
    java = tmp_path_factory.mktemp("java")
    (java / "bin").mkdir()
    (java / "bin" / "java").write_text(f"#!/bin/sh\ntouch {java}/was-started\nexit 1\n", encoding="utf-8")
    (java / "bin" / "java").chmod(0o755)
    before = tree(place.root)
    elsewhere = ("--set", f"kafka.bootstrap_servers=127.0.0.1:{closed_port()}")
    running = [start(place, java, [each], *elsewhere) for each in UNREACHABLE]
    running.append(start(place, java, [arguments for _, arguments, _ in CASES]))
    said = []
    for process in running:
        out, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, err
        said += [Ran(*json.loads(line)) for line in out.splitlines()]
    unreachable, rest = said[: len(UNREACHABLE)], said[len(UNREACHABLE) :]
    by_name = {name: done for (name, _, _), done in zip(CASES, rest, strict=True)}
    return {"unreachable": unreachable, "java": java, "before": before, "after": tree(place.root), **by_name}


@pytest.mark.parametrize("command", range(len(UNREACHABLE)))
def test_a_missing_broker(command: int, answers: dict[str, Any]) -> None:
    refused(answers["unreachable"][command], "No Kafka broker answers at 127.0.0.1:", "twinrun broker start")


@pytest.mark.parametrize(("name", "words"), [(name, words) for name, _, words in CASES])
def test_bad_input(name: str, words: list[str], answers: dict[str, Any]) -> None:
    refused(answers[name], *words)


def test_no_java_was_started_and_nothing_was_written(answers: dict[str, Any]) -> None:
    assert sorted(path.name for path in answers["java"].iterdir()) == ["bin"]
    assert answers["after"] == answers["before"]


@pytest.mark.slow
@pytest.mark.usefixtures("one_session", "answers")
def test_with_the_cause_removed_the_same_commands_have_every_row(place: Place) -> None:
    place.make_topic()
    place.produce(names(0, 10))
    place.works("ingest clicks", "stream seen", "batch seen", "verify seen", "report seen")
    assert place.ids("stream") == place.ids("batch") == names(0, 10)
