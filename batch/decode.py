"""Decode new bronze records into events and quarantine, each record exactly once.

Two tables cannot be written in one transaction, so a run first records its plan (offsets from, to and a sequence
number), then appends to each table with that number as Delta's transaction version, then records that it is done. A
run that finds an unfinished plan repeats exactly that one; what was already appended is then skipped by Delta.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import TableError
from twinrun.events.decode import DECODER_VERSION, decode, decoder_fingerprint, valid_events
from twinrun.events.exact import quoted
from twinrun.events.source import COORDINATES, Source
from twinrun.events.times import utc_day
from twinrun.results.records import RULE as LEFT_OUT
from twinrun.results.records import is_left_out
from twinrun.tables.checkpoint import Offsets, at_or_after, before, plain
from twinrun.tables.control import add_record, latest_record
from twinrun.tables.delta import Commit, append, latest_version, read_table, replace_rows, table_exists
from twinrun.tables.landed import landed_of

KIND = "decode"
_BITS = 32_768
"""Of Spark's `bitmap_construct_agg`: 4 kB."""
_MOST_BITS = 2_000
"""With more bits than that so many good records share one that all may as well be decoded again."""


@dataclass(frozen=True)
class Decoded:
    """What has been decoded of a source: exclusive end offsets, and the number of the last decode.

    ``anew_seq`` is the number of the last decode that made the tables anew: a batch run before it has seen other rows.
    ``events_version`` is the version of the events table that holds them: read while nobody else can decode.
    """

    source: str
    seq: int
    anew_seq: int
    ends: Offsets
    decoder: str
    new_records: int
    events_version: int


@dataclass(frozen=True)
class New:
    """What a batch run found new in a source: valid events, and refused records by rule."""

    valid: int
    refused: dict[str, int]


def new_since(
    spark: SparkSession, cfg: Config, done: Decoded, seq: int, starts: Offsets, places: Sequence[Sequence[int]]
) -> New:
    """What was decoded of a source after decode number ``seq``, which had come to ``starts``. Two small Spark jobs.

    Events count by the decode that wrote them, so that those of a requeue are new too; refused records by offset, or
    all of them where everything was decoded anew since. Of the events, those at ``places`` are left out by the job.
    """
    events = read_table(spark, cfg.table("events", source=done.source), done.events_version)
    refused = read_table(spark, cfg.table("quarantine", source=done.source)).filter(F.col("_requeued_seq").isNull())
    known = {} if done.anew_seq > seq else starts
    inside = before(done.ends) & at_or_after(known)
    rules = refused.filter(inside).groupBy("_rule").count().orderBy("_rule").collect()
    refused_by = {row["_rule"]: row["count"] for row in rules}
    out = is_left_out(places)
    new = events.filter(F.col("_decoded_seq") > F.lit(seq)).agg(F.count_if(~out), F.count_if(out))
    valid, left_out = new.collect()[0]
    return New(valid, {**refused_by, LEFT_OUT: left_out} if left_out else refused_by)


def run(spark: SparkSession, cfg: Config, source: Source, fresh: str | None = None) -> Decoded:
    """Decode what bronze has beyond the last decode; with ``fresh``, or after a change of decoder, everything anew.

    The caller holds the lease ``decode:<source>``. At most six Spark jobs.

    Raises
    ------
    TableError
        There is no bronze table yet.
    """
    last = latest_record(spark, cfg, KIND, source.name)
    if last and last.payload["phase"] == "planned":
        _write(spark, cfg, source, last.payload, repeated=True)
        add_record(spark, cfg, KIND, source.name, {**last.payload, "phase": "done"})
    decoder = decoder_fingerprint(source)
    # Tables that somebody removed are made again from bronze: appending to new ones would lose what they held.
    there = [table_exists(spark, cfg.table(kind, source=source.name)) for kind in ("events", "quarantine")]
    anew = last is None or fresh is not None or last.payload["decoder"] != decoder or not all(there)
    starts = {} if anew or last is None else plain(last.payload["to"])
    _bronze(spark, cfg, source)
    # What the ingest has read up to, which is beyond the last record where markers of transactions follow it.
    ends = landed_of(spark, cfg, cfg.source(source.name).topic).ends
    new_records = sum(end - starts.get(partition, 0) for partition, end in ends.items())
    if not anew and new_records == 0 and last is not None:
        version = latest_version(spark, cfg.table("events", source=source.name))
        return Decoded(source.name, last.payload["seq"], last.payload["anew_seq"], starts, decoder, 0, version)
    # Without a record the tables may still know numbers of a control table that is gone, and would skip them.
    seq = (last.payload["seq"] if last else int(time.time()) if any(there) else 0) + 1
    anew_seq = seq if anew or last is None else last.payload["anew_seq"]
    plan = {
        "phase": "planned",
        "seq": seq,
        "anew_seq": anew_seq,
        "from": starts,
        "to": ends,
        "decoder": decoder,
        "anew": anew,
    }
    add_record(spark, cfg, KIND, source.name, plan)
    _write(spark, cfg, source, plan)
    add_record(spark, cfg, KIND, source.name, {**plan, "phase": "done"})
    version = latest_version(spark, cfg.table("events", source=source.name))
    return Decoded(source.name, seq, anew_seq, ends, decoder, new_records, version)


