"""The proof for one window operator, stateless jobs and running totals: the function over exactly what the stream used.

A row is explained only if two recomputations hold: the function over the events that the stream used gives the
stream's row, and the function over all events gives the batch's row.
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun.explain.counterfactual import stream_rows
from twinrun.explain.differing import KEY_ID, differing_keys
from twinrun.explain.evidence import causes_of
from twinrun.explain.material import Material
from twinrun.explain.needed import only_needed
from twinrun.explain.sink_changed import is_same
from twinrun.job.job import Job


def explain_closed_form(job: Job, rows: DataFrame, material: Material) -> DataFrame:
    """Add ``verdict`` and ``causes`` to differing rows. About one Spark job; more where a row has several causes.

    Parameters
    ----------
    rows : DataFrame
        Differing rows with `KEY_ID` and ``place``.
    """
    marked, sides, ranges = material.marked[job.sources[0].name], material.sides, material.ranges
    expected = stream_rows(job, marked, material.stream_static)
    wrong = differing_keys(job, expected, sides.stream, "_wrong", ranges)
    wrong = wrong.unionByName(differing_keys(job, material.whole, sides.batch, "_wrong", ranges)).distinct()
    judged = causes_of(rows, material.evidence).join(wrong, KEY_ID, "left")
    causes = F.col("causes")
    if material.static_differs:
        # Claimed only where the other version gives another row: a row may differ by its late events alone.
        other = differing_keys(job, expected, stream_rows(job, marked, material.batch_static), "_static", ranges)
        judged = judged.join(other, KEY_ID, "left")
        entry = F.create_map(F.lit("static_version"), F.lit(0).cast("bigint"))
        causes = F.when(F.col("_static").isNotNull(), F.map_concat(causes, entry)).otherwise(causes)
    same = is_same(rows)
    none = F.create_map().cast("map<string,bigint>")
    proven = F.col("_wrong").isNull() & (same | (F.size("_causes") > 0))
    judged = judged.withColumn("_causes", F.when(same, none).otherwise(causes))
    judged = judged.withColumn("verdict", F.when(proven, F.lit("explained")).otherwise(F.lit("unexplained")))
    # A cause that is not proven is withdrawn.
    judged = judged.withColumn("causes", F.when(proven, F.col("_causes")).otherwise(none))
    judged = judged.select(*rows.columns, "verdict", "causes").localCheckpoint()

    def of_stream(marked: dict[str, DataFrame]) -> DataFrame:
        return stream_rows(job, marked[job.sources[0].name], material.stream_static)

    return only_needed(job, judged, material, of_stream)
