"""Clicks per page and minute from records of two formats; the decoder's first version knows only one of them."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from twinrun import Job, Source
from twinrun.events.json_ import find_decoder, register_decoder

KNOWS_OLD_RECORDS = False

CLICKS = Source(
    "clicks",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL",
    event_time="at",
    lateness="10 seconds",
    id=["id"],
    format="clicks",
)


def decode_clicks(rows: DataFrame, wire: StructType) -> DataFrame:
    """JSON, and once corrected also the old ``id;at;page``, which is rewritten as JSON first."""
    if not KNOWS_OLD_RECORDS:
        return find_decoder("json")(rows, wire)
    text = F.col("value").cast("string")
    parts = F.split(text, ";")
    # F.get: a decoder must never fail on a record, and parts[1] would where there is none.
    old = F.struct(
        F.get(parts, F.lit(0)).alias("id"),
        F.get(parts, F.lit(1)).try_cast("bigint").alias("at"),
        F.get(parts, F.lit(2)).alias("page"),
    )
    as_json = F.when(text.startswith("{"), text).otherwise(F.to_json(old))
    return find_decoder("json")(rows.withColumn("value", as_json.cast("binary")), wire)


register_decoder("clicks", decode_clicks)


def legacy(clicks: DataFrame) -> DataFrame:
    """Clicks per page and minute."""
    grouped = clicks.groupBy("page", F.window("at", "1 minute")).agg(F.count(F.lit(1)).alias("clicks"))
    return grouped.select("page", F.col("window.start").alias("window_start"), "clicks")


JOB = Job(legacy, sources=[CLICKS], keys=["page", "window_start"], window="1 minute")
