"""The proof: the batch's own function over exactly the events that the stream used must give the stream's rows.

Tumbling and sliding windows need no look into the function. The windows whose index leaves the same remainder when
divided by (window / slide, rounded up) do not overlap, so for those alone an event lies in at most one window, and the
rule "drop the pair (event, window)" becomes a filter on events. The function runs once per remainder (once for
tumbling windows) and only the rows of its windows are taken.
"""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from twinrun.events.decode import event_schema
from twinrun.events.distinct import distinct_in_batch
from twinrun.events.json_ import quoted
from twinrun.events.source import Source
from twinrun.explain.late import is_dropped
from twinrun.job.job import Job

USED = "_stream_used"
"""Boolean column of marked events: inside the stream's offsets and not refused by its decoder."""


def declared(events: DataFrame, names: list[str]) -> DataFrame:
    """Exactly the columns that the job's function sees."""
    return events.select(*[F.col(quoted(name)) for name in names])


def stream_rows(job: Job, marked: DataFrame, statics: dict[str, DataFrame]) -> DataFrame:
    """What the stream must have emitted, computed by the job's function in batch. Lazy.

    Only for a job of one source whose dataflow has a closed form, see `twinrun.job.dataflow`.

    Parameters
    ----------
    marked : DataFrame
        Events with `USED` and ``_late_ms``.
    """
    source = job.sources[0]
    names = seen_names(source)
    used = marked.filter(F.col(USED))
    if not job.windowed:
        return without_deleted(job, job.apply({source.name: declared(used, names), **statics}))
    parts = []
    for phase in range(phases(job)):
        start_ms = phase_start(job, source.event_time, phase)
        end_ms = start_ms + F.lit(job.window_ms)
        in_window = F.unix_millis(F.col(quoted(source.event_time))) < end_ms
        late = is_dropped(end_ms * F.lit(1000)) if source.lateness_ms is not None else F.lit(False)
        kept = used.filter(in_window & ~late)
        rows = job.apply({source.name: declared(kept, names), **statics})
        index = F.floor(F.unix_millis(F.col(quoted(job.window_column))) / (job.slide_ms or 1))
        parts.append(rows.filter(F.pmod(index, F.lit(phases(job))) == phase))
    return without_deleted(job, reduce(DataFrame.unionByName, parts))


def batch_rows(job: Job, events: dict[str, DataFrame], statics: dict[str, DataFrame]) -> DataFrame:
    """What the batch must have written from all of its events, by source. Lazy."""
    frames = {
        source.name: distinct_in_batch(declared(events[source.name], seen_names(source)), source)
        for source in job.sources
    }
    return without_deleted(job, job.apply({**frames, **statics}))


def seen_names(source: Source) -> list[str]:
    """Names of the columns that the function sees of a source."""
    return [field.name for field in event_schema(source)]


def phases(job: Job) -> int:
    """How many sets of windows that do not overlap make up all windows: 1 for tumbling."""
    return -(-(job.window_ms or 1) // (job.slide_ms or 1))


def phase_start(job: Job, event_time: str, phase: int) -> Column:
    """Start (epoch ms) of the one window of this phase that could hold the event."""
    index = F.floor(F.unix_millis(F.col(quoted(event_time))) / (job.slide_ms or 1))
    return (index - F.pmod(index - phase, F.lit(phases(job)))) * F.lit(job.slide_ms)


def without_deleted(job: Job, rows: DataFrame) -> DataFrame:
    """Rows that ``delete_when`` does not remove. Lazy."""
    return rows.filter(~F.coalesce(F.expr(job.delete_when), F.lit(False))) if job.delete_when else rows
