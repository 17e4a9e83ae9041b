"""Verify a job: take the cut, compare both results, prove the causes, keep the evidence, and say the verdict."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from pyspark.sql import DataFrame, SparkSession

from twinrun.comparator.result import Comparison
from twinrun.config.model import Config
from twinrun.explain.arrival import (
    Read,
    arrivals,
    events_that_count,
    newest_by_micro_batch,
    partition_points,
    with_behind,
    with_steps,
)
from twinrun.explain.coverage import (
    Coverage,
    audits_of,
    coverage_of,
    final_until_ms,
    notes_on_coverage,
    notes_on_sources,
    records_pinned,
    silent_kafka,
    statics_of,
    tables_of,
    unread,
)
from twinrun.explain.differing import Sides, anything, closed, compare_sides, read_once, uncounted
from twinrun.explain.explain import NOBODY, Explained, Found, explain
from twinrun.explain.judge import Checks, Shown, assemble, judge, notes_of
from twinrun.explain.summary import (
    cause_counts,
    micro_batch_points,
    of_rows,
    row_samples,
    sample_rows,
    timeline,
    totals,
    windows_frame,
)
from twinrun.explain.tables import (
    Copies,
    known_ids,
    late_samples,
    named_up_to,
    reads_of,
    repeated_events,
    repeated_ids,
    write_duplicate_events,
    write_late_events,
    write_ledger,
)
from twinrun.job.dataflow import Dataflow, dataflow
from twinrun.job.job import Job
from twinrun.job.passing import passages
from twinrun.quality.expect import check_expectations, judge_rows
from twinrun.results.cut import Context, StreamCut, both_states, foreign_commits, stream_cut
from twinrun.results.records import Say, quiet, without_lineage
from twinrun.results.state import (
    BATCH,
    BatchState,
    Facts,
    Ids,
    StreamState,
    batch_state_of,
    begun_at_ms,
    facts_entry,
    facts_of,
)
from twinrun.results.verdict import (
    Arrival,
    Audit,
    CauseCount,
    Cut,
    ExpectationResult,
    LateEvent,
    MicroBatchPoint,
    SourceCut,
    Verdict,
    WatermarkOf,
    WindowPoint,
)
from twinrun.session.plain import plain_errors
from twinrun.tables.checkpoint import covers
from twinrun.tables.control import read_records
from twinrun.tables.delta import read_table
from twinrun.tables.lease import held_lease
from twinrun.tables.listed import Question, ask, listed_once
from twinrun.tables.static import read_static
from twinrun.wording import plural

_POLL_S = 2.0


def verify(
    spark: SparkSession,
    cfg: Config,
    job: Job,
    *,
    strict: bool = False,
    wait_s: float | None = None,
    full: bool = False,
    silent: bool | None = None,
    on_step: Say | None = None,
    on_warning: Say | None = None,
) -> Verdict:
    """Compare both results of a job at one cut and prove why rows differ. Ingest, stream and batch may all be running.

    Parameters
    ----------
    strict : bool
        Any difference, even a proven and expected one, makes the exit code 1.
    wait_s : float, optional
        How long to wait until the batch covers the cut; by default ``verify.wait_s`` of conf.
    full : bool
        Compare every row as an exact multiset besides the digests, and look at all of bronze and events, whatever the
        verify before has found there.
    silent : bool, optional
        Whether Kafka was silent when the caller asked it, just now. By default it is asked here.
    on_step, on_warning : function of str, optional
        Told what is done now; and, at once, what the reader must know of all that follows: that Kafka does not answer.

    Returns
    -------
    Verdict
        Frozen numbers and samples; the rows themselves are in the tables ``differences``, ``late_events``,
        ``duplicate_events`` and ``ledger``. Under the settings for little data at most
        25 small Spark jobs where all agree, and 40 where a closed form explains.

    Raises
    ------
    TableError
        A mode never ran, or a table or the evidence that it needs is gone.
    CheckpointError
        Another verify of this job is running.
    """
    began = time.monotonic()
    say = on_step or quiet
    with (
        held_lease(spark, cfg, f"verify:{job.job_name}", f"twinrun verify {job.job_name}") as lease,
        plain_errors("the verify"),
        ExitStack() as stack,
    ):
        silent = _ask_kafka(cfg, say, on_warning) if silent is None else silent
        say("taking the cut")
        stack.enter_context(records_pinned(spark, cfg, job))
        stream, batch = both_states(spark, cfg, job)
        stack.enter_context(listed_once(_looked_at(cfg, job, stream, batch)))
        cut = stream_cut(spark, cfg, job, stream)
        batch, waited = _wait_for_batch(spark, cfg, job, cut, batch, cfg.verify.wait_s if wait_s is None else wait_s)
        if waited:
            stack.enter_context(records_pinned(spark, cfg, job))
        ctx = Context(spark, cfg, job, _flow(spark, cfg, job, cut, batch), cut, batch)
        covered = _covered(cut, batch, job)
        facts = Facts() if full else facts_of(spark, cfg, job)
        coverage = coverage_of(ctx, silent=silent, facts=facts)
        sides = stack.enter_context(read_once(_whole_sides(spark, batch, cut)))
        say("comparing")
        ready = Sides(closed(job, sides.batch, cut.watermark_ms), closed(job, sides.stream, cut.watermark_ms))
        comparison, differences = compare_sides(job, ready, full)
        verify_id, judged = uuid.uuid4().hex[:16], None
        if comparison.rows_different:
            say(f"explaining {plural(comparison.rows_different, 'differing row')}")
            final_ms = None if covered else final_until_ms(cfg, job, cut, batch)
            found = Found(verify_id, differences, coverage.gone, final_ms)
            judged = explain(ctx, ready, found, say)
        say("naming late and duplicate events")
        reads = with_steps(reads_of(ctx))
        # None are named before the batch covers the cut.
        whole = not anything(coverage.gone)
        named = write_late_events(ctx, reads, whole) if covered else None
        say("writing the ledger and checking expectations")
        windows = windows_frame(job, sides.batch, sides.stream, cut, judged.rows if judged else None)
        windows = windows.localCheckpoint(eager=False)
        copies = repeated_events(ctx, facts)
        counted = _count(ctx, coverage, copies, windows, judged, named, reads)
        lease.parting.append(facts_entry(job, _facts(job, coverage, counted)))
        expectations = _expectations(job, ready, comparison)
        # The ledger says up to where late events are named: not without the batch's events, and with a hole in
        # the log only where its rows say so.
        if covered and (cut.missing == 0 or judged is not None):
            write_ledger(ctx, verify_id, windows)
            if ctx.flow.drops_late and cut.missing == 0 and not (judged and judged.expired):
                lease.parting.append(named_up_to(job, cut, counted.late.events))
            expectations += judge_rows(*of_rows(counted.totals), cfg.verify.min_completeness)
        measured = _Measured(comparison, judged, counted, expectations, covered)
        checks = _checks(ctx, coverage, measured)
        pinned = _pinned(ctx, coverage, checks.audits)
        shown = _shown(ctx, coverage, measured, reads, timeline(job, windows, counted.totals))
        decision = judge(cfg, job, cut, batch, checks, pinned, strict)
        notes = notes_of(job, cut, checks, batch, shown) + notes_on_coverage(cfg, job, coverage)
        notes += judged.notes if judged else ()
        notes += notes_on_sources(ctx, windows, checks)
        return assemble(job, cut, checks, shown, pinned, decision, notes, int((time.monotonic() - began) * 1000))


def _looked_at(cfg: Config, job: Job, stream: StreamState, batch: BatchState) -> list[str]:
    """The tables that a verify asks more than once and does not write; and the ledger, before it writes it."""
    return [stream.table, batch.table, cfg.table("ledger"), *tables_of(cfg, job), *statics_of(cfg, job)]


def _flow(spark: SparkSession, cfg: Config, job: Job, cut: StreamCut, batch: BatchState) -> Dataflow:
    """What the job's function does with its events, under the static tables of both modes. No Spark job."""
    static = read_static(spark, cfg, batch.static)
    flow = dataflow(spark, job, {name: frame.schema for name, frame in static.items()})
    return replace(flow, passages=passages(spark, job, {**static, **read_static(spark, cfg, cut.static)}))


