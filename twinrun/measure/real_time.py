"""An arm by Spark's real-time trigger: each record goes on to a topic as it comes, with no micro-batch to wait for.

Spark runs it for queries without state from Kafka to Kafka. It keeps a task per partition busy as long as a micro-batch
lasts, so that the query has a process and a session of its own, with as many slots as the topic has partitions. It
tells nothing before a micro-batch ends: what it has done is seen in the topic that it writes, whose records have the
broker's time. What it wrote is compared with the batch as the result of another engine would be.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from twinrun.broker.topics import create_topic, offset_ranges
from twinrun.config.model import Config
from twinrun.config.sections import ExternalBinding, SourceBinding
from twinrun.errors import MachineError, TwinrunError
from twinrun.events.decode import decode, valid_events
from twinrun.external.declared import external_binding
from twinrun.external.verify import verify_external
from twinrun.job.dataflow import dataflow
from twinrun.job.job import Job
from twinrun.measure.arms import LEAST_REAL_TIME_MS, Arm
from twinrun.measure.bench import ArmTables, Bench, Did
from twinrun.measure.child import START_S, Child, as_child, child_of, still_up, wait_for
from twinrun.measure.freshness import Freshness, key_fields, real_time_freshness
from twinrun.measure.usage import Peak, cpu, peak_memory
from twinrun.produce.producer import produce
from twinrun.results.publish import keyed
from twinrun.results.verdict import Verdict
from twinrun.session.plain import plain_errors, query_error
from twinrun.tables.kafka import kafka_stream
from twinrun.tables.static import pin_tables, read_static

_READY = "READY"
_WARM_S, _WARM_RECORDS = 10.0, 4_000
"""How long a query runs on other records before the one that is measured, in the same JVM; and how many they are."""
_NOT_ALLOWED = re.compile(r"The operator\(s\): (.+?) (?:is|are) not in the operator allowlist")
_QUIET_S, _LOOK_S = 8.0, 1.0
"""A topic of results that has had no record for so long after the load is whole; verify says whether it is."""


@dataclass(frozen=True)
class Leg:
    """A query of the process: what it reads and writes, and how long it runs; ``for_s`` None: until it is ended."""

    topic: str
    results: str
    checkpoint: str
    every_ms: int
    for_s: float | None = None


def why_not(bench: Bench) -> str:
    """Why an arm of this job cannot be measured in real time; empty where it can. Starts the query once: half a minute.

    Spark says itself which operators it takes, and only when a query starts.
    """
    job, of_arm = bench.job, ArmTables(bench, bench.folder / "asked", _warm_topic(bench))
    statics = _statics(bench.spark, of_arm.cfg(), job)
    flow = dataflow(bench.spark, job, {name: frame.schema for name, frame in statics.items()})
    if flow.operators:
        return f"{job.job_name} keeps state: its plan has the operator {flow.operators[0]}"
    if not key_fields(bench.spark, job, statics):
        return f"not all keys of {job.job_name} are fields of the event as they are: no row says of which event it is"
    of_arm.folder.mkdir()
    _fill_warm_up(bench)
    leg = _warm_leg(of_arm, LEAST_REAL_TIME_MS, "asked", 2.0)
    try:
        with _running(of_arm, [leg]) as child:
            wait_for(bench.stop, child, lambda: _READY in child.lines(), START_S, "did not begin")
            child.end()
    except MachineError as error:
        return refused(job, error.found)
    return ""


def run_real_time(of_arm: ArmTables, arm: Arm) -> Did:
    """Run the query under the load, until nothing more comes out of it.

    Raises
    ------
    MachineError
        It did not start, or ended by itself.
    """
    bench, results = of_arm.bench, _results_of(of_arm)
    servers = bench.broker.bootstrap_servers
    _fill_warm_up(bench)
    _results_topic(servers, results, bench.partitions)
    checkpoint = str(of_arm.folder / "checkpoints" / "real-time")
    legs = [
        _warm_leg(of_arm, LEAST_REAL_TIME_MS, "warm-up", _WARM_S),
        Leg(of_arm.topic, results, checkpoint, arm.every_ms),
    ]
    with _running(of_arm, legs) as child, peak_memory(bench.broker.pid, child.process.pid) as peak:
        wait_for(bench.stop, child, lambda: _READY in child.lines(), START_S + _WARM_S, "did not begin")
        did = _under_load(of_arm, child, peak, results)
        child.end()
    return did


def verify_topic(of_arm: ArmTables) -> Verdict:
    """Compare the rows in the topic with those of the batch, all of them, each as often as it is there."""
    bench = of_arm.bench
    binding = ExternalBinding(topic=_results_of(of_arm), time_format="iso8601", rows="append")
    cfg = of_arm.cfg().model_copy(update={"external": {bench.job.job_name: binding}})
    return verify_external(bench.spark, cfg, bench.job, external_binding(cfg, bench.job), wait_s=0.0)


def real_time_rows(spark: SparkSession, cfg: Config, job: Job) -> DataFrame:
    """The job's rows as records of a topic, ``key`` and ``value``; a stream. Lazy."""
    frames = _statics(spark, cfg, job)
    for source in job.sources:
        raw = kafka_stream(spark, cfg, cfg.source(source.name), None)
        frames[source.name] = valid_events(decode(raw, source), source)
    return keyed(job.apply(frames), job).select("key", F.col("text").alias("value"))


