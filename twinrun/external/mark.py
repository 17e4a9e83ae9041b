"""Mark the batch's events by what is declared: did the other engine use them, and which does its rule drop?"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from twinrun.events.exact import quoted
from twinrun.events.source import Source
from twinrun.explain.closed_form import NOTHING_LATE
from twinrun.explain.used import USED, is_dropped
from twinrun.external.rules import RULES, EngineRule
from twinrun.job.passing import EVERY, Passage
from twinrun.results.cut import StreamCut
from twinrun.tables.checkpoint import Offsets, at_or_after, before

LIFE = "_life"
"""How often the clock of an event's partition had begun anew before the event."""
CLOCK_END = "_clock_end_ms"
"""Where the event's clock stands at the end of what was read in its life, as `EngineRule.drop_ms` has it."""
_COORDINATES = ["_topic", "_partition", "_offset"]
_BIN_OFFSETS = 100_000


@dataclass(frozen=True)
class Rules:
    """What marks go by.

    Attributes
    ----------
    lateness_ms : int or None
        None: no event is called late.
    refuse : bool
        Requeued records were not used.
    rule : EngineRule
        By which events are late.
    keys : tuple of str
        Fields of the events that make up the key of a clock per key.
    restarts : tuple of dict
        By restart: partition to the offset at which the clock begins anew.
    passage : Passage
        Which events reach the job's window.
    """

    lateness_ms: int | None = None
    refuse: bool = False
    rule: EngineRule = RULES["partition-order"]
    keys: tuple[str, ...] = ()
    restarts: tuple[Offsets, ...] = ()
    passage: Passage = EVERY


def mark_declared(
    events: DataFrame, requeued: DataFrame | None, source: Source, cut: StreamCut, rules: Rules
) -> DataFrame:
    """Add the columns that `twinrun.explain` reads from events; lazy.

    ``_cause``: before_start, beyond_cut, quarantined or null; `USED`: the engine read the event, and its rule did not
    drop the whole of it; ``_late_ms``: the clock of the rule when the event came, epoch ms, to be held against what
    `EngineRule.spark_rule` says; ``_micro_batch`` is -1: none is known. With a rule `LIFE` and `CLOCK_END` besides.
    """
    cause = F.when(~at_or_after(cut.start[source.name]), F.lit("before_start")).when(
        ~before(cut.end[source.name]), F.lit("beyond_cut")
    )
    read = events
    if rules.refuse and requeued is not None:
        later = requeued.select(*_COORDINATES).distinct().withColumn("_requeued", F.lit(True))
        read = events.join(later, _COORDINATES, "left")
        cause = cause.when(F.coalesce("_requeued", F.lit(False)), F.lit("quarantined"))
    marked = read.withColumn("_cause", cause).withColumn(USED, F.col("_cause").isNull())
    if rules.lateness_ms is None:
        marked = marked.withColumn("_late_ms", F.lit(NOTHING_LATE).cast("bigint"))
    else:
        marked = _with_clock(marked, source, rules, rules.lateness_ms)
    return marked.withColumns({"_micro_batch": F.lit(-1).cast("bigint"), "_copy": F.lit(False)}).drop("_requeued")


def life_of(restarts: tuple[Offsets, ...]) -> Column:
    """How many of the restarts lie at or before an event's offset in its partition."""
    count: Column = F.lit(0)
    for restart in restarts:
        begun = F.lit(False)
        for partition, offset in restart.items():
            begun = begun | ((F.col("_partition") == partition) & (F.col("_offset") >= offset))
        count = count + begun.cast("int")
    return count


def _with_clock(marked: DataFrame, source: Source, rules: Rules, lateness_ms: int) -> DataFrame:
    """Running newest event time per clock, over the events that move it; in bins, so that no task reads one whole.

    A clock for all partitions needs the order between them, which no log has: it is one per partition here, which is
    the same where a topic has one (`EngineRule.problem` refuses others).
    """
    rule = rules.rule
    keys = {f"_key_{index}": F.col(quoted(name)) for index, name in enumerate(rules.keys)}
    binned = _moving(marked, rules).withColumns(
        {
            **keys,
            LIFE: life_of(rules.restarts),
            "_ms": F.when(F.col("_moves"), F.unix_millis(F.col(quoted(source.event_time)))),
            "_bin": F.floor(F.col("_offset") / _BIN_OFFSETS),
        }
    )
    clock = ["_partition", LIFE, *keys]
    newest = binned.groupBy(*clock, "_bin").agg(F.max("_ms").alias("_in_bin"))
    earlier = Window.partitionBy(*clock).orderBy("_bin").rowsBetween(Window.unboundedPreceding, -1)
    newest = newest.select(
        *clock,
        "_bin",
        F.max("_in_bin").over(earlier).alias("_before_bin"),
        F.max("_in_bin").over(Window.partitionBy(*clock)).alias("_newest"),
    )
    within = Window.partitionBy(*clock, "_bin").orderBy("_offset").rowsBetween(Window.unboundedPreceding, -1)
    seen = F.greatest(F.col("_before_bin"), F.max("_ms").over(within))
    # Partitioned by the very columns of the window below: this join moves nothing that it would not move.
    newest = newest.withColumnsRenamed({name: f"_n{name}" for name in (*clock, "_bin")})
    same = F.lit(True)
    for name in (*clock, "_bin"):
        same = same & F.col(name).eqNullSafe(F.col(f"_n{name}"))
    joined = binned.join(newest, same, "left")
    found = joined.withColumns(
        {
            "_late_ms": F.coalesce(rule.drop_ms(seen, lateness_ms), F.lit(NOTHING_LATE)),
            CLOCK_END: F.coalesce(rule.drop_ms(F.col("_newest"), lateness_ms), F.lit(NOTHING_LATE)),
        }
    )
    if rule.by_event:
        late = is_dropped(F.unix_micros(F.col(quoted(source.event_time))))
        found = found.withColumn(USED, F.col(USED) & ~F.coalesce(late, F.lit(False)))
    gone = ["_ms", "_bin", "_before_bin", "_newest", "_moves", *keys, *(f"_n{name}" for name in (*clock, "_bin"))]
    return found.drop(*gone)


def _moving(marked: DataFrame, rules: Rules) -> DataFrame:
    """The events with ``_moves``: whether they move the clock. Lazy."""
    if rules.rule.all_move or rules.passage.all_reach:
        return marked.withColumn("_moves", F.col(USED))
    reaching = rules.passage.reaching(marked).select(*_COORDINATES).distinct().withColumn("_reaches", F.lit(True))
    joined = marked.join(reaching, _COORDINATES, "left")
    return joined.withColumn("_moves", F.col(USED) & F.coalesce("_reaches", F.lit(False))).drop("_reaches")
