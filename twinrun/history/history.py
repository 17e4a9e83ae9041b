"""The ledger, asked: since when a job's modes differ, how often, by which cause, and what to be warned of."""

from __future__ import annotations

from dataclasses import replace

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import TableError, TwinrunError
from twinrun.quality.expect import check_ledger
from twinrun.results.ledger import (
    MOST_VERIFIES,
    CauseHistory,
    History,
    VerifyPoint,
    WindowHistory,
    differs_since,
    ledger_rows,
    rows_of,
    trend_of,
)
from twinrun.results.verdict import ExpectationResult, Verdict
from twinrun.session.plain import plain_errors
from twinrun.tables.delta import table_exists

# Limits on the ledger's newest verify.


def check_thresholds(
    spark: SparkSession, cfg: Config, job: str, min_completeness: float | None
) -> tuple[ExpectationResult, ...]:
    """No row of the newest verify is unexplained, and where asked, enough rows are equal. About two small Spark jobs.

    Parameters
    ----------
    min_completeness : float, optional
        Least share of the compared rows that must be equal, 0 to 1. Where nothing was compared it is not met.

    Raises
    ------
    TableError
        There is no ledger, or it lacks columns.
    """
    with plain_errors(f"the checks on the ledger of {job}"):
        return check_ledger(of_newest(ledger_rows(spark, cfg, job)), min_completeness)


# Read what verifies of one job kept, or say plainly why it cannot be read.


DIFFERENCES_COLUMNS = ("verify_id", "job", "key_id", "window_start", "kind", "copy", "verdict", "causes")


def difference_rows(spark: SparkSession, cfg: Config, job: str) -> DataFrame:
    """The differing rows that verifies of a job kept; lazy. No Spark job.

    Raises
    ------
    TableError
        There is no such table, or it lacks columns.
    """
    return rows_of(spark, cfg, job, "differences", DIFFERENCES_COLUMNS)


class NoVerifyError(TableError):
    """The ledger is sound and holds nothing about the job."""


def no_verify(job: str, ref: str) -> NoVerifyError:
    """The error of a ledger that holds nothing about the job."""
    return NoVerifyError(
        f"the ledger at {ref} holds no verify of {job}.",
        expected="at least one verify that covered its cut",
        fix=f"run: twinrun verify {job}",
    )


# The history of a job as a part of its verdict, for the report.


def with_history(spark: SparkSession, cfg: Config, verdict: Verdict) -> Verdict:
    """The verdict with what the ledger has about the job's newest `MOST_VERIFIES` verifies, this one included.

    Without a verify of the job in the ledger there is no history; one that cannot be read is a note, and changes
    neither outcome nor exit code. About six small Spark jobs.
    """
    if not table_exists(spark, cfg.table("ledger")):
        return verdict
    try:
        found = history(spark, cfg, verdict.job, newest=MOST_VERIFIES)
    except NoVerifyError:
        return verdict
    except TwinrunError as error:
        return replace(verdict, notes=(*verdict.notes, f"The history could not be read: {error.found}"))
    return replace(verdict, history=replace(found, min_completeness=cfg.verify.min_completeness))


# Ask the ledger about one job: aggregated in Spark, a bounded number of rows collected.


MOST_WINDOWS = 50
DIFFERING = ("explained", "unexplained", "evidence_expired")
VERDICTS = ("equal", *DIFFERING, "pending")


def history(
    spark: SparkSession, cfg: Config, job: str, since_ms: int | None = None, newest: int | None = None
) -> History:
    """Since when the results of a job differ, how often, for which cause, and with which trend.

    Parameters
    ----------
    job : str
        The job's own name, as the ledger has it.
    since_ms : int, optional
        Read only verifies made at or after this instant (UTC epoch milliseconds).
    newest : int, optional
        Look only into so many verifies, the newest: what is first seen there may be older.

    Returns
    -------
    History
        The last `MOST_VERIFIES` verifies and `MOST_WINDOWS` windows; first and last sightings are over all. About
        five small Spark jobs over the ledger and the differences of this job.

    Raises
    ------
    TableError
        There is no ledger, it lacks columns, or it holds no verify of this job (since then).
    QueryError
        Its files cannot be read.
    """
    rows = ledger_rows(spark, cfg, job)
    if since_ms is not None:
        rows = rows.filter(F.col("verified_at_ms") >= since_ms)
    with plain_errors(f"the history of {job}"):
        if newest is not None:
            rows = _only_newest(rows, newest)
        verifies = _verifies(rows)
        if not verifies:
            raise _nothing(spark, cfg, job, since_ms)
        differs = F.when(F.col("verdict").isin(*DIFFERING), F.struct("window_start"))
        total, windows_total = rows.agg(F.count_distinct("verify_id"), F.count_distinct(differs)).collect()[0]
        windows = _windows(rows, verifies[-1].at_ms) if windows_total else ()
        ever_explained = windows_total and rows.filter(F.col("rows_explained") > 0).limit(1).count()
        causes = _causes(difference_rows(spark, cfg, job), rows, verifies) if ever_explained else ()
    return History(
        job=job,
        since_ms=since_ms,
        verifies_total=total,
        windows_total=windows_total,
        verifies=verifies,
        causes=causes,
        windows=windows,
        differs_since_ms=differs_since(verifies),
    )


def of_newest(rows: DataFrame) -> DataFrame:
    """The ledger's rows of the newest verify; lazy."""
    newest = rows.agg(F.max_by("verify_id", "verified_at_ms").alias("newest_id"))
    return rows.join(newest, rows["verify_id"] == newest["newest_id"], "left_semi")