def _ask_kafka(cfg: Config, say: Say, on_warning: Say | None) -> bool:
    """Whether Kafka is silent; asked before all else, since all that follows then knows less."""
    say("asking Kafka")
    silent = silent_kafka(cfg)
    if silent and on_warning:
        on_warning(silent)
    return bool(silent)


def _whole_sides(spark: SparkSession, batch: BatchState, cut: StreamCut) -> Sides:
    """Both results as they are pinned, open windows too. Lazy."""
    stream = read_table(spark, cut.state.table, cut.committed.version)
    return Sides(without_lineage(read_table(spark, batch.table, batch.table_version)), without_lineage(stream))


def _wait_for_batch(
    spark: SparkSession, cfg: Config, job: Job, cut: StreamCut, batch: BatchState, wait_s: float
) -> tuple[BatchState, bool]:
    """The batch's state once it covers the cut, or when the time is over; and whether it is a newer one."""
    deadline = time.monotonic() + wait_s
    key, first = (BATCH, job.job_name), batch
    while not _covered(cut, batch, job) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        batch = batch_state_of(read_records(spark, cfg, [key]).get(key)) or batch
    return batch, batch != first


def _covered(cut: StreamCut, batch: BatchState, job: Job) -> bool:
    return all(covers(batch.ends.get(s.name, {}), cut.end.get(s.name, {})) for s in job.sources)


