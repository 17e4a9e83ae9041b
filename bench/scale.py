"""What grows with the number of events: CPU, memory, files, by step; each figure's exponent from a line in logarithms.

``python -m bench.scale`` sends so many events to a topic, lands them, streams them in micro-batches of a fixed size,
runs the batch and verifies, each size in a process of its own with a driver's heap of 1 GiB, and fits how each figure
grows: an exponent of 1 is as the events, 0 not at all. Memory is the largest resident size of Python and Java together.
Writes bench/results/scale.json.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.machine import commit, machine
from bench.overhead import tree_cpu_s
from twinrun.measure.usage import folder_size, peak_memory

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "scale.json"
SIZES = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
QUICK = (20_000, 60_000, 200_000)
PER_WINDOW, PER_MICRO_BATCH, HEAP = 400, 50_000, "1g"
MOST = 1.05
_TOLD = (
    ("ingest_cpu_s", "ingest, CPU s", 1),
    ("stream_cpu_s", "stream, CPU s", 1),
    ("batch_cpu_s", "batch, CPU s", 1),
    ("verify_cpu_s", "verify, CPU s", 1),
    ("memory_bytes", "memory of Python and Java, MiB", 2**20),
    ("wh_bytes", "tables, MiB", 2**20),
    ("cp_bytes", "checkpoints, KiB", 2**10),
)


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float | None:
    """Slope of a straight line through the logarithms, by least squares; None where a value is 0, or of one alone."""
    points = [(math.log(size), math.log(value)) for size, value in zip(sizes, values, strict=True) if value > 0]
    if len(points) < 2 or len(points) < len(values):
        return None
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return round(sum((x - mean_x) * (y - mean_y) for x, y in points) / spread, 3)


def exponents(runs: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """By figure, how it grows over the sizes; what is fixed in it makes that less than it is for more events still."""
    sizes = [run["events"] for run in runs]
    names = [name for name, value in runs[0].items() if isinstance(value, int | float) and name != "events"]
    return {name: exponent(sizes, [run[name] for run in runs]) for name in names}


def one(events: int) -> dict[str, Any]:
    """All steps over so many events; CPU seconds, bytes and files."""
    from bench.overhead_runs import JOB, _place, even

    asked = argparse.Namespace(driver_memory=HEAP, per_window=PER_WINDOW)
    found: dict[str, Any] = {"events": events}
    with _place(asked, events, PER_MICRO_BATCH, even(events, PER_WINDOW)) as place:
        world = place.world("scale")
        verdicts: list[Any] = []
        steps: list[tuple[str, Callable[[], Any]]] = [
            ("ingest", lambda: world.ingest(JOB)),
            ("stream", lambda: world.stream(JOB)),
            ("batch", lambda: world.batch(JOB)),
            ("verify", lambda: verdicts.append(world.verify(JOB))),
        ]
        with peak_memory(None) as peak:
            for name, run in steps:
                cpu, began = tree_cpu_s(), time.monotonic()
                run()
                found[f"{name}_cpu_s"] = round(tree_cpu_s() - cpu, 2)
                found[f"{name}_s"] = round(time.monotonic() - began, 2)
        found["memory_bytes"] = peak.memory_bytes
        for name in ("wh", "cp"):
            found[f"{name}_files"], found[f"{name}_bytes"] = folder_size(world.root / name)
        found["outcome"] = verdicts[-1].outcome
        found["windows"] = str(verdicts[-1].windows_compared)
    return found


def doc_table(result: dict[str, Any]) -> str:
    """The table of docs/measure.md, in Markdown."""
    runs, grown = result["runs"], result["exponents"]
    lines = [
        "| | " + " | ".join(f"{run['events']:,} events" for run in runs) + " | exponent |",
        "|---" * (len(runs) + 2) + "|",
    ]
    for name, told, unit in _TOLD:
        cells = [f"{run[name] / unit:,.0f}" for run in runs]
        lines.append(f"| {told} | " + " | ".join(cells) + f" | {grown[name]:.2f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every size; 1 where a verify does not agree or a figure grows faster than the events."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of events")
    parser.add_argument("--quick", action="store_true", help="few events: does it work?")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.one:
        print(json.dumps(one(asked.one)))
        return 0
    runs = []
    for size in asked.sizes or (QUICK if asked.quick else SIZES):
        print(f"{time.strftime('%H:%M:%S')} {size:,} events", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "bench.scale", "--one", str(size)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            print(f"{size:,} events: failed", file=sys.stderr)
            return 1
        runs.append(json.loads(done.stdout.splitlines()[-1]))
        print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    grown = exponents(runs)
    print("\n".join(f"{name:<18} {'not told' if value is None else value}" for name, value in grown.items()))
    if not asked.quick:
        document = {"commit": commit(), "machine": machine(), "heap": HEAP, "exponents": grown, "runs": runs}
        RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    agreed = all(run["outcome"] == "agree" for run in runs)
    return 0 if agreed and all(value is None or value <= MOST for value in grown.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
