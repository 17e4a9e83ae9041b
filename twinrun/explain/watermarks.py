"""The watermarks of a recording held against Spark's rule, without running anything.

Each source's watermark is its newest event time so far, less its lateness; 0 before its first event. The query's is
the least of them, and never falls back. A start begins with the query's watermark and forgets those of the sources, so
that a source which then stays silent holds it where it is (Spark: WatermarkTracker).

Spark moves filters of the function below the watermark: only the events that pass them count (`twinrun.job.passing`).
Where that cannot be told, more events are looked at than count, and a true recording may look impossible. So this never
refutes one: it only says where a replay may be handed its watermarks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun.events.json_ import quoted
from twinrun.explain.recording import Recorded
from twinrun.job.job import Job
from twinrun.job.passing import EVERY, Passage

Reached = dict[int, dict[str, int]]
"""By micro-batch and source: the newest event time (epoch ms) less the source's lateness."""
_State = tuple[int, ...]


def reached_by(job: Job, used: Mapping[str, DataFrame], passages: Mapping[str, Passage]) -> Reached:
    """What each micro-batch's events alone would move each source's watermark to. One Spark job per source.

    Parameters
    ----------
    used : mapping of str to DataFrame
        By source, the events that the stream took, with ``_micro_batch``. Sources without a watermark are left out.
    """
    found: Reached = {}
    for source in job.sources:
        if source.lateness_ms is None:
            continue
        moment = F.unix_millis(F.col(quoted(source.event_time)))
        moving = passages.get(source.name, EVERY).moving(used[source.name])
        newest = moving.groupBy("_micro_batch").agg(F.max(moment).alias("newest"))
        for row in newest.collect():
            found.setdefault(row["_micro_batch"], {})[source.name] = row["newest"] - source.lateness_ms
    return found


def first_that_differs(job: Job, record: list[Recorded], reached: Reached, starts: Collection[int]) -> int | None:
    """The first micro-batch whose watermark is not the recorded one, were the query started just before ``starts``.

    None where all are.
    """
    names = _names(job)
    state, watermark = _fresh(names), 0
    for each in record:
        if each.watermark_ms != watermark:
            return each.number
        state = _fresh(names) if each.number in starts else state
        state = _after(state, names, reached.get(each.number, {}))
        watermark = _least(state, watermark)
    return None


def first_impossible(job: Job, record: list[Recorded], reached: Reached) -> int | None:
    """The first micro-batch whose recorded watermark no choice of restarts can give; None where there is none."""
    names = _names(job)
    fresh = _fresh(names)
    states, watermark = {fresh}, 0
    for each in record:
        states = {state for state in states if _least(state, watermark) == each.watermark_ms}
        if not states:
            return each.number
        watermark = each.watermark_ms
        states = {_after(state, names, reached.get(each.number, {})) for state in {fresh, *states}}
    return None


def _names(job: Job) -> tuple[str, ...]:
    return tuple(source.name for source in job.sources if source.lateness_ms is not None)


def _fresh(names: tuple[str, ...]) -> _State:
    return (0,) * len(names)


def _after(state: _State, names: tuple[str, ...], reached: Mapping[str, int]) -> _State:
    return tuple(max(before, reached.get(name, 0)) for before, name in zip(state, names, strict=True))


def _least(state: _State, watermark_ms: int) -> int:
    return max(watermark_ms, min(state, default=0))
