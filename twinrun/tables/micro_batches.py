"""Our own log of micro-batches: what the checkpoint forgets after 100 of them, kept for ever.

It is filled from the checkpoint's offsets files, which are the truth, and never from listener events, which die with
a crash. One writer per query: the holder of its lease.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import CheckpointError
from twinrun.tables.checkpoint import PLANNED_SCHEMA, planned_micro_batches
from twinrun.tables.delta import append, read_table, table_exists

RETAINED = 100
"""Micro-batches that Spark keeps in a checkpoint (spark.sql.streaming.minBatchesToRetain)."""

_AT_ONCE = 500
"""So many are held by the driver at once, where a checkpoint keeps more than usual."""


@dataclass(frozen=True)
class RunFacts:
    """What the micro-batches of one run have in common.

    ``durations_ms`` maps the numbers of recent micro-batches to how long they took.
    """

    job: str
    run_id: str
    static_versions: dict[str, int]
    decoders: dict[str, str]
    durations_ms: dict[int, int] = field(default_factory=dict)


def flush(
    spark: SparkSession, cfg: Config, query_id: str, checkpoint: str, facts: RunFacts, newest: int | None = None
) -> int:
    """Append the micro-batches that the checkpoint has and the log lacks. About two small Spark jobs.

    Parameters
    ----------
    newest : int, optional
        The newest micro-batch in the log, -1 for none, where the caller knows it from its last call; else it is looked
        up, one small Spark job more.

    Returns
    -------
    int
        The newest micro-batch in the log; -1 when there is none yet.

    Raises
    ------
    CheckpointError
        The checkpoint already forgot micro-batches that the log lacks: proofs would have a hole.
    """
    newest = _newest(spark, cfg, query_id) if newest is None else newest
    planned = planned_micro_batches(spark, checkpoint)
    while True:
        # Read once, and written from here: the files of a running query may be gone by a second look.
        rows = planned.filter(F.col("micro_batch") > newest).orderBy("micro_batch").limit(_AT_ONCE).collect()
        if not rows:
            return newest
        first, last = rows[0]["micro_batch"], rows[-1]["micro_batch"]
        if first > newest + 1:
            raise CheckpointError(
                f"micro-batches {newest + 1} to {first - 1} of {facts.job} are gone from the checkpoint and were never "
                "logged.",
                expected=f"a log that is never more than {RETAINED} micro-batches behind",
                fix="start anew with --new-checkpoint; a verify over this query would say evidence_expired",
            )
        append(_log_rows(spark, rows, query_id, facts), cfg.table("micro_batches"))
        newest = int(last)
        if len(rows) < _AT_ONCE:
            return newest


def logged(spark: SparkSession, cfg: Config, query_id: str, checkpoint: str) -> DataFrame:
    """Every known micro-batch of a query: the log, and what the checkpoint has beyond it. Lazy; read-only.

    Columns: `PLANNED_SCHEMA`, and from the log ``static_versions``, ``decoders``, ``run_id``, ``duration_ms`` (null
    for rows that only the checkpoint has).
    """
    columns = ["micro_batch", "watermark_ms", "started_at_ms", "end_offsets"]
    extra = {
        "static_versions": "map<string,bigint>",
        "decoders": "map<string,string>",
        "run_id": "string",
        "duration_ms": "bigint",
    }
    planned = planned_micro_batches(spark, checkpoint).select(
        *columns, *[F.lit(None).cast(kind).alias(name) for name, kind in extra.items()]
    )
    ref = cfg.table("micro_batches")
    if not table_exists(spark, ref):
        return planned
    kept = read_table(spark, ref).filter(F.col("query_id") == query_id).select(*columns, *extra)
    return kept.unionByName(planned.join(kept.select("micro_batch"), "micro_batch", "left_anti"))


def _newest(spark: SparkSession, cfg: Config, query_id: str) -> int:
    ref = cfg.table("micro_batches")
    if not table_exists(spark, ref):
        return -1
    newest = read_table(spark, ref).filter(F.col("query_id") == query_id).agg(F.max("micro_batch")).collect()[0][0]
    return -1 if newest is None else int(newest)


def _log_rows(spark: SparkSession, rows: Sequence[Row], query_id: str, facts: RunFacts) -> DataFrame:
    known = (dict(facts.static_versions), dict(facts.decoders), facts.run_id)
    return spark.createDataFrame(
        [
            (
                query_id,
                facts.job,
                row["micro_batch"],
                row["watermark_ms"],
                row["started_at_ms"],
                row["end_offsets"],
                *known,
                facts.durations_ms.get(row["micro_batch"]),
            )
            for row in rows
        ],
        f"query_id STRING, job STRING, {PLANNED_SCHEMA}, static_versions MAP<STRING, BIGINT>, "
        "decoders MAP<STRING, STRING>, run_id STRING, duration_ms BIGINT",
    ).coalesce(1)
