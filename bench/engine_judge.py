"""Hold each engine's verify against the oracle; plant faults in its result, and declare its rule wrongly on purpose."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Producer

from bench.engine_log import GRACE_MS, WINDOW_MS, Log, Lost, RowKey, Sums, expected, sums_of
from bench.engine_runs import PARTITIONS, Engine, Ran, dropped_by_engine, records_of
from bench.engine_world import SO_FAR, TOPICS, Judged, World
from twinrun.broker.topics import create_topic
from twinrun.results.verdict import Verdict

OTHER_CLOCK = {
    "kafka-streams": "quix-key",
    "flink-datastream": "quix-key",
    "flink-sql": "quix-key",
    "quix-key": "partition-order",
    "quix-partition": "quix-key",
    "bytewax": "partition-order",
}
"""A rule with the clock of somebody else: of the key in place of the partition, and the other way round."""


@dataclass
class Report:
    """What the result says of an engine."""

    fields: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def declaration(log: Log, engine: Engine, ran: Ran) -> tuple[str, dict[str, Any]]:
    """The job that an engine's result belongs to, and what is declared of the result."""
    job = "sales_one" if engine.one_partition else SO_FAR if engine.so_far else "sales"
    declared = {"topic": ran.out, "late_rule": engine.rule, **engine.declared}
    if not engine.so_far:
        declared["lateness"] = "10 seconds"
    if engine.rule == "kafka-streams":
        source = TOPICS[job][0]
        declared["restarts"] = {source: [{str(p): o for p, o in log.half_offsets().items()}]}
    return job, declared


def judge(world: World, log: Log, engine: Engine, ran: Ran, controls: bool, by_log: bool = True) -> Report:
    """Verify an engine's result as it is, with planted faults, and by rules that are wrong.

    Parameters
    ----------
    by_log : bool
        The log alone decides what the engine drops. Else rows may stay unexplained, and only claims are held against
        the oracle.
    """
    report = Report()
    job, declared = declaration(log, engine, ran)
    lost = None if engine.rule == "none" else expected(log, engine.rule, one_partition=engine.one_partition)
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
    if by_log:
        report.problems += [f"{row} differs by the rule, and is {how}" for row, how in missed[:5]]
    if by_log and lost is not None and verdict.rows_unexplained:
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


def deliberate(engine: Engine, declared: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Errors in the declaration of an engine's rule, by name."""
    errors: dict[str, dict[str, Any]] = {
        "1 ms longer": {"lateness": f"{GRACE_MS + 1} milliseconds"},
        "1 ms shorter": {"lateness": f"{GRACE_MS - 1} milliseconds"},
        f"the clock of {OTHER_CLOCK[engine.rule]}": {"late_rule": OTHER_CLOCK[engine.rule], "restarts": {}},
    }
    if "restarts" in declared:
        ((source, (mark,)),) = declared["restarts"].items()
        errors["restart forgotten"] = {"restarts": {}}
        errors["restart an offset late"] = {"restarts": {source: [{p: o + 1 for p, o in mark.items()}]}}
    return errors


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
    told = {}
    for name, change in deliberate(engine, declared).items():
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
