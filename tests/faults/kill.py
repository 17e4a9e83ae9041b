"""Kill -9 of the Java process of a running command at a chosen moment."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import psutil

from tests.faults.command import LOOK_S, Command, Ended
from tests.faults.disk import Facts, Sink

Point = Literal["before_the_sink_write", "after_the_version"]
DEAD_JVM_LIMIT_S = 10
MOMENT_LIMIT_S = 90
_STOP_LIMIT_S = 5


def kill_java(command: Command) -> Ended:
    """SIGKILL; the command has to end by itself with an error, in time and in plain words."""
    java = command.jvm()
    java.send_signal(signal.SIGKILL)
    began = time.monotonic()
    ended = command.ended_with(2, DEAD_JVM_LIMIT_S)
    assert re.search(rf"Spark's Java process ({java.pid} ended while|ended before)", ended.stderr), ended.stderr
    assert "Traceback" not in ended.stderr
    print(f"Java killed: the command ended after {time.monotonic() - began:.1f} s")
    return ended


def kill_at(point: Point, command: Command, sink: Sink) -> Facts:
    """Kill Java between two writes of one micro-batch.

    Java is held (SIGSTOP) when the first of the two writes appears. It is killed if the second is not there; else it
    goes on, and the next micro-batch is tried.

    Returns
    -------
    Facts
        What was on disk when all was dead: certainly the moment that was asked for.
    """
    facts = hold_at(command, sink, lambda: _next_write(point, sink).exists, lambda facts: bool(getattr(facts, point)))
    kill_java(command)
    assert sink.facts() == facts
    return facts


def hold_at(
    command: Command, sink: Sink, next_write: Callable[[], Callable[[], bool]], right: Callable[[Facts], bool]
) -> Facts:
    """Hold Java (SIGSTOP) when the first of two writes is there and the second is not; what is on disk then.

    ``next_write`` notes how things are and gives the question whether that write has come since. Where the facts are
    not ``right``, since the second one has come as well, Java goes on and the next micro-batch is tried.
    """
    java = command.jvm()
    deadline = time.monotonic() + MOMENT_LIMIT_S
    missed = 0
    while time.monotonic() < deadline:
        written = next_write()
        while not written() and time.monotonic() < deadline:
            command.still_runs()
            time.sleep(LOOK_S)
        java.suspend()
        _wait(lambda: java.status() == psutil.STATUS_STOPPED, _STOP_LIMIT_S)
        facts = sink.facts()
        if right(facts):
            print(f"held at {facts}, {missed} missed")
            return facts
        missed += 1
        java.resume()
    raise AssertionError(f"the moment was not met in {MOMENT_LIMIT_S} s, {missed} missed: {sink.facts()}")


def _next_write(point: Point, sink: Sink) -> Path:
    """The file of the next micro-batch that comes first: its offsets, or the table's next version."""
    if point == "before_the_sink_write":
        return sink.checkpoint / "offsets" / str(sink.planned() + 1)
    return sink.table / "_delta_log" / f"{sink.version() + 1:020d}.json"


def _wait(true: Callable[[], bool], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, f"not within {limit_s} s"
        time.sleep(LOOK_S)
