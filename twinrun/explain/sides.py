"""The two results that a verify compares, and which of their rows the stream had to have emitted."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from twinrun.events.json_ import quoted
from twinrun.job.job import Job


@dataclass(frozen=True)
class Sides:
    """Both results at the cut, closed windows only, without lineage columns."""

    batch: DataFrame
    stream: DataFrame


def closed(job: Job, results: DataFrame, watermark_ms: int | None) -> DataFrame:
    """Rows of windows that the stream had to emit: their end is at or before the watermark. All rows without one."""
    if not waits_for_close(job):
        return results
    return results.filter(window_end_ms(job) <= F.lit(watermark_ms or 0))


def waits_for_close(job: Job) -> bool:
    """Whether rows come out only when their window closes."""
    return job.windowed and job.emit == "final"


def window_end_ms(job: Job) -> Column:
    """End of a row's window in epoch milliseconds."""
    return F.unix_millis(F.col(quoted(job.window_column))) + F.lit(job.window_ms)
