"""Events whose id stands at several offsets: counted, and named in the table ``duplicate_events``.

A duplicate is an event like any other unless its source says ``distinct``: it explains nothing here and is told. Most
logs have none, and finding that out must not cost a sorting of all ids: they are told apart by a hash first, and only
the events of a hash that occurs twice are looked at by their id. Where an earlier verify has looked at the events up
to a version, only the ids that were added since can have become duplicates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import AtomicType

from twinrun.comparator.frame import sent
from twinrun.config.model import Config
from twinrun.events.json_ import quoted
from twinrun.events.source import Source
from twinrun.explain.late import event_id
from twinrun.job.job import Job
from twinrun.results.facts import MOST_REPEATED, Facts, Ids
from twinrun.results.state import BatchState, read_events
from twinrun.tables.asked import Question, together
from twinrun.tables.delta import read_table, replace_part, table_exists
from twinrun.tables.listed import Mark, added_since, mark_of

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


def repeated_events(
    spark: SparkSession, cfg: Config, job: Job, batch: BatchState, facts: Facts | None = None
) -> dict[str, Copies]:
    """By source: the ids that stand at several offsets, with all their coordinates. At hand once asked for.

    Sources without an id are left out: nothing tells a copy of theirs. No Spark job for few events, else two.

    Parameters
    ----------
    facts : Facts, optional
        What is known from the verify before; by default nothing.
    """
    found = {}
    for source in job.sources:
        if source.id:
            known = None if facts is None else facts.of(source.name).ids
            found[source.name] = _copies(spark, cfg, source, batch, known)
    return found


def _copies(spark: SparkSession, cfg: Config, source: Source, batch: BatchState, known: Ids | None) -> Copies:
    ref, version = cfg.table("events", source=source.name), batch.events_version[source.name]
    seq, left_out = batch.decoded_seq[source.name], batch.refused.get(source.name)
    events = read_events(spark, cfg, source.name, batch)
    rows = _by_id(
        source,
        events if _is_small(events) else _suspects(spark, ref, source, batch, events, None if left_out else known),
    )
    return Copies(
        source=source,
        rows=rows.localCheckpoint(eager=False),
        events=read_table(spark, ref, version),
        at=None if left_out else mark_of(spark, ref, version),
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
