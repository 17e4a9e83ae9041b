"""Where a job's results live now, in each mode, and under which definition they were made.

Both modes keep a numbered version of their table. A change of logic makes a new version in the stream (new checkpoint,
new table, the old ones kept) and a full recomputation in the batch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import CheckpointError
from twinrun.job.fingerprint import DECODER, accepted, changed_parts, other_spark
from twinrun.results.refusals import Places, is_left_out, without
from twinrun.tables.checkpoint import last_committed, query_id
from twinrun.tables.control import Record, add_record, latest_record, latest_records
from twinrun.tables.delta import read_table
from twinrun.tables.offsets import Offsets, plain
from twinrun.tables.static import Pins

STREAM, BATCH = "stream", "batch"


@dataclass(frozen=True)
class StreamState:
    """The current version of a job's stream.

    Attributes
    ----------
    version : int
        Counts from 1; each ``--new-checkpoint`` adds one.
    starting : str
        Where its first micro-batch began to read: ``earliest``, ``latest`` or an ISO time.
    fingerprint : dict
        See `twinrun.job.fingerprint.fingerprint`.
    query_id : str or None
        Spark's id of the query; None before its first start.
    static : dict
        Versions of the static tables that the last run used.
    refused : dict
        Records that the last run left out, see `twinrun.results.refusals`.
    """

    version: int
    checkpoint: str
    table: str
    starting: str
    fingerprint: dict[str, Any]
    query_id: str | None
    static: Pins
    decoders: dict[str, str]
    run_id: str
    refused: Places = field(default_factory=dict)


@dataclass(frozen=True)
class BatchState:
    """The last complete batch run of a job: what it read, what of that it left out, and where its result is."""

    version: int
    table: str
    table_version: int
    fingerprint: dict[str, Any]
    ends: dict[str, Offsets]
    decoded_seq: dict[str, int]
    events_version: dict[str, int]
    static: Pins
    run_id: str
    finished_at_ms: int
    refused: Places = field(default_factory=dict)


def stream_state(spark: SparkSession, cfg: Config, job: str) -> StreamState | None:
    """The newest stream version of a job, or None when it never ran. Two small Spark jobs."""
    return stream_state_of(latest_record(spark, cfg, STREAM, job))


def states(spark: SparkSession, cfg: Config, job: str) -> tuple[StreamState | None, BatchState | None]:
    """Both at one moment. Two small Spark jobs."""
    found = latest_records(spark, cfg, [(STREAM, job), (BATCH, job)])
    return stream_state_of(found.get((STREAM, job))), batch_state_of(found.get((BATCH, job)))


def stream_state_of(record: Record | None) -> StreamState | None:
    """The same from its record. Pure."""
    return StreamState(**record.payload) if record else None


def save_stream_state(spark: SparkSession, cfg: Config, job: str, state: StreamState) -> None:
    """Append the state to the control table."""
    add_record(spark, cfg, STREAM, job, asdict(state))


def batch_state(spark: SparkSession, cfg: Config, job: str) -> BatchState | None:
    """The last complete batch run of a job, or None. Two small Spark jobs."""
    return batch_state_of(latest_record(spark, cfg, BATCH, job))


def batch_state_of(record: Record | None) -> BatchState | None:
    """The same from its record. Pure."""
    if record is None:
        return None
    payload = dict(record.payload)
    payload["ends"] = {source: plain(ends) for source, ends in payload["ends"].items()}
    return BatchState(**payload)


def save_batch_state(spark: SparkSession, cfg: Config, job: str, state: BatchState) -> None:
    """Append the state to the control table."""
    add_record(spark, cfg, BATCH, job, asdict(state))


def read_events(spark: SparkSession, cfg: Config, source: str, state: BatchState) -> DataFrame:
    """The typed events of a source exactly as that batch run read them, without what it left out; lazy.

    The version alone does not say so: a requeue that died may have left events of a decode that was never recorded.

    Raises
    ------
    TableError
        The table, or its version, is no longer there.
    """
    return without(_decoded(spark, cfg, source, state), state.refused, source)


def read_left_out(spark: SparkSession, cfg: Config, source: str, state: BatchState) -> DataFrame | None:
    """The typed events that the batch run left out though they are valid, None where it left out none; lazy.

    Raises
    ------
    TableError
        The table, or its version, is no longer there.
    """
    places = state.refused.get(source, [])
    return _decoded(spark, cfg, source, state).filter(is_left_out(places)) if places else None


def _decoded(spark: SparkSession, cfg: Config, source: str, state: BatchState) -> DataFrame:
    events = read_table(spark, cfg.table("events", source=source), state.events_version[source])
    return events.filter(F.col("_decoded_seq") <= state.decoded_seq[source])


def next_stream_version(cfg: Config, job: str, last: StreamState | None, starting: str) -> StreamState:
    """A fresh checkpoint and table beside the ones of ``last``; nothing is created yet."""
    version = last.version + 1 if last else 1
    return StreamState(
        version=version,
        checkpoint=cfg.checkpoint("stream", job, version),
        table=cfg.table("stream_results", job=job, version=version),
        starting=starting,
        fingerprint={},
        query_id=None,
        static={},
        decoders={},
        run_id="",
    )


def check_continues(
    spark: SparkSession, job: str, state: StreamState, new: dict[str, Any], plans_of: str | None = None
) -> StreamState:
    """Refuse to continue a checkpoint that another definition or another query made.

    ``plans_of``: a Spark version whose plan of the same code is accepted.

    Returns
    -------
    StreamState
        The state with the query id that the checkpoint holds. Up to two small Spark jobs.
    """
    way_out = new_checkpoint(job)
    changed = changed_parts(state.fingerprint, new)
    if changed == [DECODER]:
        raise CheckpointError(
            f"the checkpoint of {job} was made by a version of twinrun that decodes records in another way; its state "
            "holds events as that version read them (docs/decoding.md). The job's definition is the same.",
            expected="events that are decoded in one way from the first to the last",
            fix=f"start anew: {way_out}, or go on with the version that made it",
        )
    made_by = other_spark(state.fingerprint, new)
    if made_by and not accepted(state.fingerprint, new, plans_of):
        raise CheckpointError(
            f"the checkpoint of {job} was made under another plan: {', '.join(changed)}.",
            expected="the plan that the checkpoint's state belongs to",
            fix=f"read Spark's notes on upgrading; to go on from it: twinrun stream {job} --set "
            f"spark.accept_plans_of={made_by}; or start anew: {way_out}",
        )
    if changed and not made_by:
        raise CheckpointError(
            f"the definition of {job} changed since its checkpoint was made: {', '.join(changed)}.",
            expected="the definition that the checkpoint's state belongs to",
            fix=f"undo the change, or start anew: {way_out}",
        )
    found = query_id(spark, state.checkpoint)
    if state.query_id is not None and found != state.query_id:
        what = "is empty or was removed" if found is None else "belongs to another query"
        raise CheckpointError(
            f"the checkpoint at {state.checkpoint} {what}.",
            expected=f"the checkpoint of query {state.query_id}",
            fix=f"restore it, or start anew: {way_out}",
        )
    return replace(state, query_id=found)


def check_not_lost(spark: SparkSession, job: str, state: StreamState) -> None:
    """For a stream whose table is absent: refuse to continue where the checkpoint has committed rows to it.

    Raises
    ------
    CheckpointError
        What the table held would not be written again.
    """
    if state.query_id is not None and last_committed(spark, state.checkpoint) is not None:
        raise CheckpointError(
            f"the table {state.table} is gone, but the checkpoint at {state.checkpoint} continues behind its rows.",
            expected="the table that the checkpoint belongs to",
            fix=f"put the table back, or start anew: {new_checkpoint(job)}",
        )


def new_checkpoint(job: str) -> str:
    """The command that starts a stream anew, and what belongs to it."""
    return f"twinrun stream {job} --new-checkpoint (the old table is kept; then run: twinrun batch {job} --full)"


def has_open_micro_batch(spark: SparkSession, state: StreamState, planned: int | None) -> bool:
    """Whether a micro-batch was planned but not committed, so that the next run repeats it."""
    if planned is None:
        return False
    committed = last_committed(spark, state.checkpoint)
    return committed is None or committed < planned
