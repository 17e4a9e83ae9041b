"""Rows that somebody else changed in the stream's table, proven by what stood there before.

Two things must hold, and neither alone is a proof: Delta's log has a commit that is not the stream's and changed the
row, and a recomputation (closed form or replay) gives exactly the row that stood there before it. So such a row is
explained as it was before the commit; only then it gets the cause, besides those by which that row differs.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from twinrun.explain.differing import KEY_ID, differing, key_id
from twinrun.explain.keep import as_text
from twinrun.explain.sides import Sides
from twinrun.job.job import Job

CAUSE = "sink_changed"
SAME = "_same"
"""Boolean column of rows that only the foreign commit made differ: before it, both tables held the same row."""


def is_same(rows: DataFrame) -> Column:
    """Whether a row differs by the foreign commit alone; false where no row was changed by one."""
    return F.coalesce(F.col(SAME), F.lit(False)) if SAME in rows.columns else F.lit(False)


def with_emitted(job: Job, keyed: DataFrame, sides: Sides, changed: DataFrame) -> DataFrame:
    """The differing rows, those that were changed as they were before: what is to be explained. Materialised.

    Parameters
    ----------
    keyed : DataFrame
        Differing rows as the tables hold them, with `KEY_ID`.
    sides : Sides
        The stream's side as it was before.
    changed : DataFrame
        Keys (`KEY_ID`) of the rows that were changed.
    """
    keys = changed.select(KEY_ID)
    batch, stream = (_at(job, frame, keys) for frame in (sides.batch, sides.stream))
    again = differing(job, batch, stream).localCheckpoint()
    alone = keyed.join(keys, KEY_ID, "left_semi").join(again.select(KEY_ID), KEY_ID, "left_anti")
    alone = alone.dropDuplicates([KEY_ID]).withColumn("kind", F.lit("same")).withColumn(SAME, F.lit(True))
    others = keyed.join(keys, KEY_ID, "left_anti")
    found = others.unionByName(again.select(*keyed.columns)).withColumn(SAME, F.lit(False))
    return found.unionByName(alone.select(*found.columns)).localCheckpoint()


def as_held(judged: DataFrame, held: DataFrame, changed: DataFrame) -> DataFrame:
    """The judged rows, those that were changed as the table holds them now, with the cause where it is proven. Lazy."""
    keys = changed.select(KEY_ID)
    more = [name for name in judged.columns if name not in (*held.columns, SAME, "verdict", "causes")]
    mine = judged.join(keys, KEY_ID, "left_semi").groupBy(KEY_ID)
    proven = mine.agg(
        F.min(F.col("verdict") == "explained").alias("_proven"),
        F.max(F.col("verdict") == "evidence_expired").alias("_expired"),
        F.first("causes").alias("_causes"),
        *[F.first(name).alias(name) for name in more],
    )
    causes = F.map_concat("_causes", F.create_map(F.lit(CAUSE), F.lit(0).cast("bigint")))
    verdict = F.when(F.col("_proven"), "explained").when(F.col("_expired"), "evidence_expired").otherwise("unexplained")
    rows = held.join(proven, KEY_ID).withColumn("verdict", verdict)
    none = F.create_map().cast("map<string,bigint>")
    rows = rows.withColumn("causes", F.when(F.col("_proven"), causes).otherwise(none))
    rest = judged.join(keys, KEY_ID, "left_anti").drop(SAME)
    return rest.unionByName(rows.select(*rest.columns)).localCheckpoint()


def emitted_texts(job: Job, stream: DataFrame, held: DataFrame, changed: DataFrame | None) -> DataFrame | None:
    """`KEY_ID` and ``emitted``: the row that the stream had written, as JSON; null where it had written none. Lazy."""
    if changed is None:
        return None
    names = held.select("stream.*").columns
    row = F.struct(*[F.col(f"`{name}`") for name in names]).alias("stream")
    rows = _at(job, stream, changed.select(KEY_ID)).select(key_id(job).alias(KEY_ID), row)
    texts = rows.select(KEY_ID, as_text(rows, "stream").alias("emitted")).groupBy(KEY_ID).agg(F.first("emitted"))
    return changed.select(KEY_ID).join(texts.toDF(KEY_ID, "emitted"), KEY_ID, "left")


def _at(job: Job, rows: DataFrame, keys: DataFrame) -> DataFrame:
    return rows.withColumn(KEY_ID, key_id(job)).join(keys, KEY_ID, "left_semi").drop(KEY_ID).localCheckpoint()
