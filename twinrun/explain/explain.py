"""Explain the rows that differ: recompute both sides from the events that each used, and keep what is proven."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Literal

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import TwinrunError
from twinrun.events.exact import EXACT_TIMES, quoted
from twinrun.explain.closed_form import as_held, emitted_texts, explain_closed_form, with_emitted
from twinrun.explain.differing import KEY_ID, ByName, Sides, anything, key_id, split, waits_for_close
from twinrun.explain.evidence import ProofInputs, blamed_events, events_by_cause, events_of, gather, keep
from twinrun.explain.rerun import explain_floats, explain_unstable, rest_of, still_open, with_more, with_verdict
from twinrun.job.dataflow import Dataflow
from twinrun.job.job import Job
from twinrun.results.causes import CAUSES
from twinrun.results.cut import Context, ForeignCommit, TimeRange, foreign_to_stream, join_ranges
from twinrun.results.records import HealRecord, Say, heals_of, quiet, standing, without_lineage
from twinrun.session.plain import plain_errors
from twinrun.tables.delta import read_table

# Rows that the stream never wrote, healed or changed by somebody: what it did write is put back before a proof.


MOST_HEALS = 20
"""So many heals of one table are looked into, from the newest back; rows of older ones cannot be proven any more."""

_NOW, _AFTER, _BEFORE = -1, 1, 0
HEALABLE_KINDS = ("changed", "only_batch", "only_stream")
BATCH_IS_RIGHT = tuple(cause.name for cause in CAUSES if cause.batch_is_right)
"""Causes by which the batch's row is the better one, and the stream has done with the events in question."""


@dataclass(frozen=True)
class Emitted:
    """The stream's rows as far as they can be its own.

    Attributes
    ----------
    stream : DataFrame
        The table's rows, with those put back that a heal or somebody else wrote over.
    commits : tuple of ForeignCommit
        Who else wrote to the table, as far as its history goes back.
    touched : DataFrame or None
        Differing keys that a foreign commit changed: `KEY_ID`, ``versions`` (ascending); None where there are none.
    changed : DataFrame or None
        Those of them whose row was put back, since the table now holds another one: columns as ``touched``.
    """

    stream: DataFrame
    commits: tuple[ForeignCommit, ...] = ()
    touched: DataFrame | None = None
    changed: DataFrame | None = None


def as_emitted(ctx: Context, stream: DataFrame, differing: DataFrame) -> Emitted:
    """The stream's rows without its heals and without what others wrote, as far as differing rows are concerned.

    A row is put back only if it is still exactly what that commit wrote; otherwise something else changed it since, and
    it stays as it is. A row that a foreign commit deleted, or repeated as it is, stays so too: its fault has a name of
    its own. What is put back proves nothing yet: a recomputation must give it. Three small Spark jobs where nothing was
    healed and nobody else wrote, else about five.

    Parameters
    ----------
    stream : DataFrame
        The stream's rows at the cut, without lineage columns.
    differing : DataFrame
        The rows that differ, with the struct ``key`` and ``window``.
    """
    table = ctx.cut.state.table
    made = [
        heal.version
        for heal in standing(heals_of(ctx.spark, ctx.cfg, ctx.job.job_name), table)
        if heal.version is not None
    ]
    commits = foreign_to_stream(ctx.spark, ctx.cut, ctx.job.emit)
    foreign = {commit.version for commit in commits}
    steps = sorted([*made[-MOST_HEALS:], *foreign])
    if not steps:
        return Emitted(stream)
    window = F.col("window") if ctx.job.windowed else F.lit(None).cast("timestamp")
    named = differing.select(F.to_json("key", EXACT_TIMES).alias(KEY_ID), window.alias("window_start"))
    wanted = named.distinct().localCheckpoint()
    while steps:
        try:
            with plain_errors(f"looking into older versions of {table}"):
                found = _traced(ctx.spark, ctx.job, table, stream, wanted, steps, foreign).localCheckpoint()
            break
        except (
            TwinrunError
        ):  # the oldest were vacuumed away, or have other columns: their rows stay, and are not proven
            steps = steps[1:]
    else:
        return Emitted(stream, commits)
    theirs = found.filter(F.size("versions") > 0)
    # A row that is gone, or stands there in copies, is as the stream wrote it, where it is at all.
    other = (F.size("held") > 0) & ~F.array_distinct("held").eqNullSafe(F.array_distinct("texts"))
    put_back = found.filter((F.size("versions") == 0) | other)
    names = [F.col(f"_row.{quoted(name)}") for name in stream.columns]
    rows = put_back.select(F.explode("rows").alias("_row")).select(*names)
    kept = stream.withColumn(KEY_ID, key_id(ctx.job)).join(put_back.select(KEY_ID), KEY_ID, "left_anti").drop(KEY_ID)
    touched, changed = (frame.select(KEY_ID, "versions") for frame in (theirs, theirs.filter(other)))
    return Emitted(
        stream=kept.unionByName(rows),
        commits=commits,
        touched=None if touched.isEmpty() else touched,
        changed=None if changed.isEmpty() else changed,
    )


