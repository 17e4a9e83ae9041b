"""End this process soon after its JVM died: without one, every later call hangs or fails with a trace."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from collections.abc import Callable

from twinrun.errors import EXIT_ERROR, MachineError

INTERVAL_S = 1.0


def jvm_died(pid: int) -> MachineError:
    """What to say of a JVM that died."""
    return MachineError(
        f"Spark's Java process {pid} ended while the job ran; nothing that was committed is lost.",
        fix="start the same command again, and give it more memory if this repeats (spark.driver.memory)",
    )


class JvmWatch:
    """A running watch; ``stop`` ends it before the JVM is stopped on purpose."""

    def __init__(self, stopped: threading.Event, thread: threading.Thread) -> None:
        self._stopped = stopped
        self._thread = thread

    def stop(self) -> None:
        """Stop watching; returns when the thread has ended."""
        self._stopped.set()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=2 * INTERVAL_S)


def watch_pid(pid: int, ended: Callable[[], bool], on_death: Callable[[], None] | None = None) -> JvmWatch:
    """Watch a JVM, and end this process with exit code 2 when it dies.

    Parameters
    ----------
    pid : int
        Named in the message.
    ended : callable
        Whether the JVM has ended; called once a second.
    on_death : callable, optional
        Called once before the end, to release what must not stay behind (a broker). ``finally`` blocks of
        other threads do not run, since the main thread may hang in a call to the dead JVM.

    Returns
    -------
    JvmWatch
        Its thread is a daemon and keeps nothing alive.
    """
    stopped = threading.Event()

    def look() -> None:
        while not stopped.wait(INTERVAL_S):
            if ended() and not stopped.is_set():
                _end(pid, on_death)

    thread = threading.Thread(target=look, name="twinrun-jvm-watch", daemon=True)
    # At a normal exit the JVM ends because this process does: that is no reason to complain.
    atexit.register(stopped.set)
    thread.start()
    return JvmWatch(stopped, thread)


def _end(pid: int, on_death: Callable[[], None] | None) -> None:
    try:
        # Under spark-submit both streams lead through the JVM that died: then there is nobody to tell.
        with contextlib.suppress(OSError):
            print(jvm_died(pid).sentence(), file=sys.stderr, flush=True)
        if on_death is not None:
            on_death()
        with contextlib.suppress(OSError):
            sys.stdout.flush()
    finally:
        os._exit(EXIT_ERROR)
