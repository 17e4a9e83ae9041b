"""One planned log, every engine: run the programs below engines/, and verify what each wrote by its own late rule.

``python -m bench.engines`` starts the development broker, lays half of 20,000 events, runs the engines that are stopped
and started again, lays the other half and runs all; then twinrun's own batch and stream, and ``verify --external`` for
each engine: once as it is, once with planted faults, and once per deliberate error in its rule. An oracle in plain
Python (bench/engine_log.py) says what each rule must lose. Writes bench/results/engines.json and one page. Exit code 1
where a cause is wrong, a row of a deterministic rule is unexplained or a deliberate error passes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import psutil
from confluent_kafka import Producer
from pyspark.sql import SparkSession

from bench.engine_log import GRACE_MS, WINDOW_MS, Log, Lost, RowKey, Sums, expected, planned, sums_of
from bench.engine_runs import ENGINES, HERE, PARTITIONS, Engine, Engines, Ran, dropped_by_engine, records_of
from bench.engines_page import write_page
from bench.machine import commit, cpu_s, machine
from bench.scenarios import _SESSION
from twinrun.broker.process import start_broker, stop_broker
from twinrun.broker.topics import create_topic
from twinrun.config.load import load_config
from twinrun.config.model import Config
from twinrun.explain.verify import verify
from twinrun.external.declared import external_binding
from twinrun.external.verify import verify_external
from twinrun.job.loader import load_job
from twinrun.results.verdict import Verdict
from twinrun.session.spark import build_session, stop_session

RESULTS = Path(__file__).parent / "results" / "engines.json"
PAGE = Path(".data") / "engines" / "engines.html"
TOPICS = {"sales": ("orders", PARTITIONS), "sales_one": ("orders_one", 1)}
SO_FAR = "sales_so_far"
OTHER_CLOCK = {
    "kafka-streams": "quix-key",
    "flink-datastream": "quix-key",
    "flink-sql": "quix-key",
    "quix-key": "partition-order",
    "quix-partition": "quix-key",
    "bytewax": "partition-order",
}
"""A rule with the clock of somebody else: of the key in place of the partition, and the other way round."""
Judged = dict[tuple[RowKey, str], tuple[str, dict[str, int]]]
"""By row and kind of difference: verdict and causes."""


@dataclass
class World:
    """Broker, session, tables."""

    bootstrap: str
    root: Path
    spark: SparkSession | None = None

    def cfg(self, **more: Any) -> Config:
        file = self.root / "conf" / "engines.yaml"
        file.parent.mkdir(exist_ok=True)
        text = {
            "kafka": {"bootstrap_servers": self.bootstrap},
            "warehouse": str(self.root / "wh"),
            "checkpoints": str(self.root / "cp"),
            "report": {"folder": str(self.root / "reports")},
            "sources": {topic: {"topic": topic} for topic, _ in TOPICS.values()},
            "stream": {"max_offsets_per_trigger": 1_000},
        }
        file.write_text(json.dumps(text), encoding="utf-8")
        return load_config(file, [f"{key}={value}" for key, value in more.items()], env={})

    def lay(self, events: Sequence[Any]) -> None:
        """Send events to both topics, each partition in the order of the log."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "enable.idempotence": True})
        for event in events:
            key, value = event.record()
            producer.produce("orders", key=key, value=value, partition=event.partition)
            producer.produce("orders_one", key=key, value=value, partition=0)
            producer.poll(0)
        if producer.flush(30):
            sys.exit("the log could not be laid")

    def external(self, job: str, **declared: Any) -> tuple[Verdict, Judged]:
        """Verify a topic against the batch, and every differing row as it was judged."""
        assert self.spark is not None
        cfg = self.cfg(**{f"external.{job}.{key}": json.dumps(value) for key, value in declared.items()})
        loaded = load_job(HERE / "jobs" / f"{job}.py")
        table = cfg.table("external_differences")
        before = _ids(table)
        verdict = verify_external(self.spark, cfg, loaded, external_binding(cfg, loaded))
        found: Judged = {}
        for row in _table(table).iter_rows(named=True):
            if row["verify_id"] in before:
                continue
            key = json.loads(row["key_id"])
            start = round(datetime.fromisoformat(key["window_start"]).timestamp() * 1000)
            found[(key["shop"], start), row["kind"]] = row["verdict"], dict(row["causes"])
        return verdict, found


