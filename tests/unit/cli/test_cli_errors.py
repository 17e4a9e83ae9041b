"""Errors are one block of plain words with an exit code, as text and as JSON, and never give a secret away."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

import twinrun.cli.jobs
from twinrun.errors import QueryError

CANARY = "canary-7f3a-do-not-print"


def fails(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def list_jobs(_: Any) -> None:
        raise error

    monkeypatch.setattr(twinrun.cli.jobs, "list_jobs", list_jobs)


def test_an_unknown_job_is_told_with_its_nearest_match(run: Any) -> None:
    done = run("batch", "frist_job")

    assert done.code == 2
    assert done.out == ""
    assert done.err == (
        "error: conf/local.yaml lists no job 'frist_job'\n"
        "  expected: one of first_job, or the path of a job file\n"
        "  to fix: write first_job\n"
    )


def test_the_same_error_as_json_is_all_that_standard_output_has(run: Any) -> None:
    done = run("batch", "frist_job", "--json")

    assert done.code == 2
    assert json.loads(done.out) == {
        "error": {
            "type": "JobError",
            "exit_code": 2,
            "found": "conf/local.yaml lists no job 'frist_job'",
            "expected": "one of first_job, or the path of a job file",
            "fix": "write first_job",
        }
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["vreify"], "No such command 'vreify'. Did you mean 'verify'?"),
        (["verify"], "Missing argument 'JOB'."),
        (["verify", "first_job", "--ful"], "--full"),
        (["verify", "first_job", "--wait", "-1"], "--wait"),
        (["broker"], "Missing command"),
        (["batch", "first_job", "--conf", "conf/none.yaml"], "conf/none.yaml cannot be read"),
        (["batch", "first_job", "--set", "stream.triger=x"], "stream.trigger"),
        (["batch", "jobs/none.py"], "there is no job file jobs/none.py"),
        (["jobs", "shwo", "first_job"], "jobs has no command 'shwo first_job'"),
        (["produce"], "either --dataset or --file"),
        (["produce", "--file", "data/orders.jsonl"], "--file needs --topic and --key-field"),
        (["produce", "--dataset", "flights", "--day", "6 January"], "'6 January' is not a day"),
        (["produce", "--dataset", "flights", "--key-field", "x"], "belong to --file"),
        (["produce", "--dataset", "flights", "--in-order"], "belong to --file"),
        (
            ["produce", "--file", "x.csv", "--topic", "t", "--key-field", "k", "--in-order"],
            "--in-order needs --time-field",
        ),
        (["ingest", "order"], "write orders"),
        (["requeue", "orders", "--rule", "not_jsno"], "write not_json"),
        (["requeue", "orders", "--rule", "refused_by_logic"], "twinrun quarantine JOB --remove"),
        (["quarantine", "first_job"], "one of --add, --remove and --list"),
        (["quarantine", "first_job", "--list", "--remove", "orders:0:1"], "one of --add, --remove and --list"),
        (["quarantine", "first_job", "--add", "orders:0:1"], "--add has no --why"),
        (["quarantine", "first_job", "--add", "orders:0:1", "--why", " "], "--add has no --why"),
        (["quarantine", "first_job", "--add", "orders:0", "--why", "x"], "'orders:0' names no record"),
        (["quarantine", "first_job", "--add", "orders:0:-1", "--why", "x"], "TOPIC:PARTITION:OFFSET"),
        (["quarantine", "first_job", "--add", "orders:0:\u00b2", "--why", "x"], "TOPIC:PARTITION:OFFSET"),
        (["quarantine", "first_job", "--add", "order:0:1", "--why", "x"], "write orders"),
        (["quarantine", "first_job", "--add", "orders:0:1", "--why", "x"], "twinrun ingest orders"),
        (["quarantine", "first_job", "--remove", "orders:0:1", "--why", "x"], "belong to --add"),
        (["quarantine", "first_job", "--list"], "twinrun batch first_job"),
        (["stream", "first_job", "--from", "latest"], "give --new-checkpoint"),
        (["stream", "first_job", "--new-checkpoint", "--from", "2013-01-06"], "is not a time with a zone"),
        (["batch", "first_job", "--schedule", "61 * * * *"], "the schedule '61 * * * *' cannot be used"),
        (["compare", "a", "b", "--keys", "k", "--ready-until", "2013-01-06T00:00:00Z"], "name it: --window COL"),
        (["compare", "a/b", "c/d", "--keys", "k", "--tolerance", "x"], "--tolerance 'x' cannot be read"),
        (["compare", "a/b", "c/d", "--keys", "k", "--tolerance", "x=rel:2"], "a share in [0, 1)"),
        (["compare", "a/b", "c/d", "--keys", "k"], "there is no table at a/b"),
        (["report", "first_job"], "make one: twinrun verify first_job"),
    ],
)
def test_bad_input_is_refused_in_words_before_spark_starts(
    arguments: list[str], words: str, run: Any, spark: Any
) -> None:
    done = run(*arguments)

    assert done.code == 2
    assert words in done.err
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err
    assert done.out == ""
    assert spark.started == []


def test_an_unexpected_error_is_one_sentence(run: Any, monkeypatch: Any) -> None:
    fails(monkeypatch, ZeroDivisionError("division by zero"))

    done = run("jobs")

    assert done.code == 2
    assert done.err == (
        "error: something unexpected happened (ZeroDivisionError: division by zero).\n"
        "  to fix: run the same command with --debug to see where, and report it\n"
    )


def test_debug_shows_where(run: Any, monkeypatch: Any) -> None:
    fails(monkeypatch, ZeroDivisionError("division by zero"))

    assert "Traceback (most recent call last)" in run("jobs", "--debug").err
    monkeypatch.setenv("TWINRUN_DEBUG", "1")
    assert "Traceback (most recent call last)" in run("jobs").err


def test_a_full_disk_and_an_error_of_spark_are_told_apart(run: Any, monkeypatch: Any) -> None:
    from pyspark.errors import PySparkRuntimeError

    fails(monkeypatch, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert "The disk is full." in run("jobs").err
    fails(monkeypatch, PermissionError(errno.EACCES, "Permission denied", "/data/x"))
    assert "/data/x cannot be used: Permission denied." in run("jobs").err
    fails(monkeypatch, PySparkRuntimeError("Caused by: java.lang.IllegalStateException: no more\n\tat org.apache.Foo"))
    done = run("jobs")
    assert "no more" in done.err
    assert "org.apache" not in done.err


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_an_interrupt_is_130(run: Any, monkeypatch: Any, as_json: list[str]) -> None:
    fails(monkeypatch, KeyboardInterrupt())

    done = run("jobs", *as_json)

    assert done.code == 130
    assert done.err.startswith("interrupted: ")
    if as_json:
        assert json.loads(done.out)["error"]["exit_code"] == 130


@pytest.fixture
def secret(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", CANARY)
    conf = project / "conf/local.yaml"
    text = conf.read_text(encoding="utf-8")
    options = "\n  options:\n    sasl.username: me\n    sasl.password: ${env:MY_SECRET}\n\nwarehouse"
    conf.write_text(text.replace("\n\nwarehouse", options), encoding="utf-8")


@pytest.mark.usefixtures("secret")
@pytest.mark.parametrize("error", [QueryError, ValueError, RuntimeError])
def test_a_secret_in_an_error_is_masked_everywhere(run: Any, monkeypatch: Any, error: type[Exception]) -> None:
    fails(monkeypatch, error(f"login with {CANARY} failed"))

    done = run("jobs", "--json", "--debug")

    assert done.code == 2
    assert "(redacted)" in done.err
    assert "(redacted)" in json.loads(done.out)["error"]["found"]
    assert CANARY not in done.err + done.out


@pytest.mark.usefixtures("secret")
def test_the_canary_would_be_seen_without_the_mask(run: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("twinrun.cli.output.redact_text", lambda text, _: text)
    fails(monkeypatch, QueryError(f"login with {CANARY} failed"))

    assert CANARY in run("jobs").err


def test_a_text_that_would_steer_the_terminal_becomes_visible(run: Any, monkeypatch: Any) -> None:
    fails(monkeypatch, QueryError("bad value \x1b[2J\x1b]0;owned\x07 and \u202e\r"))

    done = run("jobs", "--json")

    assert "\x1b" not in done.err + done.out
    assert "\\x1b[2J" in done.err
    assert "\\u202e" in done.err
    assert json.loads(done.out)["error"]["found"].startswith("bad value \x1b[2J")
