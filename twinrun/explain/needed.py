"""Several causes of one row: a cause whose events can be put back without changing the row is withdrawn."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from twinrun.explain.counterfactual import USED
from twinrun.explain.differing import KEY_ID, differing_keys
from twinrun.explain.material import Material
from twinrun.job.job import Job

NOTHING_LATE = -(2**52)
"""A watermark (epoch ms) before every event: by it nothing is dropped. In microseconds it is still a bigint."""
BY_OFFSET = ("before_start", "beyond_cut", "quarantined")
_LEFT_OUT = (*BY_OFFSET, "late_dropped")
_TRIED = "_by_"

Rows = Callable[[dict[str, DataFrame]], DataFrame]
"""What the stream must have emitted, from marked events by source."""


def only_needed(job: Job, judged: DataFrame, material: Material, rows: Rows) -> DataFrame:
    """Withdraw what does not change its row by itself; where only all causes together do, all stay.

    One Spark job where no row has several causes about events; else one more, over the rows of ``material.ranges``.

    Parameters
    ----------
    judged : DataFrame
        Materialised, with `KEY_ID` and ``causes``; rows without a proof have none.
    """
    about_events = F.size(F.map_filter("causes", lambda cause, _: cause.isin(*_LEFT_OUT)))
    if not judged.filter(about_events > 1).limit(1).count():
        return judged
    joined = judged
    for cause in _LEFT_OUT:
        restored = {name: _restored(frame, cause) for name, frame in material.marked.items()}
        # Keys at which the row without this cause is still the stream's lack the flag.
        flag = differing_keys(job, rows(restored), material.sides.stream, f"{_TRIED}{cause}", material.ranges)
        joined = joined.join(flag, KEY_ID, "left")
    kept = F.map_filter("causes", lambda cause, _: ~cause.isin(*_LEFT_OUT) | _flag_of(cause))
    some_left = F.size(F.map_filter(kept, lambda cause, _: cause.isin(*_LEFT_OUT))) > 0
    found = F.when((about_events > 1) & some_left, kept).otherwise(F.col("causes"))
    return joined.withColumn("causes", found).select(*judged.columns).localCheckpoint()


def _flag_of(cause: Column) -> Column:
    found: Column = F.lit(False)
    for name in _LEFT_OUT:
        found = F.when(cause == name, F.coalesce(F.col(f"{_TRIED}{name}"), F.lit(False))).otherwise(found)
    return found


def _restored(marked: DataFrame, cause: str) -> DataFrame:
    """The events as if those of one cause had been used."""
    if cause == "late_dropped":
        # A rule that goes by the event itself, not by its windows, has left late ones out of what was used.
        used = F.col(USED) | F.col("_cause").isNull()
        return marked.withColumns({"_late_ms": F.lit(NOTHING_LATE).cast("bigint"), USED: used})
    back = F.coalesce(F.col("_cause") == cause, F.lit(False))
    late = F.when(~back, F.col("_late_ms")).otherwise(F.lit(NOTHING_LATE))
    return marked.withColumns({USED: F.col(USED) | back, "_late_ms": late})