def _traced(
    spark: SparkSession,
    job: Job,
    table: str,
    stream: DataFrame,
    wanted: DataFrame,
    steps: list[int],
    foreign: set[int],
) -> DataFrame:
    """Follow each wanted key back through commits that are not the stream's; keys that none of them made are left out.

    `KEY_ID`, ``held`` (rows now, as sorted texts), ``texts`` and ``rows`` (as they were before), ``versions`` (foreign
    commits that made the difference, ascending). One Spark job over these keys of two versions for each commit.
    """
    where = around(job, wanted)
    sides = [(_NOW, _NOW, stream)]
    for version in steps:
        for at, side in ((version, _AFTER), (version - 1, _BEFORE)):
            sides.append((version, side, without_lineage(read_table(spark, table, at))))
    frames = []
    for version, side, rows in sides:
        mine = rows_by_key(rows.select(*[quoted(name) for name in stream.columns]), job, wanted, where)
        row = F.struct(*[quoted(name) for name in stream.columns])
        text = F.to_json(row, EXACT_TIMES)
        frames.append(
            mine.select(KEY_ID, F.lit(version).alias("v"), F.lit(side).alias("side"), row.alias("row"), text.alias("t"))
        )
    parts = reduce(DataFrame.unionByName, frames).groupBy(KEY_ID, "v", "side")
    part = parts.agg(F.array_sort(F.collect_list("t")).alias("texts"), F.collect_list("row").alias("rows"))
    by_key = part.groupBy(KEY_ID).agg(F.collect_list(F.struct("v", "side", "texts", "rows")).alias("all"))
    held = _texts(F.lit(_NOW), _NOW)
    start = F.array().cast("array<struct<version: int, texts: array<string>>>")

    def back(chain: Column, version: Column) -> Column:
        before, after = _texts(version, _BEFORE), _texts(version, _AFTER)
        state = F.when(F.size(chain) > 0, F.element_at(chain, -1)["texts"]).otherwise(held)
        earlier = F.array_append(chain, F.struct(version.alias("version"), before.alias("texts")))
        return F.when((state == after) & (before != after), earlier).otherwise(chain)

    newest_first = F.array(*[F.lit(version) for version in reversed(steps)])
    traced = by_key.withColumn("chain", F.aggregate(newest_first, start, back)).filter(F.size("chain") > 0)
    # Back and forth: the newest commit that turned the row into another one is meant, not all since the first.
    states = F.transform("chain", lambda each: each["texts"])
    steps_back = F.array_position(states, F.element_at("chain", -1)["texts"]).cast("int")
    traced = traced.withColumn("chain", F.slice("chain", 1, steps_back)).withColumn("end", F.element_at("chain", -1))
    made = F.transform("chain", lambda each: each["version"])
    theirs = F.array_sort(F.filter(made, lambda version: version.isin(*foreign) if foreign else F.lit(False)))
    was = F.filter("all", lambda each: (each["v"] == F.col("end.version")) & (each["side"] == _BEFORE))
    return traced.select(
        KEY_ID,
        held.alias("held"),
        "end.texts",
        F.flatten(F.transform(was, lambda each: each["rows"])).alias("rows"),
        theirs.alias("versions"),
    )


