"""The ledger: every verify of a job that covered its cut, what became of each window, and what that says over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import TableError
from twinrun.tables.delta import read_table, table_exists

# Whether a cause grows or goes: its rows in the last few verifies against those before.


MOST_RECENT = 5
"""At most so many verifies are the recent ones."""

_STEADY_PERCENT = 10
Direction = Literal["new", "gone", "rising", "falling", "steady", "unknown"]


@dataclass(frozen=True)
class Trend:
    """Mean rows per verify: in the last ``recent_verifies``, and in those before.

    ``direction`` is ``unknown`` with fewer than two verifies, ``gone`` where the newest has no row, and ``steady``
    within 10 % of the mean before.
    """

    direction: Direction
    recent_verifies: int
    recent_mean: float
    before_mean: float | None


def trend_of(rows: Sequence[int]) -> Trend:
    """The trend of a cause.

    Parameters
    ----------
    rows : sequence of int
        Its rows in each verify, oldest first; 0 where it did not occur.
    """
    recent = max(1, min(MOST_RECENT, len(rows) // 2))
    last, before = rows[-recent:], rows[:-recent]
    recent_mean = _mean(last)
    if not before:
        return Trend("unknown", len(last), recent_mean, None)
    before_mean = _mean(before)
    # What the newest verify has no row of is gone, whatever the ones just before it had.
    gone = rows[-1] == 0 and any(rows)
    direction: Direction = "gone" if gone else _direction(recent_mean, before_mean)
    return Trend(direction, recent, recent_mean, before_mean)


def _direction(recent: float, before: float) -> Direction:
    if before == 0:
        return "new" if recent else "steady"
    if abs(recent - before) * 100 <= before * _STEADY_PERCENT:
        return "steady"
    return "rising" if recent > before else "falling"


def _mean(rows: Sequence[int]) -> float:
    return sum(rows) / len(rows) if rows else 0.0


# What the ledger says about one job: frozen, JSON-friendly. Instants are UTC epoch milliseconds.


MOST_VERIFIES = 100
"""A history holds the newest so many verifies."""


@dataclass(frozen=True)
class VerifyPoint:
    """One verify: its cut, and windows and rows by verdict.

    Attributes
    ----------
    windows : dict
        Verdict to number of windows; verdicts that do not occur are left out.
    rows_compared : int
        Rows of closed windows; the sum of the next three.
    completeness : float or None
        ``rows_equal / rows_compared``, 0 to 1; None where nothing was compared.
    """

    verify_id: str
    at_ms: int
    micro_batch: int
    watermark_ms: int | None
    stream_version: int
    batch_version: int
    windows: dict[str, int]
    rows_compared: int
    rows_equal: int
    rows_explained: int
    rows_unexplained: int
    rows_pending: int

    @property
    def completeness(self) -> float | None:
        """Share of the compared rows that are equal."""
        return self.rows_equal / self.rows_compared if self.rows_compared else None

    @property
    def differs(self) -> bool:
        """Whether any compared row differs, proven or not."""
        return self.rows_equal < self.rows_compared


@dataclass(frozen=True)
class CauseHistory:
    """One proven cause over all verifies; a row with two causes counts under both.

    ``rows_now`` and ``windows_now`` are those of the newest verify: 0 where it no longer occurs. ``rows`` has its
    rows in each verify of the history, oldest first.
    """

    cause: str
    rows_now: int
    windows_now: int
    verifies: int
    first_seen_ms: int
    last_seen_ms: int
    trend: Trend
    rows: tuple[int, ...] = ()


@dataclass(frozen=True)
class WindowHistory:
    """One window that differed at least once. ``window_start_ms`` is None for jobs without windows.

    ``verdict``, ``rows`` (those that differ) and ``causes`` (blamed events) are of the last verify that saw it differ;
    ``still`` says whether that is the newest verify.
    """

    window_start_ms: int | None
    first_seen_ms: int
    last_seen_ms: int
    verifies: int
    verdict: str
    rows: int
    causes: dict[str, int]
    still: bool


@dataclass(frozen=True)
class History:
    """What the ledger has about a job.

    Attributes
    ----------
    since_ms : int or None
        Only verifies from then on were read; None: all.
    verifies_total, windows_total : int
        Verifies, and windows that differed in any of them; the tuples hold the newest and the most urgent ones.
    verifies : tuple of VerifyPoint
        Oldest first.
    differs_since_ms : int or None
        The first verify of the unbroken row of differing ones that the newest belongs to; None: it does not differ.
    min_completeness : float or None
        The least share of equal rows that is asked for, 0 to 1.
    """

    job: str
    since_ms: int | None
    verifies_total: int
    windows_total: int
    verifies: tuple[VerifyPoint, ...]
    causes: tuple[CauseHistory, ...]
    windows: tuple[WindowHistory, ...]
    differs_since_ms: int | None
    min_completeness: float | None = None

    @property
    def newest(self) -> VerifyPoint:
        """The last verify; a history has at least one."""
        return self.verifies[-1]


def differs_since(verifies: tuple[VerifyPoint, ...]) -> int | None:
    """When the unbroken row of differing verifies began that the newest belongs to; oldest first."""
    since = None
    for point in reversed(verifies):
        if not point.differs:
            break
        since = point.at_ms
    return since


# The ledger: every verify of a job that covered its cut, and what became of each window.
#
# A verify writes one row about itself, and a row for each window that is not as it was at the verify before: a window
# that stays equal for a year stands there once. Rows of both kinds are in one table and one commit, so that neither can
# be there without the other. `ledger_rows` lays both side by side again: all windows at each verify.


VERIFIED = "verified"
"""``verdict`` of the row of a verify itself; its ``window_start`` is null and its counts are 0."""
LASTS = "lasts"
"""Boolean column: the row holds for later verifies too, until the window has another. An older twinrun wrote every
window at every verify, without this column."""
GONE, NO_LONGER_OPEN = "gone", "no_longer_open"
"""``verdict`` of a window that neither result holds any more, and of one that has no pending rows any more."""
WINDOW = ("window_start", "verdict", "rows", "rows_equal", "rows_explained", "rows_unexplained", "causes")
VERIFY = (
    "verify_id",
    "job",
    "query_id",
    "micro_batch",
    "watermark_ms",
    "stream_version",
    "batch_version",
    "verified_at_ms",
)
LEDGER_COLUMNS = (*VERIFY, *WINDOW)
_STATE = WINDOW[1:]


def entries(windows: DataFrame, known: DataFrame | None, facts: Sequence[Column]) -> DataFrame:
    """What a verify appends: its own row, and those of windows that changed since the verify before. Lazy.

    Parameters
    ----------
    windows : DataFrame
        `WINDOW`: at most one row per ``window_start`` that is pending, and one that is not.
    known : DataFrame, optional
        The job's rows of the ledger as they are; None where there are none.
    facts : sequence of Column
        Literals: the columns of `VERIFY`, and whatever else a row is to have.
    """
    now = windows.select(*WINDOW)
    if known is not None:
        last = _spans(known).filter(F.col("_until_ms").isNull())
        was = last.select(F.col("window_start").alias("_start"), "_open", F.struct(*_STATE).alias("_was"))
        both = now.withColumn("_now", F.struct(*_STATE)).withColumn("_is_open", _open())
        same = F.col("window_start").eqNullSafe(F.col("_start")) & (F.col("_is_open") == F.col("_open"))
        both = both.select("window_start", "_now", "_is_open").join(was, same, "full")
        left = F.col("_now").isNull() & ~F.col("_was.verdict").isin(GONE, NO_LONGER_OPEN)
        changed = F.col("_now").isNotNull() & ~_text(F.col("_now")).eqNullSafe(_text(F.col("_was")))
        gone = F.struct(F.when(F.col("_open"), NO_LONGER_OPEN).otherwise(GONE).alias("verdict"), *_nothing())
        start = F.coalesce("window_start", "_start").alias("window_start")
        both = both.filter(left | changed).select(start, F.when(left, gone).otherwise(F.col("_now")).alias("_now"))
        now = both.select("window_start", "_now.*")
    mark = windows.sparkSession.range(1).select(
        F.lit(None).cast("timestamp").alias("window_start"), F.lit(VERIFIED).alias("verdict"), *_nothing()
    )
    return now.unionByName(mark).select(*facts, "*", F.lit(True).alias(LASTS))


def job_rows(spark: SparkSession, cfg: Config, job: str) -> DataFrame | None:
    """The job's rows of the ledger as they are, None where there is no ledger; lazy."""
    ref = cfg.table("ledger")
    return read_table(spark, ref).filter(F.col("job") == job) if table_exists(spark, ref) else None


