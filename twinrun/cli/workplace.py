"""The folder of a demo or a measurement: one at a time, fresh on each run, and nobody else's data removed."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twinrun.broker.process import stop_broker
from twinrun.errors import InputError

MARK = ".twinrun-demo"
"""An empty file that says: twinrun made this folder and may remove it."""


@contextmanager
def fresh_folder(folder: Path, what: str = "demo") -> Iterator[Path]:
    """Hold a folder for this run alone, emptied of what the last one left, a broker of its included.

    Parameters
    ----------
    folder : Path
        The lock is a file beside it, so that it can be removed itself.
    what : str
        What the run is called in words.

    Raises
    ------
    InputError
        Another one runs on it, or it was not made by one.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "?"
            raise InputError(
                f"another {what} runs on {folder} (process {holder}).", fix="wait for its end, or end it"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        _empty(folder, what)
        yield folder


def broker_folder(folder: Path) -> Path:
    """Where the demo's broker keeps its data."""
    return folder / "broker"


@contextmanager
def without_interruption() -> Iterator[None]:
    """Finish a clean-up that ends by itself, whatever signals come meanwhile."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _empty(folder: Path, what: str) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise InputError(f"{folder} is not a folder of its own.", fix=f"remove it; the {what} makes it anew")
    if folder.exists():
        if any(folder.iterdir()) and not (folder / MARK).exists():
            raise InputError(
                f"{folder} was not made by a {what}, so it is not removed.", fix="move what is in it elsewhere"
            )
        # A demo that was killed leaves its broker behind: its record is in the folder that goes now.
        stop_broker(broker_folder(folder))
        shutil.rmtree(folder)
    folder.mkdir()
    (folder / MARK).touch()
