"""What twinrun costs beside the same work written by hand: CPU of the process tree and wall time, in turn.

``python -m bench.overhead`` measures, each part in sessions of its own on this machine: (a) streams, (b) batch runs and
(c) a verify of small tables beside hand-written PySpark (bench/overhead_by_hand.py); (d) a verify beside the batch run
that it checks; (e) a comparison of two large tables beside a bare scan of both and four exact peers. Within a part the
works run in turn (A B A B ..), each pair once to warm up and then ``--rounds`` times; what counts are medians. CPU is
that of this process and all its children: Java, Python, and the development broker, which serves both sides alike.
Writes bench/results/overhead.json; ``--only a c`` runs some parts, and leaves what it has of the others. ``--quick``
runs all of them with little data.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.machine import commit, cpu_s, machine

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / ".venv" / "peers"
"""Where `make overhead` installs peers: they ask for other versions than the tools beside twinrun."""
RESULTS = ROOT / "bench" / "results" / "overhead.json"
PARTS = "abcde"
FULL = {"small": 6_000, "small_batch": 150, "large": 2_000_000, "large_batch": 250_000, "per_window": 400}
QUICK = {"small": 900, "small_batch": 150, "large": 40_000, "large_batch": 20_000, "per_window": 100}


@dataclass(frozen=True)
class Work:
    """Something that is measured. ``before`` is run first, and not measured.

    Attributes
    ----------
    rounds : int or None
        Fewer rounds than the others get, for what takes minutes.
    """

    name: str
    run: Callable[[int], None]
    before: Callable[[int], None] | None = None
    rounds: int | None = None


@dataclass(frozen=True)
class Goal:
    """How much of ``base``'s CPU a work may take, at most; or, for ``peers``, at least how many times cheaper it is."""

    work: str
    base: str
    most: float
    peers: tuple[str, ...] = ()
    cheaper: float = 3.0


@dataclass
class Case:
    """Works that are measured in turn, and what is asked of them."""

    part: str
    title: str
    works: list[Work]
    goals: list[Goal] = field(default_factory=list)
    warm_ups: int = 1
    facts: Callable[[], dict[str, Any]] | None = None
    """Asked after the last round: whether both sides did the same."""


@dataclass
class Taken:
    """What the rounds of one work took, in seconds, or why it failed."""

    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    failed: str | None = None


