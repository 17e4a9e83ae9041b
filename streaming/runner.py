"""Run a job in motion: Kafka, decoder, watermark, logic, Delta. The twin of batch/runner.py."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import replace

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from twinrun.config.model import Config
from twinrun.config.sections import SourceBinding
from twinrun.durations import spark_interval
from twinrun.errors import ConfigError
from twinrun.events.decode import decode, decoder_fingerprint, distinct_in_stream, valid_events
from twinrun.job.check import check_topics
from twinrun.job.code import fingerprint
from twinrun.job.job import Job
from twinrun.job.ready import check_job
from twinrun.results.culprit import Frames, record_named
from twinrun.results.publish import need_sink
from twinrun.results.records import (
    REFUSALS,
    OnProgress,
    Progress,
    RunSummary,
    check_unused,
    left_out,
    new_run_id,
    refusals_of,
    with_lineage,
    without,
)
from twinrun.results.state import (
    STREAM,
    StreamState,
    check_continues,
    check_not_lost,
    check_reads,
    has_open_micro_batch,
    new_checkpoint,
    next_stream_version,
    save_stream_state,
    stream_state,
    told_in_offsets,
)
from twinrun.results.submit import submitted
from twinrun.session.plain import plain_errors
from twinrun.streaming.progress import Flush, follow, observed, sum_refused
from twinrun.streaming.refresh import Pause
from twinrun.streaming.sink import start_final, start_updates, start_with_topic
from twinrun.tables.bronze import BRONZE, TOPIC, bronze_range, bronze_stream, check_beginning
from twinrun.tables.checkpoint import RunFacts, flush, open_micro_batch
from twinrun.tables.control import control_pinned
from twinrun.tables.delta import Lease, append, latest_version, rows_written, table_exists
from twinrun.tables.kafka import guard_offsets, guard_topic, kafka_range, kafka_stream, stream_reader
from twinrun.tables.lease import held_lease
from twinrun.tables.static import Pins, pin_tables, read_static


def run(
    spark: SparkSession,
    cfg: Config,
    job: Job,
    fresh: str | None = None,
    stop: threading.Event | None = None,
    on_progress: OnProgress | None = None,
) -> RunSummary:
    """Run the job over the topic: to its end (available-now) or until stopped (processing-time).

    Parameters
    ----------
    fresh : str, optional
        Start over with a new checkpoint and a new table from ``earliest``, ``latest`` or an ISO time; the old ones
        are kept. None: continue.

    Raises
    ------
    CheckpointError
        Another run holds the job, or the checkpoint belongs to another definition, query, topic or table.
    DataLossError
        Kafka no longer has records that were not read yet.
    BrokerError, QueryError
        Kafka or Spark failed; nothing is lost, the next run continues.
    """
    began = time.monotonic()
    with held_lease(spark, cfg, f"stream:{job.job_name}", f"twinrun stream {job.job_name}") as lease:
        asked, begin = stop or threading.Event(), fresh
        parts: list[Progress] = []
        while True:
            state = _open(spark, cfg, job, begin)
            if not parts:
                before = latest_version(spark, state.table)
            pause = Pause(spark, cfg, job, state.static, asked)
            done, owner = _follow_one(spark, cfg, job, state, lease, pause, on_progress)
            parts.append(done)
            if pause.newer is None or asked.is_set():
                break
            begin = None  # the same checkpoint goes on, with the newer static tables
    refused = sum_refused([part.refused for part in parts])
    return RunSummary(
        mode="stream",
        name=job.job_name,
        run_id=state.run_id,
        events=sum(part.events for part in parts) - sum((refused or {}).values()),
        table=state.table,
        version=latest_version(spark, state.table),
        micro_batches=sum(part.micro_batches for part in parts),
        rows=rows_written(spark, state.table, before),
        quarantined=refused,
        duration_ms=int((time.monotonic() - began) * 1000),
        stopped_by="request" if stop and stop.is_set() else None,
        details={"watermark": done.watermark, "query_id": owner, "checkpoint": state.checkpoint},
    )


def read_inputs(spark: SparkSession, cfg: Config, job: Job, pins: Pins, state: StreamState) -> dict[str, DataFrame]:
    """The frames of the job's function by parameter name: decoded topics with their watermark, pinned tables."""
    frames = read_static(spark, cfg, pins)
    for source in job.sources:
        raw = _raw(spark, cfg, cfg.source(source.name), state)
        decoded = observed(decode(raw, source), source.name, state.refused.get(source.name, []))
        events = valid_events(decoded, source)
        events = without(events, state.refused, source.name)
        if source.lateness_ms is not None:
            events = events.withWatermark(source.event_time, spark_interval(source.lateness_ms))
            events = distinct_in_stream(events, source)
        frames[source.name] = events
    return frames