def _table(path: str) -> pl.DataFrame:
    if not (Path(path) / "_delta_log").exists():
        return pl.DataFrame(schema={"verify_id": pl.String})  # no verify has had anything to write there
    return pl.read_delta(path)


def _ids(path: str) -> set[str]:
    return set(_table(path)["verify_id"].to_list())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything; 1 where something is not as it has to be."""
    parser = argparse.ArgumentParser(description="Run other engines over one log and explain every difference.")
    parser.add_argument("--only", nargs="+", default=[], help="engines whose names hold one of these texts")
    parser.add_argument("--controls", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--keep", type=Path, help="write the records of each engine's topics to this folder")
    asked = parser.parse_args(arguments)
    commit()
    began = time.monotonic()
    chosen = [each for each in ENGINES if not asked.only or any(text in each.name for text in asked.only)]
    with tempfile.TemporaryDirectory(prefix="twinrun-engines-") as folder:
        root = Path(folder)
        broker = start_broker(root / "broker")
        world = World(broker.bootstrap_servers, root)
        try:
            log = planned()
            ran = run_engines(world, log, chosen)
            if asked.keep:
                keep_records(world, ran, asked.keep)

            def keep(told: dict[str, Any]) -> None:
                """After each engine: minutes of work are not lost with the last of them."""
                told |= {"seconds": round(time.monotonic() - began, 1), "commit": commit(), "machine": machine()}
                asked.out.parent.mkdir(parents=True, exist_ok=True)
                asked.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
                write_page(told, asked.page)

            result = judge_all(world, log, chosen, ran, asked.controls, keep)
        finally:
            stop_broker(root / "broker")
            if world.spark is not None:
                stop_session(world.spark)
    for sentence in result["problems"]:
        print(sentence)
    print(f"{asked.out} and {asked.page}, {result['seconds']:.0f} s")
    return 1 if result["problems"] else 0


def run_engines(world: World, log: Log, chosen: Sequence[Engine]) -> dict[str, Ran]:
    """Lay the log in two halves and run each engine; one after the other, so that none is measured beside another."""
    (world.root / "classes").mkdir()
    engines = Engines(world.bootstrap, world.root, print)
    for topic, partitions in TOPICS.values():
        create_topic(world.bootstrap, topic, partitions)
    ran: dict[str, Ran] = {}
    for number, engine in enumerate(chosen):
        engines.prepare(engine.needs)
        ran[engine.name] = Ran(f"result-{number}")
        engines.topics(engine, ran[engine.name].out)
    for part, again in ((log.events[: log.half], True), (log.events[log.half :], False)):
        world.lay(part)
        for engine in chosen:
            if again and not engine.restarted:
                continue
            mine = ran[engine.name]
            engines.run(engine, "orders_one" if engine.one_partition else "orders", mine.out, mine)
            print(f"{engine.name}: {mine.rows} rows, {mine.seconds:.0f} s", flush=True)
    return ran


def keep_records(world: World, ran: dict[str, Ran], folder: Path) -> None:
    """The records of every topic as they came, keys and values in hexadecimal."""
    folder.mkdir(parents=True, exist_ok=True)
    for mine in ran.values():
        for topic in (mine.out, *(mine.out + more for each in ENGINES for more in each.more_topics)):
            try:
                found = records_of(world.bootstrap, topic)
            except Exception:
                continue  # it has no such topic
            lines = [[p, None if k is None else k.hex(), None if v is None else v.hex()] for p, k, v in found]
            (folder / f"{topic}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


@dataclass
class Report:
    """What the result says of an engine."""

    fields: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def judge_all(
    world: World,
    log: Log,
    chosen: Sequence[Engine],
    ran: dict[str, Ran],
    controls: bool,
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
        report = judge(world, log, engine, ran[engine.name], controls)
        reports[engine.name] = report.fields
        problems += [f"{engine.name}: {each}" for each in report.problems]
        print(f"{engine.name}: {json.dumps(report.fields)}", flush=True)
        told = _told(log, spark, reports, problems)
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


def run_twinrun(world: World, log: Log) -> dict[str, Any]:
    """Both modes over both topics, and the ordinary verify."""
    assert world.spark is not None
    ingest, batch, stream = (
        importlib.import_module(name)
        for name in ("twinrun.streaming.ingest", "twinrun.batch.runner", "twinrun.streaming.runner")
    )
    cpu: dict[str, float] = {}
    for job, (source, _) in TOPICS.items():
        loaded = load_job(HERE / "jobs" / f"{job}.py")
        ingest.run(world.spark, world.cfg(), loaded.sources[0])
        for name, runner in (("batch", batch), ("stream", stream)):
            if (job, name) == ("sales_one", "stream"):
                continue
            before = cpu_s()
            runner.run(world.spark, world.cfg(), loaded)
            cpu.setdefault(name, cpu_s() - before)
        print(f"twinrun {job} over {source}: {cpu}", flush=True)
    batch.run(world.spark, world.cfg(), load_job(HERE / "jobs" / f"{SO_FAR}.py"))
    verdict = verify(world.spark, world.cfg(), load_job(HERE / "jobs" / "sales.py"))
    version = f"Spark {world.spark.version}"
    million = 1e6 / len(log.events)
    return {
        "version": version,
        "batch": {
            "rows": verdict.rows_compared + verdict.rows_pending,
            "cpu_s_per_million": round(cpu["batch"] * million),
        },
        "stream": {
            "rows": verdict.rows_compared,
            "lost": sum(each.events or 0 for each in verdict.causes if each.cause == "late_dropped"),
            "explained": verdict.rows_explained,
            "unexplained": verdict.rows_unexplained,
            "pending": verdict.rows_pending,
            "outcome": verdict.outcome,
            "cpu_s_per_million": round(cpu["stream"] * million),
        },
        "memory_bytes": _java_memory(),
    }


def _java_memory() -> int:
    """Of this process and its Java, without the broker."""
    own = psutil.Process()
    java = [each for each in own.children() if "java" in each.name() and "kafka.Kafka" not in each.cmdline()]
    return sum(each.memory_info().rss for each in (own, *java))


def judge(world: World, log: Log, engine: Engine, ran: Ran, controls: bool) -> Report:
    """Verify an engine's result as it is, with planted faults, and by rules that are wrong."""
    report = Report()
    job = "sales_one" if engine.one_partition else SO_FAR if engine.so_far else "sales"
    lost = None if engine.rule == "none" else expected(log, engine.rule, one_partition=engine.one_partition)
    declared = {"topic": ran.out, "late_rule": engine.rule, **engine.declared}
    if not engine.so_far:
        declared["lateness"] = "10 seconds"
    if engine.rule == "kafka-streams":
        source = TOPICS[job][0]
        declared["restarts"] = {source: [{str(p): o for p, o in log.half_offsets().items()}]}
    verdict, rows = world.external(job, **declared)
    batch = sums_of(log.events)
    wrong, missed = against_oracle(rows, lost, batch, verdict)
    fields = report.fields = {
        "version": engine.version,
        "late_rule": engine.rule,
        "rows": ran.rows,
        "lost": len(lost.dropped) if lost else _missing(world, ran.out, batch),
        "lost_by_engine": dropped_by_engine(ran.said),
        "equal": verdict.rows_compared - verdict.rows_explained - verdict.rows_unexplained,
        "explained": verdict.rows_explained,
        "unexplained": verdict.rows_unexplained,
        "pending": verdict.rows_pending,
        "causes": {each.cause: each.rows for each in verdict.causes},
        "wrong": len(wrong),
        "outcome": verdict.outcome,
        "first_row_s": None if ran.first_row_s is None else round(ran.first_row_s, 1),
        "cpu_s_start": round(ran.cpu_start_s, 1),
        "cpu_s_per_million": round((ran.cpu_s - ran.cpu_start_s) * 1e6 / len(log.events)),
        "memory_bytes": ran.rss_bytes,
        "seconds": round(ran.seconds, 1),
        "notes": [note for note in verdict.notes if "rule" in note],
    }
    report.problems += [f"the cause of {row} is {causes}, the oracle says otherwise" for row, causes in wrong[:5]]
    report.problems += [f"{row} differs by the rule, and is {how}" for row, how in missed[:5]]
    if lost is not None and verdict.rows_unexplained:
        report.problems.append(f"{verdict.rows_unexplained} rows are unexplained")
    if engine.own_form:
        own, own_rows = world.external(job, **{**declared, **engine.own_form, "topic": ran.out + engine.more_topics[0]})
        fields["own_form"] = {**engine.own_form, "explained": own.rows_explained, "unexplained": own.rows_unexplained}
        if own_rows != rows or own.external is None or own.external.malformed:
            report.problems.append(f"its own form {engine.own_form} is judged otherwise than the rows in JSON")
    if controls:
        fields["planted"] = plant(world, engine, job, ran, declared, report, rows)
        if lost is not None:
            fields["controls"] = deny(world, engine, job, declared, lost, batch, report)
    return report


