"""How far topic, bronze, batch and stream have come, and which source holds the watermark back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.broker.topics import TopicInfo, cluster_id, offset_ranges
from twinrun.config.model import Config
from twinrun.durations import human
from twinrun.errors import BrokerError, TopicError
from twinrun.events.source import Source
from twinrun.explain.differing import ByName, gone_from, notes_on, waits_for_close
from twinrun.explain.judge import SILENT, Checks
from twinrun.explain.tables import NAMED
from twinrun.explain.used import newest_events
from twinrun.job.job import Job
from twinrun.job.passing import Passage
from twinrun.results.audit import Covered, Held, audit, held_by, reasons
from twinrun.results.cut import Context, StreamCut
from twinrun.results.records import HEALS, REFUSALS, Refusal
from twinrun.results.state import BATCH, FACTS, STREAM, BatchState, Facts
from twinrun.results.verdict import Audit, QuarantineCount
from twinrun.tables.bronze import TOPIC
from twinrun.tables.checkpoint import Offsets, before, lag, later_of
from twinrun.tables.control import Key, control_pinned
from twinrun.tables.kafka import (
    EXPIRY,
    ingest_reader,
    isolation_of,
    stream_reader,
    stream_readers,
    topic_ids_of,
    topic_info,
)
from twinrun.tables.kafka import KIND as READ_BY
from twinrun.tables.landed import KIND as LANDING
from twinrun.tables.landed import Landed, lost_to, notes_on_landing, told_landing
from twinrun.tables.listed import Version, list_together, together
from twinrun.tables.static import static_ref
from twinrun.wording import worded

# Which source holds the watermark back, where rows wait: several sources have one watermark, the least of theirs.


@dataclass(frozen=True)
class SourceProgress:
    """How far a source is.

    ``newest_ms``: its newest event before the cut's micro-batch (epoch ms), of those that move its watermark, which are
    those with ``moves_if`` where that is not empty; None: no event.
    """

    name: str
    newest_ms: int | None
    lateness_ms: int
    moves_if: str = ""

    @property
    def watermark_ms(self) -> int:
        """The watermark that this source alone would give; 0 before its first event."""
        return 0 if self.newest_ms is None else max(self.newest_ms - self.lateness_ms, 0)


def notes_on_sources(ctx: Context, windows: DataFrame, checks: Checks) -> tuple[str, ...]:
    """A sentence on the source that rows wait for; empty where none is proven to hold the others back.

    Parameters
    ----------
    windows : DataFrame
        See `twinrun.explain.summary.windows_frame`.
    checks : Checks
        Says whether the batch covers the cut, and whether rows are pending. One Spark job per source and one more
        where rows wait and there are several sources, else none.
    """
    timed = [source for source in ctx.job.sources if source.lateness_ms is not None]
    waiting = checks.totals["rows_pending"] or any(cause.cause == "pending" for cause in checks.causes)
    if len(timed) < 2 or not waiting or not checks.covered or ctx.cut.committed.micro_batch < 0:
        return ()
    reached = [_reached(ctx, source, ctx.flow.passage(source.name)) for source in timed]
    found = held_back(reached, ctx.cut.watermark_ms)
    if found is None:
        return ()
    slow, ahead_ms = found
    rows: int | None = None
    if waits_for_close(ctx.job):
        rows = _rows_until(windows, ctx.job, ahead_ms)
        if not rows:
            return ()
    return (sentence(slow, [each for each in reached if each not in slow], ahead_ms, rows),)


def held_back(reached: list[SourceProgress], watermark_ms: int | None) -> tuple[list[SourceProgress], int] | None:
    """The sources that hold the watermark back, and what it would be by the others alone (epoch ms). Pure.

    None where no source is behind the others, or where the recorded watermark is not the one of the source that is
    furthest behind: another rule decides then, such as Spark's policy of the largest.
    """
    least = min(each.watermark_ms for each in reached)
    slow = [each for each in reached if each.watermark_ms == least]
    others = [each.watermark_ms for each in reached if each.watermark_ms > least]
    return (slow, min(others)) if others and least == (watermark_ms or 0) else None


def sentence(slow: list[SourceProgress], others: list[SourceProgress], ahead_ms: int, rows: int | None) -> str:
    """What a reader should know. Pure.

    ``rows``: rows of windows that would be over by the others' watermark; None where rows have no window.
    """
    told = " and ".join(_told(each) for each in slow)
    names = " and ".join(each.name for each in others)
    so_far = f"By the events of {names} alone the watermark would be {_utc(ahead_ms)}"
    belong = "waiting row belongs to a window that is", "waiting rows belong to windows that are"
    waits = "" if rows is None else f"; {worded(rows, *belong)} over by then"
    return f"The watermark of all sources waits for the slowest: {told}. {so_far}{waits}."


def _told(source: SourceProgress) -> str:
    only = f" with {source.moves_if} (Spark applies this filter before the watermark)" if source.moves_if else ""
    if source.newest_ms is None:
        return f"{source.name} has no event{only} yet"
    return (
        f"the newest event of {source.name}{only} is of {_utc(source.newest_ms)}, which with a lateness of "
        f"{human(source.lateness_ms)} holds it at {_utc(source.watermark_ms)}"
    )


def _utc(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _reached(ctx: Context, source: Source, passage: Passage) -> SourceProgress:
    """A micro-batch's watermark comes from the events of those before it."""
    newest = newest_events(ctx, source, passage)
    read = newest.filter(F.col("micro_batch") < ctx.cut.committed.micro_batch)
    newest_ms = read.agg(F.max("newest_ms")).collect()[0][0]
    return SourceProgress(source.name, newest_ms, source.lateness_ms or 0, passage.moves_if)


