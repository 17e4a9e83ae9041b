"""The proof for every other job, and for what a closed form leaves open: run the recorded micro-batches again.

Only what the differing rows need is run again, where the job's plan tells what it is (`twinrun.explain.scope`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from typing import TypeVar

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun.comparator.digest import sent
from twinrun.errors import QueryError
from twinrun.events.exact import EXACT_TIMES
from twinrun.explain.closed_form import EARLY, Recomputed, classify
from twinrun.explain.differing import KEY_ID, Sides, differing, differing_keys, matching_of, rows_at
from twinrun.explain.evidence import Needed, ProofInputs, causes_of, gather, marked_by_step
from twinrun.explain.prove import (
    Played,
    Withdrawn,
    parts_in_order,
    replay_in_order,
    replay_recorded,
    replay_steps,
    waits,
)
from twinrun.explain.replay import Recorded, ReplayError, Steps, folder_of, recorded, steps_of
from twinrun.explain.rerun import with_verdict
from twinrun.explain.scope import Scope, kept_us, of_one_version, read_by, replayed_events, scope_of, used_of
from twinrun.explain.used import USED, batch_rows, event_dropped, stream_rows
from twinrun.job.carried import carried
from twinrun.job.dataflow import Dataflow
from twinrun.job.job import Job
from twinrun.job.jvmplan import has_jvm
from twinrun.results.cut import Context
from twinrun.results.records import Say, new_run_id, quiet
from twinrun.results.state import read_events
from twinrun.tables.files import remove
from twinrun.tables.static import read_static
from twinrun.wording import plural

_Recording = TypeVar("_Recording", Steps, list[Recorded])
_FEW_EVENTS = 200_000
"""Up to here one task and no generated code are faster."""


@dataclass(frozen=True)
class Replayed:
    """Judged rows, why nothing could be proven where that is so, and the events that were looked at."""

    rows: DataFrame
    inputs: ProofInputs
    note: str = ""


@dataclass(frozen=True)
class Ask:
    """What one verify wants to have proven by replay: everything that the proofs are given alike.

    ``rows`` are differing rows with `KEY_ID` and ``key``; ``verify_id`` names the folder of the replay; ``say`` is told
    which micro-batch of how many is run again. ``part`` names a folder inside, of one attempt: what another one left
    behind, since a file system would not remove it, must not become its state.
    """

    ctx: Context
    sides: Sides
    rows: DataFrame
    verify_id: str
    say: Say = quiet
    part: str = ""

    @property
    def micro_batches(self) -> int:
        """How many the stream made. Known before the recording is read."""
        return self.ctx.cut.committed.micro_batch + 1 - self.ctx.cut.missing

    @property
    def limit(self) -> int | None:
        """How many micro-batches are run again at most; None: any number."""
        return self.ctx.cfg.verify.max_replay_micro_batches

    @property
    def folder(self) -> str:
        """Where the replays are."""
        whole = folder_of(self.ctx.cfg, self.ctx.job, self.verify_id)
        return f"{whole}/{self.part}" if self.part else whole

    def attempt(self) -> Ask:
        """The same in a folder that nothing has been in."""
        return replace(self, part=new_run_id())

    def gathered(self, needed: Needed | None = None) -> ProofInputs:
        """The events of the rows, or all."""
        return gather(self.ctx, self.sides, [], needed)


@dataclass(frozen=True)
class _Narrow:
    """What the rows need, their events, and the steps of a replay; or how many these would be."""

    scope: Scope
    inputs: ProofInputs
    steps: Steps | int


def explain_by_replay(ask: Ask, inputs: ProofInputs | None = None) -> Replayed:
    """Add ``verdict`` and ``causes`` to differing rows; three Spark jobs per micro-batch that is run again, twice.

    Where more than ``verify.max_replay_micro_batches`` would have to be, or the replay does not show the recorded
    watermarks, the rows stay unexplained and a note says why.

    Parameters
    ----------
    inputs : ProofInputs, optional
        All events, where they have been gathered.
    """
    if ask.micro_batches <= 0:
        return _unproven(ask, inputs or ask.gathered())
    if not has_jvm(ask.ctx.spark):
        note = "Rows were not proven by replay: Spark Connect has no files to replay from."
        return _unproven(ask, inputs or ask.gathered(), note)
    fits = ask.limit is None or ask.micro_batches <= ask.limit
    narrow, why = _narrow(ask), ""
    if isinstance(narrow, _Narrow):
        if isinstance(narrow.steps, Steps):
            steps, here = narrow.steps, ask.attempt()
            found = _proven(ask, narrow.inputs, lambda: _of_steps(here, narrow.scope, narrow.inputs, steps))
            if isinstance(found, Replayed):
                return found
            why = found.why
        else:
            why = f"its keys need {plural(narrow.steps, 'micro-batch')}"
        if not fits:
            note = _withdrawn(why) if isinstance(narrow.steps, Steps) else _too_many(ask, f"of which {why}")
            return _unproven(ask, narrow.inputs, note)
    elif not fits:
        return _unproven(ask, inputs or ask.gathered(), _too_many(ask, f"and all of them are needed: {narrow}"))
    whole = inputs or ask.gathered()
    found = _proven(ask, whole, lambda: _of_all(ask.attempt(), whole))
    return found if isinstance(found, Replayed) else _unproven(ask, whole, _withdrawn(found.why))


def _narrow(ask: Ask) -> _Narrow | str:
    """What the rows need of the recording, or why that cannot be told, as the end of a sentence."""
    found = carried(ask.ctx.spark, ask.ctx.job, read_static(ask.ctx.spark, ask.ctx.cfg, ask.ctx.cut.static))
    if not found.columns:
        return found.why
    if ask.ctx.flow.unnamed:  # whether such a row is late depends on the very micro-batch that hands it on
        return "an operator may drop rows by the watermark that another has held back"
    marked = [source for source in ask.ctx.job.sources if source.lateness_ms is not None]
    if not all(ask.ctx.flow.passage(source.name).moves_told for source in marked):
        return "which events move the watermark cannot be told from the plan"
    if found.through is not None and _chooses(ask.ctx.job, ask.ctx.flow):
        # Another choice than the replay's would be a row of another key, which could not be looked for.
        return "no key of the result is a field by which every operator with state keeps its rows apart"
    events = {s.name: read_events(ask.ctx.spark, ask.ctx.cfg, s.name, ask.ctx.batch) for s in ask.ctx.job.sources}
    scope = scope_of(found, ask.rows, events)
    span_us = kept_us(ask.ctx.job, ask.ctx.flow) if scope.in_result else None
    inputs = ask.gathered(Needed(scope, ask.rows, span_us))
    read = read_by(ask.ctx.job, inputs.marked)
    return _Narrow(scope, inputs, steps_of(ask.ctx.cut, read, marked=bool(marked), limit=ask.limit))


def _proven(ask: Ask, inputs: ProofInputs, recomputed: Callable[[], Recomputed | Withdrawn]) -> Replayed | Withdrawn:
    """The rows judged by what replays gave. What cannot be run again proves nothing, and is no reason to fail."""
    job, rows = ask.ctx.job, inputs.matching.of_rows(ask.rows.drop("place"), ask.ctx.job)
    try:
        found = recomputed()
    except (QueryError, ReplayError) as error:
        found = Withdrawn(str(error).splitlines()[0])
    finally:
        remove(ask.ctx.spark, ask.folder)
    if isinstance(found, Withdrawn):
        return found
    judged = classify(job, ask.ctx.flow, _with_extra_sessions(job, causes_of(rows, inputs.evidence)), found)
    return Replayed(judged.select(*rows.columns, "verdict", "causes"), inputs, _note_on(ask.ctx.flow))


def _withdrawn(why: str) -> str:
    return f"A proof by replay was withdrawn: {why.rstrip('.')}."


def _too_many(ask: Ask, more: str) -> str:
    return (
        f"Rows were not proven by replay: the stream made {plural(ask.micro_batches, 'micro-batch')}, {more}, "
        f"and verify.max_replay_micro_batches is {ask.limit}."
    )


def _note_on(flow: Dataflow) -> str:
    notes = []
    if flow.unpadded:
        sides = " and the ".join(flow.unpadded)
        notes.append(
            f"A condition of the outer join looks at the {sides} side alone, whose rows the join keeps. Spark never "
            "emits such a row that meets it and finds no partner, though the watermark has passed: batch has it."
        )
    if flow.unnamed:
        notes.append(
            f"Spark may drop rows made of {' and '.join(flow.unnamed)} by the watermark, and not by their own event "
            "time. No rule names them: rows that only such a loss or the order of events can change stay unexplained."
        )
    return " ".join(notes)


def _of_steps(ask: Ask, scope: Scope, inputs: ProofInputs, steps: Steps) -> Recomputed | Withdrawn:
    """Run what the keys need, with one version of the static tables if it had several, and in order."""
    job = ask.ctx.job
    count = sum(used_of(frame).count() for frame in inputs.marked.values())
    if not count:
        # The stream read no event of these keys: nothing comes out for them, however often it is run.
        nothing = batch_rows(job, inputs.marked, inputs.stream_static).limit(0)
        silent = Played(nothing, nothing if waits(job) else None)
        return _worlds(ask, inputs, silent, silent, nothing, scope)
    by_step = marked_by_step(ask.ctx, steps)
    events, moving = replayed_events(job, ask.ctx.flow, inputs.marked, by_step, steps)
    for name, frame in moving.items():
        if not frame.limit(1).count():
            return Withdrawn(f"no event of {name} moves the watermark")

    # Whether a session was split is seen from all that the stream made of its events, what still waits too.
    lacking = job.shape == "session" or ask.rows.filter(F.col("kind") == "only_batch").limit(1).count() > 0

    def run(these: Steps, folder: str) -> Played | Withdrawn:
        return replay_steps(
            ask.ctx.spark,
            ask.ctx.cfg,
            job,
            events,
            moving,
            these,
            folder,
            little=count <= _FEW_EVENTS,
            waiting=lacking,
            say=ask.say,
        )

    both = _as_recorded(ask, run, steps, of_one_version(steps, ask.ctx.cut.static))
    if isinstance(both, Withdrawn):
        return both
    # In one micro-batch, in order within it too. Which of several copies comes first is asked of several.
    parts = 1 if ask.ctx.flow.operators == ("Aggregate",) else parts_in_order(len(steps.each), ask.ctx.flow)
    static = steps.each[-1].static
    in_order = replay_in_order(
        ask.ctx.spark,
        ask.ctx.cfg,
        job,
        inputs.marked,
        parts,
        static,
        ask.folder,
        pushing=moving,
        little=count <= _FEW_EVENTS,
        say=ask.say,
    )
    return _worlds(ask, inputs, *both, in_order, scope)


def _as_recorded(
    ask: Ask, run: Callable[[_Recording, str], Played | Withdrawn], recording: _Recording, of_one_version: _Recording
) -> tuple[Played, Played] | Withdrawn:
    """What a recording gave, and what it gives with one version of the static tables: the same where it had one."""
    played = run(recording, ask.folder)
    if isinstance(played, Withdrawn):
        return played
    if not ask.ctx.cut.static_mixed:
        return played, played
    uniform = run(of_one_version, f"{ask.folder}/one-version")
    return uniform if isinstance(uniform, Withdrawn) else (played, uniform)


def _of_all(ask: Ask, inputs: ProofInputs) -> Recomputed | Withdrawn:
    """Run the whole recording, with one version of the static tables if it had several, and in order."""
    job, flow, record = ask.ctx.job, ask.ctx.flow, recorded(ask.ctx.cut)

    def run(these: list[Recorded], folder: str) -> Played | Withdrawn:
        return replay_recorded(ask.ctx.spark, ask.ctx.cfg, job, inputs.marked, these, folder, flow.passages, ask.say)

    both = _as_recorded(ask, run, record, [replace(each, static=ask.ctx.cut.static) for each in record])
    if isinstance(both, Withdrawn):
        return both
    parts = parts_in_order(sum(each.has_data for each in record), flow)
    in_order = replay_in_order(
        ask.ctx.spark,
        ask.ctx.cfg,
        job,
        inputs.marked,
        parts,
        record[-1].static,
        ask.folder,
        passages=flow.passages,
        say=ask.say,
    )
    return _worlds(ask, inputs, *both, in_order)


def _worlds(
    ask: Ask, inputs: ProofInputs, played: Played, uniform: Played, in_order: DataFrame, scope: Scope | None = None
) -> Recomputed:
    """Compute every version of the result at the differing keys. One Spark job each.

    With a scope the replays hold its rows alone, besides some that mean nothing.
    """
    job, flow = ask.ctx.job, ask.ctx.flow
    keys = sent(ask.rows.select(KEY_ID).distinct().localCheckpoint())
    used = {name: frame.filter(F.col(USED)) for name, frame in inputs.marked.items()}
    kept = {s.name: used[s.name].filter(~event_dropped(s, flow.rules[s.name])) for s in job.sources}

    def held(rows: DataFrame) -> DataFrame:
        return rows_at(job, rows, keys).localCheckpoint()

    def at(rows: DataFrame) -> DataFrame:
        # Materialised first: Spark pushes a filter below the merging of sessions, which changes them.
        return held(rows.localCheckpoint() if job.shape == "session" else rows)

    def scoped(rows: DataFrame) -> DataFrame:
        return scope.of_rows(rows) if scope is not None and scope.in_result else rows

    whole_used = batch_rows(job, used, inputs.stream_static)
    by_window = flow.closed_form and job.windowed
    if by_window:
        whole_kept = stream_rows(job, inputs.marked[job.sources[0].name], inputs.stream_static)
    else:
        whole_kept = batch_rows(job, kept, inputs.stream_static)
    if job.shape == "session":
        whole_kept = whole_kept.localCheckpoint()
    elsewhere = flow.opaque and differing_keys(job, in_order, whole_used, "_mode").limit(1).count() > 0
    of_used = at(whole_used)
    replayed = held(played.rows)
    return Recomputed(
        sink=held(inputs.sides.stream),
        table=held(inputs.sides.batch),
        replayed=replayed,
        uniform=replayed if uniform is played else held(uniform.rows),
        pending=None if played.pending is None else held(played.pending),
        in_order=held(in_order),
        kept=at(whole_kept),
        kept_by_window=by_window,
        without={name: at(rows) for name, rows in _without(job, inputs).items()},
        split=_split(job, ask.rows, inputs.whole, uniform, whole_kept) if job.shape == "session" else None,
        used=of_used,
        whole=at(inputs.whole),
        used_static=at(batch_rows(job, used, inputs.batch_static)) if inputs.static_differs else of_used,
        mode_dependent=elsewhere,
        faithful=not _chooses(job, flow) or not _other_rows(job, scoped(played.rows), scoped(inputs.sides.stream)),
    )


def _chooses(job: Job, flow: Dataflow) -> bool:
    """Whether the result may depend on which row of a micro-batch comes first, which a replay need not repeat."""
    kept = any(kind.startswith("Deduplicate") for kind in flow.operators)
    return kept or flow.opaque or any(source.distinct for source in job.sources)


def _other_rows(job: Job, replayed: DataFrame, held: DataFrame) -> bool:
    """Whether the stream's table holds, anywhere, a row that the replay does not give. One Spark job."""
    rows = differing(job, replayed, held).filter(F.col("kind").isin("changed", "only_stream"))
    return rows.limit(1).count() > 0