def _write(spark: SparkSession, cfg: Config, source: Source, plan: dict[str, Any], *, repeated: bool = False) -> None:
    """Append the events, or put them in the place of all; then what is refused. Decodes once, and bad records twice.

    ``repeated``: what a run before has begun. Its events may stand already, and are then not computed again, so that
    nothing is learnt from them.
    """
    starts, ends, seq = plain(plan["from"]), plain(plan["to"]), int(plan["seq"])
    records = _bronze(spark, cfg, source).filter(
        at_or_after(starts, "partition", "offset") & before(ends, "partition", "offset")
    )
    events_ref, quarantine_ref = cfg.table("events", source=source.name), cfg.table("quarantine", source=source.name)
    once = {table: Commit(f"decode:{source.name}:{table}", seq) for table in ("events", "quarantine")}
    seen = _Seen()
    events = events_rows(seen.watch(decode(records, source)), source, seq)
    before_version = latest_version(spark, events_ref) if table_exists(spark, events_ref) else None
    if plan["anew"]:
        # By number too: a run that was taken over must not put this in the place of what came after it.
        replace_rows(events, events_ref, None, once["events"], ["_event_date"])
    else:
        append(events, events_ref, once["events"], ["_event_date"])
    # Of events that Delta had already, and so did not write, Spark has observed nothing, and waiting for it has no end.
    learnt = not repeated and latest_version(spark, events_ref) != before_version
    if learnt:
        records = records.filter(seen.may_be_refused())
    refused = quarantine_rows(decode(records, source), source)
    if plan["anew"]:
        replace_rows(refused, quarantine_ref, None, once["quarantine"])
    elif not learnt or seen.any_refused():
        append(refused, quarantine_ref, once["quarantine"])


class _Seen:
    """Which records were refused while the events were written, as a map of bits: all of them, and few others.

    Spark observes the rows as they pass (`Observation`), so that nothing is read or decoded for it. A record's bit is a
    hash of its partition and offset. So what is bad is found without decoding what is good a second time, which costs
    as much as the first. A verify counts both tables against bronze (`twinrun.results.audit`) and would see a loss.
    """

    def __init__(self) -> None:
        self._observed = Observation()

    def watch(self, decoded: DataFrame) -> DataFrame:
        """The same rows; what is learnt of them is there when they have been written."""
        place = _bit("_partition", "_offset")
        bad = F.col("_rule").isNotNull()
        return decoded.observe(
            self._observed, F.count_if(bad).alias("refused"), F.bitmap_construct_agg(F.when(bad, place)).alias("bits")
        )

    def any_refused(self) -> bool:
        """Whether one was refused."""
        return bool(self._observed.get["refused"])

    def may_be_refused(self) -> Column:
        """Of raw records: false for those that certainly are events."""
        bits: bytes = self._observed.get["bits"]
        found = [8 * at + bit for at, byte in enumerate(bits) if byte for bit in range(8) if byte >> bit & 1]
        if len(found) > _MOST_BITS:
            return F.lit(True)
        return F.lit(False) if not found else _bit("partition", "offset").isin(found)


def _bit(partition: str, offset: str) -> Column:
    return F.bitmap_bit_position(F.lit(1) + F.pmod(F.xxhash64(partition, offset), F.lit(_BITS)))


def events_rows(decoded: DataFrame, source: Source, seq: int) -> DataFrame:
    """Rows of the events table: what a job sees, the day of the event, and the decode that wrote it."""
    return valid_events(decoded, source).withColumns(
        {"_event_date": utc_day(F.col(quoted(source.event_time))), "_decoded_seq": F.lit(seq).cast("bigint")}
    )


def quarantine_rows(decoded: DataFrame, source: Source) -> DataFrame:
    """Rows of the quarantine table: coordinates, rule, reason, decoder; ``_requeued_seq`` null until requeued."""
    return decoded.filter(F.col("_rule").isNotNull()).select(
        *[F.col(name) for name in COORDINATES],
        F.col("_rule"),
        F.col("_reason"),
        F.lit(DECODER_VERSION).alias("_decoder_version"),
        F.lit(decoder_fingerprint(source)).alias("_decoder"),
        F.lit(None).cast("bigint").alias("_requeued_seq"),
        F.lit(None).cast("timestamp").alias("_requeued_at"),
        F.lit(None).cast("string").alias("_requeued_decoder"),
    )


def _bronze(spark: SparkSession, cfg: Config, source: Source) -> DataFrame:
    ref = cfg.table("bronze", topic=cfg.source(source.name).topic)
    if not table_exists(spark, ref):
        raise TableError(
            f"nothing has been landed for the source {source.name}: there is no bronze table at {ref}.",
            fix=f"run: twinrun ingest {source.name}",
        )
    return read_table(spark, ref)