def against_oracle(
    rows: Judged, lost: Lost | None, batch: dict[RowKey, Sums], verdict: Verdict
) -> tuple[list[tuple[Any, Any]], list[tuple[Any, Any]]]:
    """Rows whose cause the oracle contradicts, and rows that differ by the rule and were not explained."""
    if lost is None:
        return [(row, causes) for row, (how, causes) in rows.items() if how == "explained"], []
    gone = Counter(row for row in lost.rows_of_dropped)
    wanted: dict[RowKey, dict[str, int]] = {}
    for row, sums in batch.items():
        causes = {}
        if lost.counted.get(row) != sums:
            causes["late_dropped"] = gone[row]
        if len(lost.written.get(row, ())) > 1:
            causes["emitted_again"] = 0
        wanted[row] = causes
    wrong, explained = [], set()
    for (row, kind), (how, causes) in rows.items():
        if how != "explained":
            continue
        explained.add(row)
        if {name: n for name, n in causes.items() if name != "pending"} != wanted.get(row) or (
            "pending" in causes and row not in lost.waits
        ):
            wrong.append(((row, kind), causes))
    ready = None if verdict.cut.watermark_ms is None else verdict.cut.watermark_ms
    missed = [
        (row, rows.get((row, "changed"), ("equal", {}))[0])
        for row, causes in wanted.items()
        if causes and row not in explained and row not in lost.waits and (ready is None or row[1] + WINDOW_MS <= ready)
    ]
    return wrong, missed


