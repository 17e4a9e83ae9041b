"""Read both sides of an external verify and pin them: schema first, the cut as declared."""

from __future__ import annotations

import re
import time
from dataclasses import replace

from pyspark.sql import DataFrame, SparkSession

from twinrun.comparator.schema import plan_schema
from twinrun.config.model import Config
from twinrun.config.sections import ExternalBinding
from twinrun.errors import TableError
from twinrun.explain.coverage import Coverage
from twinrun.explain.differing import Sides
from twinrun.explain.used import declared, seen_names
from twinrun.external.cut import EVERYTHING_READY, declared_cut, declared_watermark, end_of
from twinrun.external.declared import keeps_latest, need_batch, need_marks_within
from twinrun.external.explain import Case
from twinrun.external.rules import rule_named
from twinrun.external.side import External, aligned, compared_job, less, read_external
from twinrun.job.dataflow import Dataflow, dataflow
from twinrun.job.job import Job
from twinrun.job.jvmplan import unchanged_fields
from twinrun.job.passing import passages
from twinrun.results.cut import StreamCut
from twinrun.results.state import BatchState, batch_state, read_events, read_left_out
from twinrun.results.verdict import Audit, Cut, SourceCut
from twinrun.tables.checkpoint import at_or_after, before, covers
from twinrun.tables.delta import read_table
from twinrun.tables.static import read_static

_POLL_S = 2.0


def read_case(
    spark: SparkSession, cfg: Config, job: Job, binding: ExternalBinding, batch: BatchState
) -> tuple[Case, External, tuple[str, ...]]:
    """Read both sides, schema first, and put together what the proofs stand on.

    Raises
    ------
    InputError
        A mark of a restart lies beyond what the batch has read.
    TableError, BrokerError, QueryError
        A side cannot be read, or the two cannot be compared.
    """
    for source in binding.restarts:
        need_marks_within(job, binding, source, end_of(binding, batch, source), "what the batch has read")
    whole = read_table(spark, batch.table, batch.table_version)
    external = read_external(spark, cfg, job, binding, whole)
    held = less(whole, binding.ignore)
    used = compared_job(job, binding)
    window = job.window_column if job.windowed else None
    try:
        plan_schema(held.schema, external.rows.schema, job.keys, window, used.tolerances)
    except TableError as error:
        raise _of_engine(error, job) from None
    of_batch, of_stream, notes = aligned(held, external.rows)
    statics = read_static(spark, cfg, batch.static)
    events = {s.name: read_events(spark, cfg, s.name, batch) for s in job.sources}
    watermark_ms = declared_watermark(job, binding, batch, events)
    ready_ms = EVERYTHING_READY if watermark_ms is None else watermark_ms
    flow = dataflow(spark, job, {name: frame.schema for name, frame in statics.items()})
    cut = declared_cut(spark, job, binding, batch, ready_ms, external.version)
    flow = replace(flow, passages=passages(spark, job, statics))
    case = Case(
        job=used,
        flow=flow,
        binding=binding,
        cut=cut,
        events=events,
        statics=statics,
        sides=Sides(of_batch, of_stream),
        ready_ms=ready_ms,
        appended=not keeps_latest(binding, job),
        left_out=_left_out(spark, cfg, job, batch, cut),
        no_rule=_no_rule(job, binding, flow, cut, events, statics),
    )
    return case, external, external.facts + notes


def _no_rule(
    job: Job,
    binding: ExternalBinding,
    flow: Dataflow,
    cut: StreamCut,
    events: dict[str, DataFrame],
    statics: dict[str, DataFrame],
) -> str:
    """Why nothing can be put down to the declared rule, in this job and topic; no Spark job."""
    rule, name = rule_named(binding.late_rule), job.sources[0].name
    if rule is None or not (flow.closed_form and job.windowed):
        return ""
    carried: frozenset[str] = frozenset()
    if rule.clock == "key":
        seen = declared(events[name], seen_names(job.sources[0]))
        carried = unchanged_fields(job.apply({name: seen, **statics}), seen, job.keys)
    read = {p for p, end in cut.end[name].items() if end > cut.start[name].get(p, 0)}
    passage = flow.passage(name)
    return rule.problem(job, read, carried, passage.all_reach or passage.told)


def _of_engine(error: TableError, job: Job) -> TableError:
    """What two tables cannot be compared for, with the way out that there is here."""
    types = rf"external.{job.job_name}.types.\1, or naive_time_zone where one has no zone"
    found = re.sub(r"--as ([^()]+)=TYPE", types, error.found).replace("the stream", "the external result")
    return TableError(found, expected=error.expected.replace("stream columns", "external columns"), fix=error.fix)


def _left_out(spark: SparkSession, cfg: Config, job: Job, batch: BatchState, cut: StreamCut) -> dict[str, DataFrame]:
    """By source, the events that the job leaves out and that the engine had read, as declared. A job per source.

    Only of sources that have any; a source without a list costs nothing.
    """
    found = {}
    for source in job.sources:
        events = read_left_out(spark, cfg, source.name, batch)
        if events is None:
            continue
        read = events.filter(at_or_after(cut.start[source.name]) & before(cut.end[source.name])).localCheckpoint()
        if read.limit(1).count():
            found[source.name] = read
    return found


def wait_for_batch(spark: SparkSession, cfg: Config, job: Job, binding: ExternalBinding, wait_s: float) -> BatchState:
    """The last batch run, after waiting up to ``wait_s`` seconds for one that covers the declared end offsets."""
    deadline = time.monotonic() + wait_s
    while True:
        batch = batch_state(spark, cfg, job.job_name)
        if batch is not None and (is_covered(batch, binding, job) or time.monotonic() >= deadline):
            return batch
        if time.monotonic() >= deadline:
            raise need_batch(job)
        time.sleep(_POLL_S)


def is_covered(batch: BatchState, binding: ExternalBinding, job: Job) -> bool:
    """Whether the batch has read up to the declared end offsets."""
    return all(covers(batch.ends.get(s.name, {}), binding.end.get(s.name, {})) for s in job.sources)


def pinned_cut(
    cfg: Config, case: Case, batch: BatchState, coverage: Coverage, audits: tuple[Audit, ...], version: int
) -> Cut:
    """Everything that is pinned, for the report."""
    cut = case.cut
    audited = {audit.source: audit for audit in audits}
    sources = tuple(
        SourceCut(
            source=s.name,
            topic=cfg.source(s.name).topic,
            start=cut.start[s.name],
            end=cut.end[s.name],
            bronze_end=coverage.bronze[s.name],
            batch_end=batch.ends.get(s.name, {}),
            broker_end=coverage.broker[s.name],
            events_in_cut=audited[s.name].stream_rows,
            events_batch=audited[s.name].bronze_rows,
            bronze_start=coverage.landed[s.name].starts,
        )
        for s in case.job.sources
    )
    return Cut(
        job=case.job.job_name,
        micro_batch=cut.committed.micro_batch,
        watermark_ms=None if case.ready_ms == EVERYTHING_READY else case.ready_ms,
        query_id="",
        batch_table=batch.table,
        batch_version=batch.table_version,
        stream_table=case.binding.place,
        stream_version=version,
        batch_static=batch.static,
        stream_static={},
        sources=sources,
        taken_at_ms=cut.taken_at_ms,
    )