def _with_extra_sessions(job: Job, rows: DataFrame) -> DataFrame:
    """Add ``extra``: how many sessions the stream made of the batch's one, less one; 0 for other jobs. Lazy."""
    if job.shape != "session":
        return rows.withColumn("extra", F.lit(0).cast("bigint"))
    keys = [F.col("key")[key] for key in job.keys if key != job.window_column]
    marked = rows.withColumn("_session", F.to_json(F.struct(*keys, F.col("place")), EXACT_TIMES))
    made = marked.filter(F.col("stream").isNotNull()).groupBy("_session").agg((F.count("*") - 1).alias("extra"))
    return marked.join(made, "_session", "left").drop("_session").withColumn("extra", F.coalesce("extra", F.lit(0)))


def _without(job: Job, inputs: ProofInputs) -> dict[str, DataFrame]:
    """By cause what the batch has without its events; empty where only one cause has any. One small Spark job."""
    early = [frame.filter(F.col("_cause").isin(*EARLY)).select("_cause") for frame in inputs.marked.values()]
    names = [row[0] for row in reduce(DataFrame.unionByName, early).distinct().collect()]
    if len(names) < 2:
        return {}
    found = {}
    for name in sorted(names):
        others = F.coalesce(F.col("_cause").isin(*EARLY) & (F.col("_cause") != name), F.lit(False))
        left = {source: frame.filter(F.col(USED) | others) for source, frame in inputs.marked.items()}
        found[name] = batch_rows(job, left, inputs.batch_static)
    return found


