"""What verifies have kept about an erased key: late events, duplicate events, and differing rows that show it."""

from __future__ import annotations

import json

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.events.source import Source
from twinrun.maintain.result import Removal
from twinrun.maintain.rows import delete_marked, delete_rows
from twinrun.tables.delta import read_table, table_exists


def evidence_removals(
    spark: SparkSession,
    cfg: Config,
    source: Source,
    jobs: list[str],
    marked: DataFrame,
    field: str,
    value: str,
    apply: bool,
) -> list[Removal]:
    """Count, and with ``apply`` delete, the rows of evidence. About ten Spark jobs.

    Late and duplicate events go by coordinates. Of a duplicate the whole row goes, which the next verify makes anew
    from what is left. A differing row goes if a cell, of whatever column, is the value: its JSON shows it.
    """
    place = "target.topic = source.topic AND target.partition = source.partition AND target.offset = source.offset"
    removals = [delete_marked(spark, "late_events", cfg.table("late_events"), marked, place, apply)]
    ref = cfg.table("duplicate_events")
    if table_exists(spark, ref):
        rows = read_table(spark, ref).filter(F.col("source") == source.name)
        each = rows.select("source", "id", F.explode("coordinates").alias("at"))
        same = [F.col(f"at._{name}") == marked[name] for name in ("topic", "partition", "offset")]
        named = each.join(marked, same, "left_semi").select("source", "id").distinct().localCheckpoint()
        by_id = "target.source = source.source AND target.id = source.id"
        removals.append(delete_marked(spark, "duplicate_events", ref, named, by_id, apply))
    ref = cfg.table("differences")
    if table_exists(spark, ref) and jobs:
        shown = F.lit(False)
        for column in ("key_id", "batch", "stream"):
            by_name = F.get_json_object(column, f"$['{field}']") == F.lit(value)
            shown = shown | F.coalesce(by_name, F.lit(False))
            shown = shown | F.coalesce(F.col(column).contains(json.dumps(value, ensure_ascii=False)), F.lit(False))
        where = F.col("job").isin(*jobs) & shown
        removals.append(delete_rows(spark, "differences", ref, where, apply))
    return removals
