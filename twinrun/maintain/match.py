"""Which records have a value in a field: events by their column, refused records by what can still be read of them."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.events.decode import decode
from twinrun.events.json_ import quoted
from twinrun.events.source import Source
from twinrun.tables.control import latest_record
from twinrun.tables.delta import read_table, table_exists
from twinrun.tables.offsets import at_or_after, plain

_PLACE = ("topic", "partition", "offset")


def matching_records(spark: SparkSession, cfg: Config, source: Source, field: str, value: str) -> DataFrame:
    """``topic``, ``partition``, ``offset`` and ``event_time_ms`` (null for refused records) of every match. Lazy.

    A refused record matches if the decoder reads the value in the field, if its JSON has it there, or, where it is not
    JSON at all, if its text holds the value anywhere.
    """
    same = F.col(quoted(field)).cast("string") == F.lit(value)
    events = read_table(spark, cfg.table("events", source=source.name)).filter(same)
    at = F.unix_millis(F.col(quoted(source.event_time))).alias("event_time_ms")
    found = events.select(*[F.col(f"_{name}").alias(name) for name in _PLACE], at)
    refused = read_table(spark, cfg.table("quarantine", source=source.name))
    refused = refused.select(*[F.col(f"_{name}").alias(name) for name in _PLACE]).distinct()
    raw = read_table(spark, cfg.table("bronze", topic=cfg.source(source.name).topic)).join(refused, list(_PLACE))
    read = decode(raw, source).filter(same).select(*[F.col(f"_{name}").alias(name) for name in _PLACE])
    text = F.col("value").cast("string")
    escaped = field.replace("\\", "\\\\").replace("'", "\\'")
    in_json = F.get_json_object(text, f"$['{escaped}']") == F.lit(value)
    no_json = F.get_json_object(text, "$").isNull() & text.contains(value)
    seen = raw.filter(F.coalesce(in_json | no_json, F.lit(False))).select(*_PLACE)
    others = read.unionByName(seen).distinct().join(found.select(*_PLACE), list(_PLACE), "left_anti")
    return found.unionByName(others.withColumn("event_time_ms", F.lit(None).cast("bigint")))


def unfinished(spark: SparkSession, cfg: Config, source: Source, found: DataFrame) -> DataFrame:
    """The matches, with records that an erasure has put on record and died before it removed them. Lazy."""
    ref = cfg.table("erased")
    if not table_exists(spark, ref):
        return found
    bronze = read_table(spark, cfg.table("bronze", topic=cfg.source(source.name).topic)).select(*_PLACE)
    left = read_table(spark, ref).select(*_PLACE, "event_time_ms").join(bronze, list(_PLACE), "left_semi")
    return found.unionByName(left).distinct()


def undecoded(spark: SparkSession, cfg: Config, source: Source) -> int:
    """Records in bronze that no decode has reached. Two small Spark jobs."""
    last = latest_record(spark, cfg, "decode", source.name)
    ends = plain(last.payload["to"]) if last and last.payload["phase"] == "done" else {}
    bronze = read_table(spark, cfg.table("bronze", topic=cfg.source(source.name).topic))
    return bronze.filter(at_or_after(ends, "partition", "offset")).count()
