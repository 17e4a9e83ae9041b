"""How far bronze has been read up to: the ingest's own offsets, which reach beyond the last record that bronze holds.

The last offset of a topic that is written by transactions is a marker and no record, so that the largest offset in
bronze never gets there. The ingest's checkpoint has the end offsets of each micro-batch; what it has committed is
recorded here besides, with what Kafka says of the offsets that hold no record, and with what was lost before it could
be landed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.broker.topics import offset_ranges
from twinrun.config.model import Config
from twinrun.errors import TwinrunError
from twinrun.session.plain import plain_errors
from twinrun.tables.checkpoint import (
    Offsets,
    at_or_after,
    before,
    end_offsets,
    later_of,
    next_offsets,
    plain,
    start_offsets,
)
from twinrun.tables.control import Record, add_record, latest_record
from twinrun.tables.delta import read_table, table_exists
from twinrun.tables.kafka import Loss, gone_of, span_text
from twinrun.wording import plural

KIND = "landed"
"""Kind of the control record, by topic."""


@dataclass(frozen=True)
class Survey:
    """What Kafka was asked about the offsets below ``ends`` at which bronze has no record, per partition.

    It ends where a transaction is still open: nobody knows yet whether its records count. ``empty`` offsets at which
    Kafka had no record either (markers of transactions, records that a compaction removed); ``aborted`` records of
    bronze that belong to aborted transactions; ``lacking`` records that Kafka has and bronze does not. ``full``: from
    there to ``ends`` every offset has its record in bronze, and Kafka was not asked. Whether those belong to a
    transaction that was aborted shows at its marker, which is the next offset without a record.
    """

    ends: Offsets = field(default_factory=dict)
    empty: Offsets = field(default_factory=dict)
    aborted: Offsets = field(default_factory=dict)
    lacking: Offsets = field(default_factory=dict)
    full: Offsets = field(default_factory=dict)


@dataclass(frozen=True)
class Landed:
    """What a topic's bronze covers.

    Attributes
    ----------
    version : int
        Number of the ingest's checkpoint; it counts up where an ingest went on after a loss.
    starts, ends : dict
        Offsets per partition: the first that was read, and the one after the last. Everything between was landed, holds
        no record, or is in ``losses``. ``starts`` is empty where it is not known.
    isolation : str
        Isolation level by which it was read; empty where that is not on record.
    """

    version: int = 1
    starts: Offsets = field(default_factory=dict)
    ends: Offsets = field(default_factory=dict)
    isolation: str = ""
    losses: tuple[Loss, ...] = ()
    survey: Survey = field(default_factory=Survey)


def landed_of(spark: SparkSession, cfg: Config, topic: str) -> Landed:
    """What bronze of a topic covers now. About four small Spark jobs.

    The ingest's checkpoint is read first and bronze after it, so that bronze holds every record below the ends. A
    table that was landed before this was recorded, or whose checkpoint is out of reach, covers its largest offset.
    """
    known = told_landing(spark, cfg, topic)
    bronze = cfg.table("bronze", topic=topic)
    if not table_exists(spark, bronze):
        return known
    return replace(known, ends=later_of(known.ends, end_offsets(read_table(spark, bronze), "partition", "offset")))


def told_landing(spark: SparkSession, cfg: Config, topic: str) -> Landed:
    """What bronze covers by the record and the ingest's checkpoint alone; `landed_of` looks into bronze besides.

    Two small Spark jobs, none where the record is pinned.
    """
    known = recorded_landing(spark, cfg, topic)
    return replace(known, ends=later_of(known.ends, _committed(spark, cfg, topic, known.version)))


def recorded_landing(spark: SparkSession, cfg: Config, topic: str) -> Landed:
    """The newest record alone, empty where there is none. One small Spark job."""
    return _read(latest_record(spark, cfg, KIND, topic))


def record_landing(spark: SparkSession, cfg: Config, source: str, *, gappy: bool) -> Landed:
    """Bring the record up to date with what the ingest has committed, and ask Kafka about offsets without a record.

    Nothing is written where nothing was landed since. Two small Spark jobs then; else about six, and where offsets
    hold no record those partitions are read from Kafka once more, coordinates only, from the last offset that was asked
    about. A broker that does not answer is asked at the next time. The caller holds the lease of the ingest.

    Parameters
    ----------
    gappy : bool
        The topic is compacted: records of bronze may be gone from Kafka for that reason alone.
    """
    binding = cfg.source(source)
    topic, bronze = binding.topic, cfg.table("bronze", topic=binding.topic)
    record = latest_record(spark, cfg, KIND, topic)
    known = _read(record)
    reached = _committed(spark, cfg, topic, known.version)
    due = later_of(known.ends, reached)
    if not table_exists(spark, bronze) or (record is not None and due == known.ends and due == known.survey.ends):
        return known
    starts = known.starts or start_offsets(spark, cfg.checkpoint("ingest", topic, 1)).get(topic, {})
    # A partition that the topic got later begins at its first offset.
    starts = {**dict.fromkeys(due, 0), **starts}
    # What expired before anything was recorded is neither counted nor asked about.
    begins = {**starts, **(known.survey.ends or later_of(starts, gone_of(spark, cfg, source).ends))}
    places = ["partition", "offset"]
    since = read_table(spark, bronze).filter(at_or_after(begins, *places) & before(due, *places))
    rows = {row[0]: row[1] for row in since.groupBy("partition").agg(F.count("*")).collect()}
    unasked = {p: Unasked(begins[p], end, rows.get(p, 0)) for p, end in due.items()}
    landed = replace(
        known,
        starts=starts,
        ends=due,
        isolation=known.isolation or binding.isolation,
        survey=_surveyed(spark, cfg, source, known.survey, unasked, gappy),
    )
    if landed != known:
        add_record(spark, cfg, KIND, topic, _written(landed))
    return landed


def record_loss(spark: SparkSession, cfg: Config, topic: str, losses: tuple[Loss, ...], go_on: Offsets) -> Landed:
    """Record that an ingest goes on at ``go_on`` (by partition) without what was lost; its next checkpoint is new.

    Recorded before anything is read, so that a run that dies now goes on from there. Three small Spark jobs.

    Parameters
    ----------
    go_on : dict
        Where the next checkpoint begins; empty where none is needed, since what was lost lies before all of bronze.
    """
    record = latest_record(spark, cfg, KIND, topic)
    known = _read(record)
    full = {p: offset for p, offset in known.survey.full.items() if p not in go_on}
    survey = replace(known.survey, ends=later_of(known.survey.ends, go_on), full=full)
    landed = replace(
        known,
        version=known.version + bool(go_on),
        ends=later_of(known.ends, go_on),
        losses=(*known.losses, *losses),
        survey=survey,
    )
    add_record(spark, cfg, KIND, topic, _written(landed))
    return landed


def lost_to(landed: Landed, start: Offsets, end: Offsets, expired: Offsets) -> tuple[Loss, ...]:
    """What a stream from ``start`` to ``end`` (exclusive, per partition) has read and bronze never got. Pure.

    Parameters
    ----------
    expired : dict
        Offsets per partition below which nothing is kept anyway.
    """
    spans = []
    for partition, first in start.items():
        begin = landed.starts.get(partition, first)
        known = {(loss.start, loss.end): loss.accepted_at_ms for loss in landed.losses if loss.partition == partition}
        head = next((at_ms for (_, until), at_ms in known.items() if until == begin), None)
        known = {span: at_ms for span, at_ms in known.items() if span[1] != begin}
        for (low, high), at_ms in {(0, begin): head, **known}.items():
            low, high = max(low, first, expired.get(partition, 0)), min(high, end.get(partition, 0))
            if low < high:
                spans.append(Loss(partition, low, high, at_ms))
    return tuple(sorted(spans, key=lambda loss: (loss.partition, loss.start)))


def landing_notes(spark: SparkSession, cfg: Config, source: str) -> tuple[str, ...]:
    """The same for a command that reads bronze, with what it should know if its configuration says another level."""
    binding = cfg.source(source)
    landed = recorded_landing(spark, cfg, binding.topic)
    notes = notes_on_landing(cfg, source, landed)
    if landed.isolation and landed.isolation != binding.isolation:
        other = f"sources.{source}.isolation_level is {binding.isolation}, but {binding.topic} was landed by"
        notes = (*notes, f"{other} {landed.isolation}: what bronze holds counts")
    return notes


def notes_on_landing(cfg: Config, source: str, landed: Landed) -> tuple[str, ...]:
    """What whoever lands a topic, or computes with it, should know: aborted records that count, records that lack."""
    binding = cfg.source(source)
    notes = []
    aborted = sum(landed.survey.aborted.values())
    if aborted and landed.isolation != "read_committed":
        notes.append(
            f"{plural(aborted, 'record')} of aborted transactions in {binding.topic} "
            f"{'is' if aborted == 1 else 'are'} read and count{'s' if aborted == 1 else ''} in both modes (isolation "
            f"level {landed.isolation or 'read_uncommitted'}); sources.{source}.isolation_level: read_committed, set "
            "before the first run, leaves them out"
        )
    if landed.losses:
        notes.append(
            f"Kafka had removed {plural(sum(loss.offsets for loss in landed.losses), 'offset')} of {binding.topic} "
            f"before they were landed ({spans_text(landed.losses)}); bronze goes on behind them"
        )
    return tuple(notes)


def spans_text(losses: Iterable[Loss]) -> str:
    """Spans of offsets in words."""
    return "; ".join(span_text(loss.partition, loss.start, loss.end) for loss in losses)


@dataclass(frozen=True)
class Unasked:
    """Offsets of one partition that Kafka was not asked about yet (``end`` exclusive), and the rows of bronze there."""

    start: int
    end: int
    rows: int


def _surveyed(
    spark: SparkSession, cfg: Config, source: str, last: Survey, unasked: Mapping[int, Unasked], gappy: bool
) -> Survey:
    """The survey with what was landed since; where Kafka cannot be asked, as it was."""
    binding = cfg.source(source)
    servers, options = cfg.kafka.bootstrap_servers, cfg.kafka.confluent_options()
    try:
        kept = offset_ranges(servers, binding.topic, options, committed=True)
        # Up to the first transaction that is still open. What is full of records waits for the first offset that is
        # none: it may be the marker of a transaction that began among them.
        until = {p: min(span.end, kept[p][1]) if p in kept else span.end for p, span in unasked.items()}
        full = {**{p: span.start for p, span in unasked.items() if span.start < until[p]}, **last.full}
        asked = {
            p: (full[p], until[p])
            for p, span in unasked.items()
            if p in kept and span.start < until[p] and (span.end > until[p] or span.end - span.start > span.rows)
        }
        with plain_errors(f"reading {binding.topic} once more"):
            found = _compared(spark, cfg, source, asked, {p: low for p, (low, _) in kept.items()}, gappy)
    except TwinrunError:
        return last
    return Survey(
        ends={p: max(span.start, until[p]) for p, span in unasked.items()},
        empty=_added(last.empty, found.empty),
        aborted=_added(last.aborted, found.aborted),
        lacking=_added(last.lacking, found.lacking),
        full={p: start for p, start in full.items() if p not in asked},
    )


@dataclass(frozen=True)
class Answers:
    """What one look at Kafka gave, per partition; as in `Survey`."""

    empty: Offsets = field(default_factory=dict)
    aborted: Offsets = field(default_factory=dict)
    lacking: Offsets = field(default_factory=dict)


def _compared(
    spark: SparkSession, cfg: Config, source: str, asked: Mapping[int, tuple[int, int]], low: Offsets, gappy: bool
) -> Answers:
    """Compare bronze with Kafka in the given spans. What either no longer has stays unaccounted for."""
    if not asked:
        return Answers()
    binding, gone = cfg.source(source), gone_of(spark, cfg, source)
    firsts = later_of(low, gone.ends)
    starts = {p: max(start, firsts.get(p, start)) for p, (start, _) in asked.items()}
    ends = {p: end for p, (_, end) in asked.items() if starts[p] < end}
    starts = {p: starts[p] for p in ends}
    if not ends:
        return Answers()
    places = ["partition", "offset"]
    inside = at_or_after(starts, *places) & before(ends, *places)
    held = read_table(spark, cfg.table("bronze", topic=binding.topic)).filter(inside).select(*places)
    if gone.erased is not None:
        held = held.unionByName(gone.erased.filter(inside).select(*places))
    committed = kafka_places(spark, cfg, binding.topic, starts, ends, "read_committed")
    # A compaction may have removed what bronze holds, so that only Kafka can be compared with Kafka.
    every = kafka_places(spark, cfg, binding.topic, starts, ends, "read_uncommitted") if gappy else held
    both = committed.withColumn("_committed", F.lit(True)).join(held.withColumn("_held", F.lit(True)), places, "full")
    both = both.join(every.withColumn("_every", F.lit(True)), places, "left")
    aborted = F.col("_held") & F.col("_every") & F.col("_committed").isNull()
    counts = both.groupBy("partition").agg(
        F.count("_held").alias("held"),
        F.count_if(aborted).alias("aborted"),
        F.count_if(F.col("_held").isNull()).alias("lacking"),
    )
    rows = {row["partition"]: row for row in counts.collect()}
    sizes = {p: ends[p] - starts[p] for p in ends}
    return Answers(
        empty={p: size - rows[p]["held"] - rows[p]["lacking"] if p in rows else size for p, size in sizes.items()},
        aborted={p: row["aborted"] for p, row in rows.items()},
        lacking={p: row["lacking"] for p, row in rows.items()},
    )


def kafka_places(
    spark: SparkSession, cfg: Config, topic: str, starts: Offsets, ends: Offsets, isolation: str
) -> DataFrame:
    """Coordinates (``partition``, ``offset``) of the records that Kafka has in a span of offsets. Lazy."""
    options = {**cfg.kafka.spark_options(), "kafka.isolation.level": isolation, "failOnDataLoss": "true"}
    reader = spark.read.format("kafka").options(**options)
    reader = reader.option("assign", json.dumps({topic: sorted(ends)}))
    reader = reader.option("startingOffsets", json.dumps({topic: {str(p): o for p, o in starts.items()}}))
    reader = reader.option("endingOffsets", json.dumps({topic: {str(p): o for p, o in ends.items()}}))
    return reader.load().select("partition", "offset")


def _committed(spark: SparkSession, cfg: Config, topic: str, version: int) -> Offsets:
    """End offsets of the newest micro-batch that the ingest has committed. Two or three small Spark jobs."""
    return next_offsets(spark, cfg.checkpoint("ingest", topic, version)).get(topic, {})


def _added(one: Offsets, other: Offsets) -> Offsets:
    summed = {p: one.get(p, 0) + other.get(p, 0) for p in {*one, *other}}
    return {p: count for p, count in sorted(summed.items()) if count}


def _written(landed: Landed) -> dict[str, Any]:
    return {
        "version": landed.version,
        "isolation": landed.isolation,
        "starts": landed.starts,
        "ends": landed.ends,
        "losses": [vars(loss) for loss in landed.losses],
        "survey": vars(landed.survey),
    }


def _read(record: Record | None) -> Landed:
    if record is None:
        return Landed()
    payload = dict(record.payload)
    survey = Survey(**{name: plain(offsets) for name, offsets in payload.pop("survey").items()})
    losses = tuple(Loss(**loss) for loss in payload.pop("losses"))
    starts, ends = plain(payload["starts"]), plain(payload["ends"])
    return Landed(payload["version"], starts, ends, payload["isolation"], losses, survey)
