"""Verify a job whose stream another engine runs: its result as bound in conf against the batch's."""

from __future__ import annotations

import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, replace

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from twinrun.comparator.result import Comparison
from twinrun.config.model import Config
from twinrun.config.sections import ExternalBinding
from twinrun.events.exact import quoted
from twinrun.explain.coverage import (
    Coverage,
    audits_of,
    coverage_of,
    notes_on_coverage,
    records_pinned,
    silent_kafka,
    statics_of,
    tables_of,
)
from twinrun.explain.differing import Sides, closed, compare_sides, read_once, uncounted, waits_for_close
from twinrun.explain.explain import Explained as Judged
from twinrun.explain.judge import Checks, Shown, assemble, judge
from twinrun.explain.summary import cause_counts, of_rows, row_samples, sample_rows, timeline, totals, windows_frame
from twinrun.explain.tables import repeated_events, repeated_ids, write_duplicate_events
from twinrun.external.cut import EVERYTHING_READY
from twinrun.external.explain import Case, Explained, explain_external
from twinrun.external.read import is_covered, pinned_cut, read_case, wait_for_batch
from twinrun.external.words import (
    decoder_notes,
    external_side,
    left_out_notes,
    notes_of,
    out_of_reach,
    proofs,
    rule_notes,
    with_problems,
)
from twinrun.job.job import Job
from twinrun.quality.expect import check_expectations, declared_expectations, judge_rows
from twinrun.results.cut import Context, foreign_commits
from twinrun.results.records import Say, quiet
from twinrun.results.verdict import CauseCount, ExpectationResult, Verdict
from twinrun.session.plain import plain_errors
from twinrun.tables.lease import held_lease
from twinrun.tables.listed import ask, listed_once
from twinrun.wording import plural


def verify_external(
    spark: SparkSession,
    cfg: Config,
    job: Job,
    binding: ExternalBinding,
    *,
    strict: bool = False,
    wait_s: float | None = None,
    full: bool = False,
    on_step: Say | None = None,
) -> Verdict:
    """Compare a job's batch result with what another engine wrote, and prove what can be proven without its log.

    Parameters
    ----------
    binding : ExternalBinding
        From `twinrun.external.declared.external_binding`.
    strict, full : bool
        As in `twinrun.explain.verify.verify`.
    wait_s : float, optional
        How long to wait until the batch covers the declared end offsets; by default ``verify.wait_s`` of conf.

    Returns
    -------
    Verdict
        With ``external`` set, and without micro-batches. The rows are in the table ``external_differences``, malformed
        records in ``external_malformed``; the ledger is not written. At most 60 small Spark
        jobs where a rule explains.

    Raises
    ------
    InputError
        The batch never ran, or a mark of a restart lies beyond what it has read.
    TableError, BrokerError, QueryError
        The external result, or a table of the batch, is not there or cannot be read.
    CheckpointError
        Another verify of this external result is running.
    """
    began = time.monotonic()
    say = on_step or quiet
    subject = f"verify-external:{job.job_name}"
    with (
        held_lease(spark, cfg, subject, f"twinrun verify {job.job_name} --external"),
        plain_errors("the verify"),
        ExitStack() as stack,
    ):
        say("reading the external result")
        batch = wait_for_batch(spark, cfg, job, binding, cfg.verify.wait_s if wait_s is None else wait_s)
        covered = is_covered(batch, binding, job)
        silent = bool(silent_kafka(cfg))
        stack.enter_context(records_pinned(spark, cfg, job))
        stack.enter_context(listed_once([batch.table, *tables_of(cfg, job), *statics_of(cfg, job)]))
        case, external, notes = read_case(spark, cfg, job, binding, batch)
        case = replace(case, sides=stack.enter_context(read_once(case.sides)))
        ctx = Context(spark, cfg, case.job, case.flow, case.cut, batch)
        coverage = coverage_of(ctx, silent=silent)
        rows = case.sides.stream.count()
        ready = Sides(*(closed(job, side, case.ready_ms) for side in (case.sides.batch, case.sides.stream)))
        say("comparing")
        comparison, differences = compare_sides(case.job, ready, full)
        verify_id = uuid.uuid4().hex[:16]
        judged: Explained | None = None
        if comparison.rows_different:
            say(f"explaining {plural(comparison.rows_different, 'differing row')}")
            untried = "input_behind" if not covered else "" if rows else "unexplained"
            mine = replace(case, sides=ready)
            judged = explain_external(spark, cfg, mine, verify_id, differences, coverage.gone, untried=untried)
        kept = None if judged is None else judged.judged
        windows = windows_frame(job, case.sides.batch, case.sides.stream, case.cut, kept.rows if kept else None)
        windows = windows.localCheckpoint()
        copies = repeated_events(ctx)
        counts, causes, ids = ask(totals(windows), cause_counts(kept), repeated_ids(copies))
        duplicates = write_duplicate_events(spark, cfg, copies, ids)
        say("checking expectations")
        expectations = _expectations(case.job, ready, binding)
        expectations += judge_rows(*of_rows(counts), cfg.verify.min_completeness, "windows")
        measured = Measured(comparison, counts, causes, duplicates, kept, expectations, covered)
        checks = _checks(ctx, coverage, measured)
        pinned = pinned_cut(cfg, case, batch, coverage, checks.audits, external.version)
        points, differing = ask(timeline(job, windows, counts), sample_rows(kept, cfg.verify.sample_rows))
        samples = () if kept is None else row_samples(kept, differing)
        shown = Shown(() if judged is None else judged.late, samples, points, (), coverage.refused)
        decision = with_problems(judge(cfg, job, case.cut, batch, checks, pinned, strict), external, rows == 0)
        refuted = 0 if judged is None else judged.refuted
        unexpected = 0 if judged is None else judged.unexpected
        waiting = _waiting(case, kept)
        notes += notes_on_coverage(cfg, job, coverage)
        notes += tuple(notes_of(case, external, refuted, checks.duplicates, waiting, counts["early_rows"]))
        notes += rule_notes(case, unexpected)
        notes += left_out_notes(case, counts["rows_behind"] if covered else 0)
        notes += decoder_notes(job, batch)
        verdict = assemble(
            job, case.cut, checks, shown, pinned, decision, notes, int((time.monotonic() - began) * 1000)
        )
    side = external_side(job, binding, external, rows, counts["early_rows"], out_of_reach(case, refuted))
    return replace(verdict, external=side, lateness_ms=binding.lateness_ms, stream_lag_events=None)