def _pinned(ctx: Context, coverage: Coverage, audits: tuple[Audit, ...]) -> Cut:
    audited = {audit.source: audit for audit in audits}
    sources = tuple(
        SourceCut(
            source=s.name,
            topic=ctx.cfg.source(s.name).topic,
            start=ctx.cut.start.get(s.name, {}),
            end=ctx.cut.end.get(s.name, {}),
            bronze_end=coverage.bronze[s.name],
            batch_end=ctx.batch.ends.get(s.name, {}),
            broker_end=coverage.broker[s.name],
            events_in_cut=audited[s.name].stream_rows,
            events_batch=audited[s.name].bronze_rows,
            bronze_start=coverage.landed[s.name].starts,
        )
        for s in ctx.job.sources
    )
    return Cut(
        job=ctx.job.job_name,
        micro_batch=ctx.cut.committed.micro_batch,
        watermark_ms=ctx.cut.watermark_ms,
        query_id=ctx.cut.query_id,
        batch_table=ctx.batch.table,
        batch_version=ctx.batch.table_version,
        stream_table=ctx.cut.state.table,
        stream_version=ctx.cut.committed.version,
        batch_static=ctx.batch.static,
        stream_static=ctx.cut.static,
        sources=sources,
        taken_at_ms=ctx.cut.taken_at_ms,
    )


def _expectations(job: Job, ready: Sides, comparison: Comparison) -> tuple[ExpectationResult, ...]:
    """What the job expects of its result, asked of both modes' tables."""
    rows = {"batch": comparison.rows_batch, "stream": comparison.rows_stream}
    return check_expectations(job, {"batch": ready.batch, "stream": ready.stream}, rows)


@dataclass(frozen=True)
class _Late:
    """The late events by name, how they came to be late, and what they are a share of."""

    frame: DataFrame | None
    events: int = 0
    counted: int | None = None
    arrival: Arrival | None = None
    latest: tuple[LateEvent, ...] = ()


def _late(
    job: Job,
    cut: StreamCut,
    reads: Sequence[Read],
    frame: DataFrame | None,
    arrival: Arrival | None,
    latest: tuple[LateEvent, ...],
) -> _Late:
    """What else is asked where an event was late. No Spark job where none was."""
    events = 0 if arrival is None else arrival.arrived_late + arrival.read_late + arrival.not_told
    if frame is None or arrival is None or not events:
        return _Late(None)
    counted = events_that_count(reads) if job.max_late_share < 1 else None
    return _Late(frame, events, counted, with_behind(arrival, frame, reads, cut), latest)


@dataclass(frozen=True)
class _Counted:
    """Rows and windows by verdict, rows by cause, late events, and ids that stand at several offsets."""

    totals: dict[str, int]
    causes: tuple[CauseCount, ...]
    late: _Late
    duplicates: int
    repeated: Mapping[str, Ids]