def ledger_rows(spark: SparkSession, cfg: Config, job: str) -> DataFrame:
    """All windows of a job at each of its verifies, as if each verify had written them all; lazy. No Spark job.

    Columns: `LEDGER_COLUMNS`. ``window_start`` is null for jobs without windows.

    Raises
    ------
    TableError
        There is no ledger, or it lacks columns.
    """
    return laid_out(rows_of(spark, cfg, job, "ledger", LEDGER_COLUMNS))


def rows_of(spark: SparkSession, cfg: Config, job: str, name: str, columns: Sequence[str]) -> DataFrame:
    """The job's rows of a table of the layout as they are; lazy. No Spark job.

    Raises
    ------
    TableError
        There is no such table, or it lacks one of the columns.
    """
    ref = cfg.table(name)
    if not table_exists(spark, ref):
        raise TableError(f"there is no table {name} at {ref}.", fix=f"run: twinrun verify {job}")
    rows = read_table(spark, ref)
    lacking = [column for column in columns if column not in rows.columns]
    if lacking:
        raise TableError(
            f"the table {name} at {ref} is damaged or not of twinrun: it lacks {', '.join(lacking)}.",
            expected="the columns that a verify writes",
            fix=f"correct layout.{name} in the configuration, or put the table back",
        )
    return rows.filter(F.col("job") == job)


