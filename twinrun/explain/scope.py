"""What of a recording differing rows need: their keys' events, where those can be touched by no others.

By a carried key (`twinrun.job.carried`) no event meets one of another value, but for the watermark. So three things are
enough to emit the rows of some values again:

* **Their events**, and of those only what lies between two points at which their state was provably empty.
* **The micro-batches that read them**, and before each the one that it drops by. A row of micro-batches that read none
  of them becomes one: nothing comes in, and what goes out by its last watermark is what went out by all of them.
* **The events that moved the watermark** meanwhile, whosoever's they are: the newest of each such row. They belong to
  other values, or to times that the others cannot meet, so they change nothing else. Spark works the watermarks out
  from them; where one is not the recorded one, nothing is proven.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from twinrun.comparator.digest import sent
from twinrun.events.exact import quoted
from twinrun.events.source import Source
from twinrun.explain.replay import Steps
from twinrun.explain.used import USED, seen_names
from twinrun.job.carried import Carried
from twinrun.job.dataflow import Dataflow
from twinrun.job.job import Job
from twinrun.job.passing import Passage

_READ_LAST = 2**62
"""Stands for the micro-batch of an event that the stream has not read: after all others, or, with -1, before them."""


@dataclass(frozen=True)
class Scope:
    """Values of carried keys.

    Attributes
    ----------
    columns : tuple of str
        The carried columns.
    in_result : bool
        Whether they are key columns of the result.
    fields : dict
        By source, the fields that they are, in the same order.
    values : DataFrame
        ``_key_0``, .. of each combination once; materialised.
    """

    columns: tuple[str, ...]
    in_result: bool
    fields: Mapping[str, tuple[str, ...]]
    values: DataFrame

    def of_events(self, events: DataFrame, source: str) -> DataFrame:
        """The events with one of the values. Lazy; one small Spark job."""
        return events.join(sent(self.values), self._has([F.col(quoted(f)) for f in self.fields[source]]), "left_semi")

    def of_rows(self, rows: DataFrame) -> DataFrame:
        """The result rows with one of the values, which must be in the result. Lazy; one small Spark job."""
        return rows.join(sent(self.values), self._has([F.col(quoted(c)) for c in self.columns]), "left_semi")

    def named(self, source: str) -> list[Column]:
        """The values of an event as ``_key_0``, .."""
        return [F.col(quoted(f)).alias(f"_key_{place}") for place, f in enumerate(self.fields[source])]

    def _has(self, columns: list[Column]) -> Column:
        return _same(columns, [F.col(f"_key_{place}") for place in range(len(columns))])


def scope_of(found: Carried, rows: DataFrame, events: Mapping[str, DataFrame]) -> Scope:
    """The values of differing rows. One Spark job; one more, over a source, where they are no keys of the result.

    Parameters
    ----------
    rows : DataFrame
        With ``key``.
    events : mapping of str to DataFrame
        By source, all events.
    """
    columns = tuple(found.columns)
    sources = next(iter(found.columns.values()))
    fields = {name: tuple(found.columns[column][name] for column in columns) for name in sources}
    if found.through is None:
        values = rows.select(*[F.col("key")[column].alias(f"_key_{place}") for place, column in enumerate(columns)])
    else:
        source, keys = found.through
        asked = rows.select(*[F.col("key")[key].alias(f"_of_{place}") for place, key in enumerate(keys)])
        its = [F.col(quoted(name)) for name in keys.values()]
        same = _same(its, [F.col(f"_of_{place}") for place in range(len(keys))])
        theirs = events[source].join(sent(asked.distinct().localCheckpoint()), same, "left_semi")
        values = theirs.select(*[F.col(quoted(f)).alias(f"_key_{place}") for place, f in enumerate(fields[source])])
    return Scope(columns, found.through is None, fields, values.distinct().localCheckpoint())


def kept_us(job: Job, flow: Dataflow) -> int | None:
    """How long after its own time (µs) an event can count: for its window or session. None where that is not bounded.

    Known for one aggregation by windows or sessions under a watermark, whose start is a key of the result.
    """
    if flow.operators != ("Aggregate",) or job.window_column not in job.keys:
        return None
    if any(source.distinct for source in job.sources):
        return None
    spans = {
        rule.gap_us if rule.kind == "session" else rule.window_us if rule.kind == "window" else None
        for rule in flow.rules.values()
    }
    return None if None in spans or not spans else max(span for span in spans if span is not None)


def only_their_time(
    job: Job, marked: dict[str, DataFrame], scope: Scope, rows: DataFrame, span_us: int
) -> dict[str, DataFrame]:
    """Of the events of a scope those that the rows can depend on, in either mode. Two small Spark jobs; then lazy.

    The events of a value are cut between two micro-batches where both hold: by the watermark that the later one drops
    by, all that the earlier events belong to had ended, so that no state was left; and all of it ends before the first
    later event, so that the batch does not join them either. What lies between two cuts depends on nothing else.

    Parameters
    ----------
    marked : dict of str to DataFrame
        By source, the events of the scope, with ``_micro_batch`` and ``_late_ms``.
    rows : DataFrame
        Differing rows with ``key``, whose windows and sessions start at its ``window_column``.
    span_us : int
        See `kept_us`.
    """
    keys = [f"_key_{place}" for place in range(len(scope.columns))]
    parts = reduce(DataFrame.unionByName, [_spans_of(marked[s.name], s, scope) for s in job.sources])
    read = parts.groupBy(*keys, "_read").agg(
        F.min("_from").alias("_from"), F.max("_to").alias("_to"), F.max("_late_us").alias("_late_us")
    )
    in_order = Window.partitionBy(*keys).orderBy("_read")
    before = F.max("_to").over(in_order.rowsBetween(Window.unboundedPreceding, -1)) + F.lit(span_us)
    after = F.min("_from").over(in_order.rowsBetween(0, Window.unboundedFollowing))
    # An event that the stream did not read meets no state.
    emptied = F.col("_late_us").isNull() | (before <= F.col("_late_us"))
    cuts = read.withColumn("_cut", (F.coalesce(emptied & (before < after), F.lit(False))).cast("bigint"))
    numbered = cuts.withColumn("_part", F.sum("_cut").over(in_order))
    between = numbered.groupBy(*keys, "_part").agg(
        F.min("_read").alias("_first"),
        F.max("_read").alias("_last"),
        (F.min("_from") - F.lit(span_us)).alias("_from"),
        (F.max("_to") + F.lit(span_us)).alias("_to"),
    )
    starts = rows.select(
        *[F.col("key")[column].alias(f"_of_{place}") for place, column in enumerate(scope.columns)],
        F.unix_micros(F.col("key")[job.window_column].cast("timestamp")).alias("_start"),
    ).distinct()
    its = _same([F.col(key) for key in keys], [F.col(f"_of_{place}") for place in range(len(keys))])
    near = F.coalesce(F.col("_start").between(F.col("_from"), F.col("_to")), F.lit(True))
    needed = between.join(sent(starts.localCheckpoint()), its & near, "left_semi")
    needed = needed.select(*keys, "_first", "_last").localCheckpoint()
    return {
        s.name: marked[s.name].join(
            sent(needed),
            _same(scope.named(s.name), [F.col(key) for key in keys]) & _read().between(F.col("_first"), F.col("_last")),
            "left_semi",
        )
        for s in job.sources
    }


def replayed_events(
    job: Job,
    flow: Dataflow,
    narrowed: Mapping[str, DataFrame],
    by_step: Mapping[str, DataFrame],
    steps: Steps,
) -> tuple[dict[str, DataFrame], dict[str, DataFrame]]:
    """By source what the steps read: the events of the scope, and those that moved the watermark. A job per source.

    ``_micro_batch`` is the place of the step. The second are given by themselves too; materialised.

    Parameters
    ----------
    narrowed : mapping of str to DataFrame
        By source, the marked events of the scope.
    by_step : mapping of str to DataFrame
        By source under a watermark, all events, with the place of their step as ``_micro_batch``.
    """
    both, moving = {}, {}
    for source in job.sources:
        columns = [F.col(quoted(name)) for name in (*seen_names(source), "_micro_batch")]
        mine = placed(used_of(narrowed[source.name]), steps).select(*columns)
        if source.lateness_ms is None:
            both[source.name] = mine
            continue
        movers = _movers(by_step[source.name], source, flow.passage(source.name))
        moving[source.name] = movers.select(*columns).localCheckpoint()
        other = moving[source.name].join(mine, ["_partition", "_offset"], "left_anti")
        both[source.name] = mine.unionByName(other.select(*columns))
    return both, moving


def read_by(job: Job, narrowed: Mapping[str, DataFrame]) -> DataFrame:
    """The micro-batches that read events of the scope (``micro_batch``), each with the oldest of them. Lazy.

    ``from_ms``: its event time in whole milliseconds, at or before it.
    """
    parts = [
        used_of(narrowed[s.name]).select("_micro_batch", F.unix_millis(F.col(quoted(s.event_time))).alias("_at"))
        for s in job.sources
    ]
    together = reduce(DataFrame.unionByName, parts)
    return together.groupBy(F.col("_micro_batch").alias("micro_batch")).agg(F.min("_at").alias("from_ms"))


def _movers(events: DataFrame, source: Source, passage: Passage) -> DataFrame:
    """The newest event of each step that moves the watermark."""
    moving = passage.moving(used_of(events))
    row = F.struct(*[F.col(quoted(name)) for name in moving.columns])
    order = F.struct(F.col(quoted(source.event_time)), F.col("_partition"), F.col("_offset"))
    return moving.groupBy("_micro_batch").agg(F.max_by(row, order).alias("_row")).select("_row.*")


def placed(events: DataFrame, steps: Steps) -> DataFrame:
    """The events with the place of their step as ``_micro_batch``."""
    places = steps.places.select(F.col("micro_batch").alias("_number"), F.col("place").alias("_place"))
    joined = events.join(sent(places), F.col("_micro_batch") == F.col("_number"))
    return joined.withColumn("_micro_batch", F.col("_place")).drop("_number", "_place")


def used_of(marked: DataFrame) -> DataFrame:
    """The events that the stream used, of marked ones. Lazy."""
    return marked.filter(F.col(USED) & F.col("_micro_batch").isNotNull())


def _spans_of(marked: DataFrame, source: Source, scope: Scope) -> DataFrame:
    """By value and micro-batch, between which event times (µs) its events lie."""
    moment = F.unix_micros(F.col(quoted(source.event_time)))
    read = marked.select(*scope.named(source.name), _read().alias("_read"), moment.alias("_at"), "_late_ms")
    return read.groupBy(*[f"_key_{place}" for place in range(len(scope.columns))], "_read").agg(
        F.min("_at").alias("_from"),
        F.max("_at").alias("_to"),
        (F.max("_late_ms") * F.lit(1000)).alias("_late_us"),
    )


def _read() -> Column:
    unread = F.when(F.col("_cause") == "before_start", F.lit(-1)).otherwise(F.lit(_READ_LAST))
    return F.coalesce(F.col("_micro_batch"), unread.cast("bigint"))


def _same(left: list[Column], right: list[Column]) -> Column:
    return reduce(lambda one, other: one & other, [a.eqNullSafe(b) for a, b in zip(left, right, strict=True)])


def of_one_version(steps: Steps, static: dict[str, int]) -> Steps:
    """The same steps as if the static tables had had one version throughout."""
    return replace(steps, each=tuple(replace(step, static=static) for step in steps.each))