def measure(case: Case, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Run the works of a case in turn; a work that fails is left out from then on, and told."""
    taken = {work.name: Taken() for work in case.works}
    for number in range(case.warm_ups + rounds):
        for work in case.works:
            mine = taken[work.name]
            last = rounds if work.rounds is None else min(rounds, work.rounds)
            warm = case.warm_ups if work.rounds is None else 0
            if mine.failed is not None or number >= warm + last:
                continue
            say(f"{case.part}: {case.title}: {work.name}, round {number + 1}")
            try:
                if work.before is not None:
                    work.before(number)
                cpu, wall = tree_cpu_s(), time.monotonic()
                work.run(number)
                cpu, wall = tree_cpu_s() - cpu, time.monotonic() - wall
            except Exception as error:
                mine.failed = told(error)
                say(f"  failed: {mine.failed}")
                continue
            if number >= warm:
                mine.cpu_s.append(cpu)
                mine.wall_s.append(wall)
    facts: dict[str, Any] = {}
    if case.facts is not None:
        try:
            facts = case.facts()
        except Exception as error:
            facts = {"failed": told(error)}
    return summed_up(case, taken, facts)


def summed_up(case: Case, taken: Mapping[str, Taken], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Medians of a case, and each goal with what was reached."""
    works = {
        name: {
            "cpu_s": middle(mine.cpu_s),
            "wall_s": middle(mine.wall_s),
            "rounds_cpu_s": [round(each, 2) for each in mine.cpu_s],
            "rounds_wall_s": [round(each, 2) for each in mine.wall_s],
            **({"failed": mine.failed} if mine.failed else {}),
        }
        for name, mine in taken.items()
    }
    goals = [reached(goal, works) for goal in case.goals]
    return {"part": case.part, "title": case.title, "works": works, "goals": goals, "facts": dict(facts)}


def middle(values: Sequence[float]) -> float | None:
    """The median, to hundredths; None of nothing."""
    return round(statistics.median(values), 2) if values else None


def ratio(one: float | None, other: float | None) -> float | None:
    """``one / other``, to hundredths; None where one is missing or nothing was taken."""
    return round(one / other, 2) if one is not None and other else None


def reached(goal: Goal, works: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The ratios that a goal asks for, and whether they are good enough; None where something was not measured."""
    ours, base = works.get(goal.work, {}), works.get(goal.base, {})
    cpu = ratio(ours.get("cpu_s"), base.get("cpu_s"))
    result: dict[str, Any] = {
        "work": goal.work,
        "beside": goal.base,
        "cpu_ratio": cpu,
        "wall_ratio": ratio(ours.get("wall_s"), base.get("wall_s")),
        "most": goal.most,
        "reached": None if cpu is None else cpu <= goal.most,
    }
    costs = {name: works[name]["cpu_s"] for name in goal.peers if works.get(name, {}).get("cpu_s") is not None}
    if costs:
        cheapest = min(costs, key=lambda name: costs[name])
        times = ratio(costs[cheapest], ours.get("cpu_s"))
        result |= {"cheapest_peer": cheapest, "times_cheaper": times, "at_least": goal.cheaper}
        if times is not None and cpu is not None:
            result["reached"] = cpu <= goal.most and times >= goal.cheaper
    return result


def lines(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    """The measured cases as text."""
    shown = []
    for case in cases:
        shown.append(f"({case['part']}) {case['title']}")
        if "failed" in case:
            shown.append(f"    failed: {case['failed']}")
            continue
        for name, work in case["works"].items():
            if work["cpu_s"] is None:
                shown.append(f"    {name:<34} {work.get('failed', 'not measured')}")
            else:
                note = f"   then failed: {work['failed']}" if "failed" in work else ""
                shown.append(f"    {name:<34} {work['cpu_s']:8.2f} CPU s {work['wall_s']:8.2f} s{note}")
        shown += [f"    {_goal_line(goal)}" for goal in case["goals"]]
    return shown


def _goal_line(goal: Mapping[str, Any]) -> str:
    if goal["cpu_ratio"] is None:
        return f"{goal['work']} beside {goal['beside']}: not measured"
    said = f"{goal['work']} takes {goal['cpu_ratio']:.2f} of the CPU of {goal['beside']} (at most {goal['most']})"
    if goal.get("times_cheaper") is not None:
        said += f", {goal['cheapest_peer']} {goal['times_cheaper']:.2f} times as much (at least {goal['at_least']})"
    return f"{said}: {'reached' if goal['reached'] else 'NOT reached'}"


def tree_cpu_s() -> float:
    """CPU seconds of this process and all its children so far, those that have ended included."""
    ended = os.times()
    return cpu_s() + ended.children_user + ended.children_system


def told(error: BaseException) -> str:
    """The kind and first line of an error."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300] if text else ''}".rstrip(": ")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; 1 where a part failed or a goal was missed."""
    asked = _arguments(arguments)
    found: list[dict[str, Any]] = []
    say = _say if not asked.quiet else lambda _: None
    for part in asked.only:
        found += _part(part, asked, say)
        _write(asked, found)
    print("\n".join(lines(found)))
    good = all("failed" not in case and all(goal["reached"] for goal in case["goals"]) for case in found)
    return 0 if good else 1


def _part(part: str, asked: argparse.Namespace, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """The cases of one part; a failure ends this part alone."""
    # Imported late: they load Spark, and the arithmetic above is tested without it; and after the peers' versions.
    if PEERS.is_dir() and str(PEERS) not in sys.path:
        sys.path.insert(0, str(PEERS))
    from bench import overhead_compare, overhead_runs

    runs = {
        "a": overhead_runs.streams,
        "b": overhead_runs.batches,
        "c": overhead_runs.small_verify,
        "d": overhead_runs.large_verify,
        "e": overhead_compare.comparisons,
    }
    found: list[dict[str, Any]] = []
    try:
        for case in runs[part](asked):
            found.append(measure(case, asked.rounds, say))
    except Exception as error:
        traceback.print_exc()
        found.append({"part": part, "title": "stopped", "failed": told(error), "works": {}, "goals": []})
    return found


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts, in this order")
    parser.add_argument("--quick", action="store_true", help="little data and one round: does it work?")
    parser.add_argument("--rounds", type=int, help="pairs per case (5; quick: 1)")
    for name, meaning in (
        ("small", "events of the small streams and batches"),
        ("small_batch", "events per micro-batch of the small streams"),
        ("large", "events of the large ones, and of part d"),
        ("large_batch", "events per micro-batch of the large streams"),
        ("per_window", "events per window of the large ones"),
    ):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help=f"{meaning} ({FULL[name]:,})")
    parser.add_argument("--rows", type=int, help="rows of part e (5,000,000; quick: 40,000)")
    parser.add_argument("--driver-memory", default="3g")
    parser.add_argument("--out", type=Path, help="where the result goes; quick: nowhere unless said")
    parser.add_argument("--quiet", action="store_true", help="say nothing while it runs")
    asked = parser.parse_args(arguments)
    sizes = QUICK if asked.quick else FULL
    for name, size in {
        **sizes,
        "rows": 40_000 if asked.quick else 5_000_000,
        "rounds": 1 if asked.quick else 5,
    }.items():
        if getattr(asked, name) is None:
            setattr(asked, name, size)
    if asked.out is None and not asked.quick:
        asked.out = RESULTS
    return asked


def _write(asked: argparse.Namespace, found: list[dict[str, Any]]) -> None:
    """Write the parts that were run, with where they come from; those of an earlier run that were not asked stay."""
    if asked.out is None:
        return
    kept = json.loads(asked.out.read_text(encoding="utf-8"))["cases"] if asked.out.exists() else []
    settings = {name: value for name, value in vars(asked).items() if name not in ("out", "quiet", "only")}
    names = ("pyspark", "delta-spark", "datacompy", "pyspark-extension")
    versions = {name: _version(name) for name in names}
    about = {
        "commit": commit(),
        "machine": machine(),
        "versions": {"python": platform.python_version(), **versions},
        "settings": settings,
    }
    cases = [case for case in kept if case["part"] not in asked.only] + [{**case, **about} for case in found]
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    document = {"cases": sorted(cases, key=lambda case: str(case["part"]))}
    asked.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