def _rows_until(windows: DataFrame, job: Job, until_ms: int) -> int:
    end_ms = F.unix_millis("window_start") + F.lit(job.window_ms)
    over = windows.filter((F.col("verdict") == "pending") & (end_ms <= F.lit(until_ms)))
    return int(over.agg(F.sum("rows")).collect()[0][0] or 0)


# What a verify asks about its surroundings: how far have topic, bronze and batch come.


ASK_LIMIT_S = 3.0
"""How long a verify waits for Kafka to say that it is there; what it asks later has the longer limit of a request."""


@dataclass(frozen=True)
class Coverage:
    """How far everything around the cut has come, per source, and what of it was removed on purpose.

    ``bronze``: what the ingest has read up to, see `twinrun.tables.landed.landed_of`. ``broker``: where a reader by the
    source's isolation level would end now. ``held``: what the tables of each source hold up to what the batch has read.
    ``severed``: sentences on topics that are not, or no more as they were read. ``unseen``: what Kafka said of topics
    that it would not tell of. ``silent``: it did not answer at all.
    """

    broker: dict[str, Offsets | None]
    landed: dict[str, Landed]
    topics: dict[str, TopicInfo | None]
    gone: ByName
    held: dict[str, Held]
    severed: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    silent: bool = False

    @property
    def bronze(self) -> dict[str, Offsets]:
        """End offsets of what was landed, by source."""
        return {name: each.ends for name, each in self.landed.items()}

    @property
    def refused(self) -> tuple[QuarantineCount, ...]:
        """What the sources and the job refuse, by source and rule, each with one example."""
        return tuple(count for each in self.held.values() for count in each.refused)


def records_of(cfg: Config, job: Job) -> list[Key]:
    """The control records, besides the two states, by which a verify's outcome may change. Pure.

    How the stream reads its topics is left out: whoever has the newest state of the stream sees each of its starts, and
    nothing else writes that.
    """
    topics = [cfg.source(source.name).topic for source in job.sources]
    asked = [(kind, job.job_name) for kind in (REFUSALS, HEALS)]
    return asked + [(kind, topic) for kind in (EXPIRY, LANDING) for topic in topics]


def tables_of(cfg: Config, job: Job) -> list[str]:
    """The tables, besides results and static ones, by which a verify's outcome may change. Pure."""
    topics = [cfg.table("bronze", topic=cfg.source(source.name).topic) for source in job.sources]
    made = [cfg.table(kind, source=source.name) for source in job.sources for kind in ("events", "quarantine")]
    return [cfg.table("micro_batches"), cfg.table("erased"), *topics, *made]


def statics_of(cfg: Config, job: Job) -> list[str]:
    """The job's static tables. Pure."""
    return [static_ref(cfg, table.name) for table in job.tables]


@contextmanager
def records_pinned(spark: SparkSession, cfg: Config, job: Job) -> Iterator[None]:
    """Every control record that a verify asks for, read once. Two small Spark jobs."""
    wanted = [(kind, job.job_name) for kind in (STREAM, BATCH, NAMED, FACTS)] + records_of(cfg, job)
    topics = [cfg.source(source.name).topic for source in job.sources]
    wanted += [(READ_BY, f"{ingest_reader(topic)}:{topic}") for topic in topics]
    with control_pinned(spark, cfg, wanted, [(READ_BY, stream_readers(job.job_name))]):
        yield


