"""One planned log, every engine: run the programs below engines/, and verify what each wrote by its own late rule.

``python -m bench.engines`` starts the development broker, lays half of 20,000 events, runs the engines that are stopped
and started again, lays the other half and runs all; then twinrun's own batch and stream, and ``verify --external`` for
each engine: once as it is, once with planted faults, and once per deliberate error in its rule. With ``--pace`` all
engines run at the same time while the log comes, so many orders a second. An oracle in plain Python
(bench/engine_log.py) says what each rule must lose. Writes bench/results/engines.json (engines_at_a_pace.json) and one
page. Exit code 1 where a cause is wrong, a row of a deterministic rule is unexplained or a deliberate error passes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.engine_judge import judge
from bench.engine_log import GRACE_MS, MINUTES, Log, planned, sums_of
from bench.engine_records import keep_records
from bench.engine_runs import ENGINES, Engine, Engines, Live, Ran
from bench.engine_world import TOPICS, World, run_twinrun
from bench.engines_page import write_page
from bench.machine import commit, machine
from bench.scenarios import _SESSION
from twinrun.broker.process import start_broker, stop_broker
from twinrun.broker.topics import create_topic
from twinrun.session.spark import build_session, stop_session

RESULTS = Path(__file__).parent / "results"
PAGES = Path(".data") / "engines"
_READY_S = 120.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything; 1 where something is not as it has to be."""
    parser = argparse.ArgumentParser(description="Run other engines over one log and explain every difference.")
    parser.add_argument("--only", nargs="+", default=[], help="engines whose names hold one of these texts")
    parser.add_argument("--controls", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--pace", type=float, default=0.0, help="orders a second; at once where nothing is said")
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--minutes", type=int, default=MINUTES, help="of event time")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--keep", type=Path, help="write the records of each engine's topics to this folder")
    asked = parser.parse_args(arguments)
    commit()
    began = time.monotonic()
    name = "engines_at_a_pace" if asked.pace else "engines"
    out, shown = asked.out or RESULTS / f"{name}.json", asked.page or PAGES / f"{name}.html"
    chosen = [each for each in ENGINES if not asked.only or any(text in each.name for text in asked.only)]
    with tempfile.TemporaryDirectory(prefix="twinrun-engines-") as folder:
        root = Path(folder)
        broker = start_broker(root / "broker")
        world = World(broker.bootstrap_servers, root)
        try:
            log = planned(asked.events, asked.minutes)
            ran = run_engines(world, log, chosen, asked.pace)
            if asked.keep:
                keep_records(world.bootstrap, ran, asked.keep)

            def keep(told: dict[str, Any]) -> None:
                """After each engine: minutes of work are not lost with the last of them."""
                told |= {"seconds": round(time.monotonic() - began, 1), "commit": commit(), "machine": machine()}
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
                write_page(told, shown)

            result = judge_all(world, log, chosen, ran, asked.controls, asked.pace, keep)
        finally:
            stop_broker(root / "broker")
            if world.spark is not None:
                stop_session(world.spark)
    for sentence in result["problems"]:
        print(sentence)
    print(f"{out} and {shown}, {result['seconds']:.0f} s")
    return 1 if result["problems"] else 0


def run_engines(world: World, log: Log, chosen: Sequence[Engine], pace: float) -> dict[str, Ran]:
    """Lay the log in two halves and run each engine; some are stopped in between and started again."""
    (world.root / "classes").mkdir()
    engines = Engines(world.bootstrap, world.root, print)
    for topic, partitions in TOPICS.values():
        create_topic(world.bootstrap, topic, partitions)
    ran: dict[str, Ran] = {}
    for number, engine in enumerate(chosen):
        engines.prepare(engine.needs)
        ran[engine.name] = Ran(f"result-{number}")
        engines.topics(engine, ran[engine.name].out)
    (_at_a_pace if pace else _in_bulk)(world, log, chosen, engines, ran, pace)
    return ran


def _run(world: World, engines: Engines, engine: Engine, mine: Ran, live: Live | None = None) -> None:
    engines.run(engine, world.topic("sales_one" if engine.one_partition else "sales"), mine.out, mine, live)
    print(f"{engine.name}: {mine.rows} rows, {mine.seconds:.0f} s", flush=True)


def _in_bulk(world: World, log: Log, chosen: Sequence[Engine], engines: Engines, ran: dict[str, Ran], _: float) -> None:
    """One after the other, so that none is measured beside another."""
    for part, again in ((log.events[: log.half], True), (log.events[log.half :], False)):
        world.lay(part)
        for engine in chosen:
            if not again or engine.restarted:
                _run(world, engines, engine, ran[engine.name])


def _at_a_pace(
    world: World, log: Log, chosen: Sequence[Engine], engines: Engines, ran: dict[str, Ran], pace: float
) -> None:
    """All at the same time, while the records come; those that are restarted, once half of them have come."""
    half_laid, all_laid = threading.Event(), threading.Event()
    halves = [engine for engine in chosen if engine.restarted]
    with ThreadPoolExecutor(len(chosen)) as pool:

        def begin(some: Sequence[Engine], laid: threading.Event) -> list[Future[None]]:
            lives = [Live(laid) for _ in some]
            begun = [
                pool.submit(_run, world, engines, engine, ran[engine.name], live)
                for engine, live in zip(some, lives, strict=True)
            ]
            for engine, live in zip(some, lives, strict=True):
                if not live.ready.wait(_READY_S):
                    sys.exit(f"{engine.name} is not ready after {_READY_S:.0f} s")
            return begun

        try:
            whole = begin([engine for engine in chosen if not engine.restarted], all_laid)
            first = begin(halves, half_laid)
            world.lay(log.events[: log.half], pace)
            half_laid.set()
            for each in first:
                each.result()
            second = begin(halves, all_laid)
            world.lay(log.events[log.half :], pace)
        finally:
            half_laid.set()
            all_laid.set()
        for each in (*whole, *second):
            each.result()


def judge_all(
    world: World,
    log: Log,
    chosen: Sequence[Engine],
    ran: dict[str, Ran],
    controls: bool,
    pace: float,
    keep: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Run twinrun's batch and stream, verify each engine, and put together what the result file says."""
    world.spark = build_session(
        "twinrun-engines", {**_SESSION, "spark.sql.warehouse.dir": str(world.root / "warehouse")}
    )
    spark = run_twinrun(world, log)
    reports: dict[str, Any] = {}
    problems: list[str] = []
    told: dict[str, Any] = {}
    for engine in chosen:
        report = judge(world, log, engine, ran[engine.name], controls, engine.at_a_pace or not pace)
        reports[engine.name] = report.fields
        problems += [f"{engine.name}: {each}" for each in report.problems]
        print(f"{engine.name}: {json.dumps(report.fields)}", flush=True)
        told = _told(log, spark, reports, problems) | {"per_s": pace or None}
        keep(told)
    return told


def _told(log: Log, spark: dict[str, Any], reports: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    killed = [c["seen"] for each in reports.values() for c in each.get("controls", {}).values()]
    return {
        "events": len(log.events),
        "windows": len(sums_of(log.events)),
        "grace_ms": GRACE_MS,
        "spark": spark,
        "engines": reports,
        "controls": len(killed),
        "controls_seen": sum(killed),
        "problems": problems,
    }


if __name__ == "__main__":
    sys.exit(main())
