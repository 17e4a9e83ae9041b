"""Conservation: bronze = valid + quarantine, and offsets without holes, checked on every verify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from twinrun.broker.topics import TopicInfo
from twinrun.config.model import Config
from twinrun.events.source import Source
from twinrun.job.job import Job
from twinrun.results.refusals import RULE, Refusal, is_left_out, refusals_of
from twinrun.results.state import BatchState
from twinrun.results.verdict import Audit, QuarantineCount
from twinrun.tables.delta import read_table
from twinrun.tables.gone import Gone, Loss
from twinrun.tables.landed import Landed, spans_text
from twinrun.tables.offsets import Offsets, PartitionCount, at_or_after, before, count_partitions
from twinrun.wording import plural, worded

NOTHING, UNKNOWN = Gone(), Landed()
_GAPPY = ("compact",)


@dataclass(frozen=True)
class Covered:
    """What of one source is audited.

    Attributes
    ----------
    ends : dict
        Offsets per partition below which everything must be there: what the batch has read up to.
    landed : Landed
        What bronze covers, and what is known of the offsets that hold no record.
    stream : (dict, dict)
        First and end offsets of the stream at the cut.
    left_out : sequence of (int, int)
        Partition and offset of valid records that the job leaves out: they count as quarantined.
    """

    ends: Offsets
    landed: Landed = UNKNOWN
    gone: Gone = NOTHING
    stream: tuple[Offsets, Offsets] = ({}, {})
    left_out: Sequence[Sequence[int]] = ()


def audit_source(spark: SparkSession, cfg: Config, source: Source, covered: Covered, topic: TopicInfo | None) -> Audit:
    """Count what bronze, events and quarantine hold up to an offset. Two Spark jobs over two narrow columns.

    What has expired is counted in none of them; an erased record counts as one that is not missing, and so does an
    offset at which Kafka itself had no record when it was landed.
    """
    name, ends, gone = cfg.source(source.name).topic, covered.ends, covered.gone
    inside = before(ends, "partition", "offset") & at_or_after(gone.ends, "partition", "offset")
    bronze = read_table(spark, cfg.table("bronze", topic=name)).filter(inside)
    erased = None if gone.erased is None else gone.erased.filter(inside)
    places = bronze.select("partition", "offset")
    if erased is not None:
        places = places.unionByName(erased.select("partition", "offset"))
    of_stream = at_or_after(covered.stream[0], "partition", "offset") & before(covered.stream[1], "partition", "offset")
    counted = count_partitions(places, "partition", "offset", of_stream)
    rows = sum(part.rows for part in counted.values()) - (0 if erased is None else erased.count())
    absent = absent_offsets(covered, counted)
    empty = {p: min(count, _known_empty(covered, p)) for p, count in absent.items()}
    missing = sum(absent.values()) - sum(empty.values())
    repeated = sum(part.repeated for part in counted.values())
    kept = before(ends) & at_or_after(gone.ends)
    events = read_table(spark, cfg.table("events", source=source.name)).filter(kept)
    refused = read_table(spark, cfg.table("quarantine", source=source.name)).filter(kept)
    still_refused = refused.filter(F.col("_requeued_seq").isNull())
    valid_here = events.select((~is_left_out(covered.left_out)).alias("valid"))
    marked = valid_here.unionByName(still_refused.select(F.lit(False).alias("valid")))
    valid, quarantined = marked.agg(F.count_if("valid"), F.count_if(~F.col("valid"))).collect()[0]
    allowed = gaps_allowed(source, topic)
    notes = []
    if missing and not allowed:
        notes.append(
            f"{worded(missing, 'offset is', 'offsets are')} missing in bronze though the topic should have no gaps"
        )
    if repeated:
        notes.append(f"{worded(repeated, 'record stands', 'records stand')} in bronze more than once")
    if valid + quarantined != rows:
        notes.append(
            f"bronze has {plural(rows, 'record')}, but {valid} valid and {quarantined} quarantined make "
            f"{valid + quarantined}"
        )
    unaccepted = tuple(loss for loss in gone.lost if loss.accepted_at_ms is None)
    if unaccepted:
        notes.append(f"bronze lacks {_lost_text(unaccepted)}")
    ok = not notes
    accepted = tuple(loss for loss in gone.lost if loss.accepted_at_ms is not None)
    if accepted:
        notes.append(f"a hole on record: bronze lacks {_lost_text(accepted)}")
    return Audit(
        source=source.name,
        bronze_rows=rows,
        valid_rows=valid,
        quarantined_rows=quarantined,
        missing_offsets=missing,
        repeated_offsets=repeated,
        gaps_allowed=allowed,
        ok=ok,
        note="; ".join(notes),
        empty_offsets=sum(empty.values()),
        lost_offsets=sum(loss.offsets for loss in gone.lost),
        stream_rows=_read_by_stream(covered, counted),
    )


def absent_offsets(covered: Covered, counted: Mapping[int, PartitionCount]) -> Offsets:
    """Offsets per partition at which bronze has no record, from its beginning to the end that is audited. Pure.

    Expiry took a whole beginning: what follows it must be there. Of a table whose first offset is not on record, the
    first record counts as the beginning. What was lost on record is not counted again.
    """
    absent = {}
    for partition, end in covered.ends.items():
        part = counted.get(partition)
        begin = covered.landed.starts.get(partition, 0 if part is None else part.first)
        begin = max(begin, covered.gone.ends.get(partition, 0))
        lost = sum(
            max(0, min(loss.end, end) - max(loss.start, begin))
            for loss in covered.landed.losses
            if loss.partition == partition
        )
        absent[partition] = max(0, end - begin - lost - (0 if part is None else part.distinct))
    return absent


def _known_empty(covered: Covered, partition: int) -> int:
    """Offsets that may be without a record: those at which Kafka had none, and those that it was not asked about yet.

    The latter only in a partition that is known to be written by transactions, behind one that is still open: the next
    ingest asks.
    """
    survey = covered.landed.survey
    empty = survey.empty.get(partition, 0)
    unasked = max(0, covered.ends.get(partition, 0) - survey.ends.get(partition, 0))
    return empty + unasked if empty else 0


def _read_by_stream(covered: Covered, counted: Mapping[int, PartitionCount]) -> int:
    """Records that the stream has read: those of bronze, and an offset each where bronze cannot say. Pure."""
    start, end = covered.stream
    seen = sum(part.inside for part in counted.values()) + sum(loss.offsets for loss in covered.gone.lost)
    for partition, until in end.items():
        first = start.get(partition, 0)
        seen += max(0, until - max(first, covered.ends.get(partition, 0)))
        seen += max(0, min(until, covered.gone.ends.get(partition, 0)) - first)
    return seen


def _lost_text(losses: tuple[Loss, ...]) -> str:
    count = sum(loss.offsets for loss in losses)
    return f"{plural(count, 'offset')} that Kafka removed before the ingest and the stream read ({spans_text(losses)})"


def gaps_allowed(source: Source, topic: TopicInfo | None) -> bool:
    """Whether missing offsets are normal: as declared, else for a compacted topic. Unknown topics have none."""
    if source.offsets is not None:
        return source.offsets == "gaps"
    policy = topic.config.get("cleanup.policy", "") if topic else ""
    return any(word in policy for word in _GAPPY)


def quarantine_counts(spark: SparkSession, cfg: Config, job: Job, batch: BatchState) -> tuple[QuarantineCount, ...]:
    """What the sources and the job refuse, by source and rule, each with one example.

    One Spark job per source, one more where the job leaves records out; a row per rule is collected.
    """
    entries = refusals_of(spark, cfg, job.job_name) if batch.refused else ()
    counts: list[QuarantineCount] = []
    for source in job.sources:
        counts += _by_decoder(spark, cfg, source)
        places = batch.refused.get(source.name, [])
        if places:
            counts += _by_logic(spark, cfg, source, places, entries)
    return tuple(counts)


def _place() -> Column:
    return F.concat_ws(
        " ",
        F.col("_topic"),
        F.concat(F.lit("partition "), F.col("_partition")),
        F.concat(F.lit("offset "), F.col("_offset")),
    )


def _by_decoder(spark: SparkSession, cfg: Config, source: Source) -> list[QuarantineCount]:
    rows = (
        read_table(spark, cfg.table("quarantine", source=source.name))
        .filter(F.col("_requeued_seq").isNull())
        .groupBy("_rule")
        .agg(
            F.count("*").alias("n"),
            F.min_by(_place(), F.struct("_partition", "_offset")).alias("place"),
            F.min_by("_reason", F.struct("_partition", "_offset")).alias("reason"),
        )
        .collect()
    )
    rows = sorted(rows, key=lambda row: row["_rule"])
    return [QuarantineCount(source.name, r["_rule"], r["n"], r["place"], r["reason"] or "") for r in rows]


def _by_logic(
    spark: SparkSession, cfg: Config, source: Source, places: Sequence[Sequence[int]], entries: Sequence[Refusal]
) -> list[QuarantineCount]:
    """Events that the job's list leaves out; those that have expired or were erased are not there any more."""
    events = read_table(spark, cfg.table("events", source=source.name)).filter(is_left_out(places))
    first = F.struct("_partition", "_offset")
    row = events.agg(F.count("*").alias("n"), F.min(first).alias("first"), F.min_by(_place(), first).alias("place"))
    found = row.collect()[0]
    if not found["n"]:
        return []
    at = (found["first"]["_partition"], found["first"]["_offset"])
    why = [e.why for e in entries if e.source == source.name and (e.partition, e.offset) == at]
    return [QuarantineCount(source.name, RULE, found["n"], found["place"], why[-1] if why else "")]
