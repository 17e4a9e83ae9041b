"""From what was measured to the verdict: the one place that decides outcome and exit code."""

from __future__ import annotations

from dataclasses import dataclass

from twinrun.comparator.result import Comparison
from twinrun.config.model import Config
from twinrun.durations import human
from twinrun.errors import EXIT_DIFFERENT, EXIT_OK
from twinrun.explain.explain import NOBODY, Foreign
from twinrun.job.code import DECODER, changed_parts
from twinrun.job.job import Job
from twinrun.results.causes import EXPECTED_CAUSES
from twinrun.results.cut import ForeignCommit, StreamCut
from twinrun.results.state import BatchState
from twinrun.results.verdict import (
    Arrival,
    Audit,
    CauseCount,
    Cut,
    ExpectationResult,
    LateEvent,
    MicroBatchPoint,
    Outcome,
    PartitionPoint,
    QuarantineCount,
    RowSample,
    Verdict,
    WatermarkOf,
    WindowPoint,
)
from twinrun.wording import plural, worded

SILENT = "Kafka did not answer: lag and staleness are unknown"
_PARTITIONS = 3


@dataclass(frozen=True)
class Checks:
    """Everything that was measured, before it is judged.

    ``counted``: events of the cut that would have reached the result, where the job leaves some out; else None.
    ``late_known``: every event that the stream has read is there to be looked at; else more of them may be late.
    ``severed``: why what was read is not what Kafka has. ``begun``: the stream has done a micro-batch; else ``age_ms``
    is how long ago it was started. ``silent``: Kafka did not answer at all.
    """

    comparison: Comparison
    totals: dict[str, int]
    early_rows: int
    causes: tuple[CauseCount, ...]
    late_events: int
    duplicates: int
    audits: tuple[Audit, ...]
    expectations: tuple[ExpectationResult, ...]
    lag_events: int
    age_ms: int | None
    covered: bool
    broker_seen: bool
    foreign: tuple[ForeignCommit, ...]
    expired: int = 0
    uncounted: int = 0
    sink: Foreign = NOBODY
    drops_late: bool = True
    unnamed: tuple[str, ...] = ()
    counted: int | None = None
    late_known: bool = True
    severed: tuple[str, ...] = ()
    begun: bool = True
    silent: bool = False


@dataclass(frozen=True)
class Shown:
    """What the report shows besides the counts."""

    late: tuple[LateEvent, ...]
    samples: tuple[RowSample, ...]
    timeline: tuple[WindowPoint, ...]
    micro_batches: tuple[MicroBatchPoint, ...]
    quarantine: tuple[QuarantineCount, ...]
    watermarks: tuple[WatermarkOf, ...] = ()
    arrival: Arrival | None = None
    partitions: tuple[PartitionPoint, ...] = ()
    events_told: bool = True


def judge(
    cfg: Config, job: Job, cut: StreamCut, batch: BatchState, checks: Checks, pinned: Cut, strict: bool
) -> tuple[Outcome, int, tuple[str, ...]]:
    """Outcome, exit code and the sentences that make it 1.

    Order: whether anything can be said at all (nothing_compared, input_behind, stale), then differences, then limits.
    """
    cannot_say = _cannot_say(cfg, job, checks, pinned)
    wrong = _wrong(job, cut, batch, checks)
    over = _over_limits(job, checks, pinned)
    differs = bool(checks.comparison.rows_different or checks.causes or checks.totals["pending"])
    problems = [sentence for _, sentence in cannot_say] + wrong + over
    open_rows = checks.totals["rows_behind"]
    if strict and differs and not problems:
        every = "the results differ, though every difference is proven and expected"
        some = worded(open_rows, "differing row is", "differing rows are")
        problems.append(f"strict: {f'{some} not judged' if open_rows else every}")
    outcome: Outcome = "agree"
    if cannot_say:
        outcome = cannot_say[0][0]
    elif wrong or over or problems:
        outcome = "differ"
    elif checks.comparison.rows_different > open_rows:
        outcome = "explained"
    return outcome, EXIT_DIFFERENT if problems else EXIT_OK, tuple(problems)


