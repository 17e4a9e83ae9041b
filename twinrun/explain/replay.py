"""Run recorded micro-batches again, from files: the recording, its watermarks, and the query that is given it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.events.decode import distinct_in_stream
from twinrun.events.exact import quoted
from twinrun.events.source import Source
from twinrun.explain.used import seen_names
from twinrun.job.job import Job
from twinrun.job.passing import EVERY, Passage
from twinrun.job.plan import seen_schema
from twinrun.results.cut import StreamCut
from twinrun.session.plain import plain_errors
from twinrun.session.settings import NO_CODE
from twinrun.tables.checkpoint import hand_on, planned_micro_batches, total
from twinrun.tables.files import copy, data_files, make_folder
from twinrun.tables.static import Pins, read_static

# What a stream did, as a list of micro-batches that can be done again: which had data, and where it was restarted.


@dataclass(frozen=True)
class Recorded:
    """One micro-batch. ``watermark_ms`` is the one that it emitted by."""

    number: int
    watermark_ms: int
    has_data: bool
    static: Pins


@dataclass(frozen=True)
class Segment:
    """Micro-batches with data that follow each other, under one version of the static tables.

    ``idle_after``: a micro-batch without data came next, so that the replay must make one too.
    """

    data: tuple[int, ...]
    idle_after: bool
    static: Pins


@dataclass(frozen=True)
class Step:
    """One micro-batch of a replay that stands for a recorded one, and for those since the step before.

    ``number`` is the recorded one, None for the step that stands for those before the first. ``watermark_ms`` is the
    one that it emitted by.
    """

    number: int | None
    watermark_ms: int
    static: Pins


@dataclass(frozen=True)
class Steps:
    """The steps of a replay in order, and of each recorded micro-batch (``micro_batch``) the ``place`` of its step.

    What comes in with a micro-batch that is no step itself comes in with the step before it.
    """

    each: tuple[Step, ...]
    places: DataFrame

    def parts(self, more: int = 0) -> list[Segment]:
        """The steps cut where a static table got another version; ``more`` further ones at the end, then an idle one.

        Never empty where there are steps.
        """
        found: list[Segment] = []
        for place, step in enumerate(self.each):
            if found and found[-1].static == step.static:
                found[-1] = Segment((*found[-1].data, place), False, step.static)
            else:
                found.append(Segment((place,), False, step.static))
        if more:
            end = len(self.each)
            found[-1] = Segment((*found[-1].data, *range(end, end + more)), True, found[-1].static)
        return found


def steps_of(cut: StreamCut, read: DataFrame, *, marked: bool, limit: int | None) -> Steps | int:
    """The steps that give the same rows as the whole recording; their number where there are more than ``limit``.

    A step of its own is each micro-batch in ``read``, and each with which a static table got another version. Under a
    watermark (``marked``) so is the last, by which the cut's rows came out; and the micro-batch before each, unless all
    that was read so far, with it, is newer than its watermark: by that nothing is dropped, and nothing comes out or is
    forgotten. Three small Spark jobs; only steps are collected.

    Parameters
    ----------
    read : DataFrame
        ``micro_batch``, those that read what the replay is about, and ``from_ms``, the oldest event time of each.
    """
    in_order = Window.orderBy("micro_batch")
    reads = read.select("micro_batch", "from_ms", F.lit(True).alias("_reads"))
    log = cut.micro_batches.select(
        "micro_batch",
        F.coalesce("watermark_ms", F.lit(0)).alias("watermark_ms"),
        F.to_json("static_versions").alias("static"),
    ).join(reads, "micro_batch", "left")
    before = F.lag("static").over(in_order)
    own = F.coalesce("_reads", F.lit(False)) | F.coalesce(F.col("static") != before, F.lit(False))
    counts = F.min("from_ms").over(in_order) <= F.lag("watermark_ms").over(in_order)
    log = log.withColumns({"_own": own, "_drops": own & F.coalesce(counts, F.lit(False))})
    step = F.col("_own")
    if marked:
        step = step | F.coalesce(F.lead("_drops").over(in_order), F.lit(False))
        step = step | (F.col("micro_batch") == F.lit(cut.committed.micro_batch))
    log = log.withColumn("_step", step)
    log = log.withColumn("place", F.sum(F.col("_step").cast("bigint")).over(in_order) - F.lit(1)).localCheckpoint()
    count = log.filter("_step").count()
    if limit is not None and count > limit:
        return count
    rows = log.filter("_step").orderBy("place").collect()
    found = [
        Step(row["micro_batch"], row["watermark_ms"], json.loads(row["static"]) if row["static"] else cut.static)
        for row in rows
    ]
    first = 0
    if found and found[0].number and marked:  # what moved the watermark before the first of them comes in first
        found.insert(0, Step(None, 0, found[0].static))
        first = 1
    places = log.select("micro_batch", (F.col("place") + F.lit(first)).alias("place"))
    return Steps(tuple(found), places.filter(F.col("place") >= 0))


def recorded(cut: StreamCut) -> list[Recorded]:
    """The micro-batches up to the cut, in order. One Spark job.

    As many small rows as micro-batches are collected: ask for a recording that is no longer than
    ``verify.max_replay_micro_batches``.
    """
    ends = F.aggregate("end_offsets", F.lit(0).cast("bigint"), lambda total, end: total + end["offset"])
    rows = (
        cut.micro_batches.select(
            "micro_batch", "watermark_ms", ends.alias("ends"), F.to_json("static_versions").alias("static")
        )
        .orderBy("micro_batch")
        .collect()
    )
    before = total(cut.start)
    found: list[Recorded] = []
    for row in rows:
        static = json.loads(row["static"]) if row["static"] else cut.static
        # A query that starts at the newest offsets has a first micro-batch that reads nothing. No watermark made Spark
        # run it, so that the replay runs it as one whose files are empty.
        has_data = row["ends"] > before or not found
        found.append(Recorded(row["micro_batch"], row["watermark_ms"] or 0, has_data, static))
        before = row["ends"]
    return found


def segments(record: list[Recorded]) -> list[Segment]:
    """Cut the recording at each micro-batch without data, and where a static table got another version."""
    found: list[Segment] = []
    data: list[int] = []
    static: Pins = record[0].static if record else {}
    for each in record:
        if each.static != static and data:
            found.append(Segment(tuple(data), False, static))
            data = []
        static = each.static
        if each.has_data:
            data.append(each.number)
        else:
            found.append(Segment(tuple(data), True, static))
            data = []
    if data:
        found.append(Segment(tuple(data), False, static))
    return found


# The watermarks of a recording held against Spark's rule, without running anything.
#
# Each source's watermark is its newest event time so far, less its lateness; 0 before its first event. The query's is
# the least of them, and never falls back. A start begins with the query's watermark and forgets those of the sources,
# so that a source which then stays silent holds it where it is (Spark: WatermarkTracker).
#
# Spark moves filters of the function below the watermark: only the events that pass them count
# (`twinrun.job.passing`). Where that cannot be told, more events are looked at than count, and a true recording may
# look impossible. So this never refutes one: it only says where a replay may be handed its watermarks.


Reached = dict[int, dict[str, int]]
"""By micro-batch and source: the newest event time (epoch ms) less the source's lateness."""
_State = tuple[int, ...]


