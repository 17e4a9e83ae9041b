"""``twinrun batch --schedule``: three firings of a real batch, each over what was landed since the one before."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

import twinrun.cli.runs
from tests.integration.commands import on_session, run
from tests.integration.conftest import JOBS, click
from twinrun.results.records import RunSummary


@pytest.mark.slow
def test_three_firings_take_what_was_landed_and_sigterm_ends_the_schedule(make_world: Any, monkeypatch: Any) -> None:
    world = make_world()
    world.cfg()
    landed = [[click(minute * 60 + second) for second in (1, 2, 3)] for minute in range(3)]
    real, done = twinrun.cli.runs.batch_once, []

    def land_and_run(*arguments: Any) -> RunSummary:
        world.produce(landed[len(done)])
        world.ingest()
        done.append(real(*arguments))
        if len(done) == len(landed):
            os.kill(os.getpid(), signal.SIGTERM)
        return done[-1]

    world.produce([click(0)])
    world.ingest()
    monkeypatch.setattr(twinrun.cli.runs, "batch_once", land_and_run)
    usual = ("--json", "--conf", str(world.root / "conf" / "test.yaml"), "--set", "spark.master=local[2]")
    with on_session(world.spark):
        ended = run("batch", str(JOBS / "per_minute.py"), "--schedule", "* * * * * *", *usual)
    assert ended.code == 0, ended.err
    assert [json.loads(line)["events"] for line in ended.out.splitlines()] == [4, 3, 3]
    assert "3 run, 0 failed" in ended.err
    rows = pl.from_arrow(DeltaTable(world.table("batch")).to_pyarrow_table())
    assert isinstance(rows, pl.DataFrame)
    assert rows.sort("window_start")["clicks"].to_list() == [4, 3, 3]
