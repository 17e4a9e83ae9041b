"""Conservation: bronze = valid + quarantine, and offsets without holes, checked on every verify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from twinrun.broker.topics import TopicInfo
from twinrun.config.model import Config
from twinrun.events.source import Source
from twinrun.job.job import Job
from twinrun.results.records import RULE, Refusal, is_left_out, refusals_of
from twinrun.results.state import NOTHING as NOTHING_KNOWN
from twinrun.results.state import BatchState, SourceFacts, Span, Spans, behind, both, counted_in, grown, whole_in
from twinrun.results.verdict import Audit, QuarantineCount
from twinrun.tables.checkpoint import Offsets, PartitionCount, at_or_after, before
from twinrun.tables.delta import read_table
from twinrun.tables.kafka import Gone, Loss
from twinrun.tables.landed import Landed, spans_text
from twinrun.tables.listed import Mark, Question, added_since, mark_of, together
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


@dataclass(frozen=True)
class Held:
    """What bronze, events and quarantine of one source hold.

    Attributes
    ----------
    ends : dict
        End offsets per partition of all of bronze, whatever is audited.
    counted : dict
        By partition: records of bronze, and erased ones, in the span that is audited.
    erased : int
        How many of those were erased.
    valid, quarantined : int
        Records of the span that are events, and that are refused: by the decoder or by the job.
    refused : tuple of QuarantineCount
        All that is refused, by rule.
    known : SourceFacts
        What the next verify may go by.
    sound : bool
        False where what was carried on does not fit what was found: nothing of this may be used, see `held_by`.
    """

    ends: Offsets
    counted: Mapping[int, PartitionCount]
    erased: int
    valid: int
    quarantined: int
    refused: tuple[QuarantineCount, ...]
    known: SourceFacts = NOTHING_KNOWN
    sound: bool = True


def held_by(
    spark: SparkSession,
    cfg: Config,
    source: Source,
    covered: Covered,
    entries: Sequence[Refusal] = (),
    known: SourceFacts = NOTHING_KNOWN,
) -> Question[Held]:
    """What the tables of a source hold up to the offsets that are audited. One look at two narrow columns of each.

    Of bronze and events only what was added is looked at, where ``known`` tells the rest. An answer that is not
    ``sound`` is to be asked for again, with nothing known: bronze holds an offset twice.

    Parameters
    ----------
    covered : Covered
        ``ends``, ``gone.ends``, ``gone.erased``, ``stream`` and ``left_out`` are used.
    entries : sequence of Refusal
        What the job leaves out, with its reasons.
    """
    kept, places = before(covered.ends) & at_or_after(covered.gone.ends), covered.left_out
    events = read_table(spark, cfg.table("events", source=source.name))
    refused = read_table(spark, cfg.table("quarantine", source=source.name)).filter(F.col("_requeued_seq").isNull())

    def read(
        bronze: _InBronze,
        decoded: _InEvents,
        by_rule: tuple[int, list[QuarantineCount]],
        by_logic: list[QuarantineCount],
    ) -> Held:
        return Held(
            ends=bronze.ends,
            counted=bronze.counted,
            erased=bronze.erased,
            valid=decoded.valid,
            quarantined=decoded.left + by_rule[0],
            refused=(*by_rule[1], *by_logic),
            known=SourceFacts(bronze=bronze.known, events=decoded.known, last_seq=decoded.last_seq),
            sound=bronze.sound,
        )

    return together(
        read,
        _in_bronze(spark, cfg, source, covered, known),
        _in_events(spark, cfg, source, covered, known),
        _by_decoder(source, refused, kept),
        _by_logic(source, events, places, entries),
    )


@dataclass(frozen=True)
class _InEvents:
    """Events of the span that is audited: those that count, and those that the job leaves out."""

    valid: int
    left: int
    known: tuple[Mark, Spans] | None
    last_seq: int


def _in_events(
    spark: SparkSession, cfg: Config, source: Source, covered: Covered, known: SourceFacts
) -> Question[_InEvents]:
    ref = cfg.table("events", source=source.name)
    old, rows = _old(spark, ref, known.events)
    # A record that the job leaves out may lie anywhere; and a span that is audited in part says nothing of that part.
    whole = None if covered.left_out else whole_in(old, covered.gone.ends, covered.ends)
    if rows is None or whole is None:
        old, whole, rows, known = {}, 0, read_table(spark, ref), NOTHING_KNOWN
    out = is_left_out(covered.left_out)
    kept = before(covered.ends) & at_or_after(covered.gone.ends)
    found = rows.groupBy("_partition").agg(
        F.count_if(kept & ~out).alias("valid"),
        F.count_if(kept & out).alias("left"),
        F.count("*").alias("rows"),
        F.min("_offset").alias("first"),
        F.max("_offset").alias("last"),
        F.max("_decoded_seq").alias("seq"),
    )
    now = mark_of(spark, ref)

    def read(rows: list[Row]) -> _InEvents:
        spans = grown(old, {row["_partition"]: Span(row["rows"], row["first"], row["last"]) for row in rows})
        valid = whole + sum(row["valid"] for row in rows)
        last_seq = max([known.last_seq, *(row["seq"] for row in rows)])
        left = sum(row["left"] for row in rows)
        return _InEvents(valid, left, None if now is None else (now, spans), last_seq)

    return Question(found, read)


def _old(spark: SparkSession, ref: str, known: tuple[Mark, Spans] | None) -> tuple[Spans, DataFrame | None]:
    """What is known of a table, and the rows that were added since; without the latter nothing is known."""
    added = None if known is None else added_since(spark, ref, known[0])
    return ({}, None) if known is None or added is None else (known[1], added)


@dataclass(frozen=True)
class _InBronze:
    """End offsets, counts by partition of what is audited, erased records among them."""

    ends: Offsets
    counted: dict[int, PartitionCount]
    erased: int
    known: tuple[Mark, Spans] | None
    sound: bool


def _in_bronze(
    spark: SparkSession, cfg: Config, source: Source, covered: Covered, known: SourceFacts
) -> Question[_InBronze]:
    places = ["partition", "offset"]
    ref = cfg.table("bronze", topic=cfg.source(source.name).topic)
    # An erased record holds its offset in another table.
    old, added = _old(spark, ref, known.bronze if covered.gone.erased is None else None)
    bronze = read_table(spark, ref) if added is None else added
    now = mark_of(spark, ref) if covered.gone.erased is None else None
    records = bronze.select(*places, F.lit(False).alias("erased"))
    if covered.gone.erased is not None:
        records = records.unionByName(covered.gone.erased.select(*places, F.lit(True).alias("erased")))
    of_stream = at_or_after(covered.stream[0], *places) & before(covered.stream[1], *places)
    inside = before(covered.ends, *places) & at_or_after(covered.gone.ends, *places)
    here = F.count_if(~F.col("erased")).alias("here")
    once = records.groupBy(*places).agg(F.count("*").alias("n"), here)
    marked = once.withColumns({"in": inside, "streamed": of_stream & inside})

    def of(flag: str, value: str) -> Column:
        return F.coalesce(F.sum(F.when(F.col(flag), F.col(value))), F.lit(0))

    found = marked.groupBy("partition").agg(
        F.max(F.when(F.col("here") > 0, F.col("offset") + 1)).alias("end"),
        of("in", "n").alias("rows"),
        F.count_if("in").alias("distinct"),
        F.min(F.when(F.col("in"), F.col("offset"))).alias("first"),
        F.max(F.when(F.col("in"), F.col("offset"))).alias("last"),
        of("streamed", "n").alias("streamed"),
        (of("in", "n") - of("in", "here")).alias("erased"),
        F.sum("here").alias("all_rows"),
        F.count_if(F.col("here") > 0).alias("all_distinct"),
        F.min(F.when(F.col("here") > 0, F.col("offset"))).alias("all_first"),
    )
    before_it = counted_in(old, covered.gone.ends, covered.ends, covered.stream)

    def read(rows: list[Row]) -> _InBronze:
        names = ("partition", "rows", "distinct", "first", "last", "streamed")
        counted = {row["partition"]: PartitionCount(*(row[name] for name in names)) for row in rows if row["rows"]}
        here = [row for row in rows if row["all_rows"]]
        new = {row["partition"]: Span(row["all_rows"], row["all_first"], row["end"] - 1) for row in here}
        spans = grown(old, new)
        ends = {p: span.last + 1 for p, span in spans.items()}
        once = all(row["all_rows"] == row["all_distinct"] for row in here)
        solid = once and all(span.solid for span in spans.values())
        return _InBronze(
            ends=ends,
            counted=both(before_it, counted),
            erased=sum(row["erased"] for row in rows),
            known=(now, spans) if solid and now is not None else None,
            sound=behind(old, new),
        )

    return Question(found, read)


def audit(cfg: Config, source: Source, covered: Covered, held: Held, topic: TopicInfo | None) -> Audit:
    """Whether what bronze, events and quarantine hold up to an offset adds up. Pure.

    What has expired is counted in none of them; an erased record counts as one that is not missing, and so does an
    offset at which Kafka itself had no record when it was landed.
    """
    gone, counted = covered.gone, held.counted
    rows = sum(part.rows for part in counted.values()) - held.erased
    absent = absent_offsets(covered, counted)
    empty = {p: min(count, _known_empty(covered, p)) for p, count in absent.items()}
    missing = sum(absent.values()) - sum(empty.values())
    repeated = sum(part.repeated for part in counted.values())
    valid, quarantined = held.valid, held.quarantined
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


def reasons(spark: SparkSession, cfg: Config, job: Job, batch: BatchState) -> tuple[Refusal, ...]:
    """Why the job leaves records out, where the batch run left out any; two small Spark jobs then, unless pinned."""
    return refusals_of(spark, cfg, job.job_name) if batch.refused else ()


def _place() -> Column:
    return F.concat_ws(
        " ",
        F.col("_topic"),
        F.concat(F.lit("partition "), F.col("_partition")),
        F.concat(F.lit("offset "), F.col("_offset")),
    )


def _by_decoder(source: Source, refused: DataFrame, kept: Column) -> Question[tuple[int, list[QuarantineCount]]]:
    """What the decoder refuses: how many of those for which ``kept`` holds, and all by rule."""
    first = F.struct("_partition", "_offset")
    found = refused.groupBy("_rule").agg(
        F.count("*").alias("n"),
        F.count_if(kept).alias("kept"),
        F.min_by(_place(), first).alias("place"),
        F.min_by("_reason", first).alias("reason"),
    )

    def read(rows: list[Row]) -> tuple[int, list[QuarantineCount]]:
        rows = sorted(rows, key=lambda row: str(row["_rule"]))
        counts = [QuarantineCount(source.name, r["_rule"], r["n"], r["place"], r["reason"] or "") for r in rows]
        return sum(row["kept"] for row in rows), counts

    return Question(found, read)


def _by_logic(
    source: Source, events: DataFrame, places: Sequence[Sequence[int]], entries: Sequence[Refusal]
) -> Question[list[QuarantineCount]]:
    """Events that the job's list leaves out; those that have expired or were erased are not there any more."""
    first = F.struct("_partition", "_offset")
    mine = events.filter(is_left_out(places)).agg(
        F.count("*").alias("n"), F.min(first).alias("first"), F.min_by(_place(), first).alias("place")
    )

    def read(rows: list[Row]) -> list[QuarantineCount]:
        found = rows[0] if rows else None
        if found is None or not found["n"]:
            return []
        at = (found["first"]["_partition"], found["first"]["_offset"])
        why = [e.why for e in entries if e.source == source.name and (e.partition, e.offset) == at]
        return [QuarantineCount(source.name, RULE, found["n"], found["place"], why[-1] if why else "")]

    return Question(mine if places else None, read)