def reached_by(job: Job, used: Mapping[str, DataFrame], passages: Mapping[str, Passage]) -> Reached:
    """What each micro-batch's events alone would move each source's watermark to. One Spark job per source.

    Parameters
    ----------
    used : mapping of str to DataFrame
        By source, the events that the stream took, with ``_micro_batch``. Sources without a watermark are left out.
    """
    found: Reached = {}
    for source in job.sources:
        if source.lateness_ms is None:
            continue
        moment = F.unix_millis(F.col(quoted(source.event_time)))
        moving = passages.get(source.name, EVERY).moving(used[source.name])
        newest = moving.groupBy("_micro_batch").agg(F.max(moment).alias("newest"))
        for row in newest.collect():
            found.setdefault(row["_micro_batch"], {})[source.name] = row["newest"] - source.lateness_ms
    return found


def first_that_differs(job: Job, record: list[Recorded], reached: Reached, starts: Collection[int]) -> int | None:
    """The first micro-batch whose watermark is not the recorded one, were the query started just before ``starts``.

    None where all are.
    """
    names = _names(job)
    state, watermark = _fresh(names), 0
    for each in record:
        if each.watermark_ms != watermark:
            return each.number
        state = _fresh(names) if each.number in starts else state
        state = _after(state, names, reached.get(each.number, {}))
        watermark = _least(state, watermark)
    return None