def _raw(spark: SparkSession, cfg: Config, binding: SourceBinding, state: StreamState) -> DataFrame:
    """A source's records as a stream, from its topic or from bronze."""
    if state.reads == BRONZE:
        return bronze_stream(spark, cfg, binding.topic)
    return kafka_stream(spark, cfg, binding, cfg.stream.max_offsets_per_trigger, state.starting)


def write_results(spark: SparkSession, cfg: Config, job: Job, results: DataFrame, state: StreamState) -> StreamingQuery:
    """Start the query: Delta's own sink for ``final``, MERGE with the micro-batch id in the commit for ``updates``.

    With a topic besides (``sinks:`` in conf) each micro-batch is sent, and then written into the table.
    """
    writer = results.writeStream.queryName(job.job_name).option("checkpointLocation", state.checkpoint)
    if cfg.stream.trigger == "available-now":
        writer = writer.trigger(availableNow=True)
    else:
        writer = writer.trigger(processingTime=f"{cfg.stream.interval_ms} milliseconds")
    sink = need_sink(cfg, job, results.columns)
    if sink is not None:
        start: StreamingQuery = start_with_topic(writer, cfg, job, state, sink)
    elif job.emit == "final":
        start = start_final(writer, state.table)
    else:
        start = start_updates(writer, job, state)
    return start


def _follow_one(
    spark: SparkSession,
    cfg: Config,
    job: Job,
    state: StreamState,
    lease: Lease,
    pause: Pause,
    on_progress: OnProgress | None,
) -> tuple[Progress, str]:
    """Run one query to its end or to a pause; what it did, and its id."""
    facts = RunFacts(job.job_name, state.run_id, state.static, state.decoders)
    inputs = read_inputs(spark, cfg, job, state.static, state)
    results = with_lineage(job.apply(inputs), state.run_id)
    doing = f"the stream of {job.job_name}"
    with plain_errors(doing), record_named(spark, job, doing, lambda: _computed(spark, cfg, job, state)):
        query = write_results(spark, cfg, job, results, state)
        owner = str(query.id)
        if state.query_id is None:
            # From now on a start with another checkpoint, or without one, is refused.
            save_stream_state(spark, cfg, job.job_name, replace(state, query_id=owner))
        log = _logger(spark, cfg, job, state, owner, facts)
        return follow(query, cfg, lease, log, pause, on_progress), owner


def _computed(spark: SparkSession, cfg: Config, job: Job, state: StreamState) -> Frames:
    """What the function was being given: the events of the micro-batch that is not committed, and the static tables."""
    starts, ends = open_micro_batch(spark, state.checkpoint)
    told = told_in_offsets(spark, cfg, job, state)
    if told is not None:
        starts, ends = told([starts, ends])
    events = {}
    for source in job.sources:
        binding = cfg.source(source.name)
        first, last = starts.get(binding.topic, {}), ends.get(binding.topic, {})
        if told is None:
            raw = kafka_range(spark, cfg, binding, first, last)
        else:
            raw = bronze_range(spark, cfg, binding.topic, first, last)
        read = without(valid_events(decode(raw, source), source), state.refused, source.name)
        events[source.name] = read.persist()
    return events, read_static(spark, cfg, state.static)


