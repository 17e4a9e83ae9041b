"""Which source holds the watermark back, where rows wait: several sources have one watermark, the least of theirs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.durations import human
from twinrun.events.source import Source
from twinrun.explain.assign import newest_events
from twinrun.explain.judge import Checks
from twinrun.explain.sides import waits_for_close
from twinrun.job.dataflow import Dataflow
from twinrun.job.job import Job
from twinrun.job.passing import Passage
from twinrun.results.cut import StreamCut
from twinrun.results.state import BatchState
from twinrun.wording import worded


@dataclass(frozen=True)
class Reached:
    """How far a source is.

    ``newest_ms``: its newest event before the cut's micro-batch (epoch ms), of those that move its watermark, which are
    those with ``moves_if`` where that is not empty; None: no event.
    """

    name: str
    newest_ms: int | None
    lateness_ms: int
    moves_if: str = ""

    @property
    def watermark_ms(self) -> int:
        """The watermark that this source alone would give; 0 before its first event."""
        return 0 if self.newest_ms is None else max(self.newest_ms - self.lateness_ms, 0)


def notes_on_sources(
    spark: SparkSession,
    cfg: Config,
    job: Job,
    flow: Dataflow,
    cut: StreamCut,
    batch: BatchState,
    windows: DataFrame,
    checks: Checks,
) -> tuple[str, ...]:
    """A sentence on the source that rows wait for; empty where none is proven to hold the others back.

    Parameters
    ----------
    windows : DataFrame
        See `twinrun.explain.summary.windows_frame`.
    checks : Checks
        Says whether the batch covers the cut, and whether rows are pending. One Spark job per source and one more
        where rows wait and there are several sources, else none.
    """
    timed = [source for source in job.sources if source.lateness_ms is not None]
    waiting = checks.totals["rows_pending"] or any(cause.cause == "pending" for cause in checks.causes)
    if len(timed) < 2 or not waiting or not checks.covered or cut.committed.micro_batch < 0:
        return ()
    reached = [_reached(spark, cfg, cut, batch, source, flow.passage(source.name)) for source in timed]
    found = held_back(reached, cut.watermark_ms)
    if found is None:
        return ()
    slow, ahead_ms = found
    rows: int | None = None
    if waits_for_close(job):
        rows = _rows_until(windows, job, ahead_ms)
        if not rows:
            return ()
    return (sentence(slow, [each for each in reached if each not in slow], ahead_ms, rows),)


def held_back(reached: list[Reached], watermark_ms: int | None) -> tuple[list[Reached], int] | None:
    """The sources that hold the watermark back, and what it would be by the others alone (epoch ms). Pure.

    None where no source is behind the others, or where the recorded watermark is not the one of the source that is
    furthest behind: another rule decides then, such as Spark's policy of the largest.
    """
    least = min(each.watermark_ms for each in reached)
    slow = [each for each in reached if each.watermark_ms == least]
    others = [each.watermark_ms for each in reached if each.watermark_ms > least]
    return (slow, min(others)) if others and least == (watermark_ms or 0) else None


def sentence(slow: list[Reached], others: list[Reached], ahead_ms: int, rows: int | None) -> str:
    """What a reader should know. Pure.

    ``rows``: rows of windows that would be over by the others' watermark; None where rows have no window.
    """
    told = " and ".join(_told(each) for each in slow)
    names = " and ".join(each.name for each in others)
    so_far = f"By the events of {names} alone the watermark would be {_utc(ahead_ms)}"
    belong = "waiting row belongs to a window that is", "waiting rows belong to windows that are"
    waits = "" if rows is None else f"; {worded(rows, *belong)} over by then"
    return f"The watermark of all sources waits for the slowest: {told}. {so_far}{waits}."


def _told(source: Reached) -> str:
    only = f" with {source.moves_if} (Spark applies this filter before the watermark)" if source.moves_if else ""
    if source.newest_ms is None:
        return f"{source.name} has no event{only} yet"
    return (
        f"the newest event of {source.name}{only} is of {_utc(source.newest_ms)}, which with a lateness of "
        f"{human(source.lateness_ms)} holds it at {_utc(source.watermark_ms)}"
    )


def _utc(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _reached(
    spark: SparkSession, cfg: Config, cut: StreamCut, batch: BatchState, source: Source, passage: Passage
) -> Reached:
    """A micro-batch's watermark comes from the events of those before it."""
    newest = newest_events(spark, cfg, cut, batch, source, passage)
    read = newest.filter(F.col("micro_batch") < cut.committed.micro_batch)
    newest_ms = read.agg(F.max("newest_ms")).collect()[0][0]
    return Reached(source.name, newest_ms, source.lateness_ms or 0, passage.moves_if)


def _rows_until(windows: DataFrame, job: Job, until_ms: int) -> int:
    end_ms = F.unix_millis("window_start") + F.lit(job.window_ms)
    over = windows.filter((F.col("verdict") == "pending") & (end_ms <= F.lit(until_ms)))
    return int(over.agg(F.sum("rows")).collect()[0][0] or 0)
