"""Measurements as rows of a table, and the newest beside the one before it: what became slower."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.measure.results import Measurement
from twinrun.tables.delta import append, read_table, table_exists

TABLE = "measurements"
SCHEMA = (
    "measurement STRING, job STRING, at_ms BIGINT, arm STRING, mode STRING, every_ms BIGINT, repeat INT, "
    "outcome STRING, agreed BOOLEAN, "
    "noisy BOOLEAN, p50_s DOUBLE, p95_s DOUBLE, p99_s DOUBLE, max_s DOUBLE, "
    "machinery_p99_s DOUBLE, cpu_s_per_million DOUBLE, completeness DOUBLE, "
    "machine STRING, versions STRING, settings STRING, commit STRING, "
    "details STRING"
)
"""Columns of the table; figures are null for an arm without agreement, ``details`` is all of it as JSON."""
_MOST_ROWS = 2_000


def rows_of(measured: Measurement) -> list[tuple[Any, ...]]:
    """A row per arm and repeat, in the order of `SCHEMA`; an arm without agreement has no figures."""
    rows: list[tuple[Any, ...]] = []
    shared = [json.dumps(each, sort_keys=True) for each in (measured.machine, measured.versions, measured.settings)]
    for each in measured.results:
        fresh = each.freshness if each.agreed else None
        total = fresh.total if fresh else None
        figures: list[float | None] = [None] * 7
        if each.agreed:
            figures[5:] = [each.cpu_s_per_million, each.completeness]
        if total and fresh and fresh.machinery:
            figures[:5] = [total.p50, total.p95, total.p99, total.max, fresh.machinery.p99]
        head = (measured.measurement, measured.job, measured.at_ms, each.arm.name, each.arm.mode, each.arm.every_ms)
        noisy = each.others_share > measured.settings["noise_share"]
        state = (each.repeat, each.outcome, each.agreed, noisy)
        rows.append((*head, *state, *figures, *shared, measured.commit, json.dumps(asdict(each))))
    return rows


def write_rows(spark: SparkSession, cfg: Config, measured: Measurement) -> None:
    """Append the measurement to the table ``measurements``. One Spark job."""
    append(spark.createDataFrame(rows_of(measured), SCHEMA).coalesce(1), cfg.table(TABLE))


def read_past(spark: SparkSession, cfg: Config, job: str) -> tuple[Past, ...]:
    """The measurements of a job, an entry per arm, newest first; at most 2,000 entries. Two small Spark jobs."""
    if not table_exists(spark, cfg.table(TABLE)):
        return ()
    rows = read_table(spark, cfg.table(TABLE)).filter(F.col("job") == job)
    by_arm = rows.groupBy("measurement", "at_ms", "arm").agg(
        F.first("outcome").alias("outcome"),
        F.avg("p99_s").alias("p99_s"),
        F.avg("cpu_s_per_million").alias("cpu_s_per_million"),
        *[F.first(name).alias(name) for name in ("machine", "settings", "commit")],
    )
    newest = by_arm.orderBy(F.desc("at_ms"), "arm").limit(_MOST_ROWS).collect()
    return tuple(Past(**row.asDict()) for row in newest)


@dataclass(frozen=True)
class Past:
    """One arm of one measurement in short: means over its repeats, None without agreement."""

    measurement: str
    at_ms: int
    arm: str
    outcome: str
    p99_s: float | None
    cpu_s_per_million: float | None
    machine: str
    settings: str
    commit: str


@dataclass(frozen=True)
class Change:
    """One figure of one arm then and now; ``share`` is by how much it grew (0.1: by 10 %)."""

    arm: str
    figure: str
    before: float
    now: float

    @property
    def share(self) -> float:
        """How much it grew, as a share of what it was."""
        return self.now / self.before - 1 if self.before else 0.0


def changes(past: Sequence[Past]) -> tuple[list[Change], list[str]]:
    """The newest measurement beside the one before it on the same machine with the same settings.

    Returns
    -------
    (list of Change, list of str)
        What both have figures for; and what cannot be compared, and why.
    """
    if not past:
        return [], ["there is no measurement"]
    newest_at = max(each.at_ms for each in past)
    now = [each for each in past if each.at_ms == newest_at]
    alike = [p for p in past if p.at_ms < newest_at and (p.machine, p.settings) == (now[0].machine, now[0].settings)]
    if not alike:
        return [], ["there is no earlier measurement on this machine with these settings"]
    before_at = max(each.at_ms for each in alike)
    before = {each.arm: each for each in alike if each.at_ms == before_at}
    found: list[Change] = []
    notes: list[str] = []
    for each in sorted(now, key=lambda one: one.arm):
        earlier = before.get(each.arm)
        if earlier is None:
            notes.append(f"{each.arm}: was not measured before")
            continue
        pairs = (("p99", earlier.p99_s, each.p99_s), ("cpu", earlier.cpu_s_per_million, each.cpu_s_per_million))
        known = [Change(each.arm, name, old, new) for name, old, new in pairs if old is not None and new is not None]
        found += known
        if not known:
            notes.append(f"{each.arm}: no figures to compare (then {earlier.outcome}, now {each.outcome})")
    gone = sorted(before.keys() - {each.arm for each in now})
    notes += [f"{arm}: is not measured any more" for arm in gone]
    return found, notes


def regressions(found: Sequence[Change], most: float) -> list[Change]:
    """Those that grew by more than a share."""
    return [each for each in found if each.share > most]
