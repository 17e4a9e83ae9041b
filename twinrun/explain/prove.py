"""Prove by replay: what the stream's micro-batches emit when they are run again, and what order has to do with it.

Two replays. The first repeats the recording and must show every recorded watermark: its rows are what the logic
emitted, so that a table which holds other rows was changed by the sink or by somebody. The second runs the same
events in order of event time, under a lateness that nothing exceeds: where that gives the batch's row, arrival order or
watermark is what made the difference; where it does not, the logic itself depends on the mode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.types import TimestampType

from twinrun.config.model import Config
from twinrun.events.decode import distinct_in_batch
from twinrun.events.exact import quoted
from twinrun.explain.replay import (
    NUMBER,
    Recorded,
    Segment,
    Steps,
    emitted,
    first_impossible,
    first_that_differs,
    new_replay,
    play,
    play_each,
    reached_by,
    segments,
    stage,
    watermarks,
)
from twinrun.explain.used import USED, seen_names, without_deleted
from twinrun.job.dataflow import Dataflow
from twinrun.job.job import Job
from twinrun.job.passing import EVERY, Passage
from twinrun.results.records import Say, quiet
from twinrun.tables.static import Pins
from twinrun.wording import plural

_DAY_MS = 86_400_000
_FLUSH_AHEAD_MS = 400 * _DAY_MS
_ORDERED_PARTS = 4


@dataclass(frozen=True)
class Played:
    """What a replay gave.

    Attributes
    ----------
    rows : DataFrame
        Rows up to the cut: what the sink must hold.
    pending : DataFrame or None
        Rows that came out only when the watermark was pushed beyond all events; None for jobs that wait for nothing.
    """

    rows: DataFrame
    pending: DataFrame | None


@dataclass(frozen=True)
class Withdrawn:
    """A replay that proves nothing. ``why`` is one sentence."""

    why: str


def replay_recorded(
    spark: SparkSession,
    cfg: Config,
    job: Job,
    marked: dict[str, DataFrame],
    record: list[Recorded],
    folder: str,
    passages: Mapping[str, Passage] = MappingProxyType({}),
    say: Say = quiet,
) -> Played | Withdrawn:
    """Repeat the recording, then push the watermark beyond all events to see what was still waiting.

    About three Spark jobs per micro-batch; a start of the query for each one where watermarks have to be handed on.
    ``say`` is told which micro-batch of how many it is.
    """
    delays = {source.name: source.lateness_ms for source in job.sources}
    last = record[-1].number
    tell = _telling(say, "as recorded", last + 1)
    again = new_replay(spark, cfg, job, f"{folder}/recorded", delays, tell)
    used = {key: _used(frame) for key, frame in marked.items()}
    flush = flush_rows(job, used, last + 2, passages) if waits(job) else None
    stage(again, _with(job, used, flush))
    parts = segments(record)
    if _needs_each(job, used, record, parts, passages):
        play_each(again, record)
    else:
        play(again, parts)
    seen = watermarks(again)
    wrong = [each.number for each in record if seen.get(each.number) != each.watermark_ms]
    if wrong:
        return Withdrawn(_another_watermark(wrong[0]))
    if max(seen) != last:
        return Withdrawn(f"the replay made {plural(max(seen) + 1, 'micro-batch')} of {last + 1}")
    if flush is not None:
        play(again, [_flushing(last + 1, record[-1].static)])
    return _played(job, emitted(spark, again), last, flush)


def replay_steps(
    spark: SparkSession,
    cfg: Config,
    job: Job,
    events: dict[str, DataFrame],
    pushing: dict[str, DataFrame],
    steps: Steps,
    folder: str,
    *,
    little: bool,
    waiting: bool,
    say: Say = quiet,
) -> Played | Withdrawn:
    """The same for the steps that some keys need, as one query; see `twinrun.explain.scope`.

    Parameters
    ----------
    events : dict of str to DataFrame
        By source, what each step (``_micro_batch``) reads: events of the keys, and those that move the watermark.
    pushing : dict of str to DataFrame
        By source with a watermark, those of them that move it: one at least.
    little : bool
        Whether the events are few.
    waiting : bool
        Whether it is asked what still waits in the end; rows that the stream has emitted do not.
    """
    last = len(steps.each) - 1
    delays = {source.name: source.lateness_ms for source in job.sources}
    again = new_replay(
        spark, cfg, job, f"{folder}/steps", delays, _telling(say, "as recorded", last + 1), little=little
    )
    flush = flush_rows(job, pushing, last + 2) if waiting and waits(job) else None
    stage(again, _with(job, events, flush))
    play(again, steps.parts(2 if flush else 0))
    seen = watermarks(again)
    for place, step in enumerate(steps.each):
        if step.number is not None and seen.get(place) != step.watermark_ms:
            return Withdrawn(_another_watermark(step.number))
    return _played(job, emitted(spark, again), last, flush)


def _played(job: Job, rows: DataFrame, last: int, flush: dict[str, Flush] | None) -> Played:
    """Rows by whether they came out with the last recorded micro-batch, or only when the watermark was pushed."""
    pending = None
    if flush is not None:
        waited = _without_sentinels(rows.filter(F.col(NUMBER) > last), last + 2, _edge_ms(flush))
        pending = waited.drop(NUMBER)
    return Played(_as_table(job, rows.filter(F.col(NUMBER) <= last)), pending)


def _another_watermark(number: int) -> str:
    return f"the replay's watermark differs from the recorded one in micro-batch {number}"


def replay_in_order(
    spark: SparkSession,
    cfg: Config,
    job: Job,
    marked: dict[str, DataFrame],
    parts: int,
    static: Pins,
    folder: str,
    pushing: dict[str, DataFrame] | None = None,
    little: bool = False,
    passages: Mapping[str, Passage] = MappingProxyType({}),
    say: Say = quiet,
) -> DataFrame:
    """The rows when the same events come in order of event time and none is late, in ``parts`` micro-batches.

    Parameters
    ----------
    pushing : dict of str to DataFrame, optional
        By source, events that move the watermark, as for `replay_steps`: then a micro-batch is in order of event time
        within, too. By default they are looked for among the events themselves.
    """
    # The batch's own choice among copies: which came first by Kafka, which need not be the first by event time.
    used = {source.name: distinct_in_batch(_used(marked[source.name]), source) for source in job.sources}
    bounds = _bounds(job, used, parts)
    ordered = {
        source.name: used[source.name].withColumn("_micro_batch", _part_of(_moment(source.event_time), bounds))
        for source in job.sources
    }
    delay_ms = bounds[-1] - bounds[0] + _DAY_MS
    delays = {s.name: None if s.lateness_ms is None else delay_ms for s in job.sources}
    tell = _telling(say, "in order of event time", parts)
    again = new_replay(spark, cfg, job, f"{folder}/in-order", delays, tell, little=little)
    flush = None
    if waits(job):
        flush = flush_rows(job, ordered if pushing is None else pushing, parts + 1, passages, delay_ms)
    stage(again, _with(job, ordered, flush), by_time=pushing is not None)
    play(again, [Segment(tuple(range(parts if flush is None else parts + 2)), flush is not None, static)])
    rows = emitted(spark, again)
    if flush is not None:
        rows = _without_sentinels(rows, parts + 1, _edge_ms(flush))
    return _as_table(job, rows)


def parts_in_order(micro_batches: int, flow: Dataflow) -> int:
    """In how many micro-batches events are replayed in order of event time.

    Where an operator may look at one micro-batch at a time: as many as were recorded with data, two at least, so that
    this is not hidden by there being one. Else `_ORDERED_PARTS` at most: with nothing late and nothing out of order,
    their number does not matter to Spark's own operators.
    """
    parts = max(2, micro_batches)
    return parts if flow.opaque else min(parts, _ORDERED_PARTS)


def _telling(say: Say, how: str, count: int) -> Callable[[int], None]:
    """Say which micro-batch of how many is run again; those beyond them let out what still waits."""

    def tell(number: int) -> None:
        place = f"micro-batch {number + 1} of {count}" if number < count else "what still waits"
        say(f"replaying {how}: {place}")

    return tell


def _needs_each(
    job: Job,
    used: dict[str, DataFrame],
    record: list[Recorded],
    parts: list[Segment],
    passages: Mapping[str, Passage],
) -> bool:
    """Whether only micro-batches run one by one can show the recorded watermarks.

    False where those are not what Spark's rule gives for the events that move the watermark: a function with a
    watermark of its own, or a false record. The replay then shows whether it comes to the same.
    """
    # A start without files makes no micro-batch, so that one without data needs one with data before it.
    starts = [part.data[0] for part in parts if part.data]
    lacks_data = len(starts) < len(parts)
    if not lacks_data and sum(source.lateness_ms is not None for source in job.sources) < 2:
        return False  # a start forgets nothing that counts: the query's watermark is its one source's
    reached = reached_by(job, used, passages)
    if first_impossible(job, record, reached) is not None:
        return False
    return lacks_data or first_that_differs(job, record, reached, starts) is not None


def waits(job: Job) -> bool:
    """Whether rows can wait in the stream's state for the watermark."""
    return job.emit == "final" and any(source.lateness_ms is not None for source in job.sources)


