"""Where and from what a result came: commit, machine, and the CPU of this process with its Java."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import psutil


@cache
def commit() -> str:
    """The commit when first asked, with a plus where the working tree has changes."""
    asked = (["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"])
    folder = Path(__file__).parent
    head, changed = (subprocess.run(a, cwd=folder, capture_output=True, text=True).stdout.strip() for a in asked)
    return head + ("+" if changed else "")


def machine() -> dict[str, Any]:
    """Cores and memory of this machine."""
    return {"cores": os.cpu_count(), "memory_bytes": psutil.virtual_memory().total}


def cpu_s() -> float:
    """CPU seconds that this process and its living children (the JVM, the broker) have used so far."""
    own = psutil.Process()
    used = [each.cpu_times() for each in (own, *own.children(recursive=True))]
    return sum(each.user + each.system for each in used)
