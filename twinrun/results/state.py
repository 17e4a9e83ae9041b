"""Where a job's results live now in each mode, and what the last verify found out about the tables of its sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import CheckpointError
from twinrun.job.code import DECODER, accepted, changed_parts, other_spark
from twinrun.job.job import Job
from twinrun.results.records import Places, is_left_out, without
from twinrun.tables.bronze import TOPIC, first_offsets, in_offsets
from twinrun.tables.checkpoint import Offsets, PartitionCount, Told, last_committed, plain, query_id
from twinrun.tables.control import Entry, Record, add_record, latest_record, latest_records
from twinrun.tables.delta import read_table
from twinrun.tables.listed import Mark
from twinrun.tables.static import Pins

# What a verify found out about the tables of the sources, carried on to the next one.
#
# Bronze and events only grow as a rule. What they hold up to a version is then known from the verify before, and only
# the files that were added since are looked at. A fact is used only where the log of the table proves that nothing but
# additions has happened since (`twinrun.tables.listed.added_since`); after an erasure, an expiry, a requeue of a
# changed table, a compaction or any foreign change everything is looked at again. ``verify --full`` uses no fact.
#
# What is kept are numbers and coordinates, no values: an erased key leaves nothing here.


FACTS = "facts"
"""Kind of the control record, by job."""
_FORM = 1
MOST_REPEATED = 1_000
"""Ids that stand at several offsets, up to which their places are carried on."""


@dataclass(frozen=True)
class Span:
    """Records of one partition, by their number and the offsets of the first and the last."""

    rows: int
    first: int
    last: int

    @property
    def solid(self) -> bool:
        """Whether every offset from the first to the last stands there once, given that none stands there twice."""
        return self.rows == self.last - self.first + 1

    def inside(self, low: int, high: int) -> int:
        """Offsets of a solid span in ``[low, high)``."""
        return max(0, min(self.last + 1, high) - max(self.first, low))


Spans = dict[int, Span]
"""By Kafka partition."""


@dataclass(frozen=True)
class Ids:
    """Where events stand whose id stands at several offsets, up to a version of the events.

    Attributes
    ----------
    names : tuple of str
        The fields that make the id.
    decoded_seq : int
        The decode up to which events count; no event of a later one is in that version.
    places : tuple of (int, int)
        Partition and offset of one event of each such id.
    """

    at: Mark
    names: tuple[str, ...]
    decoded_seq: int
    places: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class SourceFacts:
    """What is known of the tables of one source; None: not known.

    Attributes
    ----------
    bronze : (Mark, dict) or None
        Spans of all partitions; each solid, none with a repeated offset, and no record of the topic erased.
    events : (Mark, dict) or None
        Spans of all partitions, whatever decode they are from.
    last_seq : int
        Number of the last decode that any of those events is from.
    """

    bronze: tuple[Mark, Spans] | None = None
    events: tuple[Mark, Spans] | None = None
    last_seq: int = 0
    ids: Ids | None = None


NOTHING = SourceFacts()


@dataclass(frozen=True)
class Facts:
    """What is known of each source."""

    sources: Mapping[str, SourceFacts] = field(default_factory=dict)

    def of(self, source: str) -> SourceFacts:
        """Of one source; all None where nothing is known."""
        return self.sources.get(source, NOTHING)


def facts_of(spark: SparkSession, cfg: Config, job: Job) -> Facts:
    """What the last verify of the job found. No Spark job within `twinrun.explain.coverage.records_pinned`."""
    record = latest_record(spark, cfg, FACTS, job.job_name)
    if record is None or record.payload.get("form") != _FORM:
        return Facts()
    return Facts({name: _read(each) for name, each in record.payload["sources"].items()})


def facts_entry(job: Job, facts: Facts) -> Entry:
    """The record of them. Pure."""
    written = {name: asdict(each) for name, each in facts.sources.items()}
    return Entry(FACTS, job.job_name, {"form": _FORM, "sources": written})


def behind(old: Spans, new: Spans) -> bool:
    """Whether the new spans begin behind the old ones in every partition: then they have no offset in common. Pure."""
    return all(span.first > old[p].last for p, span in new.items() if p in old)


def grown(old: Spans, new: Spans) -> Spans:
    """Spans of a table after rows were added to it. Pure."""
    both_spans = dict(old)
    for p, span in new.items():
        mine = old.get(p)
        both_spans[p] = (
            span
            if mine is None
            else Span(mine.rows + span.rows, min(mine.first, span.first), max(mine.last, span.last))
        )
    return both_spans


def counted_in(old: Spans, low: Offsets, high: Offsets, stream: tuple[Offsets, Offsets]) -> dict[int, PartitionCount]:
    """How many records of solid spans lie in ``[low, high)``, and in the stream's span of those. Pure.

    A partition that ``low`` does not name begins at 0; one that an end does not name has none.
    """
    counts = {}
    for p, span in old.items():
        first, end = low.get(p, 0), high.get(p, 0)
        rows = span.inside(first, end)
        if rows:
            streamed = span.inside(max(first, stream[0].get(p, 0)), min(end, stream[1].get(p, 0)))
            counts[p] = PartitionCount(p, rows, rows, max(span.first, first), min(span.last + 1, end) - 1, streamed)
    return counts


def whole_in(old: Spans, low: Offsets, high: Offsets) -> int | None:
    """How many records of spans, solid or not, lie in ``[low, high)``; None where a span lies in it in part. Pure."""
    rows = 0
    for p, span in old.items():
        first, end = low.get(p, 0), high.get(p, 0)
        if span.first >= first and span.last < end:
            rows += span.rows
        elif span.last >= first and span.first < end:
            return None
    return rows


def both(one: Mapping[int, PartitionCount], other: Mapping[int, PartitionCount]) -> dict[int, PartitionCount]:
    """Counts of two sets of records that have no offset in common, as those of their union. Pure."""
    counts = dict(one)
    for p, each in other.items():
        mine = counts.get(p)
        counts[p] = (
            each
            if mine is None
            else PartitionCount(
                p,
                mine.rows + each.rows,
                mine.distinct + each.distinct,
                min(mine.first, each.first),
                max(mine.last, each.last),
                mine.inside + each.inside,
            )
        )
    return counts


def _read(payload: Mapping[str, Any]) -> SourceFacts:
    ids = payload["ids"]
    return SourceFacts(
        bronze=_spans(payload["bronze"]),
        events=_spans(payload["events"]),
        last_seq=payload["last_seq"],
        ids=None
        if ids is None
        else Ids(
            Mark(**ids["at"]),
            tuple(ids["names"]),
            ids["decoded_seq"],
            tuple((partition, offset) for partition, offset in ids["places"]),
        ),
    )


def _spans(payload: Any) -> tuple[Mark, Spans] | None:
    if payload is None:
        return None
    at, spans = payload
    return Mark(**at), {int(p): Span(**span) for p, span in spans.items()}


# Where a job's results live now, in each mode, and under which definition they were made.
#
# Both modes keep a numbered version of their table. A change of logic makes a new version in the stream (new
# checkpoint, new table, the old ones kept) and a full recomputation in the batch.


STREAM, BATCH = "stream", "batch"


@dataclass(frozen=True)
class StreamState:
    """The current version of a job's stream.

    Attributes
    ----------
    version : int
        Counts from 1; each ``--new-checkpoint`` adds one.
    starting : str
        Where its first micro-batch began: ``earliest``, ``latest``, an ISO time or ``TOPIC:PARTITION:OFFSET,...``.
    fingerprint : dict
        See `twinrun.job.code.fingerprint`.
    query_id : str or None
        Spark's id of the query; None before its first start.
    static : dict
        Versions of the static tables that the last run used.
    refused : dict
        Records that the last run left out, see `twinrun.results.records`.
    reads : str
        ``topic``, or ``bronze`` (`twinrun.tables.bronze`).
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
    reads: str = TOPIC


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


