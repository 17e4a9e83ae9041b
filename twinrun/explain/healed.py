"""Healed rows in a proof: the stream never wrote them, so what it did write is put back before it is explained."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import TwinrunError
from twinrun.events.json_ import quoted
from twinrun.explain.differing import EXACT_TIMES, key_id
from twinrun.job.job import Job
from twinrun.results.cut import StreamCut
from twinrun.results.heals import HealRecord, heals_of, standing
from twinrun.results.run import without_lineage
from twinrun.session.plain import plain_errors
from twinrun.tables.delta import read_table

MOST_HEALS = 20
"""So many heals of one table are looked into, from the newest back; rows of older ones cannot be proven any more."""

HEALABLE_KINDS = ("changed", "only_batch", "only_stream")
BATCH_IS_RIGHT = (
    "late_dropped",
    "before_start",
    "quarantined",
    "static_version",
    "duplicate_event",
    "sink_missing",
    "float_order",
)
"""Causes by which the batch's row is the better one, and the stream has done with the events in question."""


def as_emitted(
    spark: SparkSession, cfg: Config, job: Job, cut: StreamCut, stream: DataFrame, differing: DataFrame
) -> DataFrame:
    """The stream's rows without its heals, as far as differing rows are concerned. Lazy but for small Spark jobs.

    A healed row is put back only if it is still exactly what the heal wrote; otherwise somebody else changed it, and
    it stays as it is. One small Spark job where nothing was healed, else about three per heal.

    Parameters
    ----------
    stream : DataFrame
        The stream's rows at the cut, without lineage columns.
    differing : DataFrame
        The rows that differ, with the struct ``key``.
    """
    made = [heal for heal in standing(heals_of(spark, cfg, job.job_name), cut.state.table) if heal.version is not None]
    wanted = differing.select(F.to_json("key", EXACT_TIMES).alias("key_id")).distinct() if made else differing
    for heal in reversed(made[-MOST_HEALS:]):
        stream = _put_back(spark, cfg, job, heal, stream, wanted)
    return stream


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


def _put_back(
    spark: SparkSession, cfg: Config, job: Job, heal: HealRecord, stream: DataFrame, wanted: DataFrame
) -> DataFrame:
    version = heal.version or 0
    try:
        with plain_errors(f"looking into heal {heal.id}"):
            keys = healed_keys(spark, cfg, job, heal).join(wanted, "key_id", "left_semi").localCheckpoint()
            if keys.isEmpty():
                return stream
            where = around(job, keys)
            wrote, had = (without_lineage(read_table(spark, heal.table, at)) for at in (version, version - 1))
            now, wrote, had = (rows_by_key(frame, job, keys, where) for frame in (stream, wrote, had))
            changed = changed_keys(now, wrote)
            intact = keys.join(changed, "key_id", "left_anti").select("key_id").localCheckpoint()
            before = had.join(intact, "key_id", "left_semi").drop("key_id").localCheckpoint()
    except TwinrunError:  # the table's old versions were vacuumed away: the rows stay, and are not proven
        return stream
    kept = stream.withColumn("key_id", key_id(job)).join(F.broadcast(intact), "key_id", "left_anti").drop("key_id")
    return kept.unionByName(before)
