"""The tables that a verify keeps: events that occur twice, late events, and the ledger."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import AtomicType

from twinrun.comparator.digest import sent
from twinrun.config.model import Config
from twinrun.events.exact import quoted
from twinrun.events.source import Source
from twinrun.explain.arrival import Read, with_arrival
from twinrun.explain.evidence import mark_events, refused_by_stream
from twinrun.explain.used import event_id, late_rows
from twinrun.job.job import Job
from twinrun.results.cut import Context, StreamCut
from twinrun.results.ledger import entries, job_rows, laid_out
from twinrun.results.state import MOST_REPEATED, BatchState, Facts, Ids, read_events
from twinrun.results.verdict import LateEvent
from twinrun.tables.checkpoint import at_or_after, before
from twinrun.tables.control import Entry, latest_record
from twinrun.tables.delta import append, read_table, replace_part, table_exists
from twinrun.tables.listed import Mark, Question, added_since, mark_of, together

# Events whose id stands at several offsets: counted, and named in the table ``duplicate_events``.
#
# A duplicate is an event like any other unless its source says ``distinct``: it explains nothing here and is told. Most
# logs have none, and finding that out must not cost a sorting of all ids: they are told apart by a hash first, and only
# the events of a hash that occurs twice are looked at by their id. Where an earlier verify has looked at the events up
# to a version, only the ids that were added since can have become duplicates.


LARGE_BYTES = 8 << 20
"""Events of so many bytes are told apart by a hash first; fewer are grouped at once, in one Spark job."""
_HASH = "_id_hash"


@dataclass(frozen=True)
class Copies:
    """The ids of one source that stand at several offsets.

    Attributes
    ----------
    rows : DataFrame
        ``source``, ``id`` (JSON), ``copies`` and ``coordinates``; at hand once asked for.
    events : DataFrame
        The version of the events that was looked at, with those that the batch did not read.
    at : Mark or None
        That version, so that it is known again; None where the next verify cannot go by it, since the batch left out
        some of its events.
    """

    source: Source
    rows: DataFrame
    events: DataFrame
    at: Mark | None
    decoded_seq: int


@dataclass(frozen=True)
class Repeated:
    """How many ids of a source stand at several offsets.

    ``later``: how many events are of a decode that the batch does not know yet: the next verify may count them, though
    no file was added.
    """

    ids: int
    later: int = 0


def repeated_events(ctx: Context, facts: Facts | None = None) -> dict[str, Copies]:
    """By source: the ids that stand at several offsets, with all their coordinates. At hand once asked for.

    Sources without an id are left out: nothing tells a copy of theirs. No Spark job for few events, else two.

    Parameters
    ----------
    facts : Facts, optional
        What is known from the verify before; by default nothing.
    """
    found = {}
    for source in ctx.job.sources:
        if source.id:
            known = None if facts is None else facts.of(source.name).ids
            found[source.name] = _copies(ctx, source, known)
    return found


def _copies(ctx: Context, source: Source, known: Ids | None) -> Copies:
    ref, version = ctx.cfg.table("events", source=source.name), ctx.batch.events_version[source.name]
    seq, left_out = ctx.batch.decoded_seq[source.name], ctx.batch.refused.get(source.name)
    events = read_events(ctx.spark, ctx.cfg, source.name, ctx.batch)
    rows = _by_id(
        source,
        events
        if _is_small(events)
        else _suspects(ctx.spark, ref, source, ctx.batch, events, None if left_out else known),
    )
    return Copies(
        source=source,
        rows=rows.localCheckpoint(eager=False),
        events=read_table(ctx.spark, ref, version),
        at=None if left_out else mark_of(ctx.spark, ref, version),
        decoded_seq=seq,
    )


def _by_id(source: Source, events: DataFrame) -> DataFrame:
    place = F.struct("_topic", "_partition", "_offset")
    copies = events.groupBy(event_id(source).alias("id")).agg(
        F.count("*").alias("copies"), F.sort_array(F.collect_list(place)).alias("coordinates")
    )
    name = F.lit(source.name).alias("source")
    return copies.filter(F.col("copies") > 1).select(name, "id", "copies", "coordinates")


def _suspects(
    spark: SparkSession, ref: str, source: Source, batch: BatchState, events: DataFrame, known: Ids | None
) -> DataFrame:
    """The events whose id may stand at several offsets; all events of each such id are among them. Two Spark jobs."""
    hashed = events.withColumn(_HASH, _hash(source, events))
    added = _added(spark, ref, batch.events_version[source.name], source, known)
    if added is None or known is None:
        counts = hashed.groupBy(_HASH).agg(F.count("*").alias("n"))
        suspected = counts.filter(F.col("n") > 1).select(_HASH)
    else:
        new = added.filter(F.col("_decoded_seq") <= batch.decoded_seq[source.name])
        suspected = new.select(_hash(source, new).alias(_HASH))
        if known.places:
            suspected = suspected.unionByName(hashed.filter(_at(known.places)).select(_HASH))
        suspected = suspected.distinct()
    suspected = suspected.localCheckpoint(eager=False)
    count = suspected.count()
    if not count:
        return spark.createDataFrame([], events.schema)
    return hashed.join(sent(suspected, count), _HASH, "left_semi").drop(_HASH)


def _added(spark: SparkSession, ref: str, version: int, source: Source, known: Ids | None) -> DataFrame | None:
    if known is None or known.names != tuple(source.id):
        return None
    return added_since(spark, ref, known.at, version)


def _hash(source: Source, events: DataFrame) -> Column:
    """The same for the same id, and as a rule for no other."""
    fields = {field.name: field.dataType for field in events.schema.fields}
    if all(isinstance(fields.get(name), AtomicType) for name in source.id):
        return F.xxhash64(*(F.col(quoted(name)) for name in source.id))
    return F.xxhash64(event_id(source))


def _at(places: tuple[tuple[int, int], ...]) -> Column:
    """Whether an event stands at one of these places."""
    by_partition: dict[int, list[int]] = {}
    for partition, offset in places:
        by_partition.setdefault(partition, []).append(offset)
    here = F.lit(False)
    for partition, offsets in by_partition.items():
        here = here | ((F.col("_partition") == partition) & F.col("_offset").isin(offsets))
    return here


def _is_small(events: DataFrame) -> bool:
    """By the size of its files. No Spark job."""
    java = events._jdf.queryExecution().optimizedPlan().stats().sizeInBytes()
    return int(str(java)) < LARGE_BYTES


def repeated_ids(
    found: Mapping[str, Copies], last_seqs: Mapping[str, int] | None = None
) -> Question[dict[str, Repeated]]:
    """How many ids of each source stand at several offsets.

    Parameters
    ----------
    last_seqs : mapping of str to int, optional
        By source the last decode that any event of the newest version is from; by default it is asked.
    """
    seqs = last_seqs or {}
    each = (_repeated(copies, seqs.get(name)) for name, copies in found.items())
    return together(lambda *ids: dict(zip(found, ids, strict=True)), *each)


def _repeated(copies: Copies, last_seq: int | None) -> Question[Repeated]:
    counted = Question(copies.rows.agg(F.count("*").alias("ids")), lambda rows: int(rows[0]["ids"]))
    if copies.at is None or (last_seq is not None and last_seq <= copies.decoded_seq):
        return together(lambda ids: Repeated(ids), counted)
    later = copies.events.filter(F.col("_decoded_seq") > copies.decoded_seq).agg(F.count("*").alias("later"))
    return together(Repeated, counted, Question(later, lambda rows: int(rows[0]["later"])))


def known_ids(found: Mapping[str, Copies], counts: Mapping[str, Repeated]) -> dict[str, Ids]:
    """What the next verify may go by, of the sources of which it may. A small Spark job for each that has such ids.

    Asked once the rows are at hand: together with their number they would be worked out twice at a time.
    """
    known = {}
    for name, copies in found.items():
        ids = counts[name].ids
        if copies.at is None or counts[name].later or ids > MOST_REPEATED:
            continue
        first = F.element_at("coordinates", 1)
        places = copies.rows.select(first["_partition"], first["_offset"]).collect() if ids else []
        where = tuple(sorted((partition, offset) for partition, offset in places))
        known[name] = Ids(copies.at, tuple(copies.source.id), copies.decoded_seq, where)
    return known


def write_duplicate_events(
    spark: SparkSession, cfg: Config, found: Mapping[str, Copies], ids: Mapping[str, Repeated]
) -> int:
    """Make the table ``duplicate_events`` anew for each source; returns how many ids there are in all.

    Only counted: a duplicate is an event like any other unless the source says ``distinct``. Where a source has none,
    a small Spark job where the table is there; else about three.

    Parameters
    ----------
    found, ids : mapping by source
        From `repeated_events` and `repeated_ids`.
    """
    ref = cfg.table("duplicate_events")
    there = table_exists(spark, ref)
    for name, copies in found.items():
        if ids[name].ids or (there and not read_table(spark, ref).filter(F.col("source") == name).isEmpty()):
            replace_part(copies.rows, ref, f"source = '{name}'")
    return sum(each.ids for each in ids.values())


def write_late_events(ctx: Context, reads: Sequence[Read], complete: bool = True) -> DataFrame | None:
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
    if not ctx.flow.drops_late or ctx.cut.committed.micro_batch < 0 or ctx.cut.missing:
        return None
    ref = ctx.cfg.table("late_events")
    there = table_exists(ctx.spark, ref)
    # A table without the newer columns was written by an older twinrun, whatever is on record.
    known = _on_record(ctx) if there and "arrival" in read_table(ctx.spark, ref).columns else None
    last = -1
    if known is not None:
        last = int(known["micro_batch"])
        if last >= ctx.cut.committed.micro_batch and not known["any"]:
            return None
    elif there:
        last = _named_up_to(ctx, complete)
    if last >= ctx.cut.committed.micro_batch:
        return late_events(ctx).localCheckpoint(eager=False)
    parts = []
    for read in reads:
        new = read.passage.reaching(read.events.filter(F.col("_micro_batch") > last))
        parts.append(late_rows(new, ctx.job.job_name, read.source, ctx.flow.rules[read.source.name], ctx.cut.query_id))
    rows = with_arrival(reduce(DataFrame.unionByName, parts), reads).localCheckpoint(eager=False)
    where = f"query_id = '{ctx.cut.query_id}' AND job = '{ctx.job.job_name}' AND micro_batch > {last}"
    replace_part(rows, ref, where, evolve=True)
    if last < 0:
        return rows
    before_it = late_events(ctx).filter(F.col("micro_batch") <= last)
    return before_it.unionByName(rows, allowMissingColumns=True).localCheckpoint(eager=False)


def reads_of(ctx: Context) -> list[Read]:
    """The events of each source that the stream used, with the micro-batch that read them. Lazy."""
    reads = []
    for source in ctx.job.sources:
        events = read_events(ctx.spark, ctx.cfg, source.name, ctx.batch)
        inside = events.filter(at_or_after(ctx.cut.start[source.name]) & before(ctx.cut.end[source.name]))
        topic = ctx.cfg.source(source.name).topic
        # What the stream had refused and a requeue decoded later was never dropped: its cause is quarantined.
        marked = mark_events(inside, refused_by_stream(ctx, source.name), source.name, ctx.cut, topic)
        reads.append(Read(source, topic, marked, ctx.flow.passage(source.name)))
    return reads


NAMED = "late_named"
"""Kind of the control record, by job, that says up to which micro-batch late events are named, and whether any is."""
_FORM = 1


def named_up_to(job: Job, cut: StreamCut, events: int) -> Entry:
    """The record that late events are named up to the cut, of which there are so many. Pure."""
    upto = {"query_id": cut.query_id, "micro_batch": cut.committed.micro_batch, "any": events > 0, "form": _FORM}
    return Entry(NAMED, job.job_name, upto)


def _on_record(ctx: Context) -> dict[str, Any] | None:
    record = latest_record(ctx.spark, ctx.cfg, NAMED, ctx.job.job_name)
    known = record.payload if record else {}
    return known if (known.get("query_id"), known.get("form")) == (ctx.cut.query_id, _FORM) else None


def _named_up_to(ctx: Context, complete: bool) -> int:
    """The newest micro-batch up to which late events are named as they are named now; -1: none. Up to four Spark jobs.

    For what was named before that was on record. An older twinrun named events that the job filters away, and did not
    say how they came to be late. It is done anew as long as all events are there.
    """
    if complete and "arrival" not in read_table(ctx.spark, ctx.cfg.table("late_events")).columns:
        return -1
    last = _last_verified(ctx)
    if complete and last >= 0 and not late_events(ctx).filter(F.col("arrival").isNull()).isEmpty():
        return -1
    return last


def _last_verified(ctx: Context) -> int:
    """The newest micro-batch of this query up to which late events are complete, by the ledger.

    A verify that lacked evidence may have named none: those after it are named again.
    """
    known = job_rows(ctx.spark, ctx.cfg, ctx.job.job_name)
    if known is None:
        return -1
    verifies = laid_out(known).filter(F.col("query_id") == ctx.cut.query_id).groupBy("verify_id")
    whole = verifies.agg(
        F.max("micro_batch").alias("upto"), F.bool_or(F.col("verdict") == "evidence_expired").alias("no")
    )
    newest = whole.filter(~F.col("no")).agg(F.max("upto")).collect()[0][0]
    return -1 if newest is None else int(newest)


def late_events(ctx: Context) -> DataFrame:
    """The late events of this query up to the cut, as the table has them: `twinrun.explain.used.late_rows`; lazy."""
    mine = (F.col("query_id") == ctx.cut.query_id) & (F.col("job") == ctx.job.job_name)
    return read_table(ctx.spark, ctx.cfg.table("late_events")).filter(
        mine & (F.col("micro_batch") <= ctx.cut.committed.micro_batch)
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


def write_ledger(ctx: Context, verify_id: str, windows: DataFrame) -> None:
    """Append the verify, and each window that is not as the verify before saw it. One Spark job.

    Parameters
    ----------
    windows : DataFrame
        See `twinrun.results.ledger.entries`.
    """
    facts = {
        "verify_id": verify_id,
        "job": ctx.job.job_name,
        "query_id": ctx.cut.query_id,
        "micro_batch": ctx.cut.committed.micro_batch,
        "watermark_ms": ctx.cut.watermark_ms,
        "stream_version": ctx.cut.committed.version,
        "batch_version": ctx.batch.table_version,
        "verified_at_ms": int(time.time() * 1000),
    }
    kinds = {"verify_id": "string", "job": "string", "query_id": "string"}
    fixed = [F.lit(value).cast(kinds.get(name, "bigint")).alias(name) for name, value in facts.items()]
    offsets = F.lit(json.dumps({"start": ctx.cut.start, "end": ctx.cut.end}, sort_keys=True)).alias("offsets")
    rows = entries(windows, job_rows(ctx.spark, ctx.cfg, ctx.job.job_name), [*fixed, offsets])
    append(rows, ctx.cfg.table("ledger"), fenced=False, evolve=True)
