"""Give each differing row its causes by what the replays gave: one condition per cause, each a recomputation."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from twinrun.explain.differing import EXACT_TIMES, KEY_ID, differing, differing_keys, key_id
from twinrun.explain.sink_changed import is_same
from twinrun.job.dataflow import Dataflow
from twinrun.job.job import Job

EARLY = ("before_start", "beyond_cut", "quarantined")
"""Causes about events that only the batch used."""


@dataclass(frozen=True)
class Worlds:
    """Versions of the result at the differing keys, each already computed.

    Attributes
    ----------
    sink, table : DataFrame
        What the stream's and the batch's tables hold.
    replayed : DataFrame
        What the stream's micro-batches emit when they run again.
    uniform : DataFrame
        As ``replayed``, with one version of the static tables throughout.
    pending : DataFrame or None
        What waits in the stream's state.
    in_order : DataFrame
        What they emit when no event is out of order or late.
    kept : DataFrame
        The function in batch over the events that the stream used and did not drop.
    used : DataFrame
        The function in batch over the events that the stream used.
    whole : DataFrame
        The function in batch over all events.
    used_static : DataFrame
        As ``used``, with the static tables of the batch.
    mode_dependent : bool
        In order, some row of the whole result is still not the batch's, and the operators are opaque: then no row's
        difference is put down to order.
    faithful : bool
        Whether a row that the replay gives, and the table lacks, is the sink's fault: not where the logic may choose
        among the rows of a micro-batch, and the table shows another choice than the replay.
    """

    sink: DataFrame
    table: DataFrame
    replayed: DataFrame
    uniform: DataFrame
    pending: DataFrame | None
    in_order: DataFrame
    kept: DataFrame
    used: DataFrame
    whole: DataFrame
    used_static: DataFrame
    mode_dependent: bool = False
    faithful: bool = True


def classify(job: Job, flow: Dataflow, rows: DataFrame, worlds: Worlds) -> DataFrame:
    """Replace ``verdict`` and ``causes`` of differing rows by what is proven. Lazy.

    Parameters
    ----------
    rows : DataFrame
        `KEY_ID`, ``kind``, ``causes`` (blamed events by cause) and ``extra`` (sessions of the stream beyond the
        batch's one; 0 for other jobs), besides whatever else they hold.
    """
    flags = [
        differing_keys(job, worlds.whole, worlds.table, "_table_wrong"),
        differing_keys(job, worlds.in_order, worlds.used, "_mode"),
        differing_keys(job, worlds.uniform, worlds.used, "_order"),
        differing_keys(job, worlds.kept, worlds.used, "_late"),
        differing_keys(job, worlds.uniform, worlds.kept, "_rest"),
        *_unless_same(job, worlds.used, worlds.used_static, "_static"),
        *_unless_same(job, worlds.replayed, worlds.uniform, "_statics"),
        differing_keys(job, worlds.used_static, worlds.whole, "_early"),
        _sink_fault(job, worlds),
    ]
    if worlds.pending is not None:
        flags.append(worlds.pending.select(key_id(job).alias(KEY_ID)).distinct().withColumn("_waits", F.lit(True)))
        flags.append(differing_keys(job, worlds.pending, worlds.kept, "_waits_other"))
    marked = rows
    for flag in flags:
        marked = marked.join(flag, KEY_ID, "left")
    absent = {"_static", "_statics", "_waits", "_waits_other"} - set(marked.columns)
    if absent:
        marked = marked.withColumns(dict.fromkeys(absent, F.lit(None).cast("boolean")))
    causes = _causes(job, flow, worlds.mode_dependent)
    sink_right = F.col("_sink").isNull()
    table_right = F.col("_table_wrong").isNull()
    # Where the watermark drops rows by no rule that is known, order is not told from lateness.
    untold = F.lit(bool(flow.unnamed)) & F.col("_order").isNotNull() & F.col("_rest").isNotNull() & sink_right
    same = is_same(rows)
    proven = table_right & ((same & sink_right) | (~same & (F.size("_causes") > 0) & ~untold))
    done = marked.withColumn("_causes", F.when(sink_right, causes).otherwise(_named(F.col("_sink"))))
    none = F.create_map().cast("map<string,bigint>")
    done = done.withColumn("_causes", F.when(same, none).otherwise(F.col("_causes")))
    verdict = F.when(proven, F.lit("explained")).otherwise(F.lit("unexplained"))
    done = done.withColumn("verdict", verdict).withColumn("causes", F.when(proven, F.col("_causes")).otherwise(none))
    return done.select(*[name for name in rows.columns if name not in ("verdict", "causes")], "verdict", "causes")


def _unless_same(job: Job, expected: DataFrame, actual: DataFrame, flag: str) -> list[DataFrame]:
    """`differing_keys` of two versions, unless they are one."""
    return [] if expected is actual else [differing_keys(job, expected, actual, flag)]


def _causes(job: Job, flow: Dataflow, mode_dependent: bool) -> Column:
    """Causes of a row whose sink holds what the logic emitted."""
    late = F.coalesce(F.col("causes")["late_dropped"], F.lit(0))
    copies = F.coalesce(F.col("causes")["duplicate_event"], F.lit(0))
    waits = F.coalesce(F.col("_waits"), F.lit(False)) & (F.col("kind") == "only_batch")
    order, mode = F.col("_order").isNotNull(), F.col("_mode").isNotNull() | F.lit(mode_dependent)
    rest = F.col("_rest").isNotNull()
    # Sliding windows drop an event from some of its windows: leaving it out as a whole goes too far.
    partly = any(rule.kind == "window" and rule.window_us != rule.slide_us for rule in flow.rules.values())
    dropped = order & ~mode & (late > 0) & (F.lit(partly) | F.col("_late").isNotNull())
    dropped = dropped & ~(waits & F.col("_waits_other").isNotNull())
    left = order & ~mode & ~waits & rest & ~(F.lit(partly) & (late > 0))
    split = F.lit(job.shape == "session")
    found = {
        "pending": (waits, F.lit(1)),
        "late_dropped": (dropped, late),
        "late_split": (left & split, F.greatest(F.col("extra"), F.lit(1))),
        "duplicate_event": (left & ~split & (copies > 0), copies),
        "arrival_order": (left & ~split & (copies == 0), F.lit(0)),
        "mode_dependent_logic": (order & mode & ~waits, F.lit(0)),
        "static_version": (F.col("_static").isNotNull() | F.col("_statics").isNotNull(), F.lit(0)),
        **{
            name: (
                F.col("_early").isNotNull() & (F.coalesce(F.col("causes")[name], F.lit(0)) > 0),
                F.coalesce(F.col("causes")[name], F.lit(0)),
            )
            for name in EARLY
        },
    }
    return _map({name: F.when(holds, count.cast("bigint")) for name, (holds, count) in found.items()})


def _sink_fault(job: Job, worlds: Worlds) -> DataFrame:
    """``_sink`` by key where the table holds other rows than the replay: a cause, or empty where none is proven.

    ``sink_missing``: a row is not there at all. ``sink_duplicate``: there is nothing but further copies of the row.
    """
    faults = differing(job, worlds.replayed, worlds.sink)
    right = worlds.replayed.select(key_id(job).alias(KEY_ID), _text(worlds.replayed).alias("_right"))
    surplus = worlds.sink.select(key_id(job).alias(KEY_ID), _text(worlds.sink).alias("_held"))
    # A copy counts as one only if the table holds no other row under the key.
    copies = surplus.groupBy(KEY_ID).agg(F.array_sort(F.collect_set("_held")).alias("_held"))
    expected = right.groupBy(KEY_ID).agg(F.array_sort(F.collect_set("_right")).alias("_right"))
    kinds = faults.groupBy(KEY_ID).agg(F.collect_set("kind").alias("_kinds"))
    both = kinds.join(copies, KEY_ID, "left").join(expected, KEY_ID, "left")
    missing = (F.col("_kinds") == F.array(F.lit("only_batch"))) & F.lit(worlds.faithful)
    doubled = (F.col("_kinds") == F.array(F.lit("duplicate_in_stream"))) & (F.col("_held") == F.col("_right"))
    cause = F.when(missing, "sink_missing").when(doubled, "sink_duplicate").otherwise("")
    return both.select(KEY_ID, cause.alias("_sink"))


def _text(rows: DataFrame) -> Column:
    return F.to_json(F.struct(*[F.col(f"`{name}`") for name in sorted(rows.columns)]), EXACT_TIMES)


def _named(cause: Column) -> Column:
    return _map({name: F.when(cause == name, F.lit(0).cast("bigint")) for name in ("sink_missing", "sink_duplicate")})


def _map(entries: dict[str, Column]) -> Column:
    pairs = F.map_from_entries(F.array(*[F.struct(F.lit(name), count) for name, count in entries.items()]))
    return F.map_filter(pairs, lambda _, count: count.isNotNull())