def _cannot_say(cfg: Config, job: Job, checks: Checks, pinned: Cut) -> list[tuple[Outcome, str]]:
    found: list[tuple[Outcome, str]] = []
    if not checks.covered:
        found.append(("input_behind", _behind(pinned, checks.totals["rows_behind"])))
    if checks.covered and checks.comparison.rows_batch == 0 and checks.comparison.rows_stream == 0:
        what = "no window has closed in both modes" if job.windowed else "neither mode has a row"
        found.append(("nothing_compared", f"nothing was compared: {what}"))
    if checks.covered and checks.totals["rows_behind"] and not checks.totals["rows_compared"]:
        found.append(("nothing_compared", "nothing was compared: the batch lacks events of every row"))
    waiting = sum(cause.rows for cause in checks.causes if cause.cause == "pending")
    if waiting and not checks.comparison.rows_stream and waiting == checks.totals["rows_compared"]:
        every = "the only row still waits" if waiting == 1 else f"all {plural(waiting, 'row')} still wait"
        found.append(("nothing_compared", f"nothing was compared: {every} in the stream"))
    elif checks.covered and _only_not_yet(checks):
        every = "the only row is" if checks.totals["rows_compared"] == 1 else "all rows are"
        why = f"the stream has written no row, and {every} of events that it has not read"
        found.append(("nothing_compared", f"nothing was compared: {why}"))
    found += [("stale", sentence) for sentence in checks.severed]
    limit = cfg.verify.max_lag_events
    if limit is not None and checks.lag_events > limit:
        least = "" if checks.broker_seen else "at least "
        behind = plural(checks.lag_events, "event")
        found.append(("stale", f"the stream is {least}{behind} behind its input; allowed: {limit}"))
    oldest_s = cfg.verify.max_age_s
    if oldest_s is not None and checks.lag_events > 0 and (checks.age_ms or 0) > oldest_s * 1000:
        age = human(checks.age_ms or 0)
        if checks.begun:
            found.append(("stale", f"events wait unread and the last micro-batch is {age} old; allowed: {oldest_s} s"))
        else:
            found.append(
                (
                    "stale",
                    f"events wait unread and the stream, begun {age} ago, has done nothing; allowed: {oldest_s} s",
                )
            )
    return found


def _only_not_yet(checks: Checks) -> bool:
    """Whether the stream has no row at all, and every row of the batch is there by events that it has not read."""
    totals, names = checks.totals, {cause.cause for cause in checks.causes}
    nothing = checks.comparison.rows_stream == 0 and totals["rows_compared"] > 0
    return nothing and totals["rows_unexplained"] == 0 and bool(names) and names <= {"beyond_cut", "pending"}


def _behind(pinned: Cut, rows: int) -> str:
    """What the batch has not read yet, by source and partition; and the rows that wait for it."""
    parts = []
    for source in pinned.sources:
        lacks = {p: (source.batch_end.get(p, 0), end) for p, end in source.end.items()}
        lacks = {p: (has, end) for p, (has, end) in lacks.items() if has < end}
        if lacks:
            where = [f"partition {p} up to {has} of {end}" for p, (has, end) in sorted(lacks.items())[:_PARTITIONS]]
            if len(lacks) > _PARTITIONS:
                where.append(plural(len(lacks) - _PARTITIONS, "more partition"))
            missing = plural(sum(end - has for has, end in lacks.values()), "record")
            parts.append(f"{missing} of {source.source} ({', '.join(where)})")
    said = f"the batch has not read what the stream has: it lacks {' and '.join(parts)}"
    wait = worded(rows, "differing row waits for that and is", "differing rows wait for that and are")
    return f"{said}; {wait} not judged" if rows else said


def _wrong(job: Job, cut: StreamCut, batch: BatchState, checks: Checks) -> list[str]:
    problems = []
    changed = changed_parts(cut.state.fingerprint, batch.fingerprint)
    if changed == [DECODER]:
        problems.append(
            "logic_changed: the two results come from versions of twinrun that decode records in different ways "
            "(docs/decoding.md); the job's definition is the same"
        )
    elif changed:
        problems.append(f"logic_changed: the two results come from different definitions: {', '.join(changed)}")
    if checks.foreign:
        problems.append(
            f"the batch's table was changed by something else than a batch run: {', '.join(map(str, checks.foreign))}"
        )
    if checks.sink.touched is not None:
        problems.append(
            f"the stream's table was changed by something else than the stream: "
            f"{', '.join(map(str, checks.sink.commits))}"
        )
    problems += [f"schema: {difference}" for difference in schema_drift(checks.comparison)]
    unexplained = checks.totals["rows_unexplained"] - checks.expired
    if checks.expired:
        problems.append(
            f"{worded(checks.expired, 'differing row has lost its', 'differing rows have lost their')} evidence "
            "(evidence_expired)"
        )
    if checks.uncounted:
        problems.append(
            f"{plural(checks.uncounted, 'event')} came for windows whose other events had expired: no result has "
            f"{'it' if checks.uncounted == 1 else 'them'}"
        )
    if unexplained:
        problems.append(f"{worded(unexplained, 'differing row is', 'differing rows are')} unexplained")
    elif not checks.expired and not checks.totals["rows_behind"] and _uncaused(checks):
        problems.append("rows differ, but no cause was counted for them")
    if checks.early_rows:
        belong = ("row of the stream belongs to a window that is", "rows of the stream belong to windows that are")
        problems.append(f"{worded(checks.early_rows, *belong)} still open")
    repeated = checks.comparison.keys_repeated_batch, checks.comparison.keys_repeated_stream
    if any(repeated):
        batch_has = worded(repeated[0], "repeats", "repeat")
        problems.append(f"keys are not unique: {batch_has} in the batch, {repeated[1]:,} in the stream")
    for cause in checks.causes:
        if cause.cause not in EXPECTED_CAUSES:
            problems.append(
                f"{worded(cause.rows, 'row differs', 'rows differ')} by {cause.cause}, which is proven but not to be "
                "expected"
            )
    if checks.comparison.audit == "disagrees":
        problems.append("the exact comparison of all rows disagrees with the digests")
    problems += [f"audit of {audit.source}: {audit.note}" for audit in checks.audits if not audit.ok]
    failed = [e for e in checks.expectations if not e.success]
    problems += [f"expectation on the {e.table}: {e.expectation} ({e.observed})" for e in failed]
    return problems


