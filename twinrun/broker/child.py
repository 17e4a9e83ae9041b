"""A process that outlives the one that started it, and that is found again by pid and creation time."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil

STOP_LIMIT_S = 30
# psutil derives a creation time from the boot time, which moves a little when the clock is set.
_CLOCK_SLACK_S = 2.0
_LOOK_S = 0.05
# A child that ended stays a zombie until its parent asks for it, and only its parent can.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Identity:
    """What names one process for good: a later process may get the same ``pid``, not the same ``created_s``.

    ``created_s`` is in seconds since 1970 (UTC).
    """

    pid: int
    created_s: float


def spawn(command: Sequence[str], cwd: Path, log: BinaryIO) -> Identity:
    """Start a process in a session of its own, so that Ctrl-C in this terminal does not reach it."""
    child = subprocess.Popen(
        command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    _children[child.pid] = child
    return Identity(child.pid, psutil.Process(child.pid).create_time())


def is_running(identity: Identity) -> bool:
    """Whether that very process still runs."""
    return _find(identity) is not None


def end(identity: Identity) -> bool:
    """Ask the process to end, and kill it where it does not; returns whether it was running."""
    process = _find(identity)
    if process is None:
        return False
    try:
        process.terminate()
        _wait(process)
    except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
        process.kill()
        _wait(process)
    except psutil.NoSuchProcess:
        pass
    _children.pop(identity.pid, None)
    return True


def _find(identity: Identity) -> psutil.Process | None:
    child = _children.get(identity.pid)
    if child is not None and child.poll() is not None:
        del _children[identity.pid]
        return None
    try:
        process = psutil.Process(identity.pid)
        same = abs(process.create_time() - identity.created_s) < _CLOCK_SLACK_S
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _wait(process: psutil.Process) -> None:
    child = _children.get(process.pid)
    if child is not None:
        child.wait(timeout=STOP_LIMIT_S)
        return
    # Another's child stays a zombie for as long as its parent lives and does not ask: psutil would wait for that.
    until = time.monotonic() + STOP_LIMIT_S
    with suppress(psutil.NoSuchProcess):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > until:
                raise psutil.TimeoutExpired(STOP_LIMIT_S, pid=process.pid)
            time.sleep(_LOOK_S)