def _missing(world: World, topic: str, batch: dict[RowKey, Sums]) -> int:
    """Orders that stand in the batch and in no row of a result; where windows are written again the largest counts."""
    found: Counter[RowKey] = Counter()
    for _, _, value in records_of(world.bootstrap, topic):
        row = json.loads(value or b"{}")
        key = row["shop"], row["window_start"]
        found[key] = max(found[key], row["orders"])
    return sum(orders for orders, _ in batch.values()) - sum(found[row] for row in batch)


def plant(
    world: World, engine: Engine, job: str, ran: Ran, declared: dict[str, Any], report: Report, clean: Judged
) -> dict[str, Any]:
    """A row lost, one doubled and one changed in a copy of the result: each must be found, and not as lateness."""
    topic = f"{ran.out}-planted"
    create_topic(world.bootstrap, topic, 1 if engine.one_partition else PARTITIONS)
    records = records_of(world.bootstrap, ran.out)
    once = Counter(_row_of(value) for _, _, value in records)
    # Rows that stand once and are those of the batch: nothing else is to be told of them.
    differs = {row for row, _ in clean}
    sound = [
        n for n, (_, _, value) in enumerate(records) if once[_row_of(value)] == 1 and _row_of(value) not in differs
    ]
    gone, twice, other = sound[40], sound[50], sound[60]
    producer = Producer({"bootstrap.servers": world.bootstrap})
    for number, (partition, key, value) in enumerate(records):
        if number == gone:
            continue
        if number == other:
            fields = json.loads(value or b"{}")
            value = json.dumps({**fields, "cents": fields["cents"] + 1}).encode()
        for _ in range(2 if number == twice else 1):
            producer.produce(topic, key=key, value=value, partition=partition)
        producer.poll(0)
    producer.flush(30)
    _, rows = world.external(job, **{**declared, "topic": topic})
    lost_key, twice_key, other_key = (_row_of(records[n][2]) for n in (gone, twice, other))
    found = {
        "lost": rows.get((lost_key, "only_batch"), ("equal", {})),
        "doubled": _any(rows, twice_key),
        "changed": rows.get((other_key, "changed"), ("equal", {})),
    }
    wanted = {
        "lost": [("unexplained", {})],
        "doubled": [("explained", {"sink_duplicate"})],
        "changed": [("unexplained", {})],
    }
    if engine.so_far:
        wanted["doubled"] = [("equal", {})]  # the same row again replaces itself
    told = {}
    for name, (how, causes) in found.items():
        told[name] = how if not causes else f"{how}: {', '.join(sorted(causes))}"
        if (how, set(causes)) not in [(h, set(c)) for h, c in wanted[name]] and (how != "unexplained"):
            report.problems.append(f"the planted {name} row is {told[name]}")
    return told