@dataclass(frozen=True)
class Flush:
    """Copies of the newest events, moved far ahead in time: they push the watermark over everything else."""

    rows: DataFrame
    at_ms: int


def flush_rows(
    job: Job,
    events: dict[str, DataFrame],
    number: int,
    passages: Mapping[str, Passage] = MappingProxyType({}),
    delay_ms: int = 0,
) -> dict[str, Flush]:
    """Events for a last micro-batch, by source. Copies of real ones, so that the function's filters let them pass.

    They are of the last micro-batch with events that move the watermark, as far as that can be told (``passages``),
    and lie further ahead than ``delay_ms``, by which the replay's watermark stays behind.
    """
    moving = {name: passages.get(name, EVERY).moving(frame) for name, frame in events.items()}
    moments = {source.name: _moment(source.event_time) for source in job.sources}
    found = {
        name: frame.agg(F.max(moments[name]), F.max("_micro_batch")).collect()[0] for name, frame in moving.items()
    }
    newest = max((row[0] or 0 for row in found.values()), default=0)
    span_ms = max((job.window_ms or 0, delay_ms, *(source.lateness_ms or 0 for source in job.sources)))
    at_ms = newest + span_ms + _FLUSH_AHEAD_MS
    made = {}
    for source in job.sources:
        if source.name not in moving:
            continue
        copies = moving[source.name].filter(F.col("_micro_batch") == F.lit(found[source.name][1]))
        ahead = {source.event_time: F.timestamp_millis(F.lit(at_ms)), "_micro_batch": F.lit(number).cast("bigint")}
        made[source.name] = Flush(copies.withColumns(ahead), at_ms)
    return made


