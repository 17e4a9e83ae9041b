"""Plan a heal: which rows of the stream's table would become the batch's, which are left alone, and what was done."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import TableError
from twinrun.explain.explain import HEALABLE_KINDS, healable
from twinrun.heal.preconditions import SeenStates, find_seen_states, refuse_unhealable
from twinrun.history.history import difference_rows
from twinrun.job.job import Job
from twinrun.session.plain import plain_errors

# What a heal would change, and what it did: frozen, JSON-friendly. Instants are UTC epoch milliseconds.


@dataclass(frozen=True)
class HealCause:
    """Rows and windows that one proven cause would heal; a row with two causes counts under both."""

    cause: str
    rows: int
    windows: int


@dataclass(frozen=True)
class HealWindow:
    """Rows of one window that would change. ``window_start_ms`` is None for jobs without windows."""

    window_start_ms: int | None
    rows: int
    causes: tuple[str, ...]


@dataclass(frozen=True)
class LeftAlone:
    """Differing rows that a heal does not touch, by reason.

    Attributes
    ----------
    unexplained : int
        No proven cause: which side is right is not known.
    evidence_expired : int
        Their proof can no longer be made.
    not_final : int
        Proven, but the stream could still write them, or the cause leaves open which side is right.
    """

    unexplained: int = 0
    evidence_expired: int = 0
    not_final: int = 0


@dataclass(frozen=True)
class HealPlan:
    """What a heal would change, from the last verify.

    Attributes
    ----------
    rows, inserted, updated, deleted : int
        Rows of the stream's table that would change; the last three add up to the first.
    windows_total : int
        Windows that they belong to; ``windows`` holds the first of them.
    """

    job: str
    verify_id: str
    micro_batch: int
    watermark_ms: int | None
    stream_table: str
    stream_version: int
    batch_table: str
    batch_version: int
    rows: int = 0
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    windows_total: int = 0
    causes: tuple[HealCause, ...] = ()
    windows: tuple[HealWindow, ...] = ()
    left: LeftAlone = field(default_factory=LeftAlone)


@dataclass(frozen=True)
class Healed:
    """A heal that was committed. ``version`` is the stream table's version that holds it."""

    id: str
    plan: HealPlan
    version: int
    at_ms: int


@dataclass(frozen=True)
class Undone:
    """A heal that was taken back. ``still_standing`` counts the older ones that are still in the table."""

    id: str
    job: str
    table: str
    rows: int
    version: int
    at_ms: int
    still_standing: int


MOST_WINDOWS = 50


def plan_heal(spark: SparkSession, cfg: Config, job: Job) -> HealPlan:
    """Say what a heal would change; changes nothing.

    Only rows whose cause is proven, of windows that the stream can never write again, become the batch's. About
    twelve small Spark jobs over the ledger and the differing rows; at most `MOST_WINDOWS` windows are collected.

    Returns
    -------
    HealPlan
        With ``rows`` 0 where there is nothing to heal.

    Raises
    ------
    JobError
        The job's rows are never final, or its shape cannot be healed.
    TableError, CheckpointError
        A table has moved since the last verify, or the ledger does not tell; see
        `twinrun.heal.preconditions.find_seen_states`.
    """
    refuse_unhealable(job)
    with plain_errors(f"planning the heal of {job.job_name}"):
        return plan_on(spark, cfg, job, find_seen_states(spark, cfg, job))


def plan_on(spark: SparkSession, cfg: Config, job: Job, seen: SeenStates) -> HealPlan:
    """The plan on ground that was checked. Three small Spark jobs."""
    verify = seen.verify
    nothing = HealPlan(
        job=job.job_name,
        verify_id=verify.verify_id,
        micro_batch=verify.micro_batch,
        watermark_ms=verify.watermark_ms,
        stream_table=seen.stream.table,
        stream_version=verify.stream_version,
        batch_table=seen.batch.table,
        batch_version=verify.batch_version,
    )
    if verify.rows_explained + verify.rows_unexplained == 0:
        return nothing
    differing = difference_rows(spark, cfg, job.job_name).filter(F.col("verify_id") == verify.verify_id)
    wanted = healable(job, verify.watermark_ms)
    counts = _counts(differing.withColumn("wanted", wanted))
    if (counts["explained"], counts["unproven"]) != (verify.rows_explained, verify.rows_unexplained):
        raise TableError(
            f"the ledger and the table of differences do not fit: verify {verify.verify_id} has "
            f"{verify.rows_explained} explained and {verify.rows_unexplained} unexplained rows in the one, "
            f"{counts['explained']} and {counts['unproven']} in the other.",
            expected="both as that verify wrote them",
            fix=f"run: twinrun verify {job.job_name}",
        )
    planned = differing.filter(wanted)
    return replace(
        nothing,
        rows=counts["rows"],
        updated=counts["changed"],
        inserted=counts["only_batch"],
        deleted=counts["only_stream"],
        windows_total=counts["windows"],
        causes=_causes(planned),
        windows=_windows(planned),
        left=LeftAlone(
            unexplained=counts["unproven"] - counts["expired"],
            evidence_expired=counts["expired"],
            not_final=counts["explained"] - counts["rows"],
        ),
    )


def _counts(differing: DataFrame) -> dict[str, int]:
    kinds = [F.count_if(F.col("wanted") & (F.col("kind") == kind)).alias(kind) for kind in HEALABLE_KINDS]
    row = differing.agg(
        F.count_if(F.col("verdict") == "explained").alias("explained"),
        F.count_if(F.col("verdict") != "explained").alias("unproven"),
        F.count_if(F.col("verdict") == "evidence_expired").alias("expired"),
        F.count_if("wanted").alias("rows"),
        F.count_distinct(F.when(F.col("wanted"), F.struct("window_start"))).alias("windows"),
        *kinds,
    ).collect()[0]
    return {name: int(count) for name, count in row.asDict().items()}


def _causes(planned: DataFrame) -> tuple[HealCause, ...]:
    rows = (
        planned.select("window_start", F.explode("causes").alias("cause", "_events"))
        .groupBy("cause")
        .agg(F.count("*").alias("rows"), F.count_distinct(F.struct("window_start")).alias("windows"))
        .orderBy("cause")
        .collect()
    )
    return tuple(HealCause(row["cause"], row["rows"], row["windows"]) for row in rows)


def _windows(planned: DataFrame) -> tuple[HealWindow, ...]:
    rows = (
        planned.select("window_start", "key_id", F.explode(F.map_keys("causes")).alias("cause"))
        .groupBy(F.unix_millis("window_start").alias("start_ms"))
        .agg(F.count_distinct("key_id").alias("rows"), F.sort_array(F.collect_set("cause")).alias("causes"))
        .orderBy("start_ms")
        .limit(MOST_WINDOWS)
        .collect()
    )
    return tuple(HealWindow(row["start_ms"], row["rows"], tuple(row["causes"])) for row in rows)
