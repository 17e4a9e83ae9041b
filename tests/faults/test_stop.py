"""Two starts at the same moment, and SIGTERM: one run at a time, and each ends in order."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from typing import Any

import polars as pl
import psutil
import pytest

from tests.faults.command import Command, gone
from tests.faults.kill import kill_at, kill_java
from tests.faults.site import PER_MICRO_BATCH, Site, require_clean, wait_until

SIGTERM_LIMIT_S = 30
JOB = "per_minute"


@pytest.mark.slow
def test_of_two_starts_at_once_one_wins_and_sigterm_ends_it_in_order(make_site: Any) -> None:
    site = make_site()
    site.send(200)
    winner = one_of_two(site)
    ended = site.sink("stream", JOB).facts()
    # At most the micro-batch that was cut off is open; the run was ended at work, not at its end.
    assert 0 <= ended.committed <= ended.planned <= ended.committed + 1 < 200 // PER_MICRO_BATCH
    leases = lease_records(site)
    assert {lease["owner"]["pid"] for lease in leases} == {winner}
    assert leases[-1]["released"]


@pytest.mark.slow
def test_of_two_starts_on_a_lease_left_by_a_killed_run_one_wins(make_site: Any) -> None:
    site = make_site()
    site.send(200)
    with site.start("stream", JOB, keep=True) as killed:
        kill_at("after_the_version", killed, site.sink("stream", JOB))
    assert not lease_records(site)[-1]["released"]
    winner = one_of_two(site)
    assert [lease["owner"]["pid"] for lease in lease_records(site)] == [killed.pid, winner, winner]


def one_of_two(site: Site) -> int:
    """Start a stream twice at once; exactly one runs, and SIGTERM ends it. Returns its process id."""
    with site.start("stream", JOB, keep=True) as one, site.start("stream", JOB, keep=True) as two:
        wait_until(lambda: any(each.process.poll() is not None for each in (one, two)), None)
        winner, loser = (one, two) if two.process.poll() is not None else (two, one)
        refused = loser.ended_with(2)
        sentence = (
            rf"^error: stream:{JOB} is held by another run: process {winner.pid} on \S+ \(twinrun stream {JOB}\)\.$"
        )
        assert len(re.findall(sentence, refused.stderr, re.MULTILINE)) == 1, refused.stderr
        assert "Traceback" not in refused.stderr
        before = site.sink("stream", JOB).committed()
        wait_until(lambda: site.sink("stream", JOB).committed() > before, winner)
        stopped = terminate(winner)
        assert "stopped    by request; the next run continues" in stopped
        return winner.pid


def terminate(command: Command, codes: tuple[int, ...] = (0,)) -> str:
    """SIGTERM; it has to end in time, with Java. Returns what it printed."""
    java = command.jvm()
    began = time.monotonic()
    command.process.send_signal(signal.SIGTERM)
    ended = command.end(SIGTERM_LIMIT_S)
    assert ended.code in codes, ended
    gone(java, began + SIGTERM_LIMIT_S - time.monotonic())
    assert not java.is_running()
    return ended.stdout


@pytest.mark.slow
def test_sigterm_ends_an_ingest_in_order_and_a_start_too(make_site: Any) -> None:
    site = make_site()
    with site.start("ingest", JOB, keep=True) as starting:
        terminate(starting, codes=(130,))
    sink = site.sink("ingest", JOB)
    with site.start("ingest", JOB, keep=True) as ingest, site.sending():
        wait_until(lambda: sink.committed() > 0, ingest)
        assert "stopped    by request" in terminate(ingest)


@pytest.mark.slow
def test_java_does_not_outlive_a_killed_command(make_site: Any) -> None:
    site = make_site()
    site.send(200)
    with site.start("stream", JOB, keep=True) as stream:
        wait_until(lambda: site.sink("stream", JOB).committed() >= 0, stream)
        java = stream.jvm()
        stream.process.send_signal(signal.SIGKILL)
        gone(java, SIGTERM_LIMIT_S)
        assert not psutil.pid_exists(java.pid)
    site.drain("stream", JOB)
    facts = site.sink("stream", JOB).facts()
    assert facts.planned == facts.in_table == facts.committed


@pytest.mark.slow
def test_a_batch_that_slept_through_its_lease_commits_nothing_beside_the_one_that_took_over(make_site: Any) -> None:
    site = make_site()
    site.send(64)
    site.run("ingest", JOB)
    short = ("--set", "stream.lease_ttl_s=4", "--set", "stream.heartbeat_s=1")
    with site.start("batch", JOB, *short) as sleeper:
        wait_until(lambda: f"batch:{JOB}" in held_subjects(site), sleeper, limit_s=300)
        both = (sleeper.jvm().pid, sleeper.process.pid)
        for pid in both:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(5)
        site.run("batch", JOB)
        made = versions(site)
        for pid in both:
            os.kill(pid, signal.SIGCONT)
        refused = sleeper.ended_with(2)
    assert re.search(r"^error: \S+ was taken over by another run", refused.stderr, re.MULTILINE), refused.stderr
    assert "Traceback" not in refused.stderr
    assert versions(site) == made
    site.drain("stream", JOB)
    require_clean(site.verify(JOB, 0))


def held_subjects(site: Site) -> set[str]:
    table = site.root / "wh" / "twinrun" / "control"
    if not (table / "_delta_log").exists():
        return set()
    return set(pl.read_delta(str(table)).filter(pl.col("kind") == "lease")["subject"])


def versions(site: Site) -> dict[str, int]:
    """How many commits each table of results, events and quarantine has."""
    logs = [
        log for kind in ("results", "events", "quarantine") for log in (site.root / "wh" / kind).rglob("_delta_log")
    ]
    return {str(log): len(list(log.glob("*.json"))) for log in logs}


@pytest.mark.slow
def test_sigterm_ends_a_maintenance_between_two_tables_or_within_one_in_plain_words(make_site: Any) -> None:
    site = make_site()
    site.send(64)
    site.run("ingest", JOB)
    site.drain("stream", JOB)
    site.run("batch", JOB)
    for words, first in ((("tidy",), "bronze at "), (("erase", "clicks", "--key", "id=c3"), "looking for")):
        with site.start("maintain", *words, "--apply") as command:
            wait_until(lambda command=command, first=first: f"\n{first}" in f"\n{command.stderr()}", command)
            held = lease_records(site)[-1]
            terminate(command, codes=(130,))
            said = command.stderr()
        assert held["owner"]["pid"] == command.pid
        assert not held["released"]
        assert lease_records(site)[-1]["released"], said
        *steps, last = said.splitlines()
        assert last == "interrupted: the command was ended before it was done; what was committed stays"
        assert all(step.startswith(STEPS[words[0]]) for step in steps), said
        # What was begun is ended by the next, whatever the moment.
        site.run("maintain", *words, "--apply")
    site.drain("stream", JOB)
    require_clean(site.verify(JOB, 0))


STEPS = {
    "tidy": tuple(f"{table} at " for table in ("bronze", "events", "quarantine", "stream_results", "batch_results")),
    "erase": ("taking ", "looking for ", "late and ", "events, ", "recording "),
}


@pytest.mark.slow
def test_a_dead_java_ends_a_batch_and_a_verify_too(make_site: Any) -> None:
    site = make_site()
    site.send(32)
    site.run("ingest", JOB)
    site.drain("stream", JOB)
    for mode in ("batch", "verify"):
        before = len(lease_records(site))
        with site.start(mode, JOB) as command:
            wait_until(lambda before=before: len(lease_records(site)) > before, command)
            kill_java(command)
        site.run(mode, JOB)


def lease_records(site: Site) -> list[dict[str, Any]]:
    """All records of leases, oldest first, read without twinrun."""
    table = pl.read_delta(str(site.root / "wh" / "twinrun" / "control")).filter(pl.col("kind") == "lease")
    return [json.loads(text) for text in table.sort("at_ms")["payload"]]