def _with(job: Job, events: dict[str, DataFrame], flush: dict[str, Flush] | None) -> dict[str, DataFrame]:
    """The events, as the function sees them, with the copies that push the watermark."""
    made = {}
    for source in job.sources:
        columns = [F.col(quoted(name)) for name in (*seen_names(source), "_micro_batch")]
        made[source.name] = events[source.name].select(*columns)
        if flush and source.name in flush:
            made[source.name] = made[source.name].unionByName(flush[source.name].rows.select(*columns))
    return made


def _edge_ms(flush: dict[str, Flush]) -> int:
    """Times from here on can only come from the copies."""
    return next(iter(flush.values())).at_ms - _FLUSH_AHEAD_MS // 2


def _used(marked: DataFrame) -> DataFrame:
    return marked.filter(F.col(USED) & F.col("_micro_batch").isNotNull())


def _moment(event_time: str) -> Column:
    return F.unix_millis(F.col(quoted(event_time)))


def _bounds(job: Job, events: dict[str, DataFrame], parts: int) -> list[int]:
    """Event times (epoch ms) that cut the events of all sources into parts, the least and the most included."""
    shares = [index / parts for index in range(parts + 1)]
    frames = [events[source.name].select(_moment(source.event_time).alias("at")) for source in job.sources]
    together = frames[0]
    for frame in frames[1:]:
        together = together.unionByName(frame)
    found = together.agg(F.percentile_approx("at", shares, 100_000)).collect()[0][0]
    return [int(value) for value in found]


def _part_of(moment: Column, bounds: list[int]) -> Column:
    inner = F.array(*[F.lit(bound) for bound in bounds[1:-1]]) if len(bounds) > 2 else F.array().cast("array<bigint>")
    return F.size(F.filter(inner, lambda bound: bound < moment)).cast("bigint")


def _flushing(number: int, static: Pins) -> Segment:
    """An empty micro-batch, in which comes out what the recording left, and then one of copies alone."""
    return Segment((number, number + 1), True, static)


def _without_sentinels(rows: DataFrame, number: int, edge_ms: int) -> DataFrame:
    """Without what is made of copies: the rows of their own micro-batch, whose watermark is that of the empty one."""
    rows = rows.filter(F.col(NUMBER) != number)
    times = [field.name for field in rows.schema if isinstance(field.dataType, TimestampType)]
    kept = rows
    for name in times:
        kept = kept.filter(F.col(quoted(name)).isNull() | (F.unix_millis(F.col(quoted(name))) < edge_ms))
    return kept


def _as_table(job: Job, rows: DataFrame) -> DataFrame:
    """What the sink makes of the rows: all of them, or the newest per key where the job emits updates."""
    if job.emit != "updates":
        return rows.drop(NUMBER)
    newest = Window.partitionBy(*[F.col(quoted(key)) for key in job.keys]).orderBy(F.col(NUMBER).desc())
    kept = rows.withColumn("_rank", F.row_number().over(newest)).filter(F.col("_rank") == 1)
    return without_deleted(job, kept.drop("_rank", NUMBER))