def _texts(version: Column, side: int) -> Column:
    """The rows of a key on one side of a commit, as sorted texts; empty for none."""
    found = F.filter("all", lambda each: (each["v"] == version) & (each["side"] == side))
    return F.flatten(F.transform(found, lambda each: each["texts"]))


def healable(job: Job, watermark_ms: int | None) -> Column:
    """Condition on the table ``differences``: the row is proven, and the stream can never write it again.

    With windows: the window had ended by the watermark of the cut. Without: the stream has read every event that the
    row is about, so that none of them can still come. A cause that leaves open which side is right, or a row that
    still waits in the stream's state, is never healed.
    """
    sound = (F.col("verdict") == "explained") & F.col("kind").isin(*HEALABLE_KINDS) & (F.col("copy") == 1)
    # Events beyond the cut come late for a window that is over; without windows they make the row once more.
    causes = (*BATCH_IS_RIGHT, "beyond_cut") if job.windowed else BATCH_IS_RIGHT
    others = F.array_except(F.map_keys("causes"), F.array(*[F.lit(cause) for cause in causes]))
    sound = sound & (F.size(others) == 0)
    if not job.windowed:
        return sound
    ended = F.unix_millis("window_start") + F.lit(job.window_ms) <= F.lit(watermark_ms or 0)
    return sound & F.coalesce(ended, F.lit(False))


def healed_keys(spark: SparkSession, cfg: Config, job: Job, heal: HealRecord) -> DataFrame:
    """Keys (``key_id``) and ``kind`` of the rows that a heal wrote; lazy."""
    rows = read_table(spark, cfg.table("differences"))
    mine = (F.col("verify_id") == heal.verify_id) & (F.col("job") == job.job_name)
    return rows.filter(mine & healable(job, heal.watermark_ms)).select("key_id", "kind", "window_start")


def rows_by_key(rows: DataFrame, job: Job, keys: DataFrame, where: Column) -> DataFrame:
    """The result rows whose key is among ``keys`` (column ``key_id``), with their ``key_id``. Lazy."""
    return rows.filter(where).withColumn("key_id", key_id(job)).join(keys.select("key_id"), "key_id", "left_semi")


def around(job: Job, keys: DataFrame) -> Column:
    """Condition on a result: its window lies between the first and the last of ``keys``. One Spark job, or none.

    It lets Delta skip the files of all other windows.
    """
    if not job.windowed:
        return F.lit(True)
    start = F.unix_millis("window_start")
    low, high = keys.agg(F.min(start), F.max(start)).collect()[0]
    return F.col(quoted(job.window_column)).between(F.timestamp_millis(F.lit(low)), F.timestamp_millis(F.lit(high)))


def changed_keys(now: DataFrame, then: DataFrame) -> DataFrame:
    """Keys (``key_id``, repeated) of which one frame has another row than the other, or none. Lazy.

    Both with the same columns in the same order. Rows are compared as text: values that differ in any way differ.
    """
    texts = [frame.select("key_id", F.to_json(F.struct("*"), EXACT_TIMES).alias("row")) for frame in (now, then)]
    return texts[0].exceptAll(texts[1]).unionByName(texts[1].exceptAll(texts[0])).select("key_id")


@dataclass(frozen=True)
class Found:
    """The differing rows of one verify, as `twinrun.comparator.rows.public_rows` gives them; materialised.

    ``gone`` says which events were removed on purpose since. ``final_until_ms`` is None where the batch has all events
    that the stream has read; else only windows that end by then hold none that it lacks, and can be looked at.
    """

    verify_id: str
    rows: DataFrame
    gone: ByName = field(default_factory=dict)
    final_until_ms: int | None = None


