"""The proof for every other job, and for what a closed form leaves open: run the recorded micro-batches again."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.comparator.frame import sent
from twinrun.config.model import Config
from twinrun.errors import QueryError
from twinrun.explain.classify import Worlds, classify
from twinrun.explain.counterfactual import USED, batch_rows
from twinrun.explain.differing import EXACT_TIMES, KEY_ID, differing, differing_keys, rows_at
from twinrun.explain.evidence import causes_of
from twinrun.explain.late import event_dropped
from twinrun.explain.material import Material
from twinrun.explain.prove import Played, Withdrawn, replay_in_order, replay_recorded
from twinrun.explain.recording import Recorded, recorded
from twinrun.explain.replay import ReplayError, folder_of
from twinrun.job.dataflow import Dataflow
from twinrun.job.job import Job
from twinrun.job.jvmplan import has_jvm
from twinrun.results.cut import StreamCut
from twinrun.results.run import Say, quiet
from twinrun.tables.files import remove
from twinrun.wording import plural


@dataclass(frozen=True)
class Replayed:
    """Judged rows, and why nothing could be proven where that is so."""

    rows: DataFrame
    note: str = ""


def explain_by_replay(
    spark: SparkSession,
    cfg: Config,
    job: Job,
    flow: Dataflow,
    cut: StreamCut,
    rows: DataFrame,
    material: Material,
    name: str,
    say: Say = quiet,
) -> Replayed:
    """Add ``verdict`` and ``causes`` to differing rows; six Spark jobs per recorded micro-batch, twice.

    ``material`` must hold all events. Where the recording is longer than ``verify.max_replay_micro_batches``, or the
    replay does not show the recorded watermarks, the rows stay unexplained and a note says why. ``say`` is told which
    micro-batch of how many is run again.
    """
    limit = cfg.verify.max_replay_micro_batches
    # Counted before the recording is read: of a stream that runs for months it would not fit the driver.
    micro_batches = cut.committed.micro_batch + 1 - cut.missing
    if micro_batches <= 0:
        return Replayed(_unproven(rows))
    if not has_jvm(spark):
        return Replayed(_unproven(rows), "Rows were not proven by replay: Spark Connect has no files to replay from.")
    if limit is not None and micro_batches > limit:
        note = (
            f"Rows were not proven by replay: the stream made {plural(micro_batches, 'micro-batch')}, "
            f"and verify.max_replay_micro_batches is {limit}."
        )
        return Replayed(_unproven(rows), note if limit else "")
    record, folder = recorded(cut), folder_of(cfg, job, name)
    try:
        worlds = _replays(spark, cfg, job, flow, cut, rows, material, record, folder, say)
    except (QueryError, ReplayError) as error:  # what cannot be run again proves nothing, and is no reason to fail
        worlds = Withdrawn(str(error).splitlines()[0])
    finally:
        remove(spark, folder)
    if isinstance(worlds, Withdrawn):
        return Replayed(_unproven(rows), f"A proof by replay was withdrawn: {worlds.why.rstrip('.')}.")
    judged = classify(job, flow, _with_extra_sessions(job, causes_of(rows, material.evidence)), worlds)
    return Replayed(judged.select(*rows.columns, "verdict", "causes"), _note_on(flow))


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


def _replays(
    spark: SparkSession,
    cfg: Config,
    job: Job,
    flow: Dataflow,
    cut: StreamCut,
    rows: DataFrame,
    material: Material,
    record: list[Recorded],
    folder: str,
    say: Say,
) -> Worlds | Withdrawn:
    """Run the recording, with one version of the static tables if it had several, and in order."""
    played = replay_recorded(spark, cfg, job, material.marked, record, folder, flow.passages, say)
    if isinstance(played, Withdrawn):
        return played
    uniform = played
    if cut.static_mixed:
        same = [replace(each, static=cut.static) for each in record]
        again = replay_recorded(spark, cfg, job, material.marked, same, f"{folder}/one-version", flow.passages, say)
        if isinstance(again, Withdrawn):
            return again
        uniform = again
    in_order = replay_in_order(spark, cfg, job, material.marked, record, folder, flow.opaque, say)
    keys = sent(rows.select(KEY_ID).distinct().localCheckpoint())
    return _worlds(job, flow, material, keys, played, uniform, in_order)


def _worlds(
    job: Job,
    flow: Dataflow,
    material: Material,
    keys: DataFrame,
    played: Played,
    uniform: Played,
    in_order: DataFrame,
) -> Worlds:
    """Compute every version of the result at the differing keys. One Spark job each."""
    used = {name: frame.filter(F.col(USED)) for name, frame in material.marked.items()}
    kept = {s.name: used[s.name].filter(~event_dropped(s, flow.rules[s.name])) for s in job.sources}

    def at(rows: DataFrame) -> DataFrame:
        # Materialised first: Spark pushes a filter below the merging of sessions, which changes them.
        return rows_at(job, rows.localCheckpoint() if job.shape == "session" else rows, keys).localCheckpoint()

    whole_used = batch_rows(job, used, material.stream_static)
    elsewhere = flow.opaque and differing_keys(job, in_order, whole_used, "_mode").limit(1).count() > 0
    of_used = at(whole_used)
    replayed = at(played.rows)
    return Worlds(
        sink=at(material.sides.stream),
        table=at(material.sides.batch),
        replayed=replayed,
        uniform=replayed if uniform is played else at(uniform.rows),
        pending=None if played.pending is None else at(played.pending),
        in_order=at(in_order),
        kept=at(batch_rows(job, kept, material.stream_static)),
        used=of_used,
        whole=at(material.whole),
        used_static=at(batch_rows(job, used, material.batch_static)) if material.static_differs else of_used,
        mode_dependent=elsewhere,
        faithful=not _chooses(job, flow) or not _other_rows(job, played.rows, material.sides.stream),
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


def _unproven(rows: DataFrame) -> DataFrame:
    return rows.withColumns({"verdict": F.lit("unexplained"), "causes": F.create_map().cast("map<string,bigint>")})
