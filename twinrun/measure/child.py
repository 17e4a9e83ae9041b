"""A query in a process and a session of its own, as a user's runs: it can be killed, or have cores of its own."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from pyspark.sql import SparkSession

from twinrun.config.model import Config
from twinrun.errors import MachineError
from twinrun.job.job import Job
from twinrun.job.loader import find_job
from twinrun.session.settings import Size, by_size
from twinrun.session.spark import build_session, stop_session
from twinrun.session.sparkconf import session_settings

START_S = 120.0
"""A session and its query have started after so long, or never will."""
_END_S, _LOOK_S = 60.0, 0.5


class Child:
    """A running process, and the file of what it says."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self.log = process, log

    def kill(self) -> None:
        """kill -9 for Python and its JVM, the JVM first: nothing of it can end in order."""
        own = psutil.Process(self.process.pid)
        for each in (*own.children(recursive=True), own):
            with suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.wait(_END_S)

    def end(self) -> None:
        """Ask it to end, and wait until it has; one that does not is killed."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def died(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def lines(self) -> list[str]:
        """What it has said so far, without empty lines."""
        return [line for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]

    def said(self) -> str:
        """The last of it."""
        return (self.lines() or ["nothing"])[-1]


@contextmanager
def child_of(module: str, arguments: Sequence[str], cfg: Config, master: str, log: Path) -> Iterator[Child]:
    """Start a module as a process; it is killed at the end of the block, where it still runs.

    Parameters
    ----------
    cfg : Config
        Handed over on standard input, where `as_child` reads it.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYSPARK_GATEWAY")}
    with log.open("ab") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
            env={**env, "PYTHONWARNINGS": "ignore"},
        )
        assert process.stdin is not None
        with process.stdin as given:
            conf = {name: value for name, value in cfg.spark.conf.items() if name != "spark.master"}
            spark = cfg.spark.model_copy(update={"master": master, "conf": conf})
            pickle.dump(cfg.model_copy(update={"spark": spark}), given)
        running = Child(process, log)
        try:
            yield running
        finally:
            if not running.died():
                running.kill()


def wait_for(stop: threading.Event, child: Child, done: Callable[[], bool], most_s: float, else_it: str) -> None:
    """Wait until something is so.

    Raises
    ------
    MachineError
        The process ended first, or it took longer than ``most_s`` seconds; ``else_it`` says what did not happen.
    KeyboardInterrupt
        ``stop`` was set.
    """
    deadline = time.monotonic() + most_s
    while not done():
        still_up(stop, child)
        if time.monotonic() > deadline:
            raise MachineError(f"the stream in a process of its own {else_it} within {most_s:.0f} s.")
        stop.wait(_LOOK_S)


def still_up(stop: threading.Event, child: Child) -> None:
    """Raise `MachineError` where the process has ended, and KeyboardInterrupt where ``stop`` was set."""
    if stop.is_set():
        raise KeyboardInterrupt
    if child.died():
        raise MachineError(f"the stream in a process of its own ended by itself: {child.said()}.")


@contextmanager
def as_child(name: str, events: int) -> Iterator[tuple[SparkSession, Config, Job, threading.Event]]:
    """In the process itself: a session by the configuration on standard input; the event is set when it shall end.

    Parameters
    ----------
    name : str
        Of the job, as the configuration has it, or the path of its file.
    events : int
        How many will come; the session's settings go by it.
    """
    cfg: Config = pickle.load(sys.stdin.buffer)  # of the process that started this one
    job = find_job(cfg, name)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threading.Thread(target=_end_with, args=(os.getppid(), stop), daemon=True).start()
    settings = session_settings(cfg)
    master = settings["spark.master"]
    settings = by_size(settings, Size(0, events), cfg.spark.small_data, master=master)
    spark = build_session(f"twinrun measure {job.job_name}", settings, master=master)
    try:
        yield spark, cfg, job, stop
    finally:
        stop_session(spark)


def _end_with(parent: int, stop: threading.Event) -> None:
    """Ask this process to end where the one that started it is gone: nobody else would."""
    while not stop.wait(_LOOK_S):
        if os.getppid() != parent:
            stop.set()
