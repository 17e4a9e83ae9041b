"""The proof for one window operator, stateless jobs and running totals: the function over exactly what the stream used.

A row is explained only if two recomputations hold: the function over the events that the stream used gives the stream's
row, and the function over all events gives the batch's row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from twinrun.events.exact import EXACT_TIMES
from twinrun.explain.differing import KEY_ID, Sides, differing, differing_keys, key_id
from twinrun.explain.evidence import ProofInputs, as_text, causes_of
from twinrun.explain.used import USED, stream_rows
from twinrun.job.dataflow import Dataflow
from twinrun.job.job import Job

# Several causes of one row: a cause whose events can be put back without changing the row is withdrawn.


NOTHING_LATE = -(2**52)
"""A watermark (epoch ms) before every event: by it nothing is dropped. In microseconds it is still a bigint."""
BY_OFFSET = ("before_start", "beyond_cut", "quarantined")
_LEFT_OUT = (*BY_OFFSET, "late_dropped")
_TRIED = "_by_"

Rows = Callable[[dict[str, DataFrame]], DataFrame]
"""What the stream must have emitted, from marked events by source."""


def only_needed(job: Job, judged: DataFrame, inputs: ProofInputs, rows: Rows) -> DataFrame:
    """Withdraw what does not change its row by itself; where only all causes together do, all stay.

    One Spark job where no row has a cause about events beside another; else one more, over the rows of
    ``inputs.ranges``.

    Parameters
    ----------
    judged : DataFrame
        Materialised, with `KEY_ID` and ``causes``; rows without a proof have none.
    """
    about_events = F.size(F.map_filter("causes", lambda cause, _: cause.isin(*_LEFT_OUT)))
    # One alone needs no trial: the row differs, and nothing else is different. Beside another cause it may ride along.
    several = (about_events > 0) & (F.size("causes") > 1)
    if not judged.filter(several).limit(1).count():
        return judged
    joined = judged
    for cause in _LEFT_OUT:
        restored = {name: _restored(frame, cause) for name, frame in inputs.marked.items()}
        # Keys at which the row without this cause is still the stream's lack the flag.
        flag = differing_keys(job, rows(restored), inputs.sides.stream, f"{_TRIED}{cause}", inputs.ranges)
        joined = joined.join(flag, KEY_ID, "left")
    kept = F.map_filter("causes", lambda cause, _: ~cause.isin(*_LEFT_OUT) | _flag_of(cause))
    some_left = F.size(F.map_filter(kept, lambda cause, _: cause.isin(*_LEFT_OUT))) > 0
    decided = several & (some_left | (about_events == 1))
    found = F.when(decided, kept).otherwise(F.col("causes"))
    return joined.withColumn("causes", found).select(*judged.columns).localCheckpoint()


def _flag_of(cause: Column) -> Column:
    found: Column = F.lit(False)
    for name in _LEFT_OUT:
        found = F.when(cause == name, F.coalesce(F.col(f"{_TRIED}{name}"), F.lit(False))).otherwise(found)
    return found


def _restored(marked: DataFrame, cause: str) -> DataFrame:
    """The events as if those of one cause had been used."""
    if cause == "late_dropped":
        # A rule that goes by the event itself, not by its windows, has left late ones out of what was used.
        used = F.col(USED) | F.col("_cause").isNull()
        return marked.withColumns({"_late_ms": F.lit(NOTHING_LATE).cast("bigint"), USED: used})
    back = F.coalesce(F.col("_cause") == cause, F.lit(False))
    late = F.when(~back, F.col("_late_ms")).otherwise(F.lit(NOTHING_LATE))
    return marked.withColumns({USED: F.col(USED) | back, "_late_ms": late})


# Give each differing row its causes by what the replays gave: one condition per cause, each a recomputation.


EARLY = ("before_start", "beyond_cut", "quarantined")
"""Causes about events that only the batch used."""


@dataclass(frozen=True)
class Recomputed:
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
    kept_by_window : bool
        In ``kept`` an event is left out of the windows alone from which it was dropped, and not as a whole.
    split : DataFrame or None
        For sessions: `KEY_ID` of differing rows where the stream made other sessions than ``kept`` has of the events of
        the batch's one. None for other jobs.
    used : DataFrame
        The function in batch over the events that the stream used.
    whole : DataFrame
        The function in batch over all events.
    used_static : DataFrame
        As ``used``, with the static tables of the batch.
    without : dict of str to DataFrame
        Where the batch alone used events by several of `EARLY`: by cause, the function in batch over all events but
        those of that cause.
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
    kept_by_window: bool = False
    split: DataFrame | None = None
    without: Mapping[str, DataFrame] = field(default_factory=dict)
    mode_dependent: bool = False
    faithful: bool = True


def classify(job: Job, flow: Dataflow, rows: DataFrame, recomputed: Recomputed) -> DataFrame:
    """Replace ``verdict`` and ``causes`` of differing rows by what is proven. Lazy.

    Parameters
    ----------
    rows : DataFrame
        `KEY_ID`, ``kind``, ``causes`` (blamed events by cause) and ``extra`` (sessions of the stream beyond the
        batch's one; 0 for other jobs), besides whatever else they hold.
    """
    flags = [
        differing_keys(job, recomputed.whole, recomputed.table, "_table_wrong"),
        differing_keys(job, recomputed.in_order, recomputed.used, "_mode"),
        differing_keys(job, recomputed.uniform, recomputed.used, "_order"),
        differing_keys(job, recomputed.kept, recomputed.used, "_late"),
        differing_keys(job, recomputed.uniform, recomputed.kept, "_rest"),
        *_unless_same(job, recomputed.used, recomputed.used_static, "_static"),
        *_unless_same(job, recomputed.replayed, recomputed.uniform, "_statics"),
        differing_keys(job, recomputed.used_static, recomputed.whole, "_early"),
        _sink_fault(job, recomputed),
    ]
    if recomputed.pending is not None:
        flags.append(recomputed.pending.select(key_id(job).alias(KEY_ID)).distinct().withColumn("_waits", F.lit(True)))
        flags.append(differing_keys(job, recomputed.pending, recomputed.kept, "_waits_other"))
    flags += [differing_keys(job, each, recomputed.whole, f"_by_{name}") for name, each in recomputed.without.items()]
    if recomputed.split is not None:
        flags.append(recomputed.split.withColumn("_split", F.lit(True)))
    marked = rows
    for flag in flags:
        marked = marked.join(flag, KEY_ID, "left")
    absent = {"_static", "_statics", "_waits", "_waits_other", "_split"} - set(marked.columns)
    if absent:
        marked = marked.withColumns(dict.fromkeys(absent, F.lit(None).cast("boolean")))
    causes = _causes(recomputed.mode_dependent, tuple(recomputed.without))
    sink_right = F.col("_sink").isNull()
    table_right = F.col("_table_wrong").isNull()
    # Where the watermark drops rows by no rule that is known, order is not told from lateness. Nor is it where a
    # sliding window inside the function drops an event from some of its windows: as a whole it goes too far.
    inside = not recomputed.kept_by_window and any(
        rule.kind == "window" and rule.window_us != rule.slide_us for rule in flow.rules.values()
    )
    late = F.coalesce(F.col("causes")["late_dropped"], F.lit(0)) > 0
    unclear = F.lit(bool(flow.unnamed)) | (F.lit(inside) & late)
    untold = unclear & F.col("_order").isNotNull() & F.col("_rest").isNotNull() & sink_right
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


def _causes(mode_dependent: bool, tried: Sequence[str]) -> Column:
    """Causes of a row whose sink holds what the logic emitted. ``tried``: those of `EARLY` that were left out alone."""
    late = F.coalesce(F.col("causes")["late_dropped"], F.lit(0))
    copies = F.coalesce(F.col("causes")["duplicate_event"], F.lit(0))
    # What waits in the state is told only where it is the row that the batch has of what the stream used.
    waits = F.coalesce(F.col("_waits"), F.lit(False)) & (F.col("kind") == "only_batch") & F.col("_waits_other").isNull()
    order, mode = F.col("_order").isNotNull(), F.col("_mode").isNotNull() | F.lit(mode_dependent)
    dropped = order & ~mode & (late > 0) & F.col("_late").isNotNull()
    left = order & ~mode & ~waits & F.col("_rest").isNotNull()
    split = F.coalesce(F.col("_split"), F.lit(False))
    found = {
        "pending": (waits, F.lit(1)),
        "late_dropped": (dropped, late),
        "late_split": (left & split, F.greatest(F.col("extra"), F.lit(1))),
        "duplicate_event": (left & ~split & (copies > 0), copies),
        "arrival_order": (left & ~split & (copies == 0), F.lit(0)),
        "mode_dependent_logic": (order & mode & ~waits, F.lit(0)),
        "static_version": (F.col("_static").isNotNull() | F.col("_statics").isNotNull(), F.lit(0)),
        **{name: (_early(name, tried), F.coalesce(F.col("causes")[name], F.lit(0))) for name in EARLY},
    }
    return _map({name: F.when(holds, count.cast("bigint")) for name, (holds, count) in found.items()})


def _early(name: str, tried: Sequence[str]) -> Column:
    """Whether events that only the batch used changed the row, and those of this cause by themselves, where any did."""
    changes = F.col("_early").isNotNull() & (F.coalesce(F.col("causes")[name], F.lit(0)) > 0)
    if name not in tried:
        return changes
    alone = [F.col(f"_by_{each}").isNotNull() & (F.col("causes")[each] > 0) for each in tried]
    some: Column = reduce(lambda one, other: one | other, [F.coalesce(each, F.lit(False)) for each in alone])
    return changes & (F.col(f"_by_{name}").isNotNull() | ~some)


def _sink_fault(job: Job, recomputed: Recomputed) -> DataFrame:
    """``_sink`` by key where the table holds other rows than the replay: a cause, or empty where none is proven.

    ``sink_missing``: a row is not there at all. ``sink_duplicate``: there is nothing but further copies of the row.
    """
    faults = differing(job, recomputed.replayed, recomputed.sink)
    right = recomputed.replayed.select(key_id(job).alias(KEY_ID), _text(recomputed.replayed).alias("_right"))
    surplus = recomputed.sink.select(key_id(job).alias(KEY_ID), _text(recomputed.sink).alias("_held"))
    # A copy counts as one only if the table holds no other row under the key.
    copies = surplus.groupBy(KEY_ID).agg(F.array_sort(F.collect_set("_held")).alias("_held"))
    expected = right.groupBy(KEY_ID).agg(F.array_sort(F.collect_set("_right")).alias("_right"))
    kinds = faults.groupBy(KEY_ID).agg(F.collect_set("kind").alias("_kinds"))
    both = kinds.join(copies, KEY_ID, "left").join(expected, KEY_ID, "left")
    missing = (F.col("_kinds") == F.array(F.lit("only_batch"))) & F.lit(recomputed.faithful)
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


# Rows that somebody else changed in the stream's table, proven by what stood there before.
#
# Two things must hold, and neither alone is a proof: Delta's log has a commit that is not the stream's and changed the
# row, and a recomputation (closed form or replay) gives exactly the row that stood there before it. So such a row is
# explained as it was before the commit; only then it gets the cause, besides those by which that row differs.


CAUSE = "sink_changed"
SAME = "_same"
"""Boolean column of rows that only the foreign commit made differ: before it, both tables held the same row."""


def is_same(rows: DataFrame) -> Column:
    """Whether a row differs by the foreign commit alone; false where no row was changed by one."""
    return F.coalesce(F.col(SAME), F.lit(False)) if SAME in rows.columns else F.lit(False)


def with_emitted(job: Job, keyed: DataFrame, sides: Sides, changed: DataFrame) -> DataFrame:
    """The differing rows, those that were changed as they were before: what is to be explained. Materialised.

    Parameters
    ----------
    keyed : DataFrame
        Differing rows as the tables hold them, with `KEY_ID`.
    sides : Sides
        The stream's side as it was before.
    changed : DataFrame
        Keys (`KEY_ID`) of the rows that were changed.
    """
    keys = changed.select(KEY_ID)
    batch, stream = (_at(job, frame, keys) for frame in (sides.batch, sides.stream))
    again = differing(job, batch, stream).localCheckpoint()
    alone = keyed.join(keys, KEY_ID, "left_semi").join(again.select(KEY_ID), KEY_ID, "left_anti")
    alone = alone.dropDuplicates([KEY_ID]).withColumn("kind", F.lit("same")).withColumn(SAME, F.lit(True))
    others = keyed.join(keys, KEY_ID, "left_anti")
    found = others.unionByName(again.select(*keyed.columns)).withColumn(SAME, F.lit(False))
    return found.unionByName(alone.select(*found.columns)).localCheckpoint()


def as_held(judged: DataFrame, held: DataFrame, changed: DataFrame) -> DataFrame:
    """The judged rows, those that were changed as the table holds them now, with the cause where it is proven. Lazy."""
    keys = changed.select(KEY_ID)
    more = [name for name in judged.columns if name not in (*held.columns, SAME, "verdict", "causes")]
    mine = judged.join(keys, KEY_ID, "left_semi").groupBy(KEY_ID)
    proven = mine.agg(
        F.min(F.col("verdict") == "explained").alias("_proven"),
        F.max(F.col("verdict") == "evidence_expired").alias("_expired"),
        F.first("causes").alias("_causes"),
        *[F.first(name).alias(name) for name in more],
    )
    causes = F.map_concat("_causes", F.create_map(F.lit(CAUSE), F.lit(0).cast("bigint")))
    verdict = F.when(F.col("_proven"), "explained").when(F.col("_expired"), "evidence_expired").otherwise("unexplained")
    rows = held.join(proven, KEY_ID).withColumn("verdict", verdict)
    none = F.create_map().cast("map<string,bigint>")
    rows = rows.withColumn("causes", F.when(F.col("_proven"), causes).otherwise(none))
    rest = judged.join(keys, KEY_ID, "left_anti").drop(SAME)
    return rest.unionByName(rows.select(*rest.columns)).localCheckpoint()


def emitted_texts(job: Job, stream: DataFrame, held: DataFrame, changed: DataFrame | None) -> DataFrame | None:
    """`KEY_ID` and ``emitted``: the row that the stream had written, as JSON; null where it had written none. Lazy."""
    if changed is None:
        return None
    names = held.select("stream.*").columns
    row = F.struct(*[F.col(f"`{name}`") for name in names]).alias("stream")
    rows = _at(job, stream, changed.select(KEY_ID)).select(key_id(job).alias(KEY_ID), row)
    texts = rows.select(KEY_ID, as_text(rows, "stream").alias("emitted")).groupBy(KEY_ID).agg(F.first("emitted"))
    return changed.select(KEY_ID).join(texts.toDF(KEY_ID, "emitted"), KEY_ID, "left")


def _at(job: Job, rows: DataFrame, keys: DataFrame) -> DataFrame:
    return rows.withColumn(KEY_ID, key_id(job)).join(keys, KEY_ID, "left_semi").drop(KEY_ID).localCheckpoint()


def explain_closed_form(job: Job, rows: DataFrame, inputs: ProofInputs) -> DataFrame:
    """Add ``verdict`` and ``causes`` to differing rows. About one Spark job; more where a row has several causes.

    Parameters
    ----------
    rows : DataFrame
        Differing rows with `KEY_ID` and ``place``.
    """
    marked, sides, ranges = inputs.marked[job.sources[0].name], inputs.sides, inputs.ranges
    expected = stream_rows(job, marked, inputs.stream_static)
    wrong = differing_keys(job, expected, sides.stream, "_wrong", ranges)
    wrong = wrong.unionByName(differing_keys(job, inputs.whole, sides.batch, "_wrong", ranges)).distinct()
    judged = causes_of(rows, inputs.evidence).join(wrong, KEY_ID, "left")
    causes = F.col("causes")
    if inputs.static_differs:
        # Claimed only where the other version gives another row: a row may differ by its late events alone.
        other = differing_keys(job, expected, stream_rows(job, marked, inputs.batch_static), "_static", ranges)
        judged = judged.join(other, KEY_ID, "left")
        entry = F.create_map(F.lit("static_version"), F.lit(0).cast("bigint"))
        causes = F.when(F.col("_static").isNotNull(), F.map_concat(causes, entry)).otherwise(causes)
    same = is_same(rows)
    none = F.create_map().cast("map<string,bigint>")
    proven = F.col("_wrong").isNull() & (same | (F.size("_causes") > 0))
    judged = judged.withColumn("_causes", F.when(same, none).otherwise(causes))
    judged = judged.withColumn("verdict", F.when(proven, F.lit("explained")).otherwise(F.lit("unexplained")))
    # A cause that is not proven is withdrawn.
    judged = judged.withColumn("causes", F.when(proven, F.col("_causes")).otherwise(none))
    judged = judged.select(*rows.columns, "verdict", "causes").localCheckpoint()

    def of_stream(marked: dict[str, DataFrame]) -> DataFrame:
        return stream_rows(job, marked[job.sources[0].name], inputs.stream_static)

    return only_needed(job, judged, inputs, of_stream)
