"""The tables that a verify keeps of late events and of its verdicts: late events, and the ledger."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.explain.arrival import Read, with_arrival
from twinrun.explain.evidence import mark_events
from twinrun.explain.late import late_rows
from twinrun.explain.material import refused_by_stream
from twinrun.job.dataflow import Dataflow
from twinrun.job.job import Job
from twinrun.results.cut import StreamCut
from twinrun.results.ledger import entries, job_rows, laid_out
from twinrun.results.state import BatchState, read_events
from twinrun.results.verdict import LateEvent
from twinrun.tables.asked import Question
from twinrun.tables.control import Entry, latest_record
from twinrun.tables.delta import append, read_table, replace_part, table_exists
from twinrun.tables.offsets import at_or_after, before


def write_late_events(
    spark: SparkSession,
    cfg: Config,
    job: Job,
    flow: Dataflow,
    cut: StreamCut,
    reads: Sequence[Read],
    complete: bool = True,
) -> DataFrame | None:
    """Name the events that the micro-batches since the last verify dropped; returns all late ones so far.

    They are at hand, a row per event and window; None where the job drops nothing, it cannot be said, or it is on
    record that there are none. Only those that would have reached the result, and whether each arrived late or was read
    late. A rerun replaces what an interrupted one wrote. One Spark job over the new micro-batches' events; where one of
    them was late, a few more over all events, and two to write them.

    Parameters
    ----------
    reads : sequence of Read
        From `reads_of`.
    complete : bool
        No events of the sources expired or were erased, so that older rows of the table can be made anew.
    """
    if not flow.drops_late or cut.committed.micro_batch < 0 or cut.missing:
        return None
    ref = cfg.table("late_events")
    there = table_exists(spark, ref)
    # A table without the newer columns was written by an older twinrun, whatever is on record.
    known = _on_record(spark, cfg, job, cut) if there and "arrival" in read_table(spark, ref).columns else None
    last = -1
    if known is not None:
        last = int(known["micro_batch"])
        if last >= cut.committed.micro_batch and not known["any"]:
            return None
    elif there:
        last = _named_up_to(spark, cfg, job, cut, complete)
    if last >= cut.committed.micro_batch:
        return late_events(spark, cfg, job, cut).localCheckpoint(eager=False)
    parts = []
    for read in reads:
        new = read.passage.reaching(read.events.filter(F.col("_micro_batch") > last))
        parts.append(late_rows(new, job.job_name, read.source, flow.rules[read.source.name], cut.query_id))
    rows = with_arrival(reduce(DataFrame.unionByName, parts), reads).localCheckpoint(eager=False)
    where = f"query_id = '{cut.query_id}' AND job = '{job.job_name}' AND micro_batch > {last}"
    replace_part(rows, ref, where, evolve=True)
    if last < 0:
        return rows
    before_it = late_events(spark, cfg, job, cut).filter(F.col("micro_batch") <= last)
    return before_it.unionByName(rows, allowMissingColumns=True).localCheckpoint(eager=False)


def reads_of(
    spark: SparkSession, cfg: Config, job: Job, flow: Dataflow, cut: StreamCut, batch: BatchState
) -> list[Read]:
    """The events of each source that the stream used, with the micro-batch that read them. Lazy."""
    reads = []
    for source in job.sources:
        events = read_events(spark, cfg, source.name, batch)
        inside = events.filter(at_or_after(cut.start[source.name]) & before(cut.end[source.name]))
        topic = cfg.source(source.name).topic
        # What the stream had refused and a requeue decoded later was never dropped: its cause is quarantined.
        marked = mark_events(inside, refused_by_stream(spark, cfg, job, source.name, cut), source.name, cut, topic)
        reads.append(Read(source, topic, marked, flow.passage(source.name)))
    return reads


NAMED = "late_named"
"""Kind of the control record, by job, that says up to which micro-batch late events are named, and whether any is."""
_FORM = 1


def named_up_to(job: Job, cut: StreamCut, events: int) -> Entry:
    """The record that late events are named up to the cut, of which there are so many. Pure."""
    upto = {"query_id": cut.query_id, "micro_batch": cut.committed.micro_batch, "any": events > 0, "form": _FORM}
    return Entry(NAMED, job.job_name, upto)


def _on_record(spark: SparkSession, cfg: Config, job: Job, cut: StreamCut) -> dict[str, Any] | None:
    record = latest_record(spark, cfg, NAMED, job.job_name)
    known = record.payload if record else {}
    return known if (known.get("query_id"), known.get("form")) == (cut.query_id, _FORM) else None


def _named_up_to(spark: SparkSession, cfg: Config, job: Job, cut: StreamCut, complete: bool) -> int:
    """The newest micro-batch up to which late events are named as they are named now; -1: none. Up to four Spark jobs.

    For what was named before that was on record. An older twinrun named events that the job filters away, and did not
    say how they came to be late. It is done anew as long as all events are there.
    """
    if complete and "arrival" not in read_table(spark, cfg.table("late_events")).columns:
        return -1
    last = _last_verified(spark, cfg, job, cut)
    if complete and last >= 0 and not late_events(spark, cfg, job, cut).filter(F.col("arrival").isNull()).isEmpty():
        return -1
    return last


def _last_verified(spark: SparkSession, cfg: Config, job: Job, cut: StreamCut) -> int:
    """The newest micro-batch of this query up to which late events are complete, by the ledger.

    A verify that lacked evidence may have named none: those after it are named again.
    """
    known = job_rows(spark, cfg, job.job_name)
    if known is None:
        return -1
    verifies = laid_out(known).filter(F.col("query_id") == cut.query_id).groupBy("verify_id")
    whole = verifies.agg(
        F.max("micro_batch").alias("upto"), F.bool_or(F.col("verdict") == "evidence_expired").alias("no")
    )
    newest = whole.filter(~F.col("no")).agg(F.max("upto")).collect()[0][0]
    return -1 if newest is None else int(newest)


def late_events(spark: SparkSession, cfg: Config, job: Job, cut: StreamCut) -> DataFrame:
    """The late events of this query up to the cut, as the table has them: `twinrun.explain.late.late_rows`; lazy."""
    mine = (F.col("query_id") == cut.query_id) & (F.col("job") == job.job_name)
    return read_table(spark, cfg.table("late_events")).filter(
        mine & (F.col("micro_batch") <= cut.committed.micro_batch)
    )


def late_samples(frame: DataFrame | None, limit: int) -> Question[tuple[LateEvent, ...]]:
    """The latest of the late first, at most ``limit``; none where none are named."""
    if frame is None:
        return Question(None, lambda _: ())
    order = (F.col("late_ms").desc(), "partition", "offset", "window_start_ms")
    return Question(frame.orderBy(*order).limit(limit), _late_in)


def _late_in(rows: list[Row]) -> tuple[LateEvent, ...]:
    told = bool(rows) and "arrival" in rows[0]
    return tuple(
        LateEvent(
            id=json.loads(row["id"]),
            topic=row["topic"],
            partition=row["partition"],
            offset=row["offset"],
            event_time_ms=row["event_time_ms"],
            known_at_ms=row["known_at_ms"],
            window_start_ms=row["window_start_ms"],
            window_end_ms=row["window_end_ms"],
            watermark_ms=row["watermark_ms"],
            micro_batch=row["micro_batch"],
            late_ms=row["late_ms"],
            arrival=row["arrival"] if told else None,
            passed_at_ms=row["passed_at_ms"] if told else None,
        )
        for row in rows
    )


def write_ledger(
    spark: SparkSession, cfg: Config, job: Job, cut: StreamCut, batch: BatchState, verify_id: str, windows: DataFrame
) -> None:
    """Append the verify, and each window that is not as the verify before saw it. One Spark job.

    Parameters
    ----------
    windows : DataFrame
        See `twinrun.results.ledger.entries`.
    """
    facts = {
        "verify_id": verify_id,
        "job": job.job_name,
        "query_id": cut.query_id,
        "micro_batch": cut.committed.micro_batch,
        "watermark_ms": cut.watermark_ms,
        "stream_version": cut.committed.version,
        "batch_version": batch.table_version,
        "verified_at_ms": int(time.time() * 1000),
    }
    kinds = {"verify_id": "string", "job": "string", "query_id": "string"}
    fixed = [F.lit(value).cast(kinds.get(name, "bigint")).alias(name) for name, value in facts.items()]
    offsets = F.lit(json.dumps({"start": cut.start, "end": cut.end}, sort_keys=True)).alias("offsets")
    rows = entries(windows, job_rows(spark, cfg, job.job_name), [*fixed, offsets])
    append(rows, cfg.table("ledger"), fenced=False, evolve=True)
