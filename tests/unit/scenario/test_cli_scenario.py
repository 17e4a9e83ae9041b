"""The command: what it prints and writes, and that bad input changes nothing."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Run
from twinrun.scenario.contract import BUILT_IN
from twinrun.scenario.generate import generate
from twinrun.scenario.plan import log_bytes

BAD = {
    "late_tial": "there is no scenario 'late_tial'",
    "late_tail --plant lat=3": "there is no plant 'lat'",
    "late_tail --plant late:tial=3": "there is no variant of late 'tial'",
    "calm --plant disorder:far=3": "the plant disorder has no variants",
    "calm --plant late": "'late' is not a plant",
    "calm --plant late=0": "late=0 cannot be planted",
    "calm --plant late=-1": "'late=-1' is not a plant",
    "calm --plant late=200000": "late=200000 cannot be planted",
    "calm --plant late=1 --plant late=2": "a plant stands twice",
    "calm --plant late=500": "late=500 cannot be planted: there is no room left",
    "calm --plant gaps=50": "gaps=50 cannot be planted",
    "calm --plant sink_delete=5000": "sink_delete=5000 cannot be planted in tumbling: its stream has",
    "late_tail --shape stateless": "late:tail=12 cannot be planted in stateless: it has no windows",
    "late_tail --shape latest": "late:tail=12 cannot be planted in latest: it has no watermark",
    "static_change": "static_change=2 cannot be planted in tumbling: it has no static table",
    "calm --shape stateless --plant static_change=9": "static_change=9 cannot be planted in stateless",
    "calm --shape stateless --plant duplicates=1": "duplicates=1 cannot be planted in stateless",
    "calm --plant split=1": "split=1 cannot be planted in tumbling: it has no session windows",
    "calm --plant copies=1": "copies=1 cannot be planted in tumbling: its source does not drop copies",
    "calm --plant unanswered=1": "unanswered=1 cannot be planted in tumbling: it has no second source",
    "calm --plant idle_partitions=1 --plant poison=1": "idle_partitions=1 cannot be planted in tumbling",
    "calm --shape tumblin": "there is no shape 'tumblin'",
    "calm --shape tumbling --job x": "--job and --shape exclude each other",
    "calm --job nothing": "nothing",
    "calm --seed -1": "the seed -1 cannot be used",
    "calm --seed 9223372036854775808": "the seed 9223372036854775808 cannot be used",
    "calm --seed x": "a valid integer",
    "calm --size 7": "the size 7 cannot be used",
    "calm --micro-batches 2": "the number of micro-batches 2 cannot be used",
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_one_sentence_and_changes_nothing(words: str, run: Run, project: Path) -> None:
    before = sorted(project.rglob("*"))
    done = run("scenario", *words.split(), "--out", "log.jsonl")
    assert done.code == 2
    assert BAD[words] in done.err.replace("\n", " ")
    assert done.out == ""
    assert sorted(project.rglob("*")) == before


@pytest.mark.parametrize("out", ["absent/log.jsonl", "conf"])
def test_a_place_that_cannot_be_written_changes_nothing(out: str, run: Run, project: Path) -> None:
    before = sorted(project.rglob("*"))
    assert run("scenario", "calm", "--out", out).code == 2
    assert sorted(project.rglob("*")) == before


def test_the_plan_is_printed_with_causes_counts_and_a_line_that_makes_it_again(run: Run) -> None:
    done = run("scenario", "everything", "--seed", "7")
    assert done.code == 0
    for text in ("late_dropped", "events: 8", "unexplained rows  0 to 1", "not_json 1", "duplicate ids     3"):
        assert text in done.out
    again = next(line for line in done.out.splitlines() if line.startswith("again: twinrun "))
    assert run(*shlex.split(again.removeprefix("again: twinrun "))).out == done.out


def test_files_hold_the_bytes_and_the_whole_plan(run: Run, project: Path) -> None:
    done = run("scenario", "late_tail", "--seed", "3", "--plant", "late:hours=4", "--out", "log.jsonl", "--json")
    said = json.loads(done.out)
    plan = json.loads((project / "log.plan.json").read_text(encoding="utf-8"))
    assert plan.items() >= {k: v for k, v in said.items() if k not in ("file", "plan_file")}.items()
    assert plan["expected"]["causes"]["late_dropped"]["events"] == 4 == len(plan["late"])
    assert sum(row["events"] for row in plan["rows"]) == 4
    first = (project / "log.jsonl").read_bytes()
    words = shlex.split(plan["reproducer"])[1:]
    run(*words, "--out", "again.jsonl")
    assert (project / "again.jsonl").read_bytes() == first


def test_a_job_of_the_project_gets_records_of_its_own_schema(run: Run, project: Path) -> None:
    name = next((project / "jobs").glob("*.py")).stem
    done = run("scenario", "late_tail", "--job", name, "--out", "log.jsonl", "--json")
    assert done.code == 0, done.err
    plan = json.loads(done.out)
    assert plan["job"] == name
    assert f"--job {name}" in plan["reproducer"]
    assert plan["expected"]["causes"]["late_dropped"]["events"] == 12


def test_the_command_gives_the_bytes_of_the_library(run: Run, project: Path) -> None:
    run("scenario", "poison", "--seed", "9", "--shape", "sliding", "--out", "log.jsonl")
    assert (project / "log.jsonl").read_bytes() == log_bytes(generate("poison", 9, BUILT_IN["sliding"]))