@dataclass(frozen=True)
class Foreign:
    """What somebody else did to the stream's table.

    ``touched``: differing keys (`KEY_ID`) with the ``versions`` that changed them. ``emitted``: keys whose row was
    changed, with the row that the stream had written as JSON (null: none). Both None where there are none.
    """

    commits: tuple[ForeignCommit, ...] = ()
    touched: DataFrame | None = None
    emitted: DataFrame | None = None


NOBODY = Foreign()


@dataclass(frozen=True)
class Explained:
    """What a verify wrote to ``differences``, and how many events each proven cause is about.

    ``rows`` has ``key_id``, ``batch`` and ``stream`` (JSON), ``window_start`` (null without windows), ``kind``,
    ``columns``, ``verdict`` and ``causes`` (events by cause, for this row). ``notes``: what could not be tried.
    ``blamed`` are the events of those causes, see `twinrun.explain.evidence.blamed_events`; lazy.
    ``expired``: rows whose evidence is gone. ``foreign``: what somebody else did to the stream's table.
    """

    rows: DataFrame
    events: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    blamed: DataFrame | None = None
    events_of: Literal["row", "window", "any"] = "row"
    expired: int = 0
    foreign: Foreign = NOBODY


def explain(ctx: Context, sides: Sides, found: Found, say: Say = quiet) -> Explained:
    """Give each differing row a ``verdict`` and its ``causes``, and keep it in the ``differences`` table.

    A closed form is tried first where the job has one, over the differing windows only; what it leaves open is
    replayed, over all micro-batches. What neither proves is ``unexplained``. With a hole in the micro-batch log it is
    ``evidence_expired``, and so is what would need events that expired or were erased. While the batch lacks events
    that the stream has read nothing is replayed, and rows that they may belong to are ``input_behind``. ``say`` is told
    how far a replay is.
    """
    keyed = found.rows.withColumn(KEY_ID, F.to_json("key", EXACT_TIMES))
    if ctx.cut.missing > 0:
        return _expired(ctx.spark, ctx.cfg, ctx.job, found.verify_id, keyed)
    part_gone = anything(found.gone)
    lost: DataFrame | None = None
    if part_gone:
        parts = split(ctx.job, keyed, found.gone)
        lost, keyed = parts.lost.localCheckpoint(), parts.others.localCheckpoint()
    behind = found.final_until_ms is not None
    waiting: DataFrame | None = None
    if found.final_until_ms is not None:
        final = _final(ctx.job, ctx.flow, found.final_until_ms)
        waiting, keyed = keyed.filter(~final).localCheckpoint(), keyed.filter(final).localCheckpoint()
    # What a heal or somebody else wrote was never emitted: proofs look at what stood there before.
    emitted = as_emitted(ctx, sides.stream, keyed)
    sides, held = Sides(sides.batch, emitted.stream), keyed
    if emitted.changed is not None:
        keyed = with_emitted(ctx.job, keyed, sides, emitted.changed)
    notes = []
    judged, left = with_verdict(keyed, "unexplained"), True
    inputs: ProofInputs | None = None
    before: tuple[ProofInputs | None, DataFrame | None] = (None, None)
    ranges = _ranges(ctx.job, keyed) if ctx.flow.closed_form else []
    if ctx.flow.closed_form and (ranges or not ctx.job.windowed):
        inputs = gather(ctx, sides, ranges)
        judged = explain_closed_form(ctx.job, inputs.matching.of_rows(keyed, ctx.job), inputs)
        left = still_open(judged)
        if left:
            judged = with_more(judged, explain_floats(ctx.job, rest_of(judged), inputs))
            left = still_open(judged)
    if behind and left and still_open(judged):
        notes.append("Rows were not proven by replay: the batch lacks events that the stream has read.")
    # Micro-batches that lack events must not be run again: they would emit what the stream never did.
    if left and ctx.cfg.verify.max_replay_micro_batches != 0 and not part_gone and not behind:
        from twinrun.explain.by_replay import Ask, explain_by_replay  # most verifies need no replay

        rest = rest_of(judged).localCheckpoint()
        ask = Ask(ctx, sides, rest, found.verify_id, say)
        replayed = explain_by_replay(ask, inputs if inputs is not None and not inputs.ranges else None)
        before, inputs = (inputs, rest.select(KEY_ID).distinct()), replayed.inputs
        notes += [replayed.note] if replayed.note else []
        judged = with_more(judged, replayed.rows)
        left = still_open(judged)
    if left and inputs is not None:
        judged = with_more(judged, explain_unstable(ctx.job, rest_of(judged), inputs))
    # Nobody knows which windows the events belong to that the stream read and bronze never got.
    if part_gone and (
        not (ctx.job.windowed and ctx.flow.closed_form) or any(each.lost for each in found.gone.values())
    ):
        judged = judged.replace("unexplained", "evidence_expired", ["verdict"])
    if waiting is not None:
        judged = judged.unionByName(with_verdict(waiting, "input_behind"), allowMissingColumns=True)
    if lost is not None:
        judged = judged.unionByName(with_verdict(lost, "evidence_expired"), allowMissingColumns=True)
    if emitted.changed is not None:
        judged = as_held(judged, held, emitted.changed)
    kept = keep(ctx.spark, ctx.cfg, ctx.job, found.verify_id, judged)
    expired = kept.filter(F.col("verdict") == "evidence_expired").count() if part_gone else 0
    foreign = Foreign(emitted.commits, emitted.touched, emitted_texts(ctx.job, sides.stream, held, emitted.changed))
    return _explained(
        ctx.job, Explained(kept, notes=tuple(notes), expired=expired, foreign=foreign), judged, inputs, *before
    )


