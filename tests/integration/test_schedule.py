"""``twinrun batch --schedule`` and ``twinrun schedule``: real runs, each over what came since the one before."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

import twinrun.cli.runs
import twinrun.cli.schedule
from tests.integration.commands import on_session, run
from tests.integration.conftest import JOBS, click
from twinrun.config.cron import read_cron
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
    # A batch takes longer than the second after which the next one is due: that is told between the runs.
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [line["events"] for line in lines if "mode" in line] == [4, 3, 3]
    assert {line["event"] for line in lines if "mode" not in line} <= {"overlap", "missed"}
    assert "3 run, 0 failed" in ended.err
    rows = pl.from_arrow(DeltaTable(world.table("batch")).to_pyarrow_table())
    assert isinstance(rows, pl.DataFrame)
    assert rows.sort("window_start")["clicks"].to_list() == [4, 3, 3]


@pytest.mark.slow
def test_a_schedule_of_two_jobs_ingests_and_batches_each_in_one_session(make_world: Any, monkeypatch: Any) -> None:
    world = make_world()
    world.cfg()
    landed = [[click(minute * 60 + second) for second in (1, 2, 3)] for minute in range(3)]
    real, done = twinrun.cli.runs.batch_once, []

    def batch_and_send(*arguments: Any) -> RunSummary:
        done.append(real(*arguments))
        if len(done) < len(landed):
            world.produce(landed[len(done)])
        elif {each.name for each in done} == {"per_minute", "once_per_minute"}:
            os.kill(os.getpid(), signal.SIGTERM)
        return done[-1]

    world.produce(landed[0])
    monkeypatch.setattr(twinrun.cli.runs, "batch_once", batch_and_send)
    every_second = read_cron("* * * * * *", seconds=True)
    monkeypatch.setattr(twinrun.cli.schedule, "read_cron", lambda _: every_second)
    jobs = [
        text
        for job in ("per_minute", "once_per_minute")
        for text in ("--set", f"jobs.{job}.path={JOBS / job}.py", "--set", f"jobs.{job}.schedule='* * * * *'")
    ]
    conf = ("--conf", str(world.root / "conf" / "test.yaml"), "--set", "spark.master=local[2]")
    with on_session(world.spark):
        ended = run("schedule", "--json", *conf, *jobs)
    assert ended.code == 0, ended.err
    runs = [json.loads(line) for line in ended.out.splitlines()]
    runs = [each for each in runs if each["event"] == "run"]
    # The last of them may have been stopped between its ingest and its batch.
    modes = [[part["mode"] for part in each["runs"]] for each in runs]
    assert modes[:-1] == [["ingest", "batch"]] * (len(runs) - 1)
    assert modes[-1] in (["ingest", "batch"], ["ingest"])
    assert {each["job"] for each in runs} == {"per_minute", "once_per_minute"}
    assert f"{len(runs)} run, 0 failed" in ended.err
    # Three sendings of three clicks each, and every one of them stands in a result.
    batches = [part for each in runs for part in each["runs"] if part["mode"] == "batch"]
    first = [part["events"] for part in batches if part["name"] == "per_minute"]
    assert sum(first) in (6, 9)
    rows = pl.from_arrow(DeltaTable(world.table("batch")).to_pyarrow_table())
    assert isinstance(rows, pl.DataFrame)
    assert rows["clicks"].sum() == sum(first)