def laid_out(rows: DataFrame) -> DataFrame:
    """The same from the rows as they are, of one job. Verifies that wrote each window are given as they are. Lazy."""
    whole = rows.filter(~_lasts(rows)).select(*LEDGER_COLUMNS)
    states = _spans(rows).filter(~F.col("verdict").isin(GONE, NO_LONGER_OPEN))
    verifies = rows.filter(F.col("verdict") == VERIFIED).select(*VERIFY)
    found = verifies.join(states.select(*WINDOW, "_from_ms", "_until_ms"), _holds_at("verified_at_ms"))
    return found.select(*LEDGER_COLUMNS).unionByName(whole)


def removable(ledger: DataFrame, old: DataFrame) -> DataFrame:
    """Rows of the ledger that can go with these verifies: what no verify that stays needs. Lazy.

    ``job``, ``verify_id``, ``window_start`` and ``verdict`` tell each.

    Parameters
    ----------
    ledger : DataFrame
        All of it, of all jobs.
    old : DataFrame
        ``verify_id`` of the verifies that go.
    """
    names = ("job", "verify_id", "window_start", "verdict")
    own = ledger.filter(~_lasts(ledger) | (F.col("verdict") == VERIFIED)).join(old, "verify_id", "left_semi")
    stay = ledger.filter(F.col("verdict") == VERIFIED).join(old, "verify_id", "left_anti")
    stay = stay.select(F.col("job").alias("_job"), F.col("verified_at_ms").alias("_at_ms"))
    needed = (F.col("_job") == F.col("job")) & _holds_at("_at_ms")
    return own.select(*names).unionByName(_spans(ledger).join(stay, needed, "left_anti").select(*names))


def _open() -> Column:
    """Whether a row is about the pending rows of a window: one window can have such and others, of other keys."""
    return F.col("verdict").isin("pending", NO_LONGER_OPEN)


def _nothing() -> list[Column]:
    counts = [F.lit(0).cast("bigint").alias(name) for name in _STATE if name.startswith("rows")]
    return [*counts, F.create_map().cast("map<string,bigint>").alias("causes")]


def _lasts(rows: DataFrame) -> Column:
    return F.coalesce(F.col(LASTS), F.lit(False)) if LASTS in rows.columns else F.lit(False)


def _spans(rows: DataFrame) -> DataFrame:
    """Of the rows of windows that last: from which verify they hold, and up to which (null: still), epoch ms."""
    states = rows.filter(_lasts(rows) & (F.col("verdict") != VERIFIED)).withColumn("_open", _open())
    order = Window.partitionBy("job", "window_start", "_open").orderBy("verified_at_ms")
    spans = {"_from_ms": F.col("verified_at_ms"), "_until_ms": F.lead("verified_at_ms").over(order)}
    return states.withColumns(spans).drop("verified_at_ms")


def _holds_at(at_ms: str) -> Column:
    """Whether a row of `_spans` is what a verify of that instant saw."""
    return (F.col(at_ms) >= F.col("_from_ms")) & (F.col("_until_ms").isNull() | (F.col(at_ms) < F.col("_until_ms")))


def _text(state: Column) -> Column:
    """A state that can be compared: maps cannot."""
    causes = F.sort_array(F.map_entries(state["causes"]))
    return F.struct(*[state[name] for name in _STATE[:-1]], causes)
