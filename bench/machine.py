"""Where and from what a result came: commit, machine, and the CPU of this process with its Java."""

from __future__ import annotations

import os
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


def cpu_s() -> float:
    """CPU seconds that this process and its living children (the JVM, the broker) have used so far."""
    own = psutil.Process()
    used = [each.cpu_times() for each in (own, *own.children(recursive=True))]
    return sum(each.user + each.system for each in used)