def refused(job: Job, said: str) -> str:
    """What kept the query from running, without Spark's advice to try it nevertheless."""
    found = _NOT_ALLOWED.search(said)
    if found is None:
        return f"{job.job_name} does not run in real time: {said.rstrip('.')}"
    operators = ", ".join(name.strip().rsplit(".", 1)[-1] for name in found[1].split(","))
    return f"Spark does not take {job.job_name} in real time: {operators} is not among the operators that it allows"


def _under_load(of_arm: ArmTables, child: Child, peak: Peak, results: str) -> Did:
    bench = of_arm.bench
    pids = bench.broker.pid, child.process.pid
    load, start_s = of_arm.load()
    try:
        wait_for(bench.stop, child, lambda: time.time() >= start_s, START_S, "waited for nothing")
        began = ended = cpu(*pids)
        last, quiet_since, over = -1, time.monotonic(), False
        until_s = start_s + bench.dues[-1].due_s + bench.settle_s
        while time.time() < until_s and not (over and time.monotonic() - quiet_since > _QUIET_S):
            written = _written(bench, results)
            if written != last or not over:
                last, quiet_since, ended = written, time.monotonic(), cpu(*pids)
            over = load.over
            still_up(bench.stop, child)
            bench.stop.wait(_LOOK_S)
        quiet = over and time.monotonic() - quiet_since > _QUIET_S
        sent = load.result()
    finally:
        load.stop()

    def fresh() -> Freshness:
        cfg = of_arm.cfg()
        return real_time_freshness(bench.spark, cfg, bench.job, results, of_arm.batch_state(), start_s)

    return Did(start_s, sent, ended.since(began), peak, quiet and sent.kept_pace, fresh)


def _written(bench: Bench, topic: str) -> int:
    return sum(high for _, high in offset_ranges(bench.broker.bootstrap_servers, topic).values())


def _results_of(of_arm: ArmTables) -> str:
    return f"{of_arm.topic}-results"


def _results_topic(servers: str, topic: str, partitions: int) -> None:
    """A topic whose records have the time at which the broker appended them."""
    create_topic(servers, topic, partitions, config={"message.timestamp.type": "LogAppendTime"})


def _fill_warm_up(bench: Bench) -> None:
    """A topic of records that are in no figure, and one for what becomes of them; made once."""
    topic, made = _warm_topic(bench), bench.folder / "real-time-warm-up.made"
    if made.exists():
        return
    servers = bench.broker.bootstrap_servers
    create_topic(servers, topic, bench.partitions)
    _results_topic(servers, f"{topic}-results", bench.partitions)
    produce([each.record for each in bench.dues[:_WARM_RECORDS]], topic, {"bootstrap.servers": servers})
    made.touch()