def _split(job: Job, rows: DataFrame, whole: DataFrame, played: Played, kept: DataFrame) -> DataFrame:
    """`KEY_ID` of the rows in whose place the stream made other sessions than there are of what it kept. Materialised.

    A place is what lies between the starts of two of the batch's sessions of the same keys. Sessions are told apart by
    when they begin, whatever they hold: the same events in other sessions begin at other times.
    """
    own = frozenset(job.keys)
    matching = matching_of(job, {source.name: own for source in job.sources}, whole)
    made = played.rows if played.pending is None else played.rows.unionByName(played.pending)
    begins = [matching.begins(each, job, name) for each, name in ((made, "_made"), (kept, "_kept"))]
    both = begins[0].join(begins[1], "_place", "full").filter(~F.col("_made").eqNullSafe(F.col("_kept")))
    placed = matching.of_rows(rows.select(KEY_ID, "key", "batch", "stream"), job)
    keys = matching.place_id([F.col("key")[key] for key in matching.keys], F.col("place"))
    asked = placed.select(KEY_ID, keys.alias("_place")).distinct()
    return asked.join(both.select("_place"), "_place", "left_semi").select(KEY_ID).distinct().localCheckpoint()


def _unproven(ask: Ask, inputs: ProofInputs, note: str = "") -> Replayed:
    rows = inputs.matching.of_rows(ask.rows.drop("place"), ask.ctx.job)
    return Replayed(with_verdict(rows, "unexplained"), inputs, note)
