"""Pages with commands are true: tutorial, kafka and web_logs run as they stand there, and print what they show."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from twinrun.broker.files import free_ports

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "tutorial.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"(?:<!-- (file|sections of|exit code): (\S+) -->\n+)?^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL
)
LIMIT_S = 600
# What differs from machine to machine and from run to run; everything else must be as it stands on the page.
MASKED = (
    (re.compile(r"\d+\.\d s\b"), "SECONDS"),
    (re.compile(r"process \d+"), "process NUMBER"),
    (re.compile(r"127\.0\.0\.1:\d+"), "HOST:PORT"),
    (re.compile(r"such as \d+"), "such as PORT"),
    (re.compile(r"^( *id +)\S{22}$", re.MULTILINE), r"\1ID"),
    (re.compile(r"cluster [\w-]+"), "cluster ID"),
    (re.compile(r"\d+\.\d GB"), "SPACE"),
    (re.compile(r"(?<![\w.])/[\w./@+-]+"), "PATH"),
    (re.compile(r"^(ok +(?:Python|Java|packages|\w+ jars) +).*$", re.MULTILINE), r"\1FOUND"),
    (re.compile(r"20(?!24)\d\d-\d\d-\d\d \d\d:\d\d(?::\d\d)?"), "NOW"),
)


@dataclass(frozen=True)
class Step:
    """A block of the page. ``role``: file, sections of, exit code, or empty."""

    role: str
    name: str
    language: str
    text: str


def steps(page: str) -> list[Step]:
    return [Step(*found) for found in BLOCK.findall(page)]


def masked(text: str) -> str:
    for pattern, word in MASKED:
        text = pattern.sub(word, text)
    return re.sub(r" +", " ", text).strip()


def test_masks_leave_what_a_verdict_says() -> None:
    said = "windows compared 4 12 rows\n late_dropped 1 window (2 events)\nstream x: 120 records, 12.3 s"
    assert masked(said) == said.replace("12.3 s", "SECONDS")
    assert masked(said) != masked(said.replace("2 events", "3 events"))
    assert masked("watermark 2024-03-01T11:27:30.000Z") != masked("watermark 2024-03-01T11:27:31.000Z")


def test_the_page_has_files_sections_commands_and_what_they_print() -> None:
    found = steps(PAGE)
    assert [step.name for step in found if step.role == "file"] == ["make_rides.py", "jobs/rides_per_hour.py"]
    assert [step.name for step in found if step.role == "sections of"] == ["conf/local.yaml"]
    commands = [line.split()[1] for step in found if step.language == "bash" for line in step.text.splitlines()]
    assert [name for name in ("doctor", "lint", "ingest", "stream", "batch", "verify") if name not in commands] == []
    assert len([step for step in found if step.language == "text"]) == 7


def test_the_web_log_takes_under_forty_lines() -> None:
    found = steps((DOCS / "web_logs.md").read_text(encoding="utf-8"))
    written = [step for step in found if step.role in ("file", "sections of") and step.name != "make_log.py"]
    assert [step.name for step in written] == ["conf/local.yaml", "jobs/not_found_per_minute.py"]
    assert sum(len(step.text.splitlines()) for step in written) < 40


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["tutorial.md", "kafka.md", "web_logs.md"])
def test_a_page_runs_and_prints_what_it_shows(name: str, tmp_path: Path) -> None:
    page = (DOCS / name).read_text(encoding="utf-8")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TWINRUN__KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{free_ports(1)[0]}",
        "COLUMNS": "200",
    }
    at = [tmp_path]
    try:
        for shown, printed in ran(page, at, environment):
            assert masked(printed) == masked(shown), printed
    finally:
        if at[0] != tmp_path:
            subprocess.run(["twinrun", "broker", "stop"], cwd=at[0], env=environment, check=False)


def ran(page: str, at: list[Path], environment: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Do what each block says; for each block of output what it shows and what its commands printed."""
    printed = ""
    for step in steps(page):
        if step.role == "file":
            (at[0] / step.name).write_text(step.text, encoding="utf-8")
        elif step.role == "sections of":
            file = at[0] / step.name
            whole = {**yaml.safe_load(file.read_text(encoding="utf-8")), **yaml.safe_load(step.text)}
            file.write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
        elif step.language == "bash" and step.role != "exit code":
            printed = ""
            for line in step.text.replace("\\\n", " ").splitlines():
                printed += command(line, at, environment, 0)
        elif step.language == "bash":
            printed = command(step.text.strip(), at, environment, int(step.name))
        elif step.language == "text":
            yield step.text, printed


def command(line: str, at: list[Path], environment: dict[str, str], code: int) -> str:
    words = shlex.split(line)
    if words[0] == "cd":
        at[0] = at[0] / words[1]
        return ""
    done = subprocess.run(
        words, cwd=at[0], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT_S
    )
    assert done.returncode == code, f"{line}\n{done.stdout}"
    return done.stdout