def _any(rows: Judged, key: RowKey) -> tuple[str, dict[str, int]]:
    return next((judged for (row, _), judged in rows.items() if row == key), ("equal", {}))


def _row_of(value: bytes | None) -> RowKey:
    row = json.loads(value or b"{}")
    start = row["window_start"]
    if isinstance(start, str):
        start = round(datetime.fromisoformat(start).replace(tzinfo=UTC).timestamp() * 1000)
    return row["shop"], start


def deny(
    world: World,
    engine: Engine,
    job: str,
    declared: dict[str, Any],
    lost: Lost,
    batch: dict[RowKey, Sums],
    report: Report,
) -> dict[str, Any]:
    """Each deliberate error in the rule must leave rows unexplained, and must claim no wrong cause."""
    errors: dict[str, dict[str, Any]] = {
        "1 ms longer": {"lateness": f"{GRACE_MS + 1} milliseconds"},
        "1 ms shorter": {"lateness": f"{GRACE_MS - 1} milliseconds"},
        f"the clock of {OTHER_CLOCK[engine.rule]}": {"late_rule": OTHER_CLOCK[engine.rule], "restarts": {}},
    }
    if "restarts" in declared:
        ((source, (mark,)),) = declared["restarts"].items()
        errors["restart forgotten"] = {"restarts": {}}
        errors["restart an offset late"] = {"restarts": {source: [{p: o + 1 for p, o in mark.items()}]}}
    told = {}
    for name, change in errors.items():
        verdict, rows = world.external(job, **{**declared, **change})
        wrong, _ = against_oracle(rows, lost, batch, verdict)
        refuted = any("contradict" in note for note in verdict.notes)
        seen = verdict.rows_unexplained > 0 and verdict.exit_code == 1 and not wrong
        told[name] = {
            "unexplained": verdict.rows_unexplained,
            "explained": verdict.rows_explained,
            "refuted": refuted,
            "wrong": len(wrong),
            "seen": seen,
        }
        if not seen:
            report.problems.append(f"the deliberate error {name!r} passes: {told[name]}")
    return told


if __name__ == "__main__":
    sys.exit(main())
