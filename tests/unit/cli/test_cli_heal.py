"""heal and history refuse what cannot work before Spark starts."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize("command", ["heal", "history"])
def test_without_a_ledger_there_is_nothing_to_ask(command: str, run: Any, spark: Any) -> None:
    done = run(command, "first_job")
    assert done.code == 2
    assert "there is no table at" in done.err
    assert "twinrun verify first_job" in done.err
    assert spark.started == []


@pytest.mark.parametrize("command", ["heal", "history"])
def test_an_unknown_job_is_named(command: str, run: Any, spark: Any) -> None:
    done = run(command, "first_jbo")
    assert (done.code, spark.started) == (2, [])
    assert "first_job" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("heal", "first_job", "--apply", "--undo"), "--apply and --undo exclude each other"),
        (("history", "first_job", "--since", "yesterday"), "--since 'yesterday' is not a time with a zone"),
        (("history", "first_job", "--min-completeness", "99.9"), "--min-completeness"),
    ],
)
def test_options_that_make_no_sense(words: tuple[str, ...], said: str, run: Any, spark: Any) -> None:
    done = run(*words)
    assert (done.code, spark.started) == (2, [])
    assert said in done.err
