"""The table ``differences``: every differing row of every verify, with its verdict and causes."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DateType, DecimalType, TimestampNTZType, TimestampType

from twinrun.config.model import Config
from twinrun.explain.differing import EXACT_TIMES, KEY_ID
from twinrun.job.job import Job
from twinrun.tables.delta import append


def keep(
    spark: SparkSession, cfg: Config, job: Job, verify_id: str, judged: DataFrame, table: str = "differences"
) -> DataFrame:
    """Append judged rows and return them as they were written, at hand. One Spark job.

    ``verify_id`` is new for each verify: its rows are nobody else's.
    """
    ref = cfg.table(table)
    rows = judged.select(
        F.lit(verify_id).alias("verify_id"),
        F.lit(job.job_name).alias("job"),
        KEY_ID,
        (F.col("window") if job.windowed else F.lit(None)).cast("timestamp").alias("window_start"),
        "kind",
        "copy",
        "columns",
        as_text(judged, "batch").alias("batch"),
        as_text(judged, "stream").alias("stream"),
        "verdict",
        F.col("causes").cast("map<string,bigint>").alias("causes"),
    )
    rows = rows.localCheckpoint(eager=False)
    append(rows, ref, fenced=False)
    return rows


def as_text(frame: DataFrame, side: str) -> Column:
    """A side's row as JSON: decimals and times as text, so that no digit is lost; null where the side has no row."""
    struct = frame.select(f"{side}.*").schema
    exact = (DecimalType, TimestampType, TimestampNTZType, DateType)
    names = [field.name for field in struct if isinstance(field.dataType, exact)]
    cells = [
        (F.col(side)[field.name].cast("string") if field.name in names else F.col(side)[field.name]).alias(field.name)
        for field in struct
    ]
    return F.when(F.col(side).isNotNull(), F.to_json(F.struct(*cells), EXACT_TIMES))