def begun_at_ms(spark: SparkSession, cfg: Config, job: str) -> int:
    """When the job's stream was last started, epoch ms. No Spark job where its record is pinned."""
    record = latest_record(spark, cfg, STREAM, job)
    return 0 if record is None else record.at_ms


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
        reads=cfg.stream.reads,
    )


def told_in_offsets(spark: SparkSession, cfg: Config, job: Job, state: StreamState) -> Told | None:
    """How what the stream's checkpoint says is told in offsets, see `twinrun.tables.bronze.in_offsets`. Lazy."""
    return in_offsets(spark, cfg, [cfg.source(source.name).topic for source in job.sources], state.reads)


def first_read(spark: SparkSession, cfg: Config, job: Job, state: StreamState) -> dict[str, Offsets]:
    """First offset per topic and partition that the stream read, see `twinrun.tables.bronze.first_offsets`."""
    topics = [cfg.source(source.name).topic for source in job.sources]
    return first_offsets(spark, cfg, topics, state.checkpoint, state.reads)


def check_reads(cfg: Config, job: str, state: StreamState) -> None:
    """Refuse to go on from bronze with a checkpoint that counts offsets, or from the topic with one of versions.

    Raises
    ------
    CheckpointError
        ``stream.reads`` says something else than when the checkpoint was made.
    """
    if state.reads != cfg.stream.reads:
        raise CheckpointError(
            f"the checkpoint of {job} was made with stream.reads: {state.reads}, and it is {cfg.stream.reads} now.",
            expected=f"stream.reads: {state.reads}, as before",
            fix=f"set it back, or start anew: {new_checkpoint(job)}",
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
