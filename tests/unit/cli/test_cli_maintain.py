"""maintain refuses what cannot work before Spark starts, tells each step, and ends between two of them."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

import twinrun.cli.maintain
import twinrun.maintain.expire
import twinrun.maintain.tidy
from twinrun.maintain.result import Expired, Tidied


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tidy", "--table", "bronce"), "write bronze"),
        (("tidy",), "there is no table at"),
        (("expire", "--keep-days", "0"), "--keep-days"),
        (("expire", "--keep-days", "30"), "there is no table at"),
        (("erase", "first_job", "--key", "id"), "--key is no field and value"),
        (("erase", "first_job", "--key", "id="), "--key is no field and value"),
        (("erase", "first_jbo", "--key", "id=1"), "first_job"),
        (("erase", "first_job", "--key", "id=1"), "there is no table at"),
    ],
)
def test_what_makes_no_sense_or_has_no_warehouse(words: tuple[str, ...], said: str, run: Any, spark: Any) -> None:
    done = run("maintain", *words)
    assert (done.code, spark.started) == (2, [])
    assert said in done.err


def test_each_step_that_changes_tables_is_told_and_none_is_begun_after_a_signal(
    run: Any, spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table whose work a signal cut off would be told as left alone, and the next one begun."""
    signals: list[int] = []

    def tidy(*_: Any, apply: bool, only: tuple[str, ...], on_table: Any) -> Tidied:
        on_table("bronze at /wh/bronze/clicks")
        on_table("bronze at /wh/bronze/clicks: 2 files compacted, 3 removed")
        for number in signals:
            os.kill(os.getpid(), number)
            assert spark.sparkContext.cancelled.wait(5)
        on_table("events at /wh/events/clicks")
        return Tidied(apply, ())

    def expire(*_: Any, apply: bool, on_step: Any) -> Expired:
        on_step("topic clicks")
        return Expired(apply, 30, 0, ())

    monkeypatch.setattr(twinrun.cli.maintain, "_need_warehouse", lambda _: None)
    monkeypatch.setattr(twinrun.maintain.tidy, "tidy", tidy)
    monkeypatch.setattr(twinrun.maintain.expire, "expire", expire)
    steps = [
        "bronze at /wh/bronze/clicks",
        "bronze at /wh/bronze/clicks: 2 files compacted, 3 removed",
        "events at /wh/events/clicks",
    ]
    assert run("maintain", "tidy", "--apply").err.splitlines() == steps
    assert run("maintain", "tidy").err == ""
    assert run("maintain", "expire", "--keep-days", "30", "--apply").err.splitlines() == ["topic clicks"]
    signals.append(signal.SIGTERM)
    ended = run("maintain", "tidy", "--apply")
    said = "interrupted: the command was ended before it was done; what was committed stays"
    assert (ended.code, ended.err.splitlines()) == (130, [*steps[:2], said])
