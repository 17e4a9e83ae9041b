"""What the product's rules must give over the hand-made log, each check against the oracle."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from tests.unit.explain import explain_log as log
from tests.unit.explain import explain_oracle as oracle
from twinrun.job.dataflow import LateRule

MINUTES = {"tumbling": (20_000, 20_000), "sliding": (20_000, 10_000)}
JOBS = {"tumbling": log.TUMBLING, "sliding": log.SLIDING}


def _module(name: str) -> Any:
    return importlib.import_module(f"twinrun.{name}")


class Bench:
    """The marked events, made anew by whatever rules the modules hold now."""

    def __init__(self, spark: SparkSession) -> None:
        self.spark = spark
        self.cut = log.cut(spark)
        marked = _module("explain.evidence").mark_events(log.events_frame(spark), None, "clicks", self.cut, log.TOPIC)
        self.marked = marked.localCheckpoint()


def read_when(bench: Bench) -> bool:
    rows = bench.marked.select("_partition", "_offset", "_micro_batch", "_late_ms").collect()
    found = {(r[0], r[1]): (r[2], r[3]) for r in rows}
    return found == {
        (e.partition, e.offset): (n, oracle.judged_by_ms(e))
        if (n := oracle.micro_batch(e)) is not None
        else (None, None)
        for e in log.EVENTS
    }


def outside(bench: Bench) -> bool:
    rows = bench.marked.filter("_cause IS NOT NULL").groupBy("_cause").count().collect()
    return {r[0]: r[1] for r in rows} == dict(oracle.before_or_beyond())


def late(shape: str) -> Callable[[Bench], bool]:
    def check(bench: Bench) -> bool:
        length, slide = MINUTES[shape]
        rule = LateRule("window", length * 1000, slide * 1000)
        rows = _module("explain.used").late_rows(bench.marked, shape, log.SOURCE, rule, "q")
        found = rows.select(F.get_json_object("id", "$.id"), "offset", "window_start_ms").collect()
        return {tuple(row) for row in found} == oracle.late_pairs(length, slide)

    return check


def stream(shape: str) -> Callable[[Bench], bool]:
    def check(bench: Bench) -> bool:
        rows = _module("explain.used").stream_rows(JOBS[shape], bench.marked, {})
        found = {(r["page"], r["ms"]): r["n"] for r in rows.withColumn("ms", F.unix_millis("window_start")).collect()}
        return found == dict(oracle.stream_counts(*MINUTES[shape]))

    return check


def by_time(rule: LateRule, margin_ms: int) -> Callable[[Bench], bool]:
    def check(bench: Bench) -> bool:
        dropped = _module("explain.used").event_dropped(log.SOURCE, rule)
        rows = bench.marked.filter(dropped).select("_partition", "_offset").collect()
        return {tuple(row) for row in rows} == oracle.dropped_by_time(margin_ms)

    return check


def copies(bench: Bench) -> bool:
    read = bench.marked.filter("_micro_batch IS NOT NULL")
    rows = _module("events.decode").copies_kept(read, log.SOURCE).select("_partition", "_offset").collect()
    return {tuple(row) for row in rows} == oracle.copies_kept()


def needs(bench: Bench) -> bool:
    rule = LateRule("window", 20_000_000, 20_000_000)
    read = bench.marked.filter("_micro_batch IS NOT NULL")
    rows = (
        _module("whatif.whatif").with_need(read, log.SOURCE, rule).select("_partition", "_offset", "_need_ms").collect()
    )
    return {(r[0], r[1]): r[2] for r in rows} == oracle.needs_ms(20_000)


def recording(bench: Bench) -> bool:
    module = _module("explain.replay")
    # The second cut started where its first micro-batch ended: that one reads nothing, and is run all the same.
    at_the_end = replace(bench.cut, start={"clicks": {0: 1_000_000}})
    found = [module.segments(module.recorded(cut)) for cut in (bench.cut, at_the_end)]
    expected = [((0, 1), True), ((3, 4, 5, 6, 7), False)]
    return all([(part.data, part.idle_after) for part in parts] == expected for parts in found)


def closed(bench: Bench) -> bool:
    rows = _module("explain.used").stream_rows(log.TUMBLING, bench.marked, {})
    kept = (
        _module("explain.differing").closed(log.TUMBLING, rows, log.T0_MS + 60_000).agg(F.max("window_start")).collect()
    )
    return bool(kept[0][0].timestamp() * 1000 == log.T0_MS + 40_000)


def first_operators(bench: Bench) -> bool:
    module = _module("job.dataflow")
    flows = {name: module.dataflow(bench.spark, job, {}) for name, job in log.CHAINS.items()}
    found = {
        name: {(rule.kind, rule.window_us, rule.slide_us, rule.gap_us) for rule in flow.rules.values()}
        for name, flow in flows.items()
    }
    return found == log.FIRST and [name for name, flow in flows.items() if flow.closed_form] == ["projection"]


CHECKS: dict[str, Callable[[Bench], bool]] = {
    "read when": read_when,
    "outside the cut": outside,
    "late, tumbling": late("tumbling"),
    "late, sliding": late("sliding"),
    "stream rows, tumbling": stream("tumbling"),
    "stream rows, sliding": stream("sliding"),
    "late by time": by_time(LateRule("time"), 0),
    "late by session": by_time(LateRule("session", gap_us=5_000_000), 5_000),
    "copies kept": copies,
    "lateness needed": needs,
    "recording": recording,
    "closed": closed,
    "first operators": first_operators,
}
