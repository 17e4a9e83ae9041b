"""Seeded scenarios over every kind of job: is each planted cause found with its exact count, and nothing else claimed?

``python -m bench.scenarios 500`` sends the scenarios as one log through a real broker, runs each job over it in both
modes, plants the faults of the sink, verifies, and holds the product's tables against the plans, which were made
before. Prints a table and writes bench/results/scenarios.json. Exit code 1 where a plan did not come true.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from bench.scenario_run import NUMBERS, JobRun, land, mixed_suite, run_job, shape_of
from tests.integration.conftest import World
from twinrun.broker.process import start_broker, stop_broker
from twinrun.broker.topics import create_topic
from twinrun.scenario.plan import reproducer
from twinrun.scenario.suite import Suite
from twinrun.session.spark import build_session, stop_session

RESULTS = Path(__file__).parent / "results" / "scenarios.json"
MICRO_BATCHES, SIZE = 5, 40
_COUNTS = ("planted", "found", "falsely_claimed", "unexplained_where_explainable")
# Many small queries: compiling them would cost more than running them interpreted.
_SESSION = {
    "spark.driver.memory": "2g",
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:ReservedCodeCacheSize=256m",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the scenarios; 1 where a plan did not come true."""
    asked = _asked(arguments)
    before = json.loads(asked.out.read_text(encoding="utf-8")) if asked.add else None
    began = time.monotonic()

    def keep(suite: Suite, runs: list[JobRun]) -> dict[str, Any]:
        """After each job: hours of work are not lost with the last of them."""
        result = summary(suite, runs, time.monotonic() - began)
        result = joined(before, result) if before else result
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        return result

    suite, runs = run_all(range(asked.first_seed, asked.first_seed + asked.scenarios), asked.jobs, keep)
    print("\n".join(table(keep(suite, runs))))
    for sentence in [problem for run in runs for problem in _problems(suite, run)][:50]:
        print(sentence)
    return 0 if all(run.ok for run in runs) else 1


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run seeded scenarios and hold the verdicts against their plans.")
    parser.add_argument("scenarios", type=int, nargs="?", default=500, help="how many; one seed each")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", nargs="+", default=list(NUMBERS), choices=list(NUMBERS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--add", action="store_true", help="keep the other jobs that the result file has")
    return parser.parse_args(arguments)


def run_all(
    seeds: Sequence[int], jobs: Sequence[str], keep: Callable[[Suite, list[JobRun]], Any]
) -> tuple[Suite, list[JobRun]]:
    """All jobs over one log of all seeds; session and broker are started and stopped here."""
    with tempfile.TemporaryDirectory(prefix="twinrun-scenarios-") as folder:
        root = Path(folder)
        spark = build_session("twinrun-scenarios", {**_SESSION, "spark.sql.warehouse.dir": str(root / "warehouse")})
        try:
            broker = start_broker(root / "broker")
            world = World(spark, root, "clicks", broker.bootstrap_servers, {}, partitions=3)
            create_topic(broker.bootstrap_servers, world.topic, world.partitions)
            # Every scenario is made for the same jobs, whichever of them run now: the log never depends on --jobs.
            suite = mixed_suite(world, seeds, list(NUMBERS), MICRO_BATCHES, SIZE)
            land(world, suite)
            runs = []
            for job in jobs:
                runs.append(run_job(world, suite, job))
                print(f"{job}: {'as planned' if runs[-1].ok else 'NOT as planned'}, {runs[-1].seconds}", flush=True)
            return suite, runs
        finally:
            stop_broker(root / "broker")
            stop_session(spark)


