"""What a heal stands on: the last verify of a job, and tables that have not moved since. Otherwise it is refused."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import CheckpointError, JobError, TableError
from twinrun.history.history import no_verify
from twinrun.job.code import changed_parts
from twinrun.job.job import Job
from twinrun.results.cut import both_states, last_change
from twinrun.results.ledger import ledger_rows
from twinrun.results.records import heals_of
from twinrun.results.state import BatchState, StreamState
from twinrun.session.plain import plain_errors


@dataclass(frozen=True)
class LastVerify:
    """The newest verify of a job in the ledger, over all of its windows."""

    verify_id: str
    query_id: str
    micro_batch: int
    watermark_ms: int | None
    stream_version: int
    batch_version: int
    rows_explained: int
    rows_unexplained: int


@dataclass(frozen=True)
class SeenStates:
    """Both states and the verify that saw exactly them."""

    stream: StreamState
    batch: BatchState
    verify: LastVerify


def refuse_unhealable(job: Job) -> None:
    """Refuse jobs whose rows are never final, or whose keys a proof does not pin down. No Spark job.

    Raises
    ------
    JobError
        The job updates its rows, has several sources, or session windows.
    """
    if job.emit == "updates":
        raise JobError(
            f"{job.job_name} cannot be healed: it emits updates, so that its stream writes a row again, from its own "
            "state, with the next event of that key.",
            expected='a job with emit="final", whose rows are written once',
            fix=f"start the stream anew, over all events: twinrun stream {job.job_name} --new-checkpoint",
        )
    if len(job.sources) != 1 or job.shape == "session":
        what = "session windows" if job.shape == "session" else f"{len(job.sources)} sources"
        raise JobError(
            f"{job.job_name} cannot be healed yet: it has {what}.",
            expected="one source, and tumbling, sliding or no windows",
            fix=f"start the stream anew, over all events: twinrun stream {job.job_name} --new-checkpoint",
        )


def find_seen_states(spark: SparkSession, cfg: Config, job: Job) -> SeenStates:
    """Check that both tables are what the last verify saw. About eight small Spark jobs; changes nothing.

    Raises
    ------
    TableError
        A mode never ran; there is no ledger, it is damaged or holds no verify of this job; a table has moved.
    CheckpointError
        The stream started anew since, or the two results come from different definitions.
    """
    stream, batch = both_states(spark, cfg, job)
    verify = last_verify(spark, cfg, job)
    again = f"twinrun verify {job.job_name}"
    if stream.query_id != verify.query_id:
        raise CheckpointError(
            f"the last verify of {job.job_name} was of another query: its stream started anew since.",
            expected=f"a verify of query {stream.query_id}",
            fix=f"run: {again}",
        )
    changed = changed_parts(stream.fingerprint, batch.fingerprint)
    if changed:
        raise CheckpointError(
            f"the two results of {job.job_name} come from different definitions: {', '.join(changed)}.",
            expected="both modes run with one definition",
            fix=f"run: twinrun batch {job.job_name} --full, then {again}",
        )
    seen = SeenStates(stream, batch, verify)
    refuse_moved(spark, cfg, job, seen)
    return seen


def refuse_moved(spark: SparkSession, cfg: Config, job: Job, seen: SeenStates) -> None:
    """Refuse a heal when the rows of either table have changed since the verify. Four small Spark jobs.

    A compaction makes a new version of the same rows, and is no reason to refuse.

    Raises
    ------
    TableError
        The table, both versions, and what to do.
    """
    stream, batch, verify = seen.stream, seen.batch, seen.verify
    now = last_change(spark, stream.table, verify.stream_version)
    if now is not None:
        raise _moved("stream", stream.table, now, verify.stream_version, _mover(spark, cfg, job, stream, now), job)
    newest = last_change(spark, batch.table, verify.batch_version)
    if newest is not None:
        why = "so that its values are no longer those that were proven"
        raise _moved("batch", batch.table, newest, verify.batch_version, why, job)


def last_verify(spark: SparkSession, cfg: Config, job: Job) -> LastVerify:
    """The newest verify in the ledger. One Spark job; one row is collected."""
    name = job.job_name
    pinned = ("query_id", "micro_batch", "watermark_ms", "stream_version", "batch_version")
    per_verify = (
        ledger_rows(spark, cfg, name)
        .groupBy("verify_id")
        .agg(
            F.max("verified_at_ms").alias("at_ms"),
            *[F.max(column).alias(column) for column in pinned],
            F.sum("rows_explained").alias("rows_explained"),
            F.sum("rows_unexplained").alias("rows_unexplained"),
        )
    )
    with plain_errors(f"reading the ledger of {name}"):
        rows = per_verify.orderBy(F.col("at_ms").desc()).limit(1).drop("at_ms").collect()
    if not rows:
        raise no_verify(name, cfg.table("ledger"))
    return LastVerify(**rows[0].asDict())


def _mover(spark: SparkSession, cfg: Config, job: Job, stream: StreamState, now: int) -> str:
    """Who made the table's newest version, where it was a heal."""
    for heal in heals_of(spark, cfg, job.job_name):
        if heal.table == stream.table and now == heal.version:
            return f"by heal {heal.id}"
        if heal.table == stream.table and now == heal.undone_version:
            return f"by the undo of heal {heal.id}"
    return "so that nobody knows whether a plan still holds"


def _moved(mode: str, table: str, now: int, seen: int, why: str, job: Job) -> TableError:
    return TableError(
        f"the {mode}'s table {table} has moved since the last verify that counts, from version {seen} to {now}, {why}.",
        expected="the tables as that verify saw them; one for which the batch lacked input does not count",
        fix=f"run: twinrun verify {job.job_name}, after a batch run where it says input_behind, and heal before the "
        f"{mode} runs again",
    )