def _uncaused(checks: Checks) -> bool:
    return bool(checks.comparison.rows_different) and not checks.causes


def schema_drift(comparison: Comparison) -> tuple[str, ...]:
    """Every difference of the two schemas, also of types that compare well (INT and BIGINT).

    Both tables of a job come from one function, so any other type means that something else wrote one of them.
    """
    widened = [
        f"column {column.name} is {column.batch_type.simpleString()} in the batch, "
        f"{column.stream_type.simpleString()} in the stream"
        for column in comparison.schema.columns
        if column.batch_type.simpleString() != column.stream_type.simpleString()  # nullability of elements apart
    ]
    return (*(str(difference) for difference in comparison.schema_differences), *widened)


def _over_limits(job: Job, checks: Checks, pinned: Cut) -> list[str]:
    problems = []
    in_cut, of_which = sum(source.events_in_cut for source in pinned.sources), "the events"
    if checks.counted is not None:
        in_cut, of_which = checks.counted, "the events that reach the result"
    if in_cut and checks.late_events / in_cut > job.max_late_share:
        share, limit = _over(checks.late_events / in_cut, job.max_late_share)
        problems.append(f"late events are {share} of {of_which}; max_late_share is {limit}")
    records = sum(audit.bronze_rows for audit in checks.audits)
    refused = sum(audit.quarantined_rows for audit in checks.audits)
    if records and refused / records > job.max_quarantined_share:
        share, limit = _over(refused / records, job.max_quarantined_share)
        problems.append(f"quarantine holds {share} of the records; the limit is {limit}")
    return problems


def _over(share: float, limit: float) -> tuple[str, str]:
    """A share and the limit that it exceeds, with as many digits as it takes to see that."""
    for digits in range(2, 15):
        texts = f"{share:.{digits}%}", f"{limit:.{digits}%}"
        if texts[0] != texts[1]:
            break
    return texts


def assemble(
    job: Job,
    cut: StreamCut,
    checks: Checks,
    shown: Shown,
    pinned: Cut,
    judged: tuple[Outcome, int, tuple[str, ...]],
    notes: tuple[str, ...],
    duration_ms: int,
) -> Verdict:
    """Put the verdict together."""
    outcome, exit_code, problems = judged
    counts = checks.totals
    return Verdict(
        job=job.job_name,
        outcome=outcome,
        exit_code=exit_code,
        problems=problems,
        notes=notes,
        cut=pinned,
        keys=tuple(job.keys),
        shape=job.shape,
        window_ms=job.window_ms,
        lateness_ms=job.sources[0].lateness_ms,
        rows_batch=counts["rows_batch"],
        rows_stream=counts["rows_stream"],
        rows_compared=counts["rows_compared"],
        rows_equal=counts["rows_equal"],
        rows_explained=counts["rows_explained"],
        rows_unexplained=counts["rows_unexplained"],
        windows_compared=counts["compared"],
        windows_equal=counts["equal"],
        windows_different=counts["compared"] - counts["equal"],
        windows_pending=counts["pending"],
        rows_pending=counts["rows_pending"],
        schema_differences=schema_drift(checks.comparison),
        causes=checks.causes,
        late_events=shown.late,
        samples=shown.samples,
        timeline=shown.timeline,
        micro_batches=shown.micro_batches,
        quarantine=shown.quarantine,
        audits=checks.audits,
        expectations=checks.expectations,
        stream_lag_events=checks.lag_events if checks.broker_seen else None,
        stream_age_ms=checks.age_ms if checks.begun else None,
        duration_ms=duration_ms,
        watermarks=shown.watermarks,
        arrival=shown.arrival,
        partitions=shown.partitions,
        events_told=shown.events_told,
        rows_behind=counts["rows_behind"],
        windows_behind=counts["behind"],
    )


def _timed(job: Job) -> bool:
    return job.shape != "stateless" and any(source.lateness_ms is not None for source in job.sources)