def _count(
    ctx: Context,
    coverage: Coverage,
    copies: Mapping[str, Copies],
    windows: DataFrame,
    judged: Explained | None,
    named: DataFrame | None,
    reads: Sequence[Read],
) -> _Counted:
    """One Spark job for all of it; a few more where events were late, or stand at several offsets."""
    latest = late_samples(named, ctx.cfg.verify.max_late_samples)
    seqs = {name: held.known.last_seq for name, held in coverage.held.items()}
    counts, causes, arrival, samples, ids = ask(
        totals(windows), cause_counts(judged), arrivals(named), latest, repeated_ids(copies, seqs)
    )
    duplicates = write_duplicate_events(ctx.spark, ctx.cfg, copies, ids)
    return _Counted(
        counts, causes, _late(ctx.job, ctx.cut, reads, named, arrival, samples), duplicates, known_ids(copies, ids)
    )


def _facts(job: Job, coverage: Coverage, counted: _Counted) -> Facts:
    """What the next verify may go by. Pure."""
    known = {}
    for source in job.sources:
        known[source.name] = replace(coverage.held[source.name].known, ids=counted.repeated.get(source.name))
    return Facts(known)


@dataclass(frozen=True)
class _Measured:
    """What was compared, explained and counted."""

    comparison: Comparison
    judged: Explained | None
    counted: _Counted
    expectations: tuple[ExpectationResult, ...]
    covered: bool


def _checks(ctx: Context, coverage: Coverage, measured: _Measured) -> Checks:
    """All that is judged. A few small Spark jobs."""
    judged, late, counts = measured.judged, measured.counted.late, measured.counted.totals
    return Checks(
        comparison=measured.comparison,
        totals=counts,
        early_rows=counts["early_rows"],
        causes=measured.counted.causes,
        late_events=late.events,
        counted=late.counted,
        late_known=measured.covered and not ctx.cut.missing and not anything(coverage.gone),
        drops_late=ctx.flow.drops_late,
        unnamed=ctx.flow.unnamed,
        duplicates=measured.counted.duplicates,
        audits=audits_of(ctx, coverage),
        sink=judged.foreign if judged else NOBODY,
        expectations=measured.expectations,
        lag_events=unread(ctx.cut, coverage, ctx.job),
        age_ms=ctx.cut.taken_at_ms - (ctx.cut.started_at_ms or begun_at_ms(ctx.spark, ctx.cfg, ctx.job.job_name)),
        begun=bool(ctx.cut.started_at_ms),
        severed=coverage.severed,
        silent=coverage.silent,
        covered=measured.covered,
        foreign=foreign_commits(ctx.spark, ctx.batch.table, ctx.batch.table_version),
        broker_seen=all(ends is not None for ends in coverage.broker.values()),
        expired=judged.expired if judged else 0,
        uncounted=uncounted(ctx, coverage.gone),
    )


def _shown(
    ctx: Context,
    coverage: Coverage,
    measured: _Measured,
    reads: Sequence[Read],
    windows: Question[tuple[WindowPoint, ...]],
) -> Shown:
    """What the report shows besides the counts. One Spark job, and one more where rows differ."""
    judged, late = measured.judged, measured.counted.late
    partitions = partition_points(reads[0], ctx.cut, late.arrival.behind if late.arrival else ())
    progress, differing = _progress(ctx.cut, reads[0]), sample_rows(judged, ctx.cfg.verify.sample_rows)
    points, moved, behind, rows = ask(windows, progress, partitions, differing)
    return Shown(
        late=late.latest,
        samples=() if judged is None else row_samples(judged, rows, late.frame),
        timeline=points,
        micro_batches=moved,
        quarantine=coverage.refused,
        watermarks=_watermarks(ctx.job, ctx.flow),
        arrival=late.arrival,
        partitions=behind,
        events_told=all(each.told for each in ctx.flow.passages.values()),
    )


def _watermarks(job: Job, flow: Dataflow) -> tuple[WatermarkOf, ...]:
    """What the watermark of each source follows, where the job drops or holds back anything by it."""
    timed = [(s.name, s.lateness_ms, flow.passage(s.name)) for s in job.sources if s.lateness_ms is not None]
    return tuple(WatermarkOf(name, ms, each.moves_if, each.moves_told) for name, ms, each in timed)


def _progress(cut: StreamCut, read: Read) -> Question[tuple[MicroBatchPoint, ...]]:
    emitted = cut.committed.micro_batch >= 0
    return micro_batch_points(cut, newest_by_micro_batch(read) if emitted else None)
