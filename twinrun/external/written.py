"""Which rows an engine has written by its rule: windows that it still holds, and windows written again.

A window is written when the clock that its events are judged by reaches its end. A clock in memory begins anew with
each restart: an event that would have been late counts again, and the window, updated, is written once more when the
new clock gets there: with all that was counted until then, or, where the store had let go of the window by its
retention, with what was counted since. So by life of a clock (from one restart to the next) the job's function over the
events that the store still had gives each row that must stand in the result, and no other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from operator import and_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from twinrun.events.exact import quoted
from twinrun.explain.closed_form import only_needed
from twinrun.explain.differing import KEY_ID, Sides, differing_keys, rows_at
from twinrun.explain.evidence import Evidence, causes_of, events_of
from twinrun.explain.used import USED, is_dropped
from twinrun.external.causes import Hypothesis
from twinrun.external.mark import CLOCK_END, LIFE
from twinrun.job.job import Job
from twinrun.job.passing import EVERY, Passage
from twinrun.results.cut import window_starts

_LIVES, _WAITS = "_lives", "_waits"
_SINCE = "_since"
_SEGMENT_MS = 60_000
"""Least length of a segment of Kafka Streams' window store, which drops whole segments."""


@dataclass(frozen=True)
class Clocks:
    """What is known of when windows are written.

    ``restarts``: how many are declared; ``ends``: with restarts, what `clock_ends` gives;
    ``appended``: every row that is written stays; ``passage``: which events reach the window.
    """

    appended: bool
    restarts: int = 0
    ends: DataFrame | None = None
    passage: Passage = EVERY


