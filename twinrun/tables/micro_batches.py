"""Our own log of micro-batches: what the checkpoint forgets after 100 of them, kept for ever.

It is filled from the checkpoint's offsets files, which are the truth, and never from listener events, which die with
a crash. One writer per query: the holder of its lease.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import CheckpointError
from twinrun.tables.checkpoint import planned_micro_batches
from twinrun.tables.delta import append, read_table, table_exists

RETAINED = 100
"""Micro-batches that Spark keeps in a checkpoint (spark.sql.streaming.minBatchesToRetain)."""


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


def flush(spark: SparkSession, cfg: Config, query_id: str, checkpoint: str, facts: RunFacts) -> int:
    """Append the micro-batches that the checkpoint has and the log lacks. About two small Spark jobs.

    Returns
    -------
    int
        The newest micro-batch in the log; -1 when there is none yet.

    Raises
    ------
    CheckpointError
        The checkpoint already forgot micro-batches that the log lacks: proofs would have a hole.
    """
    planned = planned_micro_batches(spark, checkpoint)
    newest = _newest(spark, cfg, query_id)
    missing = planned.filter(F.col("micro_batch") > newest)
    bounds = missing.agg(F.min("micro_batch"), F.max("micro_batch"), F.count("*")).collect()[0]
    if bounds[2] == 0:
        return newest
    if bounds[0] > newest + 1:
        raise CheckpointError(
            f"micro-batches {newest + 1} to {bounds[0] - 1} of {facts.job} are gone from the checkpoint and were never "
            "logged.",
            expected=f"a log that is never more than {RETAINED} micro-batches behind",
            fix="start anew with --new-checkpoint; a verify over this query would say evidence_expired",
        )
    append(_log_rows(missing, query_id, facts), cfg.table("micro_batches"))
    return int(bounds[1])


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


def _log_rows(missing: DataFrame, query_id: str, facts: RunFacts) -> DataFrame:
    return missing.select(
        F.lit(query_id).alias("query_id"),
        F.lit(facts.job).alias("job"),
        "micro_batch",
        "watermark_ms",
        "started_at_ms",
        "end_offsets",
        _map(facts.static_versions, "map<string,bigint>").alias("static_versions"),
        _map(facts.decoders, "map<string,string>").alias("decoders"),
        F.lit(facts.run_id).alias("run_id"),
        F.try_element_at(_map(facts.durations_ms, "map<bigint,bigint>"), F.col("micro_batch")).alias("duration_ms"),
    ).coalesce(1)


def _map(values: Mapping[Any, Any], kind: str) -> Column:
    cells = [F.lit(x) for pair in values.items() for x in pair]
    return (F.create_map(*cells) if cells else F.create_map()).cast(kind)
