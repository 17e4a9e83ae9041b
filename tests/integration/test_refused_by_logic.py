"""One record stops both modes: line and record are named, it is left out of both, they agree; and it can come back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.commands import Ran, on_session, run
from tests.integration.conftest import JOBS, World, click
from twinrun.session.spark import _quiet_pyspark

JOB_FILE = JOBS / "price_per_part.py"
BAD = 6
"""Offset of the record without parts: in the second micro-batch of four."""
LINE = next(
    number for number, line in enumerate(JOB_FILE.read_text(encoding="utf-8").splitlines(), 1) if "/ F.col" in line
)


def priced(second: float, parts: int = 2, name: str | None = None) -> Any:
    return click(second, cents=300, parts=parts, name=name)


FIRST = [*[priced(n * 10) for n in range(BAD)], priced(65, 0, "no-parts"), priced(70), priced(300)]
MORE = [priced(310, name="good"), priced(311), priced(600), priced(601)]
GOOD = len(FIRST)


@pytest.fixture(scope="module")
def world(make_world: Any) -> Iterator[World]:
    world: World = make_world()
    _quiet_pyspark()  # as a session of a command does
    with on_session(world.spark):
        yield world


def command(world: World, name: str, *options: str, file: Path = JOB_FILE) -> Ran:
    world.cfg()  # writes the file
    sets = {"spark.master": "local[2]", **world.overrides}
    usual = [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
    return run(name, str(file), *options, "--json", "--conf", str(world.root / "conf" / "test.yaml"), *usual)


def found(world: World, name: str, *options: str) -> dict[str, Any]:
    done = command(world, name, *options)
    assert done.code == 0, done.out + done.err
    read: dict[str, Any] = json.loads(done.out)
    return read


def failed(world: World, name: str, *options: str, file: Path = JOB_FILE) -> str:
    done = command(world, name, *options, file=file)
    assert done.code == 2, done.out + done.err
    lines = [line for line in done.err.splitlines() if not line.startswith(("warning: ", "  instead: "))]
    assert lines[0].startswith("error: "), done.err
    assert "Exception" not in done.err
    assert "\tat " not in done.err
    return done.err


def names_the_record(world: World, said: str, doing: str) -> None:
    assert f"{doing} of price_per_part failed in line {LINE} of price_per_part.py: Division by zero" in said
    assert "Division by zero (DIVIDE_BY_ZERO). The function fails on this record alone: " in said
    assert f"topic {world.topic}, partition 0, offset {BAD}, event time 2013-01-06T10:01:05.000Z" in said
    assert 'id {"id":"no-parts"}' in said
    assert "Other records fail too" not in said
    assert f"twinrun quarantine price_per_part --add {world.topic}:0:{BAD} --why TEXT" in said
    assert "F.try_divide" in said


def test_the_stream_names_line_and_record(world: World) -> None:
    world.produce(FIRST)
    names_the_record(world, failed(world, "stream"), "the stream")


def test_before_anything_is_landed_nothing_can_be_left_out(world: World) -> None:
    said = failed(world, "quarantine", "--add", f"{world.topic}:0:{BAD}", "--why", "no parts")
    assert "twinrun ingest clicks" in said


def test_the_batch_names_line_and_record(world: World) -> None:
    found(world, "ingest")
    names_the_record(world, failed(world, "batch"), "the batch run")


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("{topic}:0:99", "there is no record {topic}:0:99 in bronze."),
        ("{topic}:3:0", "bronze has no partition 3 of {topic}."),
        ("{topic}:0:1", "has read {topic}:0:1 and has used it"),
    ],
)
def test_what_cannot_be_left_out_is_refused_with_its_reason(world: World, place: str, sentence: str) -> None:
    said = failed(world, "quarantine", "--add", place.format(topic=world.topic), "--why", "no parts")
    assert sentence.format(topic=world.topic) in said


def test_left_out_of_both_they_go_on_and_agree(world: World) -> None:
    place = f"{world.topic}:0:{BAD}"
    (entry,) = found(world, "quarantine", "--add", place, "--why", "parts is 0")["records"]
    assert (entry["why"], entry["event_time_ms"] % 60_000, entry["removed_at_ms"]) == ("parts is 0", 5_000, None)
    assert "is left out already" in failed(world, "quarantine", "--add", place, "--why", "again")
    stream = found(world, "stream")
    assert stream["details"]["checkpoint"].endswith("v1")
    assert (stream["events"], stream["quarantined"]) == (4, {"refused_by_logic": 1}), "of offsets 4 to 8"
    batch = found(world, "batch")
    assert (batch["events"], batch["quarantined"]) == (8, {"refused_by_logic": 1})
    verdict = found(world, "verify")
    assert (verdict["outcome"], verdict["rows_unexplained"], verdict["problems"]) == ("agree", 0, [])
    assert [(q["rule"], q["events"], q["reason"]) for q in verdict["quarantine"]] == [
        ("refused_by_logic", 1, "parts is 0")
    ]
    (audit,) = verdict["audits"]
    assert (audit["bronze_rows"], audit["valid_rows"], audit["quarantined_rows"], audit["ok"]) == (9, 8, 1, True)


@pytest.mark.slow
def test_another_job_still_has_it_and_fails_on_it_in_a_stream_of_updates(world: World) -> None:
    file = JOBS / "price_totals.py"
    said = failed(world, "stream", file=file)
    line = next(n for n, text in enumerate(file.read_text(encoding="utf-8").splitlines(), 1) if " div " in text)
    assert f"the stream of price_totals failed in line {line} of price_totals.py: Division by zero" in said
    assert f"this record alone: topic {world.topic}, partition 0, offset {BAD}, event time 2013-01-06T10:01:05" in said


@pytest.mark.slow
def test_a_record_that_both_leave_out_comes_back_to_the_batch_alone_and_the_cause_is_proven(world: World) -> None:
    world.produce(MORE)
    found(world, "ingest")
    place = f"{world.topic}:0:{GOOD}"
    found(world, "quarantine", "--add", place, "--why", "is looked at")
    found(world, "stream")
    found(world, "batch")
    both = found(world, "verify")
    assert (both["outcome"], [q["events"] for q in both["quarantine"]]) == ("agree", [2])
    (entry,) = found(world, "quarantine", "--remove", place)["records"]
    assert entry["passed"]
    found(world, "batch")
    verdict = found(world, "verify")
    assert (verdict["outcome"], verdict["rows_unexplained"]) == ("explained", 0)
    assert {cause["cause"]: cause["events"] for cause in verdict["causes"]} == {"quarantined": 1}
    assert [q["events"] for q in verdict["quarantine"]] == [1]
    listed = found(world, "quarantine", "--list")["records"]
    assert [(each["offset"], each["removed_at_ms"] is None) for each in listed] == [(BAD, True), (GOOD, False)]


@pytest.mark.slow
def test_a_record_that_fails_fails_the_batch_again_when_it_comes_back(world: World) -> None:
    place = f"{world.topic}:0:{BAD}"
    found(world, "quarantine", "--remove", place)
    assert "is not left out of price_per_part" in failed(world, "quarantine", "--remove", place)
    names_the_record(world, failed(world, "batch"), "the batch run")
    found(world, "quarantine", "--add", place, "--why", "parts is 0, still")
    found(world, "batch")
    assert found(world, "verify")["outcome"] == "explained"
