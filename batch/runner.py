"""Run a job at rest: bronze, decoder, events, logic, Delta. The twin of streaming/runner.py."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.batch import decode
from twinrun.batch.replace import Work, plan_work, write_work
from twinrun.config.model import Config
from twinrun.config.sections import SinkBinding
from twinrun.events.decode import distinct_in_batch, event_schema
from twinrun.events.exact import quoted
from twinrun.job.check import check_topics
from twinrun.job.code import accepted, fingerprint
from twinrun.job.job import Job
from twinrun.job.ready import check_job
from twinrun.results.culprit import Frames, record_named
from twinrun.results.publish import need_sink, publish_changes
from twinrun.results.records import REFUSALS, OnProgress, RunSummary, left_out, new_run_id, refusals_in, with_lineage
from twinrun.results.state import BATCH, BatchState, batch_state_of, read_events, save_batch_state
from twinrun.results.submit import submitted
from twinrun.session.plain import plain_errors
from twinrun.tables.control import Record, add_record, latest_records
from twinrun.tables.delta import latest_version, rows_written, table_exists
from twinrun.tables.kafka import gone_of
from twinrun.tables.landed import landing_notes
from twinrun.tables.lease import held_lease
from twinrun.tables.static import Pins, pin_tables, read_static
from twinrun.wording import plural

STARTED = "batch_started"
DECODE_WAIT_S = 3_600
"""How long a run waits for another job that decodes the same source, before it gives up."""


def run(
    spark: SparkSession,
    cfg: Config,
    job: Job,
    fresh: str | None = None,
    stop: threading.Event | None = None,
    on_progress: OnProgress | None = None,
) -> RunSummary:
    """Run the job over everything that bronze has, recomputing only what new events touch.

    Parameters
    ----------
    fresh : str, optional
        Anything but None decodes and computes everything anew (``--full``).
    stop, on_progress : optional
        As in the stream's runner; a batch run ends by itself and is atomic, so neither is used before its end.

    Raises
    ------
    CheckpointError
        Another batch run of this job is running, or another job has been decoding a source of it for an hour; or
        another run took this one over: what it had not recorded is done anew.
    TableError
        Bronze or a static table is missing.
    QueryError
        Spark failed; the old result stays as it was.
    """
    began = time.monotonic()
    run_id = new_run_id()
    with ExitStack() as leases:
        doing, result = f"twinrun batch {job.job_name}", cfg.table("batch_results", job=job.job_name, version=1)
        leases.enter_context(held_lease(spark, cfg, f"batch:{job.job_name}", doing, fences=[result]))
        pins = pin_tables(spark, cfg, job)
        static = {name: frame.schema for name, frame in read_static(spark, cfg, pins).items()}
        check_topics(cfg, job)
        schema = check_job(spark, job, static)
        sink = need_sink(cfg, job, schema.names)
        meaning = fingerprint(spark, job, static)
        decoded = {}
        for source in job.sources:
            # Jobs that share a source and are started together take turns.
            fences = [cfg.table(kind, source=source.name) for kind in ("events", "quarantine")]
            with held_lease(spark, cfg, f"decode:{source.name}", doing, wait_s=DECODE_WAIT_S, fences=fences):
                decoded[source.name] = decode.run(spark, cfg, source, fresh)
        known = latest_records(spark, cfg, [(kind, job.job_name) for kind in (BATCH, REFUSALS, STARTED)])
        last = batch_state_of(known.get((BATCH, job.job_name)))
        if last is not None and accepted(last.fingerprint, meaning, cfg.spark.accept_plans_of):
            last = replace(last, fingerprint=meaning)
        state = BatchState(
            version=1,
            table=result,
            table_version=-1,
            fingerprint=meaning,
            ends={name: done.ends for name, done in decoded.items()},
            decoded_seq={name: done.seq for name, done in decoded.items()},
            events_version={name: done.events_version for name, done in decoded.items()},
            static=pins,
            run_id=run_id,
            finished_at_ms=0,
            refused=left_out(cfg, job, refusals_in(known.get((REFUSALS, job.job_name)))),
        )
        with plain_errors(f"the batch run of {job.job_name}"):
            inputs = read_inputs(spark, cfg, job, pins, state)
            unfinished = _unfinished(known.get((STARTED, job.job_name)), last)
            add_record(spark, cfg, STARTED, job.job_name, {"run_id": run_id})
            since_ms = max(gone_of(spark, cfg, source.name).before_ms for source in job.sources)
            anew = _made_anew(spark, last, decoded)
            work = plan_work(job, inputs, last, state, fresh, unfinished, anew, since_ms)
            before = latest_version(spark, state.table) if table_exists(spark, state.table) else None
            with record_named(spark, job, f"the batch run of {job.job_name}", lambda: _computed(job, inputs, work)):
                finished = write_results(spark, cfg, job, inputs, state, work)
            sent = publish(spark, cfg, job, sink, finished) if sink else ()
            new = [_new_to_job(spark, cfg, done, last, state) for done in decoded.values()]
            rows = rows_written(spark, state.table, before)
            landed = [note for source in job.sources for note in landing_notes(spark, cfg, source.name)]
    return RunSummary(
        mode="batch",
        name=job.job_name,
        run_id=run_id,
        events=sum(each.valid for each in new),
        table=state.table,
        version=finished.table_version,
        rows=rows,
        quarantined=dict(sum((Counter(each.refused) for each in new), Counter())),
        notes=(*work.notes, *sent, *landed),
        duration_ms=int((time.monotonic() - began) * 1000),
        stopped_by="request" if stop and stop.is_set() else None,
    )


def read_inputs(spark: SparkSession, cfg: Config, job: Job, pins: Pins, state: BatchState) -> dict[str, DataFrame]:
    """The frames of the job's function by parameter name: typed events at their version, pinned tables.

    Events still carry ``_event_date`` and ``_decoded_seq``, which `as_declared` takes away.
    """
    frames = read_static(spark, cfg, pins)
    for source in job.sources:
        frames[source.name] = read_events(spark, cfg, source.name, state)
    return frames


def write_results(
    spark: SparkSession, cfg: Config, job: Job, inputs: dict[str, DataFrame], state: BatchState, work: Work
) -> BatchState:
    """Compute and replace what ``work`` says in one transaction, then record what the run covered."""
    declared = {s.name: as_declared(work.events.get(s.name, inputs[s.name]), job, s.name) for s in job.sources}
    results = with_lineage(job.apply({**inputs, **declared}), state.run_id)
    if job.delete_when:
        results = results.filter(~F.coalesce(F.expr(job.delete_when), F.lit(False)))
    write_work(results, job, state, work)
    done = BatchState(
        **{
            **vars(state),
            "table_version": latest_version(spark, state.table),
            "finished_at_ms": int(time.time() * 1000),
        }
    )
    save_batch_state(spark, cfg, job.job_name, done)
    return done


def publish(spark: SparkSession, cfg: Config, job: Job, sink: SinkBinding, finished: BatchState) -> tuple[str, ...]:
    """Send to the topic what a run has changed, and what a run before it had not got to send; says how much."""
    count = publish_changes(spark, cfg, job, sink, finished.table, finished.table_version)
    return (f"{plural(count, 'record')} sent to the topic {sink.topic}",)


def as_declared(events: DataFrame, job: Job, name: str) -> DataFrame:
    """Exactly what the job's function sees: the declared fields and the coordinates, copies dropped if so declared."""
    source = next(source for source in job.sources if source.name == name)
    return distinct_in_batch(events.select(*[F.col(f"`{field.name}`") for field in event_schema(source)]), source)