def silent_kafka(cfg: Config) -> str:
    """Why nothing can be asked of Kafka, in one sentence; empty where it answers within `ASK_LIMIT_S`. No Spark job."""
    try:
        cluster_id(cfg.kafka.bootstrap_servers, cfg.kafka.confluent_options(), limit_s=ASK_LIMIT_S)
    except BrokerError as error:
        return f"{SILENT} ({error.found.rstrip('.')})"
    return ""


def coverage_of(ctx: Context, *, silent: bool = False, facts: Facts | None = None) -> Coverage:
    """Ends of the topics, what the tables hold and what is gone. Two small Spark jobs, one more with erased records.

    A broker that does not answer is noted, not fatal: tables can be verified. The ingest's checkpoint is read before
    bronze, so that bronze holds every record below its ends.

    Parameters
    ----------
    silent : bool
        The broker did not answer just now, and is not asked again.
    facts : Facts, optional
        What is known from the verify before; by default everything is looked at.
    """
    broker: dict[str, Offsets | None] = {}
    topics: dict[str, TopicInfo | None] = {}
    told = {}
    severed: list[str] = []
    unseen: list[str] = []
    for source in ctx.job.sources:
        binding = ctx.cfg.source(source.name)
        told[source.name] = told_landing(ctx.spark, ctx.cfg, binding.topic)
        broker[source.name], topics[source.name] = None, None
        if silent:
            continue
        committed = binding.isolation == "read_committed"
        options = ctx.cfg.kafka.confluent_options()
        try:
            ranges = offset_ranges(ctx.cfg.kafka.bootstrap_servers, binding.topic, options, committed=committed)
            broker[source.name] = {partition: high for partition, (_, high) in ranges.items()}
            topics[source.name] = topic_info(ctx.cfg, binding.topic)
            severed += _severed(ctx, source.name, broker[source.name] or {}, topics[source.name])
        except TopicError:
            broker[source.name] = None
            severed.append(
                f"Kafka has no topic {binding.topic}: it was deleted, or conf names another cluster than the one that "
                "was read"
            )
        except BrokerError as error:
            broker[source.name] = None
            unseen.append(f"{error.found.rstrip('.')}: the lag of {source.name} is unknown.")
    list_together(ctx.spark, _versions(ctx.cfg, ctx.job, ctx.cut, ctx.batch))
    gone = gone_from(ctx.spark, ctx.cfg, ctx.job)
    covered = {name: _covered(name, ctx.cut, ctx.batch, told[name], gone) for name in told}
    entries = reasons(ctx.spark, ctx.cfg, ctx.job, ctx.batch)
    held = _held(ctx.spark, ctx.cfg, ctx.job, covered, entries, facts or Facts())
    landed = {name: replace(told[name], ends=later_of(told[name].ends, held[name].ends)) for name in told}
    for name, land in landed.items():
        # A stream over bronze never had what bronze never got.
        start = ctx.cut.start.get(name, {}) if ctx.cut.state.reads == TOPIC else {}
        lost = lost_to(land, start, ctx.cut.end.get(name, {}), gone[name].ends)
        gone[name] = replace(gone[name], lost=lost)
    return Coverage(broker, landed, topics, gone, held, tuple(severed), tuple(unseen), silent)


def _severed(ctx: Context, source: str, ends: Offsets, info: TopicInfo | None) -> list[str]:
    """Why what was read of a topic is not what it has now, in sentences. No Spark job where records are pinned."""
    topic = ctx.cfg.source(source).topic
    readers = {ingest_reader(topic): "the ingest"}
    if ctx.cut.query_id:
        readers = {stream_reader(ctx.job.job_name, ctx.cut.state.version): "the stream", **readers}
    known = topic_ids_of(ctx.spark, ctx.cfg, topic, readers)
    for reader, who in readers.items():
        if info is not None and known.get(reader, info.topic_id) != info.topic_id:
            return [
                f"the topic {topic} was deleted and created anew since {who} read it: its offsets mean other records "
                f"now, and {who} cannot go on"
            ]
    read = later_of(ctx.cut.end.get(source, {}), ctx.batch.ends.get(source, {}))
    lost = {p: (ends.get(p, 0), end) for p, end in sorted(read.items()) if ends.get(p, 0) < end}
    return [
        f"partition {p} of the topic {topic} ends at {has} in Kafka, before {end}, up to which it was read: Kafka has "
        "lost records, or it is another topic"
        for p, (has, end) in lost.items()
    ]


