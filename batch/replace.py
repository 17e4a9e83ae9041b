"""Decide what a batch run must recompute, and replace exactly that in one Delta transaction."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from twinrun.events.decode import event_schema
from twinrun.events.json_ import quoted
from twinrun.job.fingerprint import changed_parts
from twinrun.job.job import Job
from twinrun.job.lineage import unchanged_fields
from twinrun.results.state import BatchState
from twinrun.results.touched import (
    TimeRange,
    events_of,
    in_ranges,
    incremental_by,
    ranges_sql,
    touched_ranges,
)
from twinrun.tables.delta import USER_METADATA, Commit, append, is_path, replace

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
    """

    kind: str
    notes: tuple[str, ...] = ()
    events: dict[str, DataFrame] = field(default_factory=dict)
    ranges: tuple[TimeRange, ...] = ()


def plan_work(
    job: Job,
    inputs: dict[str, DataFrame],
    last: BatchState | None,
    now: BatchState,
    fresh: str | None,
    unfinished: bool = False,
    made_anew: str = "",
) -> Work:
    """Find the smallest closed part that new events touch. At most one Spark job.

    ``unfinished`` says that an earlier run started and left no record: appended rows could then be there already.
    ``made_anew`` says why the last run's rows or events are not what it left behind.
    A first run, ``--full``, a change of logic or decoder, a new version of a static table, and jobs whose touched
    part is not closed are computed whole; ``notes`` say why.
    """
    why = _why_full(job, last, now, fresh)
    if why is None and made_anew:
        why = f"everything was recomputed, since {made_anew}"
    if why is None and incremental_by(job) == "keys" and not _keys_are_fields(job, inputs):
        why = _CANNOT_TELL
    if why is None and unfinished and incremental_by(job) == "events":
        why = "everything was recomputed, since the last run did not finish and its rows may be in the table"
    if why is not None or last is None:
        return Work("full", notes=(why,) if why else ())
    if now.decoded_seq == last.decoded_seq:
        return Work("nothing", notes=("no new events: the result stays as it is",))
    source = job.sources[0]
    events = inputs[source.name]
    new = events.filter(F.col("_decoded_seq") > last.decoded_seq[source.name])
    by = incremental_by(job)
    if by == "events":
        return Work("events", events={source.name: new})
    if by == "keys":
        touched = new.select(*[F.col(quoted(key)).alias(f"_key_{i}") for i, key in enumerate(job.keys)]).distinct()
        same = [F.col(quoted(key)).eqNullSafe(F.col(f"_key_{i}")) for i, key in enumerate(job.keys)]
        return Work("keys", events={source.name: events.join(touched, same, "left_semi")})
    ranges = touched_ranges(new, job)
    if not ranges:
        return Work("nothing", notes=("no new valid events: the result stays as it is",))
    return Work("windows", events={source.name: events_of(events, job, ranges)}, ranges=tuple(ranges))


def write_work(results: DataFrame, job: Job, state: BatchState, work: Work) -> None:
    """Write the recomputed part. A rerun after a crash gives the same table."""
    if work.kind == "nothing":
        return
    mark = Commit(metadata={"run_id": state.run_id})
    if work.kind == "full":
        replace(results, state.table, commit=mark)
    elif work.kind == "windows":
        ranges = list(work.ranges)
        kept = results.filter(in_ranges(job.window_column, ranges))
        replace(kept, state.table, where=ranges_sql(job.window_column, ranges), commit=mark)
    elif work.kind == "events":
        append(results, state.table, mark)
    else:
        _replace_keys(results, job, state, work)


def _replace_keys(results: DataFrame, job: Job, state: BatchState, work: Work) -> None:
    """Upsert the recomputed keys; a touched key that has no row any more is removed."""
    spark = results.sparkSession
    spark.conf.set(USER_METADATA, json.dumps({"run_id": state.run_id}))
    touched = work.events[job.sources[0].name].select(*[F.col(quoted(key)) for key in job.keys]).distinct()
    marked = results.withColumn("_kept", F.lit(True))
    source = touched.join(marked, job.keys, "left") if job.keys else marked
    target = DeltaTable.forPath(spark, state.table) if is_path(state.table) else DeltaTable.forName(spark, state.table)
    on_key = " AND ".join(f"target.{quoted(key)} <=> source.{quoted(key)}" for key in job.keys)
    cells: dict[str, str | Column] = {quoted(name): f"source.{quoted(name)}" for name in results.columns}
    (
        target.alias("target")
        .merge(source.alias("source"), on_key)
        .whenMatchedDelete("source._kept IS NULL")
        .whenMatchedUpdate("source._kept", set=cells)
        .whenNotMatchedInsert("source._kept", values=cells)
        .execute()
    )
    spark.conf.unset(USER_METADATA)


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
    if not incremental_by(job):
        return _CANNOT_TELL
    return None


def _keys_are_fields(job: Job, inputs: dict[str, DataFrame]) -> bool:
    """Whether events tell by their own fields which rows they touch; not so for a key such as ``lower(page)``."""
    source = job.sources[0]
    events = inputs[source.name].select(*[F.col(quoted(field.name)) for field in event_schema(source)])
    return unchanged_fields(job.apply({**inputs, source.name: events}), events, job.keys) == set(job.keys)
