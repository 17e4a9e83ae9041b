"""Explain the rows that differ: recompute both sides from the events that each used, and keep what is proven."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.explain.by_replay import Ask, explain_by_replay
from twinrun.explain.closed_form import explain_closed_form
from twinrun.explain.differing import EXACT_TIMES, KEY_ID
from twinrun.explain.evidence import blamed_events, events_by_cause, events_of
from twinrun.explain.healed import as_emitted
from twinrun.explain.keep import keep
from twinrun.explain.lost import ByName, anything, split
from twinrun.explain.material import Material, gather
from twinrun.explain.rerun import explain_floats, explain_unstable
from twinrun.explain.sides import Sides, waits_for_close
from twinrun.explain.sink_changed import as_held, emitted_texts, with_emitted
from twinrun.explain.steps import rest_of, still_open, with_more, with_verdict
from twinrun.job.dataflow import Dataflow
from twinrun.job.job import Job
from twinrun.results.cut import ForeignCommit, StreamCut
from twinrun.results.run import Say, quiet
from twinrun.results.state import BatchState
from twinrun.results.touched import TimeRange, join_ranges


@dataclass(frozen=True)
class Found:
    """The differing rows of one verify, as `twinrun.comparator.drilldown.public_rows` gives them; materialised.

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


def explain(
    spark: SparkSession,
    cfg: Config,
    job: Job,
    flow: Dataflow,
    cut: StreamCut,
    batch: BatchState,
    sides: Sides,
    found: Found,
    say: Say = quiet,
) -> Explained:
    """Give each differing row a ``verdict`` and its ``causes``, and keep it in the ``differences`` table.

    A closed form is tried first where the job has one, over the differing windows only; what it leaves open is
    replayed, over all micro-batches. What neither proves is ``unexplained``. With a hole in the micro-batch log it is
    ``evidence_expired``, and so is what would need events that expired or were erased. While the batch lacks events
    that the stream has read nothing is replayed, and rows that they may belong to are ``input_behind``. ``say`` is told
    how far a replay is.
    """
    keyed = found.rows.withColumn(KEY_ID, F.to_json("key", EXACT_TIMES))
    if cut.missing > 0:
        return _expired(spark, cfg, job, found.verify_id, keyed)
    part_gone = anything(found.gone)
    lost: DataFrame | None = None
    if part_gone:
        parts = split(job, keyed, found.gone)
        lost, keyed = parts.lost.localCheckpoint(), parts.others.localCheckpoint()
    behind = found.final_until_ms is not None
    waiting: DataFrame | None = None
    if found.final_until_ms is not None:
        final = _final(job, flow, found.final_until_ms)
        waiting, keyed = keyed.filter(~final).localCheckpoint(), keyed.filter(final).localCheckpoint()
    # What a heal or somebody else wrote was never emitted: proofs look at what stood there before.
    emitted = as_emitted(spark, cfg, job, cut, sides.stream, keyed)
    sides, held = Sides(sides.batch, emitted.stream), keyed
    if emitted.changed is not None:
        keyed = with_emitted(job, keyed, sides, emitted.changed)
    notes = []
    judged, left = with_verdict(keyed, "unexplained"), True
    material: Material | None = None
    before: tuple[Material | None, DataFrame | None] = (None, None)
    ranges = _ranges(job, keyed) if flow.closed_form else []
    if flow.closed_form and (ranges or not job.windowed):
        material = gather(spark, cfg, job, flow, cut, batch, sides, ranges)
        judged = explain_closed_form(job, material.place.of_rows(keyed, job), material)
        left = still_open(judged)
        if left:
            judged = with_more(judged, explain_floats(job, rest_of(judged), material))
            left = still_open(judged)
    if behind and left and still_open(judged):
        notes.append("Rows were not proven by replay: the batch lacks events that the stream has read.")
    # Micro-batches that lack events must not be run again: they would emit what the stream never did.
    if left and cfg.verify.max_replay_micro_batches != 0 and not part_gone and not behind:
        rest = rest_of(judged).localCheckpoint()
        ask = Ask(spark, cfg, job, flow, cut, batch, sides, rest, found.verify_id, say)
        replayed = explain_by_replay(ask, material if material is not None and not material.ranges else None)
        before, material = (material, rest.select(KEY_ID).distinct()), replayed.material
        notes += [replayed.note] if replayed.note else []
        judged = with_more(judged, replayed.rows)
        left = still_open(judged)
    if left and material is not None:
        judged = with_more(judged, explain_unstable(job, rest_of(judged), material))
    # Nobody knows which windows the events belong to that the stream read and bronze never got.
    if part_gone and (not (job.windowed and flow.closed_form) or any(each.lost for each in found.gone.values())):
        judged = judged.replace("unexplained", "evidence_expired", ["verdict"])
    if waiting is not None:
        judged = judged.unionByName(with_verdict(waiting, "input_behind"), allowMissingColumns=True)
    if lost is not None:
        judged = judged.unionByName(with_verdict(lost, "evidence_expired"), allowMissingColumns=True)
    if emitted.changed is not None:
        judged = as_held(judged, held, emitted.changed)
    kept = keep(spark, cfg, job, found.verify_id, judged)
    expired = kept.filter(F.col("verdict") == "evidence_expired").count() if part_gone else 0
    foreign = Foreign(emitted.commits, emitted.touched, emitted_texts(job, sides.stream, held, emitted.changed))
    return _explained(
        job, Explained(kept, notes=tuple(notes), expired=expired, foreign=foreign), judged, material, *before
    )


def _explained(
    job: Job,
    found: Explained,
    judged: DataFrame,
    material: Material | None,
    before: Material | None,
    later: DataFrame | None,
) -> Explained:
    """With the events of the proven causes, where any were looked at.

    ``later``: the keys (`KEY_ID`) that ``material`` is about; that of all others is ``before``. None where it is one.
    """
    if material is None:
        return found
    proven = judged.filter(F.col("verdict") == "explained")
    if before is None or later is None:
        blamed = blamed_events(proven, material.evidence)
    else:
        first = blamed_events(proven.join(later, KEY_ID, "left_anti"), before.evidence)
        blamed = blamed_events(proven.join(later, KEY_ID, "left_semi"), material.evidence)
        blamed = first if blamed is None else blamed if first is None else first.unionByName(blamed)
    return replace(found, events=events_by_cause(blamed), blamed=blamed, events_of=events_of(job, material.evidence))


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
