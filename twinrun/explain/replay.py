"""Run recorded micro-batches again, from files: the proof that needs no knowledge of the function.

Each micro-batch becomes one file per source (an empty one where the source had none). A fresh query is given the files
of the next micro-batch while it ends the one before, so that it never sees more than one of each source: their order
needs no times of files, which an object store does not let anybody set. The query is stopped and started where the
recording has a micro-batch without data, since a micro-batch drops by the watermark of the one before it, data or not.
Where starts at these places would give other watermarks than the recorded ones, it is started for each micro-batch
instead, and handed its watermark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.events.distinct import distinct_in_stream
from twinrun.events.json_ import quoted
from twinrun.events.source import Source
from twinrun.explain.counterfactual import seen_names
from twinrun.explain.recording import Recorded, Segment
from twinrun.job.job import Job
from twinrun.job.plan import seen_schema
from twinrun.session.plain import plain_errors
from twinrun.session.small import NO_CODE
from twinrun.tables.checkpoint import planned_micro_batches
from twinrun.tables.commits import hand_on
from twinrun.tables.files import copy, data_files, make_folder
from twinrun.tables.static import read_static

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
