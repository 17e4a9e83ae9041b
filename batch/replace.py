"""Decide what a batch run must recompute, and replace exactly that in one Delta transaction."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun.errors import TableError
from twinrun.events.decode import event_schema
from twinrun.events.exact import quoted
from twinrun.job.code import changed_parts
from twinrun.job.dataflow import dataflow
from twinrun.job.job import Job
from twinrun.job.jvmplan import unchanged_fields
from twinrun.results.cut import TimeRange, events_in, in_ranges, incremental_by, ranges_sql, touched_ranges
from twinrun.results.records import differing, reached
from twinrun.results.state import BatchState
from twinrun.tables.delta import GONE, Commit, append, merge_by_key, replace_rows, table_exists

_CANNOT_TELL = "everything was recomputed: what new events touch cannot be told apart for this kind of job"


@dataclass(frozen=True)
class Work:
    """What to recompute.

    Attributes
    ----------
    kind : {"full", "nothing", "windows", "events", "keys"}
    events : dict
        The events to compute from, where they are not all.
    ranges : list of TimeRange
        Window starts to replace, for ``"windows"``.
    since_ms : int
        Windows that begin before this instant (epoch ms) keep their rows: their events have expired. 0: none.
    """

    kind: str
    notes: tuple[str, ...] = ()
    events: dict[str, DataFrame] = field(default_factory=dict)
    ranges: tuple[TimeRange, ...] = ()
    since_ms: int = 0


def plan_work(
    job: Job,
    inputs: dict[str, DataFrame],
    last: BatchState | None,
    now: BatchState,
    fresh: str | None,
    unfinished: bool = False,
    made_anew: str = "",
    since_ms: int = 0,
) -> Work:
    """Find the smallest closed part that new events touch. At most one Spark job.

    ``unfinished`` says that an earlier run started and left no record: appended rows could then be there already.
    ``made_anew`` says why the last run's rows or events are not what it left behind.
    A first run, ``--full``, a change of logic or decoder, a new version of a static table, and jobs whose touched
    part is not closed are computed whole; ``notes`` say why. ``since_ms`` (0: never) says that events before that
    instant have expired: windows before it are not computed again.

    Raises
    ------
    TableError
        The job needs events that have expired.
    """
    why = _why_full(job, last, now, fresh)
    if why is None and made_anew:
        why = f"everything was recomputed, since {made_anew}"
    if why is None and not _closed(job, inputs):
        why = _CANNOT_TELL
    if why is None and unfinished and incremental_by(job) == "events":
        why = "everything was recomputed, since the last run did not finish and its rows may be in the table"
    if why is not None or last is None:
        notes = [why] if why else []
        if since_ms:
            _refuse_partial(job, last, now)
            notes.append(f"windows before {_day(since_ms)} keep their rows, since their events have expired")
        return Work("full", notes=tuple(notes), since_ms=since_ms)
    if now.decoded_seq == last.decoded_seq:
        return Work("nothing", notes=("no new events: the result stays as it is",))
    source = job.sources[0]
    events = inputs[source.name]
    new = events.filter(F.col("_decoded_seq") > last.decoded_seq[source.name])
    by = incremental_by(job)
    if by == "events":
        return Work("events", events={source.name: new})
    if by == "keys":
        if since_ms:
            _refuse_partial(job, last, now)
        touched = new.select(*[F.col(quoted(key)).alias(f"_key_{i}") for i, key in enumerate(job.keys)]).distinct()
        same = [F.col(quoted(key)).eqNullSafe(F.col(f"_key_{i}")) for i, key in enumerate(job.keys)]
        return Work("keys", events={source.name: events.join(touched, same, "left_semi")})
    ranges = touched_ranges(new, job, since_ms)
    if not ranges:
        return Work("nothing", notes=("no new valid events: the result stays as it is",))
    return Work("windows", events={source.name: events_in(events, job, ranges)}, ranges=tuple(ranges))


def write_work(results: DataFrame, job: Job, state: BatchState, work: Work) -> None:
    """Write the recomputed part. A rerun after a crash gives the same table."""
    if work.kind == "nothing":
        return
    mark = Commit(metadata={"run_id": state.run_id})
    if work.kind == "full" and work.since_ms:
        since = f"{quoted(job.window_column)} >= timestamp_millis({work.since_ms})"
        there = table_exists(results.sparkSession, state.table)
        replace_rows(results.filter(since), state.table, where=since if there else None, commit=mark)
    elif work.kind == "full":
        replace_rows(results, state.table, commit=mark)
    elif work.kind == "windows":
        ranges = list(work.ranges)
        kept = results.filter(in_ranges(job.window_column, ranges))
        replace_rows(kept, state.table, where=ranges_sql(job.window_column, ranges), commit=mark)
    elif work.kind == "events":
        append(results, state.table, mark)
    else:
        _replace_keys(results, job, state, work)


def _replace_keys(results: DataFrame, job: Job, state: BatchState, work: Work) -> None:
    """Upsert the recomputed keys; a touched key that has no row any more is removed."""
    touched = work.events[job.sources[0].name].select(*[F.col(quoted(key)) for key in job.keys]).distinct()
    marked = results.withColumn(GONE, F.lit(False))
    source = touched.join(marked, job.keys, "left") if job.keys else marked
    rows = source.withColumn(GONE, F.coalesce(GONE, F.lit(True)))
    merge_by_key(rows, state.table, job.keys, {"run_id": state.run_id})


def _refuse_partial(job: Job, last: BatchState | None, now: BatchState) -> None:
    """Refuse what would put results of a part of the events in the place of results of all of them."""
    changed = changed_parts(last.fingerprint, now.fingerprint) if last else []
    if job.windowed and len(job.sources) == 1 and not changed:
        return
    what = f"its definition changed ({', '.join(changed)})" if changed else "it is not computed window by window"
    raise TableError(
        f"{job.job_name} cannot be computed anew: events that it needs have expired, and {what}.",
        expected="a result whose older rows can be kept as they are",
        fix="undo the change, or give the job another name or layout.batch_results: its result begins anew there",
    )


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC).date().isoformat()


def _why_full(job: Job, last: BatchState | None, now: BatchState, fresh: str | None) -> str | None:
    if last is None:
        return ""
    if fresh is not None:
        return "everything was recomputed, as asked"
    changed = changed_parts(last.fingerprint, now.fingerprint)
    if changed:
        return f"everything was recomputed, since this changed: {', '.join(changed)}"
    if last.static != now.static:
        return "everything was recomputed, since a static table has a new version"
    if reached(differing(last.refused, now.refused), last.ends):
        return "everything was recomputed, since other records are left out (twinrun quarantine)"
    if not incremental_by(job):
        return _CANNOT_TELL
    return None


def _closed(job: Job, inputs: dict[str, DataFrame]) -> bool:
    """Whether the function over the touched events alone gives the touched rows. No Spark job.

    Not with an operator besides the one that the job declares: de-duplication, a function over groups or state kept by
    hand look at events that the touched part leaves out.
    """
    tables = {table.name: inputs[table.name].schema for table in job.tables}
    if not dataflow(inputs[job.sources[0].name].sparkSession, job, tables).closed_form:
        return False
    return incremental_by(job) != "keys" or _keys_are_fields(job, inputs)


def _keys_are_fields(job: Job, inputs: dict[str, DataFrame]) -> bool:
    """Whether events tell by their own fields which rows they touch; not so for a key such as ``lower(page)``."""
    source = job.sources[0]
    events = inputs[source.name].select(*[F.col(quoted(field.name)) for field in event_schema(source)])
    return unchanged_fields(job.apply({**inputs, source.name: events}), events, job.keys) == set(job.keys)
