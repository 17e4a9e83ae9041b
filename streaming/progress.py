"""Watch a running query: keep the micro-batch log close behind it, stop on request, say what went wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pyspark.sql.streaming.query import StreamingQuery

from twinrun.config.model import Config
from twinrun.errors import CheckpointError
from twinrun.results.run import OnProgress, Progress
from twinrun.session.plain import query_error
from twinrun.tables.lease import Lease
from twinrun.tables.micro_batches import RETAINED

POLL_S = 0.5
STOP_BEHIND = RETAINED - 20
"""A log this many micro-batches behind stops the query, before the checkpoint forgets what was not logged."""


Flush = Callable[[dict[int, int]], int]
"""Write the log; takes durations by micro-batch, returns the newest micro-batch that is logged."""


def follow(
    query: StreamingQuery,
    cfg: Config,
    lease: Lease,
    flush: Flush,
    stop: threading.Event,
    on_progress: OnProgress | None = None,
) -> Progress:
    """Wait for the end of the query, or for ``stop``, and keep the log current meanwhile.

    Raises
    ------
    QueryError
        The query failed; the plain cause.
    CheckpointError
        The lease was lost, or the log could not keep up.
    """
    durations: dict[int, int] = {}
    events: dict[int, int] = {}
    state = Progress(-1, 0, None)
    flushed, flushed_at = -1, time.monotonic()
    while not query.awaitTermination(POLL_S):  # type: ignore[arg-type]  # it takes fractions of seconds
        state = _collect(query, durations, events, state)
        if on_progress:
            on_progress(state)
        behind = state.micro_batch - flushed
        due = behind >= cfg.stream.log_flush_micro_batches or time.monotonic() - flushed_at > cfg.stream.log_flush_s
        if due and behind > 0:
            flushed, flushed_at = flush(durations), time.monotonic()
        if flushed >= 0 and state.micro_batch - flushed > STOP_BEHIND:
            query.stop()
            raise CheckpointError(
                f"the micro-batch log is {state.micro_batch - flushed} micro-batches behind; the query was stopped "
                "before the checkpoint forgets what is not logged.",
                fix="use a longer processing-time interval or larger micro-batches, and start again: nothing is lost",
            )
        if lease.lost.is_set() or stop.is_set():
            query.stop()
            break
    failure = query.exception()
    if failure is not None:
        raise query_error(f"the query {query.name or ''}".strip(), failure) from failure
    state = _collect(query, durations, events, state)
    flush(durations)
    if on_progress:
        on_progress(state)
    if lease.lost.is_set():
        raise CheckpointError(
            f"{lease.subject} was taken over by another run; this one has stopped.",
            fix="let only one scheduler start this job",
        )
    return state


def _collect(query: StreamingQuery, durations: dict[int, int], events: dict[int, int], last: Progress) -> Progress:
    """Read the recent progress (at most 100 entries); each micro-batch counts once."""
    for entry in query.recentProgress:
        events[entry.batchId] = max(events.get(entry.batchId, 0), entry.numInputRows)
        durations[entry.batchId] = int(entry.durationMs.get("triggerExecution", 0))
    newest = max(events, default=last.micro_batch)
    watermark = query.lastProgress.eventTime.get("watermark") if query.lastProgress else last.watermark
    return Progress(newest, sum(events.values()), watermark)
