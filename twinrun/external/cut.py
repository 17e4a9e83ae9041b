"""The cut of a stream that keeps no log of ours: offsets and watermark are what its owner declares."""

from __future__ import annotations

import time

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.sections import ExternalBinding
from twinrun.events.exact import quoted
from twinrun.explain.differing import waits_for_close
from twinrun.external.rules import rule_named
from twinrun.job.job import Job
from twinrun.results.cut import EMITTED_NONE, Committed, StreamCut
from twinrun.results.state import BatchState, StreamState
from twinrun.tables.checkpoint import Offsets, at_or_after, before

EVERYTHING_READY = 2**62
"""A watermark beyond every window: nothing is pending where nothing is declared."""
_LOG = (
    "micro_batch BIGINT, watermark_ms BIGINT, started_at_ms BIGINT, duration_ms BIGINT, "
    "end_offsets ARRAY<STRUCT<topic: STRING, partition: INT, offset: BIGINT>>, static_versions MAP<STRING, BIGINT>"
)


def declared_cut(
    spark: SparkSession, job: Job, binding: ExternalBinding, batch: BatchState, watermark_ms: int | None, version: int
) -> StreamCut:
    """The stream's side as declared, in the form of a cut: no micro-batches, nothing of the log missing.

    Without a declared end the stream is taken to have read what the batch has read.
    """
    state = StreamState(
        version=1,
        checkpoint="",
        table=binding.place,
        starting="earliest",
        fingerprint=batch.fingerprint,
        query_id=None,
        static=batch.static,
        decoders={},
        run_id="",
    )
    return StreamCut(
        state=state,
        query_id="",
        committed=Committed(version, EMITTED_NONE),
        start={source.name: dict(binding.start.get(source.name, {})) for source in job.sources},
        end={source.name: end_of(binding, batch, source.name) for source in job.sources},
        watermark_ms=watermark_ms,
        started_at_ms=0,
        micro_batches=spark.createDataFrame([], _LOG),
        missing=0,
        static=batch.static,
        static_mixed=False,
        taken_at_ms=int(time.time() * 1000),
    )


def end_of(binding: ExternalBinding, batch: BatchState, source: str) -> Offsets:
    """Declared end of a source by partition; for a partition without one, that of the batch."""
    return {**batch.ends.get(source, {}), **binding.end.get(source, {})}


def declared_watermark(
    job: Job, binding: ExternalBinding, batch: BatchState, events: dict[str, DataFrame]
) -> int | None:
    """Up to where results are final, as declared; None where nothing is. At most one small Spark job per source.

    ``ready_until``, or else the newest event of the partition that lags most, less ``lateness``: only then no
    partition of the engine can still be behind, whether it keeps a watermark per partition or one for all.
    """
    if not waits_for_close(job):
        return None
    if binding.ready_until_ms is not None:
        return binding.ready_until_ms
    if binding.lateness_ms is None:
        return None
    newest = []
    for source in job.sources:
        read = at_or_after(binding.start.get(source.name, {})) & before(end_of(binding, batch, source.name))
        moment = F.unix_millis(F.col(quoted(source.event_time)))
        by_partition = events[source.name].filter(read).groupBy("_partition").agg(F.max(moment).alias("newest"))
        newest.append(by_partition.agg(F.min("newest")).collect()[0][0])
    known = [each for each in newest if each is not None]
    rule = rule_named(binding.late_rule)
    ahead_ms = max(0, rule.ahead_ms) if rule is not None else 0
    return min(known) - binding.lateness_ms + ahead_ms if len(known) == len(newest) and known else 0