def _warm_topic(bench: Bench) -> str:
    return f"{bench.topics}-real-time-warm-up"


def _warm_leg(of_arm: ArmTables, every_ms: int, name: str, for_s: float) -> Leg:
    topic = _warm_topic(of_arm.bench)
    return Leg(topic, f"{topic}-results", str(of_arm.folder / name), every_ms, for_s)


def _statics(spark: SparkSession, cfg: Config, job: Job) -> dict[str, DataFrame]:
    return read_static(spark, cfg, pin_tables(spark, cfg, job))


@contextmanager
def _running(of_arm: ArmTables, legs: list[Leg]) -> Iterator[Child]:
    """The process of the queries, with a slot for each partition on a local master."""
    bench = of_arm.bench
    told = [bench.name, json.dumps([asdict(leg) for leg in legs]), str(bench.partitions)]
    master = with_slots(str(bench.spark.sparkContext.master), bench.partitions)
    with child_of("twinrun.measure.real_time", told, of_arm.cfg(), master, of_arm.folder / "real-time.log") as child:
        yield child


def with_slots(master: str, partitions: int) -> str:
    """A local master with at least so many threads; any other as it is."""
    found = re.fullmatch(r"local(?:\[(\d+|\*)(?:,\s*\d+)?\])?", master)
    if found is None:
        return master
    threads = (os.cpu_count() or 1) if found[1] == "*" else int(found[1] or 1)
    return f"local[{max(threads, partitions)}]"


def main(argv: list[str]) -> int:
    """The process: its configuration on standard input; the job's name, legs and partitions come as arguments."""
    name, legs, partitions = argv[0], [Leg(**each) for each in json.loads(argv[1])], int(argv[2])
    try:
        with as_child(name, _WARM_RECORDS) as (spark, cfg, job, stop), plain_errors("the query in real time"):
            for leg in legs:
                _run(spark, cfg, job, leg, partitions, stop, last=leg is legs[-1])
    except TwinrunError as error:
        print(error.found)
        return 1
    return 0


def _run(
    spark: SparkSession, cfg: Config, job: Job, leg: Leg, partitions: int, stop: threading.Event, *, last: bool
) -> None:
    source = job.sources[0].name
    isolation = cfg.source(source).isolation_level
    binding = SourceBinding(topic=leg.topic, isolation_level=isolation)
    there = cfg.model_copy(update={"sources": {**cfg.sources, source: binding}})
    writer = real_time_rows(spark, there, job).writeStream.format("kafka").option("topic", leg.results)
    writer = writer.options(**cfg.kafka.spark_options()).option("checkpointLocation", leg.checkpoint)
    # No other output mode goes with it; and the types that PySpark declares do not have it yet.
    start: Any = writer.outputMode("update")
    query = start.trigger(realTime=f"{leg.every_ms} milliseconds").start()
    try:
        _stay_up_while(query, stop, lambda: not _is_reading(spark, partitions))
        if leg.for_s is not None:
            until = time.monotonic() + leg.for_s
            _stay_up_while(query, stop, lambda: time.monotonic() < until)
        if last:
            print(_READY, flush=True)
        _stay_up_while(query, stop, lambda: leg.for_s is None)
    finally:
        query.stop()


def _stay_up_while(query: StreamingQuery, stop: threading.Event, going: Callable[[], bool]) -> None:
    while going() and not stop.is_set():
        failure = query.exception()
        if failure is not None:
            raise query_error("the query in real time", failure)
        if not query.isActive:
            raise MachineError("the query in real time ended")
        stop.wait(0.2)


def _is_reading(spark: SparkSession, partitions: int) -> bool:
    """Whether a task runs for each partition: they begin to read then, and end with the micro-batch."""
    tracker = spark.sparkContext.statusTracker()
    running = [info.numActiveTasks for i in tracker.getActiveStageIds() if (info := tracker.getStageInfo(i))]
    return sum(running) >= partitions


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