@dataclass(frozen=True)
class Measured:
    """What was compared and explained, and what the expectations said."""

    comparison: Comparison
    totals: dict[str, int]
    causes: tuple[CauseCount, ...]
    duplicates: int
    kept: Judged | None
    expectations: tuple[ExpectationResult, ...]
    covered: bool


def _checks(ctx: Context, coverage: Coverage, measured: Measured) -> Checks:
    """Everything that is judged. The engine's own watermark may be ahead of what is declared: no row is early."""
    kept = measured.kept
    return Checks(
        comparison=measured.comparison,
        totals=measured.totals,
        early_rows=0,
        causes=proofs(measured.causes),
        late_events=0 if kept is None else kept.events.get("late_dropped", 0),
        duplicates=measured.duplicates,
        audits=audits_of(ctx, coverage),
        expired=0 if kept is None else kept.expired,
        uncounted=uncounted(ctx, coverage.gone),
        expectations=measured.expectations,
        lag_events=0,
        age_ms=None,
        covered=measured.covered,
        foreign=foreign_commits(ctx.spark, ctx.batch.table, ctx.batch.table_version),
        broker_seen=True,
        severed=coverage.severed,
    )


def _expectations(job: Job, sides: Sides, binding: ExternalBinding) -> tuple[ExpectationResult, ...]:
    """The job's suite on both results, less expectations on ignored columns."""
    wanted = [e for e in declared_expectations(job) if getattr(e, "column", None) not in binding.ignore]
    return check_expectations(replace(job, expect=wanted), {"batch": sides.batch, "external result": sides.stream})


def _waiting(case: Case, kept: Judged | None) -> int:
    """Rows only in the batch, after the newest window of the external result, where nothing says what is open."""
    if kept is None or case.ready_ms != EVERYTHING_READY or not waits_for_close(case.job):
        return 0
    newest = case.sides.stream.agg(F.max(quoted(case.job.window_column))).collect()[0][0]
    if newest is None:
        return 0
    open_ = (F.col("kind") == "only_batch") & (F.col("verdict") == "unexplained") & (F.col("window_start") > newest)
    return kept.rows.filter(open_).count()