def _computed(job: Job, inputs: dict[str, DataFrame], work: Work) -> Frames:
    """What the function was being given: the events by source, copies included, and the static tables."""
    events = {s.name: work.events.get(s.name, inputs[s.name]) for s in job.sources}
    seen = {s.name: events[s.name].select(*[F.col(quoted(f.name)) for f in event_schema(s)]) for s in job.sources}
    return seen, {table.name: inputs[table.name] for table in job.tables}


def _unfinished(started: Record | None, last: BatchState | None) -> bool:
    """Whether the run that was noted last never finished."""
    return started is not None and (last is None or started.payload["run_id"] != last.run_id)


def _new_to_job(
    spark: SparkSession, cfg: Config, done: decode.Decoded, last: BatchState | None, now: BatchState
) -> decode.New:
    """What this job had not seen of a source: another job may have decoded it before."""
    seq = 0 if last is None else last.decoded_seq.get(done.source, 0)
    starts = {} if last is None else last.ends.get(done.source, {})
    return decode.new_since(spark, cfg, done, seq, starts, now.refused.get(done.source, []))


def _made_anew(spark: SparkSession, last: BatchState | None, decoded: dict[str, decode.Decoded]) -> str:
    """Why an incremental run would repeat or miss rows of the last one; empty when it would not."""
    if last is None:
        return ""
    if not table_exists(spark, last.table):
        return "its table was not there any more"
    anew = [name for name, done in decoded.items() if done.anew_seq > last.decoded_seq.get(name, 0)]
    return f"all events of {', '.join(anew)} were decoded anew" if anew else ""


def main(argv: list[str] | None = None) -> int:
    """Entry point of spark-submit; the same run as ``twinrun batch``."""
    return submitted("batch", run, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