def _open(spark: SparkSession, cfg: Config, job: Job, fresh: str | None) -> StreamState:
    """Check the definition against the checkpoint, pin the static tables, and bring the log up to date."""
    pins = pin_tables(spark, cfg, job)
    static = read_static(spark, cfg, pins)
    check_topics(cfg, job)
    schema = check_job(spark, job, {name: frame.schema for name, frame in static.items()})
    meaning = fingerprint(spark, job, {name: frame.schema for name, frame in static.items()})
    with control_pinned(spark, cfg, [(STREAM, job.job_name), (REFUSALS, job.job_name)]):
        last = stream_state(spark, cfg, job.job_name)
        entries = refusals_of(spark, cfg, job.job_name)
    if last is None or fresh is not None:
        starting = fresh or beginning(cfg, job)
        check_beginning(cfg, starting)
        state = next_stream_version(cfg, job.job_name, last, starting)
    else:
        check_reads(cfg, job.job_name, last)
        state = check_continues(spark, job.job_name, last, meaning, cfg.spark.accept_plans_of)
        check_unused(job.job_name, entries, state.query_id)
    for source in job.sources if state.reads == TOPIC else ():
        guard_topic(spark, cfg, source.name, stream_reader(job.job_name, state.version))
    if state.query_id is not None:
        # What earlier runs did is logged under their facts before this run adds to the checkpoint.
        facts = RunFacts(job.job_name, state.run_id, state.static, state.decoders)
        told = told_in_offsets(spark, cfg, job, state)
        newest = flush(spark, cfg, state.query_id, state.checkpoint, facts, told=told)
        if has_open_micro_batch(spark, state, newest):
            pins = state.static
        topics = [cfg.source(source.name).topic for source in job.sources]
        if told is None:  # else Delta's own source says where files are gone
            guard_offsets(spark, cfg, topics, state.checkpoint, f"start anew: {new_checkpoint(job.job_name)}")
    if not table_exists(spark, state.table):
        check_not_lost(spark, job.job_name, state)
        empty = with_lineage(spark.createDataFrame([], schema), "")
        append(
            empty.withColumn("_micro_batch", F.lit(0).cast("bigint")) if job.emit == "updates" else empty, state.table
        )
    decoders = {source.name: decoder_fingerprint(source) for source in job.sources}
    # Not as of the open micro-batch, as the tables are: it may be the one that failed on what is left out now.
    refused = left_out(cfg, job, entries)
    state = replace(state, fingerprint=meaning, static=pins, decoders=decoders, run_id=new_run_id(), refused=refused)
    save_stream_state(spark, cfg, job.job_name, state)
    return state


def beginning(cfg: Config, job: Job) -> str:
    """Where a new stream begins by its sources' bindings: one place for all of them, since they share a watermark.

    Raises
    ------
    ConfigError
        They begin at different places.
    """
    begins = {source.name: cfg.source(source.name).starting_offsets for source in job.sources}
    if len(set(begins.values())) > 1:
        told = ", ".join(f"{name} at {start}" for name, start in begins.items())
        raise ConfigError(
            f"the sources of {job.job_name} begin at different offsets: {told}.",
            expected="one starting_offsets for all sources of a job",
            fix=f"give them the same in {cfg.file}; or: twinrun stream --new-checkpoint --from TOPIC:P:N,..",
        )
    return next(iter(begins.values()))


def _logger(spark: SparkSession, cfg: Config, job: Job, state: StreamState, owner: str, facts: RunFacts) -> Flush:
    told = told_in_offsets(spark, cfg, job, state)
    # Nobody else writes this query's log, and that of a new query is empty.
    newest = -1 if state.query_id is None else None

    def log(durations_ms: dict[int, int]) -> int:
        nonlocal newest
        known = replace(facts, durations_ms=durations_ms)
        logged = newest = flush(spark, cfg, owner, state.checkpoint, known, newest, told)
        return logged

    return log


def main(argv: list[str] | None = None) -> int:
    """Entry point of spark-submit; the same run as ``twinrun stream``."""
    return submitted("stream", run, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