def summary(suite: Suite, runs: Sequence[JobRun], seconds: float) -> dict[str, Any]:
    """The result as JSON; counts are over all jobs, and per job and cause."""
    jobs = {run.job: _job(run) for run in runs}
    return {
        "scenarios": len(suite.scenarios),
        "seeds": [suite.scenarios[0].seed, suite.scenarios[-1].seed],
        "records": len(suite.lines),
        "micro_batches": suite.micro_batches,
        **_totals(jobs),
        "mutations": None,
        "mutations_killed": None,
        "jobs": jobs,
        "seconds": round(seconds, 1),
        "commit": _commit(),
        "machine": {"cores": os.cpu_count(), "memory_bytes": psutil.virtual_memory().total},
    }


def joined(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Two results over one log, as if their jobs had run together."""
    same = ("scenarios", "seeds", "records", "micro_batches", "commit")
    if any(before[name] != now[name] for name in same):
        sys.exit(f"the results cannot be joined: they differ in {[name for name in same if before[name] != now[name]]}")
    jobs = {**before["jobs"], **now["jobs"]}
    seconds = round(before["seconds"] + now["seconds"], 1)
    return {**now, **_totals(jobs), "jobs": jobs, "seconds": seconds}


def _totals(jobs: dict[str, Any]) -> dict[str, int]:
    names = ("checks", *_COUNTS, "sink_planted", "sink_proven", "unexplained", "total_problems")
    return {name: sum(job[name] for job in jobs.values()) for name in names}


def _job(run: JobRun) -> dict[str, Any]:
    planted = Counter(cause for each in run.checked for cause in each.by_cause)
    found = Counter(cause for each in run.checked for cause, exact in each.by_cause.items() if exact)
    return {
        "checks": len(run.checked),
        **{name: sum(getattr(each, name) for each in run.checked) for name in _COUNTS},
        "sink_planted": run.sink_planted,
        "sink_proven": run.sink_proven,
        "unexplained": run.unexplained,
        "total_problems": len(run.problems),
        "late_events": run.causes.get("late_dropped", 0),
        "seconds": run.seconds,
        "by_cause": {cause: {"planted": planted[cause], "found": found[cause]} for cause in sorted(planted)},
    }


def table(result: dict[str, Any]) -> list[str]:
    """The result for people: a row per job and cause."""
    low, high = result["seeds"]
    lines = [f"{result['scenarios']} scenarios (seeds {low} to {high}), {result['records']:,} records", ""]
    lines.append(f"{'job':<16}{'planted cause':<34}{'planted':>9}{'found':>9}")
    for name, job in result["jobs"].items():
        for cause, counts in job["by_cause"].items():
            lines.append(f"{name:<16}{cause:<34}{counts['planted']:>9}{counts['found']:>9}")
        lines.append(
            f"{name:<16}{'all':<34}{job['planted']:>9}{job['found']:>9}   falsely claimed {job['falsely_claimed']}, "
            f"unexplained where explainable {job['unexplained_where_explainable']}; faults of the sink: "
            f"{job['sink_planted']} rows planted, {job['sink_proven']} proven, {job['unexplained']} unexplained"
        )
    lines += [
        "",
        f"planted {result['planted']}, found {result['found']}, falsely claimed {result['falsely_claimed']}, ",
    ]
    lines[-1] += f"unexplained where explainable {result['unexplained_where_explainable']}; {result['seconds']:.0f} s"
    return lines


def _problems(suite: Suite, run: JobRun) -> list[str]:
    """What did not come true, each with the line that makes its scenario again."""
    again = {each.prefix: reproducer(each, ["--shape", shape_of(each.contract)]) for each in suite.scenarios}
    named = [f"{sentence} (again: {again.get(c.scenario, '-')})" for c in run.checked for sentence in c.problems]
    return [*run.problems, *named]


def _commit() -> str:
    """The commit, with a plus where the working tree has changes."""
    asked = (["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"])
    folder = Path(__file__).parent
    head, changed = (subprocess.run(a, cwd=folder, capture_output=True, text=True).stdout.strip() for a in asked)
    return head + ("+" if changed else "")


if __name__ == "__main__":
    sys.exit(main())
