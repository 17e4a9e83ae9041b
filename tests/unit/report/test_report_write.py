"""Three files, each whole or not there; JSON strict and complete."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from factory import differ, explained

from twinrun.errors import MachineError
from twinrun.report import write
from twinrun.report.json_ import render_json
from twinrun.report.write import write_report
from twinrun.results.verdict import SCHEMA_VERSION


def test_three_files_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    found = write_report(explained(), folder)
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json", "report.md"]
    assert found.html.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert json.loads(found.json.read_text(encoding="utf-8"))["job"] == "departures_per_hour"
    assert found.markdown.read_text(encoding="utf-8").startswith("# EXPLAINED")


def test_second_report_replaces_the_first(tmp_path: Path) -> None:
    write_report(explained(), tmp_path)
    found = write_report(differ(), tmp_path)
    assert found.markdown.read_text(encoding="utf-8").startswith("# DIFFER")
    assert len(list(tmp_path.iterdir())) == 3


def test_a_failure_leaves_the_old_files_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = write_report(explained(), tmp_path).json.read_text(encoding="utf-8")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write.os, "fsync", full)
    with pytest.raises(MachineError, match="No space left on device"):
        write_report(differ(), tmp_path)
    assert (tmp_path / "report.json").read_text(encoding="utf-8") == before
    assert len(list(tmp_path.iterdir())) == 3


def test_a_file_in_the_way_is_said_plainly(tmp_path: Path) -> None:
    blocked = tmp_path / "report"
    blocked.write_text("mine")
    with pytest.raises(MachineError, match="cannot be written") as caught:
        write_report(explained(), blocked)
    assert caught.value.fix
    assert blocked.read_text() == "mine"


def test_json_is_the_verdict_in_its_order() -> None:
    read = json.loads(render_json(explained()))
    assert next(iter(read)) == "schema_version"
    assert read["schema_version"] == SCHEMA_VERSION
    assert list(read)[1:] == list(explained().to_dict())[1:]
    assert read["cut"]["sources"][0]["end"] == {"0": 2061, "1": 1998, "2": 2059}
    assert read["late_events"][0]["id"] == explained().late_events[0].id
    assert render_json(explained()) == render_json(explained())


@pytest.mark.parametrize(
    ("cell", "text"), [(float("nan"), "NaN"), (float("inf"), "Infinity"), (float("-inf"), "-Infinity")]
)
def test_json_has_no_number_that_json_has_not(cell: float, text: str) -> None:
    sample = replace(explained().samples[0], batch={"mean": cell, "deep": [{"x": cell}]})
    rendered = render_json(replace(explained(), samples=(sample,)))
    read = json.loads(rendered, parse_constant=pytest.fail)
    assert read["samples"][0]["batch"] == {"mean": text, "deep": [{"x": text}]}


def test_json_keeps_every_digit() -> None:
    sample = replace(explained().samples[0], batch={"big": 2**53 + 1, "sum": 0.1 + 0.2, "none": None})
    read = json.loads(render_json(replace(explained(), samples=(sample,))))
    assert read["samples"][0]["batch"] == {"big": 9007199254740993, "sum": 0.30000000000000004, "none": None}