def clock_ends(marked: DataFrame, job: Job, lateness_ms: int, retention_ms: int | None) -> DataFrame:
    """Where the clock of each partition stood at the end of each of its lives, and what its store had then. Lazy.

    ``_partition``, `LIFE`, `CLOCK_END`, and ``_floor``: windows that start before it (epoch ms) had been dropped from
    the store: it has segments of half the retention (at least a minute), and drops those that end more than the
    retention before the newest window. The newest event of a life is never late: its window is the newest.
    """
    window_ms = job.window_ms or 0
    kept_ms = window_ms + lateness_ms if retention_ms is None else retention_ms
    segment_ms, step_ms = max(kept_ms // 2, _SEGMENT_MS), job.slide_ms or window_ms
    newest = F.col(CLOCK_END) + F.lit(lateness_ms)
    oldest = newest - F.pmod(newest, F.lit(step_ms)) - F.lit(kept_ms)
    ends = marked.groupBy("_partition", LIFE).agg(F.max(CLOCK_END).alias(CLOCK_END))
    return ends.withColumn("_floor", oldest - F.pmod(oldest, F.lit(segment_ms)))


def writings(hypothesis: Hypothesis, marked: DataFrame, clocks: Clocks) -> DataFrame | None:
    """By key and window of the result, in which lives it is written, and whether something waits. Lazy.

    Returns
    -------
    DataFrame or None
        ``_by_KEY`` of each key, ``_place`` (start of the window), ``_lives`` (sorted; empty: never written), ``_since``
        (by life, the first life whose events the store still had) and ``_waits`` (an event was counted, and the window
        has not been written since). None where the keys of the result
        are no fields of the events. Windows with events of a key in several partitions are left out: each has a clock.
    """
    job, evidence = hypothesis.job, hypothesis.inputs.evidence
    if len(evidence) != 1 or events_of(job, evidence) != "row":
        return None
    keys = [name for name in evidence[0].on if name != "_place"]
    used = clocks.passage.reaching(marked).filter(USED)
    pairs = used.withColumn("_start_ms", F.explode(window_starts(job, job.sources[0].event_time)))
    end_ms = F.col("_start_ms") + F.lit(job.window_ms)
    kept = pairs.filter(~is_dropped(end_ms * F.lit(1000))).select(
        *[F.col(quoted(key)).alias(f"_by_{key}") for key in keys],
        F.timestamp_millis("_start_ms").alias("_place"),
        end_ms.alias("_end_ms"),
        "_partition",
        LIFE,
        CLOCK_END,
    )
    by = [*[quoted(f"_by_{key}") for key in keys], "_place"]
    counted = kept.groupBy(*by, "_end_ms", "_partition", LIFE).agg(F.max(CLOCK_END).alias(CLOCK_END))
    if clocks.ends is None:
        closed = counted.withColumn("_in", F.when(F.col(CLOCK_END) >= F.col("_end_ms"), F.col(LIFE)))
    else:
        ends = clocks.ends.select("_partition", LIFE, CLOCK_END).toDF("_p", "_l", "_e")
        since = (F.col("_partition") == F.col("_p")) & (F.col("_l") >= F.col(LIFE))
        joined = counted.join(F.broadcast(ends), since & (F.col("_e") >= F.col("_end_ms")), "left")
        closed = joined.groupBy(*by, "_partition", LIFE).agg(F.min("_l").alias("_in"))
    found = closed.groupBy(*by).agg(
        F.array_sort(F.collect_set("_in")).alias(_LIVES),
        F.max(F.col("_in").isNull()).alias(_WAITS),
        F.count_distinct("_partition").alias("_partitions"),
        F.first("_partition").alias("_partition"),
    )
    return _with_since(found.filter(F.col("_partitions") == 1).drop("_partitions"), clocks).drop("_partition")


def _with_since(found: DataFrame, clocks: Clocks) -> DataFrame:
    """Add ``_since``: life by life, behind the last of the earlier ones at whose end the window had been dropped."""
    if clocks.ends is None:
        return found.withColumn(_SINCE, F.transform(_LIVES, lambda _: F.lit(0)))
    floors = clocks.ends.groupBy("_partition").agg(F.collect_list(F.struct(LIFE, "_floor")).alias("_floors"))
    joined = found.join(F.broadcast(floors), "_partition", "left")
    start = F.unix_millis("_place")

    def since(life: Column) -> Column:
        gone = F.filter("_floors", lambda each: (each[LIFE] < life) & (start < each["_floor"]))
        return F.coalesce(F.array_max(F.transform(gone, lambda each: each[LIFE])) + 1, F.lit(0))

    return joined.withColumn(_SINCE, F.transform(_LIVES, since)).drop("_floors")


def written_unexpectedly(hypothesis: Hypothesis, written: DataFrame, stream: DataFrame) -> int:
    """Rows of the result in windows that, by the rule, have never been written. One Spark job.

    Any such row means that windows come out by more than the rule says, so that no missing one is known to wait.
    """
    never = written.filter(F.size(_LIVES) == 0)
    return stream.join(never, _of_result(hypothesis, hypothesis.inputs.evidence[0]), "left_semi").count()


def explain_written(
    rows: DataFrame, hypothesis: Hypothesis, written: DataFrame, stream: DataFrame, clocks: Clocks, *, waiting: bool
) -> DataFrame | None:
    """Rows that are explained by when their window was written, with ``verdict`` and ``causes``; None without any.

    ``emitted_again``: the result holds exactly the rows that the function gives over the events that the store had in
    each life in which the window was written, one for each; of the latest record per key the last one, where the store
    had dropped what was counted before. ``pending``: it holds those that were written, and an event has been counted
    since. About one Spark job where no window waits or was written twice, else three or four.

    Parameters
    ----------
    rows : DataFrame
        Differing rows with `KEY_ID` and ``place``.
    stream : DataFrame
        The whole external result, copies included.
    waiting : bool
        Whether a window that was never written may be called pending.
    """
    job, inputs, evidence = hypothesis.job, hypothesis.inputs, hypothesis.inputs.evidence[0]
    waits = F.col(_WAITS) & (F.lit(waiting) | (F.size(_LIVES) > 0))
    twice = F.size(_LIVES) > 1
    again = twice if clocks.appended else twice & (F.element_at(_SINCE, -1) > 0)
    placed = rows.join(written, _of_difference(evidence)).filter(waits | again).drop(*_by(evidence), "_place")
    placed = placed.localCheckpoint()
    if not placed.limit(1).count():
        return None
    keys = placed.select(KEY_ID).distinct().localCheckpoint()
    name = job.sources[0].name
    parts = []
    for life, since in _spans(written, clocks):
        upto = inputs.marked[name].filter(F.col(LIFE).between(since, life))
        at = F.array_position(_LIVES, F.lit(life)).cast("int")
        mine = written.filter((at > 0) & (F.get(_SINCE, at - 1) == F.lit(since)))
        mine = mine.withColumn("_last", F.array_max(_LIVES) == F.lit(life))
        given = hypothesis.rows({name: upto})
        parts.append(
            given.join(mine, _of_result(hypothesis, evidence)).select(*[quoted(c) for c in given.columns], "_last")
        )
    emitted = rows_at(job, reduce(DataFrame.unionByName, parts), keys).localCheckpoint()
    must_hold = (emitted if clocks.appended else emitted.filter("_last")).drop("_last")
    counted = rows_at(job, hypothesis.rows(inputs.marked), keys).localCheckpoint()
    batch = rows_at(job, inputs.sides.batch, keys)
    flags = [
        differing_keys(job, must_hold, rows_at(job, stream, keys), "_not_written"),
        differing_keys(job, inputs.whole, inputs.sides.batch, "_batch_wrong", inputs.ranges),
        differing_keys(job, counted, batch, "_lost"),
    ]
    judged = causes_of(placed.drop("causes"), [evidence])
    for flag in flags:
        judged = judged.join(flag, KEY_ID, "left")
    none = F.create_map().cast("map<string,bigint>")
    found = F.map_concat(
        F.when(F.col("_lost").isNotNull(), F.col("causes")).otherwise(none),
        F.when(again, _one("emitted_again")).otherwise(none),
        F.when(waits, _one("pending")).otherwise(none),
    )
    right = F.col("_not_written").isNull() & F.col("_batch_wrong").isNull()
    named = F.col("_lost").isNull() | (F.size("causes") > 0)  # what else is lost has its events, or nothing is proven
    proven = judged.filter(right & named).withColumn("_found", found)
    kept = [F.col(quoted(column)) for column in rows.columns if column != "causes"]
    done = proven.select(*kept, F.lit("explained").alias("verdict"), F.col("_found").alias("causes")).localCheckpoint()
    # Held against what the engine had counted, not against its table, which has several rows of the key.
    as_counted = replace(inputs, sides=Sides(inputs.sides.batch, counted))
    return only_needed(job, done, as_counted, hypothesis.rows)


def _spans(written: DataFrame, clocks: Clocks) -> list[tuple[int, int]]:
    """Lives in which windows are written, each with the first life that a store then had. At most one Spark job.

    A few numbers, not rows: no more than the restarts that may be declared, squared.
    """
    if not clocks.restarts:
        return [(0, 0)]
    spans = written.select(F.explode(F.arrays_zip(_LIVES, _SINCE)).alias("_span")).select("_span.*").distinct()
    return sorted((row[_LIVES], row[_SINCE]) for row in spans.collect())


def _one(cause: str) -> Column:
    return F.create_map(F.lit(cause), F.lit(0).cast("bigint"))


def _by(evidence: Evidence) -> list[str]:
    return [f"_by_{name}" for name in evidence.on if name != "_place"]


def _of_difference(evidence: Evidence) -> Column:
    """Condition: the differing row is of this key and window."""
    return _same(evidence, F.col("place"), lambda name: F.col("key")[name])


def _of_result(hypothesis: Hypothesis, evidence: Evidence) -> Column:
    """Condition: the row of a result is of this key and window."""
    place = F.col(quoted(hypothesis.job.window_column)).cast("timestamp")
    return _same(evidence, place, lambda name: F.col(quoted(name)))


def _same(evidence: Evidence, place: Column, cell: Callable[[str], Column]) -> Column:
    keys = [name for name in evidence.on if name != "_place"]
    same = [cell(name).eqNullSafe(F.col(quoted(f"_by_{name}"))) for name in keys]
    return reduce(and_, same, place.eqNullSafe(F.col("_place")))
