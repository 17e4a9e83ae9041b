"""Seeded scenarios over every kind of job: is each planted cause found with its exact count, and nothing else claimed?

``python -m bench.scenarios 500`` sends the scenarios as one log through a real broker, runs each job over it in both
modes, plants the faults of the sink, verifies, and holds the product's tables against the plans, which were made
before. Prints a table and writes bench/results/scenarios.json. Exit code 1 where a plan did not come true.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from bench.machine import commit, machine
from bench.scenario_jobs import JOINS, NUMBERS, ONE_LOG, PARTITIONS, mixed_suite, shape_of
from bench.scenario_run import JobRun, land, run_job
from tests.integration.conftest import World
from twinrun.broker.process import start_broker, stop_broker
from twinrun.broker.topics import create_topic
from twinrun.scenario.model import Scenario
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
    commit()

    def keep(suites: Sequence[Suite], runs: list[JobRun], mutations: tuple[int, int] | None = None) -> dict[str, Any]:
        """After each job: hours of work are not lost with the last of them."""
        result = summary(suites, runs, mutations, time.monotonic() - began)
        result = joined(before, result) if before else result
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        return result

    seeds = range(asked.first_seed, asked.first_seed + asked.scenarios)
    suites, runs, mutations = run_all(seeds, asked.jobs, keep, asked.mutations)
    print("\n".join(table(keep(suites, runs, mutations))))
    for sentence in [problem for run in runs for problem in _problems(suites, run)][:50]:
        print(sentence)
    killed = mutations is None or mutations[0] == mutations[1]
    return 0 if killed and all(run.ok for run in runs) else 1


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run seeded scenarios and hold the verdicts against their plans.")
    parser.add_argument("scenarios", type=int, nargs="?", default=500, help="how many; one seed each")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", nargs="+", default=list(NUMBERS), choices=list(NUMBERS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--add", action="store_true", help="keep the other jobs that the result file has")
    parser.add_argument("--mutations", action=argparse.BooleanOptionalAction, default=True, help="errors of the rules")
    return parser.parse_args(arguments)


def run_all(
    seeds: Sequence[int], jobs: Sequence[str], keep: Callable[[list[Suite], list[JobRun]], Any], mutate: bool
) -> tuple[list[Suite], list[JobRun], tuple[int, int] | None]:
    """All jobs over the logs of all seeds; session and broker are started and stopped here."""
    with tempfile.TemporaryDirectory(prefix="twinrun-scenarios-") as folder:
        root = Path(folder)
        spark = build_session("twinrun-scenarios", {**_SESSION, "spark.sql.warehouse.dir": str(root / "warehouse")})
        try:
            broker = start_broker(root / "broker")
            suites: list[Suite] = []
            runs: list[JobRun] = []
            for name, group in (("clicks", ONE_LOG), ("joined", JOINS)):
                (root / name).mkdir()
                world = World(
                    spark,
                    root / name,
                    name,
                    broker.bootstrap_servers,
                    {},
                    PARTITIONS[name],
                    {"orders": f"{name}-orders"},
                )
                # The log never depends on which of its jobs run now.
                suite = mixed_suite(world, seeds, group, MICRO_BATCHES, SIZE)
                if suite is None or not set(group) & set(jobs):
                    continue
                suites.append(suite)
                for topic in (world.topic, *(world.more_topics.values() if suite.second else ())):
                    create_topic(broker.bootstrap_servers, topic, world.partitions)
                land(world, suite)
                for job in (each for each in group if each in jobs):
                    runs.append(run_job(world, suite, job))
                    keep(suites, runs)
                    print(f"{job}: {'as planned' if runs[-1].ok else 'NOT as planned'}, {runs[-1].seconds}", flush=True)
            return suites, runs, kill_mutations(spark) if mutate else None
        finally:
            stop_broker(root / "broker")
            stop_session(spark)


def kill_mutations(spark: SparkSession) -> tuple[int, int]:
    """Put each deliberate error into the explainer's rules and see whether a check fails: how many, how many seen."""
    from tests.unit.explain.test_explain_rules import MUTATIONS, failing, mutated

    if right := failing(spark):
        sys.exit(f"the check {right!r} fails before any deliberate error was made")
    killed = 0
    for name, (module, old, new) in MUTATIONS.items():
        with mutated(module, old, new):
            seen = failing(spark)
        killed += bool(seen)
        print(f"deliberate error, {name}: {f'seen by {seen!r}' if seen else 'NOT seen'}", flush=True)
    return len(MUTATIONS), killed


def summary(
    suites: Sequence[Suite], runs: Sequence[JobRun], mutations: tuple[int, int] | None, seconds: float
) -> dict[str, Any]:
    """The result as JSON; counts are over all jobs, and per job and cause."""
    jobs = {run.job: _job(run) for run in runs}
    seeds = [scenario.seed for suite in suites for scenario in suite.scenarios]
    return {
        "scenarios": len(seeds),
        "seeds": [min(seeds), max(seeds)],
        "records": sum(len(suite.lines) + len(suite.second) for suite in suites),
        "micro_batches": sum(suite.micro_batches for suite in suites),
        **_totals(jobs),
        "mutations": mutations[0] if mutations else None,
        "mutations_killed": mutations[1] if mutations else None,
        "jobs": jobs,
        "seconds": round(seconds, 1),
        "commit": commit(),
        "machine": machine(),
    }


def joined(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Two results over one log, as if their jobs had run together."""
    same = ("scenarios", "seeds", "records", "micro_batches", "commit")
    if any(before[name] != now[name] for name in same):
        sys.exit(f"the results cannot be joined: they differ in {[name for name in same if before[name] != now[name]]}")
    jobs = {**before["jobs"], **now["jobs"]}
    seconds = round(before["seconds"] + now["seconds"], 1)
    kept = {name: before[name] for name in ("mutations", "mutations_killed") if now[name] is None}
    return {**now, **kept, **_totals(jobs), "jobs": jobs, "seconds": seconds}


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
    if result["mutations"] is not None:
        lines.append(f"deliberate errors of the rules: {result['mutations']}, seen {result['mutations_killed']}")
    return lines


def _problems(suites: Sequence[Suite], run: JobRun) -> list[str]:
    """What did not come true, each with the line that makes its scenario again."""
    again = {each.prefix: _again(each, run.job) for suite in suites for each in suite.scenarios}
    named = [f"{sentence} (again: {again.get(c.scenario, '-')})" for c in run.checked for sentence in c.problems]
    return [*run.problems, *named]


def _again(scenario: Scenario, job: str) -> str:
    if scenario.contract.joined:
        return f"python -m bench.scenarios 1 --first-seed {scenario.seed} --jobs {job} --no-mutations"
    return reproducer(scenario, ["--shape", shape_of(scenario.contract)])


if __name__ == "__main__":
    sys.exit(main())
