"""The control table: leases, fingerprints and run records as an append-only Delta log.

A record belongs to a (kind, subject) and has a sequence number. It is appended with Delta's transaction id
``kind:subject`` and its sequence number as version, so that of two writers that both saw number n exactly one
appends n + 1: a compare-and-set, without any service besides the table.
"""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import QueryError
from twinrun.tables.delta import Commit, append, read_table, table_exists

_ATTEMPTS = 6


@dataclass(frozen=True)
class Record:
    """One record of the control table; ``seq`` starts at 1 for each (kind, subject)."""

    kind: str
    subject: str
    seq: int
    at_ms: int
    writer: str
    payload: dict[str, Any]


def latest_record(spark: SparkSession, cfg: Config, kind: str, subject: str) -> Record | None:
    """The newest record of a (kind, subject), or None. One small Spark job; one row is collected."""
    ref = cfg.table("control")
    if not table_exists(spark, ref):
        return None
    wanted = (F.col("kind") == kind) & (F.col("subject") == subject)
    rows = read_table(spark, ref).filter(wanted).orderBy(F.col("seq").desc()).limit(1).collect()
    if not rows:
        return None
    row = rows[0]
    return Record(kind, subject, row["seq"], row["at_ms"], row["writer"], json.loads(row["payload"]))


def try_append(spark: SparkSession, cfg: Config, kind: str, subject: str, seq: int, payload: dict[str, Any]) -> bool:
    """Append record ``seq`` unless somebody else already did. Two small Spark jobs.

    Returns
    -------
    bool
        True when the record with this number is ours; False when another writer took the number.
    """
    writer = offer(spark, cfg, kind, subject, seq, payload)
    ours = (F.col("kind") == kind) & (F.col("subject") == subject) & (F.col("seq") == seq) & (F.col("writer") == writer)
    return bool(read_table(spark, cfg.table("control")).filter(ours).limit(1).collect())


def offer(spark: SparkSession, cfg: Config, kind: str, subject: str, seq: int, payload: dict[str, Any]) -> str:
    """Append record ``seq`` unless somebody else already did, without looking who won. One small Spark job.

    Returns
    -------
    str
        The writer's id that stands in the record, if it is ours.
    """
    writer = uuid.uuid4().hex
    ref = cfg.table("control")
    row = spark.range(1).select(
        F.lit(kind).alias("kind"),
        F.lit(subject).alias("subject"),
        F.lit(seq).cast("bigint").alias("seq"),
        F.lit(int(time.time() * 1000)).cast("bigint").alias("at_ms"),
        F.lit(writer).alias("writer"),
        F.lit(json.dumps(payload, sort_keys=True)).alias("payload"),
    )
    # An append that another writer's commit came before is tried again: it then does nothing if that took our number.
    append(row.coalesce(1), ref, Commit(app_id=f"{kind}:{subject}", version=seq), partition_by=["kind"])
    return writer


def add_record(
    spark: SparkSession, cfg: Config, kind: str, subject: str, payload: dict[str, Any], after: Record | None = None
) -> Record:
    """Append the next record, whatever its number turns out to be. Two small Spark jobs, three without ``after``.

    Parameters
    ----------
    after : Record, optional
        The newest record as the caller has just read or written it, so that it is not read again. Where another
        writer has added one since, the record follows that one.
    """
    newest = after or latest_record(spark, cfg, kind, subject)
    for _ in range(_ATTEMPTS):
        seq = newest.seq + 1 if newest else 1
        if try_append(spark, cfg, kind, subject, seq, payload):
            return Record(kind, subject, seq, int(time.time() * 1000), "", payload)
        newest = latest_record(spark, cfg, kind, subject)
    raise QueryError(
        f"the control table did not take a record for {kind} {subject} in {_ATTEMPTS} attempts.",
        fix="look for other processes that write the same job, and run the command again",
    )
