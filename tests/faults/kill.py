"""Kill -9 of the Java process of a running command at a chosen moment."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
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
    java = command.jvm()
    deadline = time.monotonic() + MOMENT_LIMIT_S
    missed = 0
    while time.monotonic() < deadline:
        _wait_for_the_first_write(point, command, sink, deadline)
        java.suspend()
        _wait(lambda: java.status() == psutil.STATUS_STOPPED, _STOP_LIMIT_S)
        if getattr(sink.facts(), point):
            kill_java(command)
            facts = sink.facts()
            assert getattr(facts, point), facts
            print(f"{point}: {facts}, {missed} missed")
            return facts
        missed += 1
        java.resume()
    raise AssertionError(f"the moment {point} was not met in {MOMENT_LIMIT_S} s, {missed} missed: {sink.facts()}")


def _wait_for_the_first_write(point: Point, command: Command, sink: Sink, deadline: float) -> None:
    if point == "before_the_sink_write":
        awaited = sink.checkpoint / "offsets" / str(sink.planned() + 1)
    else:
        awaited = sink.table / "_delta_log" / f"{sink.version() + 1:020d}.json"
    while not awaited.exists() and time.monotonic() < deadline:
        command.still_runs()
        time.sleep(LOOK_S)


def _wait(true: Callable[[], bool], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, f"not within {limit_s} s"
        time.sleep(LOOK_S)