def _only_newest(rows: DataFrame, verifies: int) -> DataFrame:
    """Rows of so many verifies. Of the older ones only the time is read: Delta skips their files. One Spark job."""
    times = rows.groupBy("verify_id").agg(F.max("verified_at_ms").alias("at_ms"))
    edge_ms = times.orderBy(F.col("at_ms").desc()).limit(verifies).agg(F.min("at_ms")).collect()[0][0]
    return rows if edge_ms is None else rows.filter(F.col("verified_at_ms") >= edge_ms)


def _verifies(rows: DataFrame) -> tuple[VerifyPoint, ...]:
    per_verify = rows.groupBy("verify_id").agg(
        F.max("verified_at_ms").alias("at_ms"),
        *[F.max(name).alias(name) for name in ("micro_batch", "watermark_ms", "stream_version", "batch_version")],
        *[F.count_if(F.col("verdict") == verdict).alias(f"windows_{verdict}") for verdict in VERDICTS],
        *[F.sum(name).alias(name) for name in ("rows_equal", "rows_explained", "rows_unexplained")],
        _of_compared("rows").alias("rows_compared"),
        F.sum(F.when(F.col("verdict") == "pending", F.col("rows")).otherwise(0)).alias("rows_pending"),
    )
    found = per_verify.orderBy(F.col("at_ms").desc(), "verify_id").limit(MOST_VERIFIES).collect()
    same = ("verify_id", "at_ms", "micro_batch", "watermark_ms", "stream_version", "batch_version", "rows_compared")
    counts = ("rows_equal", "rows_explained", "rows_unexplained", "rows_pending")
    return tuple(
        VerifyPoint(
            windows={verdict: row[f"windows_{verdict}"] for verdict in VERDICTS if row[f"windows_{verdict}"]},
            **{name: row[name] for name in (*same, *counts)},
        )
        for row in reversed(found)
    )


def _windows(rows: DataFrame, newest_ms: int) -> tuple[WindowHistory, ...]:
    """Those that still differ first, unexplained ones before others, the longest standing first."""
    at = F.col("verified_at_ms")
    seen = (
        rows.filter(F.col("verdict").isin(*DIFFERING))
        .groupBy("window_start")
        .agg(
            F.min(at).alias("first_ms"),
            F.max(at).alias("last_ms"),
            F.count_distinct("verify_id").alias("verifies"),
            F.max_by("verdict", at).alias("verdict"),
            F.max_by(F.col("rows_explained") + F.col("rows_unexplained"), at).alias("rows"),
            F.max_by("causes", at).alias("causes"),
        )
        .withColumn("still", F.col("last_ms") == newest_ms)
        .withColumn("start_ms", F.unix_millis("window_start"))
    )
    order = (F.col("still").desc(), F.col("verdict") == "explained", "first_ms", "start_ms")
    return tuple(
        WindowHistory(
            window_start_ms=row["start_ms"],
            first_seen_ms=row["first_ms"],
            last_seen_ms=row["last_ms"],
            verifies=row["verifies"],
            verdict=row["verdict"],
            rows=row["rows"],
            causes=dict(row["causes"] or {}),
            still=row["still"],
        )
        for row in seen.orderBy(*order).limit(MOST_WINDOWS).collect()
    )


def _causes(differences: DataFrame, rows: DataFrame, verifies: tuple[VerifyPoint, ...]) -> tuple[CauseHistory, ...]:
    """Counted over the differing rows themselves: a window of the ledger may have rows of several causes."""
    times = rows.groupBy("verify_id").agg(F.max("verified_at_ms").alias("at_ms"))
    shown = F.col("at_ms") >= verifies[0].at_ms
    per_verify = (
        differences.filter(F.col("verdict") == "explained")
        .join(times, "verify_id")
        .select("verify_id", "at_ms", "window_start", F.explode("causes").alias("cause", "_events"))
        .groupBy("cause", "verify_id", "at_ms")
        .agg(F.count("*").alias("rows"), F.count_distinct(F.struct("window_start")).alias("windows"))
    )
    found = (
        per_verify.groupBy("cause")
        .agg(
            F.min("at_ms").alias("first_ms"),
            F.max("at_ms").alias("last_ms"),
            F.count("*").alias("verifies"),
            F.collect_list(F.when(shown, F.struct("verify_id", "rows", "windows"))).alias("recent"),
        )
        .orderBy("cause")
        .collect()
    )
    causes = []
    for row in found:
        by_verify = {each["verify_id"]: each for each in row["recent"]}
        counts = [by_verify[point.verify_id]["rows"] if point.verify_id in by_verify else 0 for point in verifies]
        now = by_verify.get(verifies[-1].verify_id)
        causes.append(
            CauseHistory(
                cause=row["cause"],
                rows_now=counts[-1],
                windows_now=now["windows"] if now else 0,
                verifies=row["verifies"],
                first_seen_ms=row["first_ms"],
                last_seen_ms=row["last_ms"],
                trend=trend_of(counts),
                rows=tuple(counts),
            )
        )
    return tuple(causes)


def _of_compared(name: str) -> Column:
    return F.sum(F.when(F.col("verdict") != "pending", F.col(name)).otherwise(0))


def _nothing(spark: SparkSession, cfg: Config, job: str, since_ms: int | None) -> TableError:
    """Why there is no verify to show: none at all, or none since then."""
    if since_ms is not None and ledger_rows(spark, cfg, job).limit(1).count():
        return TableError(f"no verify of {job} was made since then.", fix="give an earlier --since, or leave it out")
    return no_verify(job, cfg.table("ledger"))