def first_impossible(job: Job, record: list[Recorded], reached: Reached) -> int | None:
    """The first micro-batch whose recorded watermark no choice of restarts can give; None where there is none."""
    names = _names(job)
    fresh = _fresh(names)
    states, watermark = {fresh}, 0
    for each in record:
        states = {state for state in states if _least(state, watermark) == each.watermark_ms}
        if not states:
            return each.number
        watermark = each.watermark_ms
        states = {_after(state, names, reached.get(each.number, {})) for state in {fresh, *states}}
    return None


def _names(job: Job) -> tuple[str, ...]:
    return tuple(source.name for source in job.sources if source.lateness_ms is not None)


def _fresh(names: tuple[str, ...]) -> _State:
    return (0,) * len(names)


def _after(state: _State, names: tuple[str, ...], reached: Mapping[str, int]) -> _State:
    return tuple(max(before, reached.get(name, 0)) for before, name in zip(state, names, strict=True))


def _least(state: _State, watermark_ms: int) -> int:
    return max(watermark_ms, min(state, default=0))


# Run recorded micro-batches again, from files: the proof that needs no knowledge of the function.
#
# Each micro-batch becomes one file per source (an empty one where the source had none). A fresh query is given the
# files of the next micro-batch while it ends the one before, so that it never sees more than one of each source: their
# order needs no times of files, which an object store does not let anybody set. The query is stopped and started where
# the recording has a micro-batch without data, since a micro-batch drops by the watermark of the one before it, data
# or not. Where starts at these places would give other watermarks than the recorded ones, it is started for each
# micro-batch instead, and handed its watermark.


_LITTLE = {
    "spark.sql.shuffle.partitions": "1",
    **NO_CODE,
    "spark.sql.streaming.stateStore.providerClass": (
        "org.apache.spark.sql.execution.streaming.state.HDFSBackedStateStoreProvider"
    ),
}
NUMBER = "_b"
"""Column of replayed rows: the number of the micro-batch that emitted them."""


@dataclass(frozen=True)
class Replay:
    """One fresh query over files. ``delay_ms`` is the lateness of each source, None for no watermark.

    ``on_micro_batch`` is told the number of each micro-batch when its rows come out, from Spark's thread.
    """

    spark: SparkSession
    cfg: Config
    job: Job
    folder: str
    delay_ms: dict[str, int | None]
    on_micro_batch: Callable[[int], None]

    @property
    def checkpoint(self) -> str:
        """Where the query keeps its state."""
        return f"{self.folder}/checkpoint"

    def incoming(self, source: str) -> str:
        """Folder whose files the query reads."""
        return f"{self.folder}/in/{source}"

    def staged(self, source: str) -> str:
        """Folder where the files wait, one folder per micro-batch."""
        return f"{self.folder}/staged/{source}"


class ReplayError(Exception):
    """The storage cannot hold a replay; one sentence."""


def folder_of(cfg: Config, job: Job, verify_id: str) -> str:
    """Where the replays of one verify are."""
    return f"{cfg.checkpoint('replay', job.job_name, 1)}/{verify_id}"


def new_replay(
    spark: SparkSession,
    cfg: Config,
    job: Job,
    folder: str,
    delay_ms: dict[str, int | None],
    on_micro_batch: Callable[[int], None],
    *,
    little: bool = False,
) -> Replay:
    """A replay in a folder and a session of its own: nothing that it sets is seen by others.

    ``little``: of few events. It plans for them; no setting changes what comes out.
    """
    own = spark.newSession()
    for name, value in (_LITTLE if little else {}).items():
        own.conf.set(name, value)
    own.conf.set("spark.sql.streaming.minBatchesToRetain", "1000000")
    own.conf.set("spark.sql.streaming.fileSource.cleaner.numThreads", "0")
    # Watermarks are handed on in commit files, which Spark would then take for damaged ones.
    own.conf.set("spark.sql.streaming.checkpoint.fileChecksum.enabled", "false")
    return Replay(own, cfg, job, folder, delay_ms, on_micro_batch)


