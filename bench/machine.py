"""Where and from what a result came: commit, machine, and the CPU of this process with its Java."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from twinrun.measure.usage import commit_of


@cache
def commit() -> str:
    """The commit when first asked, with a plus where the working tree has changes."""
    return commit_of(Path(__file__).parent)


def machine() -> dict[str, Any]:
    """Cores and memory of this machine."""
    return {"cores": os.cpu_count(), "memory_bytes": psutil.virtual_memory().total}


def cpu_s(pid: int | None = None) -> float:
    """CPU seconds that a process (this one) and its living children have used so far; those that end meanwhile none."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        own = psutil.Process(pid)
        for each in (own, *own.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                used = each.cpu_times()
                total += used.user + used.system
    return total
