"""The two results that a verify compares, and which of their rows the stream had to have emitted."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from twinrun.comparator.result import Comparison
from twinrun.comparator.tables import compare_frames
from twinrun.events.json_ import quoted
from twinrun.job.job import Job


@dataclass(frozen=True)
class Sides:
    """Both results at the cut, closed windows only, without lineage columns."""

    batch: DataFrame
    stream: DataFrame


def compare_sides(job: Job, sides: Sides, full: bool) -> tuple[Comparison, DataFrame]:
    """The comparison of a verify: by the job's keys, windows and tolerances; the differing rows are materialised."""
    return compare_frames(
        sides.batch,
        sides.stream,
        keys=job.keys,
        window_column=job.window_column if job.windowed else None,
        tolerances=job.tolerances,
        sample_rows=0,
        full=full,
        every_key=True,
        materialise=True,
    )


def closed(job: Job, results: DataFrame, watermark_ms: int | None) -> DataFrame:
    """Rows of windows that the stream had to emit: their end is at or before the watermark. All rows without one.

    A row whose window is null can wait for nothing, so it is compared: no job of ours emits one.
    """
    return results.filter(~is_open(job, watermark_ms))


def is_open(job: Job, watermark_ms: int | None) -> Column:
    """Whether the row's window ends after the watermark, so that the stream may still wait with it; never null."""
    if not waits_for_close(job):
        return F.lit(False)
    return F.coalesce(window_end_ms(job) > F.lit(watermark_ms or 0), F.lit(False))


def waits_for_close(job: Job) -> bool:
    """Whether rows come out only when their window closes."""
    return job.windowed and job.emit == "final"


def window_end_ms(job: Job) -> Column:
    """End of a row's window in epoch milliseconds."""
    return F.unix_millis(F.col(quoted(job.window_column))) + F.lit(job.window_ms)
