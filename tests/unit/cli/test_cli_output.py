"""What is printed where: one JSON document, strict, whatever else the process prints."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest

from twinrun.cli.live import _EVERY_S, QUIET_S, progress_text, step
from twinrun.cli.output import Output, columns, standard_output
from twinrun.results.records import Progress


def test_the_document_is_strict_json() -> None:
    stream = StringIO()
    payload = {"n": float("nan"), "inf": -float("inf"), "path": os, 3: (1, None, True), "esc": "\x1b[31mred"}

    Output(stream, as_json=True).result(payload, ["never shown"])

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    found = json.loads(stream.getvalue(), parse_constant=refuse)
    assert (found["n"], found["inf"], found["3"]) == ("nan", "-inf", [1, None, True])
    assert "\x1b" not in stream.getvalue()


def test_masking_keeps_the_document_whole() -> None:
    stream = StringIO()
    out = Output(stream, as_json=True)
    out.secrets = ('quo"te',)

    out.result({"password": 'quo"te', "text": 'password="quo"te"'}, [])

    assert json.loads(stream.getvalue())["password"] == "(redacted)"
    assert "quo" not in stream.getvalue()


def test_lines_are_text_without_markup_and_never_wrapped() -> None:
    stream = StringIO()

    Output(stream).result({}, ["[red]" + "x" * 300 + "[/red] :smile:"])

    assert stream.getvalue() == "[red]" + "x" * 300 + "[/red] :smile:\n"


def test_with_json_all_other_prints_go_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    with standard_output(only_json=True) as stream:
        print("a job file prints")
        os.write(1, b"Java prints\n")
        Output(stream, as_json=True).result({"a": 1}, [])
    print("after")
    sys.stdout.flush()

    out, err = capfd.readouterr()
    assert out == '{\n  "a": 1\n}\nafter\n'
    assert "a job file prints" in err
    assert "Java prints" in err


def test_without_json_prints_stay_where_they_are(capfd: pytest.CaptureFixture[str]) -> None:
    with standard_output(only_json=False) as stream:
        os.write(1, b"Java prints\n")
        assert stream is sys.stdout

    assert capfd.readouterr().out == "Java prints\n"


@pytest.fixture
def closed_pipe() -> Iterator[Any]:
    """A stream whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        yield stream


@pytest.mark.parametrize("as_json", [True, False])
def test_a_reader_that_has_gone_changes_nothing(closed_pipe: Any, as_json: bool) -> None:
    out = Output(closed_pipe, as_json=as_json)

    out.result({"a": "x" * 100_000}, ["x" * 100_000])
    out.result({"a": 1}, ["more"])


def test_an_event_is_one_line_of_json() -> None:
    stream = StringIO()
    out = Output(stream, as_json=True)

    out.event({"a": 1}, "one")
    out.event({"a": 2}, "two")

    assert [json.loads(line)["a"] for line in stream.getvalue().splitlines()] == [1, 2]


def test_columns_are_aligned() -> None:
    assert columns([("a", "bb", "c"), ("aaa", "b", "")]) == ["  a    bb  c", "  aaa  b"]
    assert columns([]) == []


def test_progress_is_quiet_where_standard_error_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("twinrun.cli.live.QUIET_S", 0.0)

    with step(Output(sys.stdout), "working") as say:
        say("half")

    assert capsys.readouterr() == ("", "")


def test_what_takes_long_is_shown_within_five_seconds_and_anew_at_least_as_often() -> None:
    assert QUIET_S + _EVERY_S < 5


@pytest.mark.parametrize(("quiet_s", "shown"), [(0.0, True), (30.0, False)])
def test_on_a_terminal_a_long_step_is_shown_and_a_short_one_is_not(
    monkeypatch: pytest.MonkeyPatch, quiet_s: float, shown: bool
) -> None:
    import time

    from rich.console import Console

    monkeypatch.setattr("twinrun.cli.live.QUIET_S", quiet_s)
    monkeypatch.setattr("twinrun.cli.live._EVERY_S", 0.01)
    screen = StringIO()
    out = Output(sys.stdout)
    out.errors = Console(file=screen, force_terminal=True, width=200)

    with step(out, "working") as say:
        say("half [bold]of it \x1b[2J")
        time.sleep(0.5)

    assert ("half [bold]of it \\x1b[2J" in screen.getvalue()) == shown


def test_progress_in_words() -> None:
    assert progress_text(Progress(12, 1440, "2013-01-06T10:00:00.000Z")) == (
        "micro-batch 12, 1,440 records, watermark 2013-01-06T10:00:00.000Z"
    )
    assert progress_text(Progress(-1, 0, None)) == "0 records"
