"""CPU and memory of all processes that take part, told apart, and how much the rest of the machine took meanwhile."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

NOISE_SHARE = 0.2
"""A run is noisy where processes that take no part used more than this share of the machine's cores meanwhile."""
_EVERY_S = 0.5


@dataclass(frozen=True)
class Cpu:
    """CPU seconds, user and system, by who used them; and of the whole machine, whoever used it."""

    jvm_s: float
    python_s: float
    broker_s: float
    machine_s: float
    at_s: float

    def since(self, before: Cpu) -> Cpu:
        """What was used between two moments; ``at_s`` is then the time between them."""
        jvm_s, python_s = self.jvm_s - before.jvm_s, self.python_s - before.python_s
        # A worker in Python that Java has ended meanwhile counts as Java's from then on, with all that it ever used.
        moved_s = max(0.0, -python_s)
        return Cpu(
            jvm_s - moved_s,
            python_s + moved_s,
            self.broker_s - before.broker_s,
            self.machine_s - before.machine_s,
            self.at_s - before.at_s,
        )


def cpu(broker_pid: int | None, of: int | None = None) -> Cpu:
    """CPU used so far by this process, its JVM, its other children, and the broker; a few reads below /proc.

    Parameters
    ----------
    of : int, optional
        The process that is meant, by default this one.
    """
    own = psutil.Process(of)
    times = own.cpu_times()
    # Children that have ended count for their parent.
    python_s = times.user + times.system + times.children_user + times.children_system
    jvm_s = 0.0
    for child in own.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            used = child.cpu_times()
            if child.name() == "java" and child.pid != broker_pid:
                # With the programs that it started and that have ended: those of Hadoop's file system above all.
                jvm_s += used.user + used.system + used.children_user + used.children_system
            elif child.pid != broker_pid and not _is_load(child):
                python_s += used.user + used.system + used.children_user + used.children_system
    broker_s = 0.0
    if broker_pid is not None:
        with suppress(psutil.NoSuchProcess):
            used = psutil.Process(broker_pid).cpu_times()
            broker_s = used.user + used.system
    all_of = psutil.cpu_times()
    busy = all_of.user + all_of.system + getattr(all_of, "nice", 0) + getattr(all_of, "softirq", 0)
    return Cpu(jvm_s, python_s, broker_s, busy, time.monotonic())


def others_share(used: Cpu, producer_s: float, cores: int) -> float:
    """Share of the machine's cores that processes used which take no part; 0 or more."""
    ours = used.jvm_s + used.python_s + used.broker_s + producer_s
    return max(0.0, used.machine_s - ours) / max(used.at_s * cores, 1e-9)


@dataclass
class Peak:
    """The most memory that JVM and Python held together at one look, bytes."""

    memory_bytes: int = 0


@contextmanager
def peak_memory(broker_pid: int | None, of: int | None = None) -> Iterator[Peak]:
    """Look twice a second, while the block runs, at what this process and its children hold, without the broker.

    Parameters
    ----------
    of : int, optional
        The process that is meant, by default this one.
    """
    peak, ended = Peak(), threading.Event()

    def look() -> None:
        own = psutil.Process(of)
        while not ended.is_set():
            held = java = 0
            with suppress(psutil.Error):
                held = own.memory_info().rss
                for child in own.children(recursive=True):
                    with suppress(psutil.Error):
                        size = 0 if child.pid == broker_pid or _is_load(child) else child.memory_info().rss
                        # Java starts programs by a copy of itself that shares its memory: counted twice, it doubles.
                        if child.name().startswith("python"):
                            held += size
                        else:
                            java = max(java, size)
            peak.memory_bytes = max(peak.memory_bytes, held + java)
            ended.wait(_EVERY_S)

    looker = threading.Thread(target=look, name="twinrun-memory", daemon=True)
    looker.start()
    try:
        yield peak
    finally:
        ended.set()
        looker.join()


def folder_size(folder: Path) -> tuple[int, int]:
    """Files below a local folder and their bytes; (0, 0) where there is none."""
    files = size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                size += (Path(place) / name).stat().st_size
                files += 1
    return files, size


def commit_of(root: Path) -> str:
    """The commit of the checkout that a folder belongs to, with a plus where files have changed; empty without git."""
    found = []
    for asked in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            done = subprocess.run(["git", *asked], cwd=root, capture_output=True, text=True, check=False, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        if done.returncode:
            return ""
        found.append(done.stdout.strip())
    return found[0] + ("+" if found[1] else "")


def machine() -> dict[str, Any]:
    """What measurements must have in common to be compared: cores, memory and the processor's name."""
    model = "unknown"
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    gib = round(psutil.virtual_memory().total / 2**30)
    return {"cores": os.cpu_count() or 1, "memory_gib": gib, "processor": model}


def _is_load(process: psutil.Process) -> bool:
    return any("twinrun.measure.load" in part for part in process.cmdline())