def _explained(
    job: Job,
    found: Explained,
    judged: DataFrame,
    inputs: ProofInputs | None,
    before: ProofInputs | None,
    later: DataFrame | None,
) -> Explained:
    """With the events of the proven causes, where any were looked at.

    ``later``: the keys (`KEY_ID`) that ``inputs`` is about; that of all others is ``before``. None where it is one.
    """
    if inputs is None:
        return found
    proven = judged.filter(F.col("verdict") == "explained")
    if before is None or later is None:
        blamed = blamed_events(proven, inputs.evidence)
    else:
        first = blamed_events(proven.join(later, KEY_ID, "left_anti"), before.evidence)
        blamed = blamed_events(proven.join(later, KEY_ID, "left_semi"), inputs.evidence)
        blamed = first if blamed is None else blamed if first is None else first.unionByName(blamed)
    return replace(found, events=events_by_cause(blamed), blamed=blamed, events_of=events_of(job, inputs.evidence))


def _expired(spark: SparkSession, cfg: Config, job: Job, verify_id: str, keyed: DataFrame) -> Explained:
    """No row can be proven: the log has a hole."""
    kept = keep(spark, cfg, job, verify_id, with_verdict(keyed, "evidence_expired"))
    return Explained(kept, expired=kept.count())


def _final(job: Job, flow: Dataflow, until_ms: int) -> Column:
    """Whether no event that only the stream has read can belong to a row: its window was emitted before any of them."""
    if not flow.closed_form or not waits_for_close(job):
        return F.lit(False)
    return F.coalesce(F.unix_millis("window") + F.lit(job.window_ms) <= F.lit(until_ms), F.lit(False))


def _ranges(job: Job, keyed: DataFrame) -> list[TimeRange]:
    if not job.windowed:
        return []
    starts = keyed.select(F.unix_millis("window").alias("s")).filter(F.col("s").isNotNull()).distinct()
    return join_ranges(starts, job.slide_ms or 1)
