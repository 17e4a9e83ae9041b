"""Schedules: overlap, misfire and retry by a clock of the test's own; and the command ``twinrun schedule``."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

import twinrun.cli.inputs
import twinrun.cli.lint
import twinrun.cli.runs
import twinrun.cli.schedule
from twinrun.config.cron import read_cron
from twinrun.errors import BrokerError
from twinrun.results.records import RunSummary

schedule: Any = importlib.import_module("twinrun.batch.schedule")
EVERY_SECOND = read_cron("* * * * * *", seconds=True)
TEN = datetime(2024, 1, 1, 10, tzinfo=UTC)


def at(hour: int, minute: int, second: int = 0) -> datetime:
    return TEN.replace(hour=hour, minute=minute, second=second)


@dataclass
class FakeClock:
    """Stands still but for what waits for it and what is run; may sleep over a time once it is waited for."""

    time: datetime = TEN
    sleeps: dict[datetime, datetime] = field(default_factory=dict)

    def now(self) -> datetime:
        return self.time

    def wait(self, until: datetime, stop: threading.Event) -> None:
        woken = next((woken for asleep, woken in self.sleeps.items() if self.time <= asleep < until < woken), until)
        self.time = max(self.time, woken)


@dataclass
class World:
    """A schedule that is run on a clock of its own: what was run when, and what was told."""

    clock: FakeClock = field(default_factory=FakeClock)
    begun: list[tuple[str, datetime]] = field(default_factory=list)
    told: list[Any] = field(default_factory=list)
    now_running: list[str] = field(default_factory=list)

    def job(self, name: str, cron: str, takes: Callable[[int], timedelta], fails: tuple[int, ...] = ()) -> Any:
        count = itertools.count(1)

        def run() -> None:
            assert self.now_running == []
            self.now_running.append(name)
            self.begun.append((name, self.clock.time))
            number = next(count)
            self.clock.time += takes(number)
            self.now_running.remove(name)
            if number in fails:
                raise ValueError(f"run {number}")

        return schedule.Planned(name, read_cron(cron), run)

    def run(self, *jobs: Any, runs: int, **options: Any) -> Any:
        return schedule.run_schedule(
            jobs, stop=threading.Event(), clock=self.clock, tell=self.told.append, max_runs=runs, **options
        )

    def kinds(self) -> list[tuple[str, str, int]]:
        return [(each.kind, each.name, each.count) for each in self.told]


def minutes(count: float) -> Callable[[int], timedelta]:
    return lambda _: timedelta(minutes=count)


def test_runs_begin_when_they_are_due() -> None:
    world = World()

    done = world.run(world.job("a", "*/15 * * * *", minutes(1)), runs=3)

    assert world.begun == [("a", at(10, 15)), ("a", at(10, 30)), ("a", at(10, 45))]
    assert world.told == []
    assert done == schedule.ScheduleSummary(3, 0, 0, 0)


def test_what_a_run_outlasts_is_left_out_and_told() -> None:
    world = World()

    done = world.run(world.job("a", "*/15 * * * *", lambda n: timedelta(minutes=40 if n == 1 else 1)), runs=2)

    # Begun at 10:15, it ends at 10:55: the firings of 10:30 and 10:45 are left out.
    assert world.begun == [("a", at(10, 15)), ("a", at(11, 0))]
    assert world.kinds() == [("overlap", "a", 2)]
    assert (world.told[0].at, world.told[0].next_at) == (at(10, 30), at(11, 0))
    assert done == schedule.ScheduleSummary(2, 0, 2, 0)


def test_of_three_firings_that_a_machine_slept_over_one_run_is_made() -> None:
    world = World(FakeClock(sleeps={at(10, 10): at(10, 50)}))
    world.clock.time = at(10, 5)

    done = world.run(world.job("a", "*/15 * * * *", minutes(1)), runs=2)

    assert world.begun == [("a", at(10, 50)), ("a", at(11, 0))]
    assert world.kinds() == [("missed", "a", 3)]
    assert world.told[0].at == at(10, 15)
    assert done == schedule.ScheduleSummary(2, 0, 0, 2)


def test_a_job_waits_for_another_one_and_its_passed_firings_are_run_as_one() -> None:
    world = World()
    long, short = world.job("long", "0 * * * *", minutes(40)), world.job("short", "*/15 * * * *", minutes(1))

    world.run(long, short, runs=6)

    # At 11:00 both are due: the one that stands first goes first, until 11:40.
    assert world.begun == [
        ("short", at(10, 15)),
        ("short", at(10, 30)),
        ("short", at(10, 45)),
        ("long", at(11, 0)),
        ("short", at(11, 40)),
        ("short", at(11, 45)),
    ]
    assert world.kinds() == [("missed", "short", 3)]


def test_a_run_that_fails_is_tried_again_after_the_pause_and_then_given_up() -> None:
    world = World()

    done = world.run(world.job("a", "0 * * * *", minutes(1), fails=(1, 2, 3)), runs=4, retries=2, retry_wait_s=60)

    assert world.begun == [("a", at(11, 0)), ("a", at(11, 2)), ("a", at(11, 4)), ("a", at(12, 0))]
    assert [(each.attempt, each.retried, each.next_at, each.at) for each in world.told] == [
        (1, True, at(11, 2), at(11, 0)),
        (2, True, at(11, 4), at(11, 0)),
        (3, False, at(12, 0), at(11, 0)),
    ]
    assert [str(each.error) for each in world.told] == ["run 1", "run 2", "run 3"]
    assert done == schedule.ScheduleSummary(4, 3, 0, 0)


def test_an_attempt_that_succeeds_ends_the_attempts() -> None:
    world = World()

    world.run(world.job("a", "0 * * * *", minutes(1), fails=(1, 3)), runs=4, retries=1, retry_wait_s=60)

    assert world.begun == [("a", at(11, 0)), ("a", at(11, 2)), ("a", at(12, 0)), ("a", at(12, 2))]
    assert [each.attempt for each in world.told] == [1, 1]


def test_the_next_firing_is_the_next_attempt_where_it_comes_first() -> None:
    world = World()

    world.run(world.job("a", "* * * * *", minutes(0.5), fails=(1, 2)), runs=3, retries=5, retry_wait_s=60)

    assert world.begun == [("a", at(10, 1)), ("a", at(10, 2)), ("a", at(10, 3))]
    assert [(each.attempt, each.retried) for each in world.told] == [(1, False), (1, False)]


def test_an_attempt_that_was_slept_over_is_the_run_of_the_firing_that_passed_meanwhile() -> None:
    world = World(FakeClock(sleeps={at(11, 1): at(13, 30)}))

    world.run(world.job("a", "0 * * * *", minutes(1), fails=(1,)), runs=3, retries=2, retry_wait_s=60)

    assert world.begun == [("a", at(11, 0)), ("a", at(13, 30)), ("a", at(14, 0))]
    assert world.kinds() == [("failed", "a", 1), ("missed", "a", 2)]
    assert world.told[1].at == at(12, 0)


def test_another_job_is_run_while_one_waits_for_its_next_attempt() -> None:
    world = World()
    failing, other = world.job("a", "0 * * * *", minutes(1), fails=(1,)), world.job("b", "5 * * * *", minutes(1))
    world.clock.time = at(10, 30)

    world.run(failing, other, runs=3, retries=2, retry_wait_s=600)

    assert world.begun == [("a", at(11, 0)), ("b", at(11, 5)), ("a", at(11, 11))]


def test_three_firings_one_second_apart_by_the_clock_of_the_machine() -> None:
    began: list[float] = []
    planned = [schedule.Planned("a", EVERY_SECOND, lambda: began.append(time.time()))]

    done = schedule.run_schedule(planned, stop=threading.Event(), max_runs=3)

    assert (done.fired, done.failed, done.refused) == (3, 0, 0)
    # On a busy machine a firing may be late, and two that are late are run as one.
    assert all(later - earlier > 0.5 for earlier, later in itertools.pairwise(began))


def test_stop_waits_for_the_run_of_that_moment_and_begins_no_other() -> None:
    stop = threading.Event()
    ended: list[bool] = []

    def run() -> None:
        stop.set()
        time.sleep(0.3)
        ended.append(True)

    done = schedule.run_schedule([schedule.Planned("a", EVERY_SECOND, run)], stop=stop)

    assert ended == [True]
    assert done.fired == 1


def test_a_run_that_fails_while_the_schedule_ends_is_told_without_a_next_one() -> None:
    stop, told = threading.Event(), list[Any]()

    def run() -> None:
        stop.set()
        raise ValueError("cut off")

    planned = [schedule.Planned("a", EVERY_SECOND, run)]
    done = schedule.run_schedule(planned, stop=stop, retries=2, tell=told.append)

    assert done == schedule.ScheduleSummary(1, 1, 0, 0)
    assert [(each.kind, each.next_at, str(each.error)) for each in told] == [("failed", None, "cut off")]
    assert twinrun.cli.runs.happening_line(told[0], 2).endswith(
        "(ValueError: cut off).\n  to fix: run the same command "
        "with --debug to see where, and report it\n  the schedule was ended meanwhile"
    )


def test_a_run_that_a_stop_comes_before_is_not_counted() -> None:
    stop = threading.Event()

    def run() -> bool:
        stop.set()
        return False

    done = schedule.run_schedule([schedule.Planned("a", EVERY_SECOND, run)], stop=stop)

    assert done == schedule.ScheduleSummary(0, 0, 0, 0)


def test_a_signal_between_two_runs_tells_of_no_run_that_did_nothing(
    run: Any, project: Path, quick: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned_in(project, first_job={"schedule": "* * * * *"})

    def describe_topic(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)  # the thread that takes the signal looks five times a second

    monkeypatch.setattr(twinrun.cli.inputs, "describe_topic", describe_topic)

    done = run("schedule", "--json")

    assert (done.code, done.out, quick) == (0, "", [])
    assert "schedule ended: 0 run, 0 failed, 0 refused" in done.err


def test_stop_ends_a_long_wait_at_once() -> None:
    stop = threading.Event()
    timer = threading.Timer(0.2, stop.set)
    timer.start()
    began = time.monotonic()

    done = schedule.run_schedule([schedule.Planned("a", read_cron("0 0 1 1 *"), lambda: None)], stop=stop)

    assert done == schedule.ScheduleSummary(0, 0, 0, 0)
    assert time.monotonic() - began < 5


# The command.


def planned_in(project: Path, **jobs: Any) -> None:
    file = project / "conf/local.yaml"
    conf = yaml.safe_load(file.read_text(encoding="utf-8"))
    conf["jobs"] = {name: {"path": "jobs/first_job.py", **more} for name, more in jobs.items()}
    file.write_text(yaml.safe_dump(conf), encoding="utf-8")


@pytest.mark.parametrize(
    ("jobs", "words", "says"),
    [
        ({"first_job": {}}, (), ("no job of conf/local.yaml has a schedule", "schedule: '5 * * * *'")),
        ({"first_job": {"schedule": "hourly"}}, (), ("line", "cannot be used: it has 1 field", "write '0 * * * *'")),
        ({"first_job": {"schedule": "5 * * * *"}}, ("frist_job",), ("no job 'frist_job'", "write first_job")),
        ({"a": {"schedule": "5 * * * *"}, "b": {}}, ("b",), ("the job b has no schedule", "jobs.b.schedule")),
        ({"a": {"schedule": "5 * * * *", "path": "jobs/gone.py"}}, (), ("gone.py",)),
        ({"a": {"schedule": "5 * * * *"}}, ("--out", "x"), ("--out and --image belong to --emit",)),
        ({"a": {"schedule": "5 * * * *"}}, ("--emit", "cron"), ("--emit cron needs --out",)),
        ({"a": {"schedule": "5 * * * *"}}, ("--emit", "k8s", "--out", "x"), ("--emit k8s needs --image",)),
        ({"a": {"schedule": "5 * * * *"}}, ("--emit", "corn", "--out", "x"), ("corn",)),
    ],
)
def test_what_cannot_be_scheduled_is_refused_before_spark_starts(
    jobs: dict[str, Any], words: tuple[str, ...], says: tuple[str, ...], run: Any, spark: Any, project: Path
) -> None:
    planned_in(project, **jobs)

    done = run("schedule", *words)

    assert done.code == 2
    assert spark.started == []
    assert [text for text in says if text not in done.err] == []
    assert not (project / "x").exists()


@pytest.fixture
def quick(spark: Any, monkeypatch: pytest.MonkeyPatch, project: Path) -> list[tuple[str, str]]:
    """Every minute is a second; the runners note their calls; nothing is asked of a broker."""
    calls: list[tuple[str, str]] = []
    (project / ".data/warehouse/bronze/orders").mkdir(parents=True)

    def runner(module: str) -> Any:
        def ingest(spark: Any, cfg: Any, source: Any, stop: Any, on_progress: Any = None) -> RunSummary:
            calls.append(("ingest", source.name))
            return RunSummary("ingest", source.name, "r1", 60, "/t", 3, 6)

        return ingest

    def batch_once(spark: Any, cfg: Any, job: Any, full: bool, stop: Any) -> RunSummary:
        calls.append(("batch", job.job_name))
        return RunSummary("batch", job.job_name, "r1", 60, "/t", 3)

    monkeypatch.setattr(twinrun.cli.runs, "runner", runner)
    monkeypatch.setattr(twinrun.cli.runs, "batch_once", batch_once)
    monkeypatch.setattr(twinrun.cli.schedule, "warn_before_first_run", lambda *_: None)
    monkeypatch.setattr(twinrun.cli.inputs, "describe_topic", lambda *_: None)
    monkeypatch.setattr(
        twinrun.cli.schedule, "read_cron", lambda text: EVERY_SECOND if text == "* * * * *" else read_cron(text)
    )
    return calls


def ended_after(calls: list[tuple[str, str]], count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    once = twinrun.cli.runs.batch_once

    def batch_once(*arguments: Any) -> RunSummary:
        done = once(*arguments)
        if len(calls) >= count:
            os.kill(os.getpid(), signal.SIGTERM)
        return done

    monkeypatch.setattr(twinrun.cli.runs, "batch_once", batch_once)


def test_each_run_is_an_ingest_and_a_batch_in_one_session_and_sigterm_ends_it_in_order(
    run: Any, spark: Any, project: Path, quick: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned_in(project, first_job={"schedule": "* * * * *"}, later={"schedule": "0 0 1 1 *"}, never={})
    ended_after(quick, 4, monkeypatch)

    done = run("schedule", "--json")

    assert done.code == 0
    assert quick == [("ingest", "orders"), ("batch", "first_job")] * 2
    assert len(spark.started) == spark.stopped == 1
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [(line["event"], line["job"]) for line in lines] == [("run", "first_job")] * 2
    assert [each["mode"] for each in lines[0]["runs"]] == ["ingest", "batch"]
    assert "2 jobs by schedule (UTC)" in done.err
    assert "never" not in done.err
    listed = {each["name"]: each["schedule"] for each in json.loads(run("jobs", "--json").out)["jobs"]}
    assert listed == {"first_job": "* * * * *", "later": "0 0 1 1 *", "never": None}
    assert "schedule ended: 2 run, 0 failed, 0 refused" in done.err


def test_with_a_running_ingest_a_run_is_a_batch_alone_and_that_is_told(
    run: Any, project: Path, quick: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned_in(project, first_job={"schedule": "* * * * *"})
    ended_after(quick, 1, monkeypatch)

    done = run("schedule", "--set", "stream.trigger=processing-time")

    assert (done.code, quick) == (0, [("batch", "first_job")])
    assert "stream.trigger is processing-time" in done.err


def test_a_failure_of_any_kind_is_told_in_words_and_the_schedule_goes_on(
    run: Any, project: Path, quick: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned_in(project, first_job={"schedule": "* * * * *"})
    ended_after(quick, 6, monkeypatch)
    failures = [BrokerError("No Kafka broker answers at x."), ZeroDivisionError("by zero")]

    def describe_topic(*_: Any) -> None:
        if failures:
            quick.append(("failed", ""))
            raise failures.pop(0)

    monkeypatch.setattr(twinrun.cli.inputs, "describe_topic", describe_topic)

    done = run("schedule", "first_job", "--json")

    assert done.code == 0
    assert "first_job failed (attempt 1 of 3): No Kafka broker answers at x.\n  the next firing is at 20" in done.err
    assert "something unexpected happened (ZeroDivisionError: by zero)" in done.err
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [line["event"] for line in lines] == ["failed", "failed", "run", "run"]
    assert lines[0]["error"] == {"type": "BrokerError", "found": "No Kafka broker answers at x."}
    assert "schedule ended: 4 run, 2 failed" in done.err
    assert "Traceback" not in done.err