def _held(
    spark: SparkSession,
    cfg: Config,
    job: Job,
    covered: Mapping[str, Covered],
    entries: Sequence[Refusal],
    facts: Facts,
) -> dict[str, Held]:
    """What the tables of each source hold. One Spark job; one more where a fact does not fit what was added since."""
    for known in (facts, Facts()):
        each = [held_by(spark, cfg, s, covered[s.name], entries, known.of(s.name)) for s in job.sources]
        held = dict(zip(covered, together(lambda *found: found, *each).answer(), strict=True))
        if all(one.sound for one in held.values()):
            break
    return held


def _versions(cfg: Config, job: Job, cut: StreamCut, batch: BatchState) -> list[Version]:
    """The versions of tables that a verify reads, after what it reads to take the cut. Pure."""
    pinned: list[Version] = [(batch.table, batch.table_version), (cut.state.table, cut.committed.version)]
    for source in job.sources:
        pinned.append((cfg.table("events", source=source.name), batch.events_version.get(source.name)))
    for mode in (batch.static, cut.static):
        pinned += [(static_ref(cfg, name), version) for name, version in mode.items()]
    return pinned + [(ref, None) for ref in (*tables_of(cfg, job), cfg.table("ledger"))]


def _covered(name: str, cut: StreamCut, batch: BatchState, landed: Landed, gone: ByName) -> Covered:
    return Covered(
        ends=batch.ends[name],
        landed=landed,
        gone=gone[name],
        stream=(cut.start.get(name, {}), cut.end.get(name, {})),
        left_out=batch.refused.get(name, []),
    )


def notes_on_coverage(cfg: Config, job: Job, coverage: Coverage) -> tuple[str, ...]:
    """What a reader should know: what is gone, records of aborted transactions that count, holes on record."""
    return (
        coverage.unseen
        + notes_on(coverage.gone)
        + tuple(
            f"{note[0].upper()}{note[1:]}."
            for source in job.sources
            for note in notes_on_landing(cfg, source.name, coverage.landed[source.name])
        )
    )


def unread(cut: StreamCut, coverage: Coverage, job: Job) -> int:
    """Records that the stream has not read yet, by the broker where it answers, else by bronze."""
    ahead = {s.name: coverage.broker[s.name] or coverage.bronze[s.name] for s in job.sources}
    started = {s.name: {**cut.start.get(s.name, {}), **cut.end.get(s.name, {})} for s in job.sources}
    return sum(lag(ahead[name], started[name]) for name in ahead)


def final_until_ms(cfg: Config, job: Job, cut: StreamCut, batch: BatchState) -> int:
    """Up to where no event that the batch lacks can have touched a window; 0 for nowhere. Two small Spark jobs.

    The watermark before the first micro-batch that read beyond the batch: windows that end by then had been emitted,
    and are closed to all that was read since.
    """
    topics = {cfg.source(source.name).topic: source.name for source in job.sources}
    ends = cut.micro_batches.select("micro_batch", F.explode("end_offsets").alias("_end"))
    beyond = F.lit(False)
    for topic, name in topics.items():
        known = before(batch.ends.get(name, {}), "_end.partition", "_last")
        beyond = beyond | ((F.col("_end.topic") == topic) & (F.col("_end.offset") > 0) & ~known)
    first = ends.withColumn("_last", F.col("_end.offset") - 1).filter(beyond).agg(F.min("micro_batch")).collect()[0][0]
    if first is None:
        return 0
    row = cut.micro_batches.filter(F.col("micro_batch") == first - 1).agg(F.max("watermark_ms")).collect()[0]
    return int(row[0] or 0)


def audits_of(ctx: Context, coverage: Coverage) -> tuple[Audit, ...]:
    """Whether what was landed, decoded and refused adds up, per source. No Spark job where records are pinned."""
    audits = []
    for source in ctx.job.sources:
        name = source.name
        covered = _covered(name, ctx.cut, ctx.batch, coverage.landed[name], coverage.gone)
        found = audit(ctx.cfg, source, covered, coverage.held[name], coverage.topics[name])
        reader = stream_reader(ctx.job.job_name, ctx.cut.state.version)
        streamed = isolation_of(ctx.spark, ctx.cfg, ctx.cfg.source(name).topic, reader) if ctx.cut.query_id else ""
        if streamed and covered.landed.isolation and streamed != covered.landed.isolation:
            two = (
                f"landed by isolation level {covered.landed.isolation}, and the stream read it by {streamed}: records "
                "of aborted transactions count in one mode only"
            )
            found = replace(found, ok=False, note="; ".join(filter(None, (two, found.note))))
        audits.append(found)
    return tuple(audits)