def _on_dropped(job: Job, cut: StreamCut, checks: Checks) -> list[str]:
    """How many late events the stream dropped, as far as that is known; empty where none can be late."""
    if checks.late_events:
        least = "" if checks.late_known else "at least "
        return [
            f"The stream dropped {least}{plural(checks.late_events, 'late event')}. An event is judged by the "
            "watermark of the micro-batch before the one that reads it: larger micro-batches drop fewer, and one "
            "micro-batch over everything drops none but those of before 1970."
        ]
    if not checks.drops_late or checks.unnamed or not _timed(job) or cut.committed.micro_batch < 0:
        return []
    if not checks.late_known:
        why = "events that it has read are not there to be looked at"
        if not checks.covered:
            why = "the batch lacks events that it has read"
        return [f"Whether the stream dropped late events is not known: {why}."]
    return [
        f"The stream dropped no event in {plural(cut.committed.micro_batch + 1, 'micro-batch')}. That depends on "
        "their size: smaller ones move the watermark more often, and drop more."
    ]


def notes_of(job: Job, cut: StreamCut, checks: Checks, batch: BatchState, shown: Shown) -> tuple[str, ...]:
    """What a reader should know that is no problem."""
    notes = notes_on_lateness(checks.late_events, shown) + _on_dropped(job, cut, checks)
    if checks.unnamed:
        notes.append(
            f"Whether the stream dropped events of {' and '.join(checks.unnamed)} is not known: the watermark judges "
            "their rows, but not by their own event time (lint: TR207)."
        )
    if checks.sink.commits and checks.sink.touched is None:
        notes.append(
            f"The stream's table was changed by something else than the stream, in no row that differs: "
            f"{', '.join(map(str, checks.sink.commits))}."
        )
    if checks.duplicates:
        notes.append(
            f"{worded(checks.duplicates, 'event id stands', 'event ids stand')} at several offsets (table "
            "duplicate_events)."
        )
    if checks.silent:
        of_bronze = f"{plural(checks.lag_events, 'record')} of bronze"
        notes.insert(0, f"{SILENT}. The stream has not read {of_bronze}; what else Kafka holds is not known.")
    if cut.static_mixed:
        notes.append("The stream saw several versions of a static table: such rows can only be proven for one version.")
    if cut.state.starting != "earliest":
        notes.append(f"The stream's checkpoint began at {cut.state.starting}.")
    if batch.static != cut.static:
        notes += [
            f"The modes joined different versions of the static table {name}: batch {batch.static.get(name, 'none')}, "
            f"stream {cut.static.get(name, 'none')}."
            for name in sorted({*batch.static, *cut.static})
            if batch.static.get(name) != cut.static.get(name)
        ]
    return tuple(notes)


def notes_on_lateness(late_events: int, shown: Shown) -> list[str]:
    """What the watermark follows where that is not every event, and which late events were read late."""
    notes = []
    for each in shown.watermarks:
        if each.only_if:
            notes.append(
                f"The watermark of {each.source} follows only the events with {each.only_if}: Spark applies this "
                "filter of the job before the watermark. Windows close no earlier than by all events, and no more "
                "events are late."
            )
        elif not each.told:
            notes.append(f"The plan does not say which events of {each.source} move its watermark: not all of them do.")
    if late_events and not shown.events_told:
        notes.append(
            "How many of the late events the function would have used cannot be told from its plan: those that are "
            "counted are all that came too late, and some of them may make no difference."
        )
    if shown.arrival is not None and shown.arrival.read_late:
        notes.append(read_late(shown.arrival))
    return notes


def read_late(arrival: Arrival) -> str:
    """The sentence on events that lay in Kafka in time: which partitions were behind, since when, and what helps."""
    late = plural(arrival.read_late, "late event")
    total = arrival.read_late + arrival.arrived_late + arrival.not_told
    of = f"{arrival.read_late} of {total} late events lay" if total > arrival.read_late else f"{late} lay"
    told = []
    for each in arrival.behind:
        since = "" if each.since_micro_batch is None else f" since micro-batch {each.since_micro_batch}"
        far = "" if each.behind_ms is None else f", up to {human(each.behind_ms)} behind the newest event of the topic"
        told.append(f"partition {each.partition} of {each.topic}{since}{far} ({plural(each.events, 'event')})")
    behind = f" What was read behind the others: {'; '.join(told)}." if told else ""
    whose = "its" if arrival.read_late == 1 else "their"
    return (
        f"{of} in Kafka before anything that moved the watermark past the end of {whose} window, and "
        f"{'was' if arrival.read_late == 1 else 'were'} read late.{behind} A longer lateness is not the remedy: spread "
        "the records evenly over the partitions, or read more of them per trigger (stream.max_offsets_per_trigger), so "
        "that all partitions keep up with each other."
    )