def stage(replay: Replay, events: dict[str, DataFrame], *, by_time: bool = False) -> None:
    """Write the events as one file per ``_micro_batch`` and source, in order of offset. One Spark job per source.

    ``by_time``: in order of event time instead.

    Parameters
    ----------
    events : dict of str to DataFrame
        By source: the columns that the function sees, and ``_micro_batch``.
    """
    for source in replay.job.sources:
        columns = [F.col(quoted(name)) for name in seen_names(source)]
        frame = events[source.name].select(*columns, F.col("_micro_batch"))
        order = [F.col(quoted(source.event_time))] if by_time else []
        ordered = frame.repartition("_micro_batch").sortWithinPartitions(
            "_micro_batch", *order, F.col("_partition"), F.col("_offset")
        )
        ordered.write.partitionBy("_micro_batch").mode("overwrite").parquet(replay.staged(source.name))
        empty = replay.spark.createDataFrame([], seen_schema(source)).coalesce(1)
        empty.write.mode("overwrite").parquet(f"{replay.folder}/empty/{source.name}")
        make_folder(replay.spark, replay.incoming(source.name))


def play(replay: Replay, parts: Iterable[Segment]) -> None:
    """Run segment after segment; each ends when its files are read, and with a micro-batch without data if asked."""
    for part in parts:
        _run(replay, part)


def play_each(replay: Replay, record: Iterable[Recorded]) -> None:
    """Run each micro-batch by itself, under its recorded watermark; one without data gets empty files."""
    for each in record:
        if each.number:
            hand_on(replay.spark, replay.checkpoint, each.number - 1, each.watermark_ms)
        play(replay, [Segment((each.number,), False, each.static)])


def watermarks(replay: Replay) -> dict[int, int]:
    """Watermark by micro-batch, as the replay recorded it. One Spark job."""
    rows = planned_micro_batches(replay.spark, replay.checkpoint).select("micro_batch", "watermark_ms").collect()
    return {row["micro_batch"]: row["watermark_ms"] or 0 for row in rows}


def emitted(spark: SparkSession, replay: Replay) -> DataFrame:
    """All rows that came out, with `NUMBER`. Lazy; files of the replay's folder."""
    return spark.read.parquet(f"{replay.folder}/out")


def _let_in(replay: Replay, number: int) -> None:
    """Copy a micro-batch's files to where the query looks. It must not be looking: it is stopped, or ends another."""
    for source in replay.job.sources:
        staged = data_files(replay.spark, f"{replay.staged(source.name)}/_micro_batch={number}")
        if len(staged) > 1:
            raise ReplayError(f"micro-batch {number} was written in {len(staged)} files")
        file = staged or data_files(replay.spark, f"{replay.folder}/empty/{source.name}")
        copy(replay.spark, file[0], f"{replay.incoming(source.name)}/b{number:09d}.parquet")


def _run(replay: Replay, part: Segment) -> None:
    spark, job = replay.spark, replay.job
    spark.conf.set("spark.sql.streaming.noDataMicroBatches.enabled", str(part.idle_after).lower())
    frames = read_static(spark, replay.cfg, part.static)
    for source in job.sources:
        frames[source.name] = _events(replay, source)
    out, waiting = f"{replay.folder}/out", list(part.data)

    def save(rows: DataFrame, number: int) -> None:
        replay.on_micro_batch(number)
        rows.coalesce(1).write.mode("overwrite").parquet(f"{out}/{NUMBER}={number}")
        if waiting:
            _let_in(replay, waiting.pop(0))

    writer = job.apply(frames).writeStream.outputMode("update" if job.emit == "updates" else "append")
    with plain_errors(f"the replay of {job.job_name}"):
        if waiting:
            _let_in(replay, waiting.pop(0))
        query = writer.option("checkpointLocation", replay.checkpoint).foreachBatch(save).start()
        try:
            query.processAllAvailable()
        finally:
            query.stop()


def _events(replay: Replay, source: Source) -> DataFrame:
    schema = seen_schema(source)
    frame = replay.spark.readStream.schema(schema).parquet(replay.incoming(source.name))
    delay_ms = replay.delay_ms[source.name]
    if delay_ms is None:
        return frame
    return distinct_in_stream(frame.withWatermark(source.event_time, f"{delay_ms} milliseconds"), source)
