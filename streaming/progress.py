"""Watch a running query: keep the micro-batch log close behind it, stop on request, say what went wrong or is due."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from twinrun.broker.topics import cluster_id
from twinrun.config.model import Config
from twinrun.errors import BrokerError, CheckpointError
from twinrun.events.rules import RULES
from twinrun.results.records import RULE as LEFT_OUT
from twinrun.results.records import OnProgress, Progress, is_left_out
from twinrun.session.plain import query_error
from twinrun.tables.checkpoint import RETAINED
from twinrun.tables.delta import Lease, lost

POLL_S = 0.5
STOP_BEHIND = RETAINED - 20
"""A log this many micro-batches behind stops the query, before the checkpoint forgets what was not logged."""

QUIET_S = 10.0
"""A query that says nothing for so long is either idle, at work, or waiting for Kafka: Kafka is asked."""

_ASK_LIMIT_S = 2.0
_OBSERVED = "decoded:"
_REPORTED = 200
"""Micro-batches whose progress may be read again; Spark keeps the last 100."""


Flush = Callable[[dict[int, int]], int]
"""Write the log; takes durations by micro-batch, returns the newest micro-batch that is logged."""


@dataclass
class _Seen:
    """What the query has reported, by micro-batch: each counts once, however often its progress is read."""

    durations_ms: dict[int, int] = field(default_factory=dict)
    records: dict[int, int] = field(default_factory=dict)
    refused: dict[int, dict[str, int] | None] = field(default_factory=dict)
    last: Any = None
    settled: int = 0
    settled_records: int = 0
    settled_refused: dict[int, dict[str, int] | None] = field(default_factory=dict)

    def settle(self, newest: int) -> None:
        """Keep what Spark can still report one by one, the rest as sums: a stream may run for months."""
        for old in [number for number in self.records if number < newest - _REPORTED]:
            self.settled += 1
            self.settled_records += self.records.pop(old)
            parts = [*self.settled_refused.values(), self.refused.pop(old)]
            self.settled_refused = {0: sum_refused(parts)}

    def logged(self, newest: int) -> None:
        """Durations are wanted until their micro-batches are logged."""
        self.durations_ms = {number: ms for number, ms in self.durations_ms.items() if number > newest}


def observed(decoded: DataFrame, source: str, places: Sequence[Sequence[int]] = ()) -> DataFrame:
    """The decoded records, counted by rule as they pass; lazy, and the rows stay as they are.

    The counts come with the progress of each micro-batch, see `follow`. Valid records that the job leaves out at these
    places count under `twinrun.results.records.RULE`.
    """
    rules = [F.count_if(F.col("_rule") == rule).alias(rule) for rule in RULES]
    if places:
        rules.append(F.count_if(F.col("_rule").isNull() & is_left_out(places)).alias(LEFT_OUT))
    return decoded.observe(f"{_OBSERVED}{source}", F.count("*").alias("_records"), *rules)


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
    seen = _Seen()
    try:
        state = _until_its_end(query, cfg, lease, flush, stop, on_progress, seen)
    except BaseException:
        # The caller gives the lease back: a query that went on would write beside the next one.
        query.stop()
        raise
    failure = query.exception()
    if failure is not None:
        raise query_error(f"the query {query.name or ''}".strip(), failure) from failure
    state = _collect(query, seen, state)
    flush(seen.durations_ms)
    if on_progress:
        on_progress(state)
    if lease.lost.is_set():
        raise lost(lease)
    return state


def _until_its_end(
    query: StreamingQuery,
    cfg: Config,
    lease: Lease,
    flush: Flush,
    stop: threading.Event,
    on_progress: OnProgress | None,
    seen: _Seen,
) -> Progress:
    """Follow the query until it has ended or was stopped."""
    waiting, state = _Waiting(cfg), Progress(-1, 0, None)
    flushed, flushed_at = -1, time.monotonic()
    while not query.awaitTermination(POLL_S):  # type: ignore[arg-type]  # it takes fractions of seconds
        state = replace(_collect(query, seen, state), waits=waiting.since(seen.last))
        if on_progress:
            on_progress(state)
        behind = state.micro_batch - flushed
        due = behind >= cfg.stream.log_flush_micro_batches or time.monotonic() - flushed_at > cfg.stream.log_flush_s
        if due and behind > 0:
            flushed, flushed_at = flush(seen.durations_ms), time.monotonic()
            seen.logged(flushed)
        if flushed >= 0 and state.micro_batch - flushed > STOP_BEHIND:
            raise CheckpointError(
                f"the micro-batch log is {state.micro_batch - flushed} micro-batches behind; the query was stopped "
                "before the checkpoint forgets what is not logged.",
                fix="use a longer processing-time interval or larger micro-batches, and start again: nothing is lost",
            )
        if lease.lost.is_set() or stop.is_set():
            query.stop()
            break
    return state


class _Waiting:
    """Whether a silent query waits for Kafka: Spark itself says nothing for a minute, and then fails."""

    def __init__(self, cfg: Config) -> None:
        self._cfg, self._last, self._changed, self._asked = cfg, None, time.monotonic(), time.monotonic()
        self._text = ""

    def since(self, last: Any) -> str:
        """What it waits for and since when; empty while it moves, or while Kafka answers."""
        now = time.monotonic()
        if last != self._last:
            self._last, self._changed, self._text = last, now, ""
        if now - max(self._changed, self._asked) < QUIET_S:
            return self._text
        self._asked = now
        silent = self._silent()
        if not silent:
            self._text = ""
        elif not self._text:
            began = datetime.now(UTC).timestamp() - (now - self._changed)
            at = f"{datetime.fromtimestamp(began, UTC):%Y-%m-%d %H:%M:%S} UTC"
            self._text = f"waits for Kafka at {self._cfg.kafka.bootstrap_servers}, which does not answer; "
            self._text += f"no micro-batch since {at}"
        return self._text

    def _silent(self) -> bool:
        try:
            cluster_id(self._cfg.kafka.bootstrap_servers, self._cfg.kafka.confluent_options(), limit_s=_ASK_LIMIT_S)
        except BrokerError:
            return True
        return False


def _collect(query: StreamingQuery, seen: _Seen, last: Progress) -> Progress:
    """Read what is new of the recent progress; each micro-batch counts once, and idle triggers count as none."""
    latest = query.lastProgress
    for entry in _new_entries(query, latest, seen):
        seen.last = (entry.batchId, entry.timestamp)
        if "addBatch" not in entry.durationMs:
            continue
        seen.durations_ms[entry.batchId] = int(entry.durationMs.get("triggerExecution", 0))
        records = _records(entry)
        seen.records[entry.batchId] = max(seen.records.get(entry.batchId, 0), records)
        seen.refused[entry.batchId] = _refused(entry.observedMetrics, records)
    newest = max(seen.records, default=last.micro_batch)
    seen.settle(newest)
    watermark = latest.eventTime.get("watermark") if latest else last.watermark
    behind = sum(_behind(source.endOffset, source.latestOffset) for source in latest.sources) if latest else last.behind
    refused = sum_refused([*seen.settled_refused.values(), *seen.refused.values()])
    records = seen.settled_records + sum(seen.records.values())
    return Progress(newest, records, watermark, seen.settled + len(seen.records), behind, refused=refused)


def _new_entries(query: StreamingQuery, latest: Any, seen: _Seen) -> Iterable[Any]:
    """The entries since the last look: all that Spark keeps, each made from JSON, only where one would be missed."""
    if latest is None or (latest.batchId, latest.timestamp) == seen.last:
        return ()
    known = max(seen.records, default=None)
    follows = known is not None and latest.batchId <= known + 1
    return (latest,) if follows else query.recentProgress


def _records(entry: Any) -> int:
    """Records of a micro-batch by its offsets: rows are counted again where a sink reads its micro-batch twice."""
    spans = [_behind(each.startOffset, each.endOffset) for each in entry.sources if _offsets(each.startOffset)]
    if len(spans) < len(entry.sources):
        return int(entry.numInputRows)  # the first micro-batch does not say where it began
    return min(sum(spans), int(entry.numInputRows)) if entry.numInputRows else sum(spans)


def _refused(metrics: Any, records: int) -> dict[str, int] | None:
    """Refused records of a micro-batch by rule; None where the counts do not belong to its records."""
    rows = [row.asDict() for name, row in dict(metrics or {}).items() if name.startswith(_OBSERVED)]
    passed = sum(row["_records"] for row in rows)
    if not rows or not passed:
        return {} if not records else None
    times, rest = divmod(passed, records) if records else (0, 1)
    if rest:
        return None
    counts = {rule: sum(row.get(rule, 0) for row in rows) // times for rule in (*RULES, LEFT_OUT)}
    return {rule: count for rule, count in counts.items() if count}


def sum_refused(parts: Iterable[dict[str, int] | None]) -> dict[str, int] | None:
    """Refused records by rule; None where one part does not know them."""
    total: dict[str, int] = {}
    for part in parts:
        if part is None:
            return None
        for rule, count in part.items():
            total[rule] = total.get(rule, 0) + count
    return total


def _behind(reached: Any, ahead: Any) -> int:
    """Records between two offsets of a Kafka source, which Spark writes as JSON; 0 where one is not known."""
    low, high = _offsets(reached), _offsets(ahead)
    return sum(max(0, end - low.get(place, 0)) for place, end in high.items()) if low else 0


def _offsets(text: Any) -> dict[tuple[str, str], int]:
    try:
        topics = json.loads(text) if isinstance(text, str) else text
    except ValueError:
        return {}
    if not isinstance(topics, dict):  # the first micro-batch of a query began nowhere: null
        return {}
    by_topic = {topic: parts for topic, parts in topics.items() if isinstance(parts, dict)}  # Delta's has none
    return {(topic, part): int(offset) for topic, parts in by_topic.items() for part, offset in parts.items()}
