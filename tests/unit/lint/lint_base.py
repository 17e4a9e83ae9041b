"""What the small jobs of the lint's tests share: a source, a table, one definition per shape, pairs of functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from twinrun import Job, Source, Table
from twinrun.lint.lint import lint_job
from twinrun.lint.result import Finding, LintResult

EVENTS = Source(
    "events",
    schema="id STRING NOT NULL, ts BIGINT NOT NULL, kind STRING NOT NULL, dest STRING, n INT, x DOUBLE",
    event_time="ts",
    lateness="1 hour",
    id=["id"],
)
SHOPS = "kind STRING NOT NULL, name STRING, size INT"
Logic = Callable[..., DataFrame]


def any_logic(events: DataFrame) -> DataFrame:
    raise NotImplementedError


HOURLY = Job(any_logic, sources=[EVENTS], keys=["kind", "window_start"], window="1 hour")
RECORDS = Job(any_logic, sources=[replace(EVENTS, lateness=None)], keys=["id"])
MARKED = replace(RECORDS, sources=[EVENTS])
TOTALS = Job(any_logic, sources=[replace(EVENTS, lateness=None)], keys=["kind"], emit="updates")
SESSIONS = replace(HOURLY, window=None, gap="5 minutes")
WITH_SHOPS = replace(RECORDS, tables=[Table("shops")])


@dataclass(frozen=True)
class Case:
    """``bad`` breaks the rule on its line marked ``# here``; ``good`` is near it and does not."""

    rule: str
    base: Job
    bad: Logic
    good: Logic
    good_base: Job | None = None
    session: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.rule}-{self.bad.__name__}"


def plain(events: DataFrame) -> DataFrame:
    return events.select("id")


def hour() -> Any:
    return F.window("ts", "1 hour")


def hourly(per_hour: DataFrame, *columns: Any) -> DataFrame:
    return per_hour.select("kind", F.col("window.start").alias("window_start"), *columns)


def linted(spark: SparkSession, base: Job, logic: Logic) -> LintResult:
    return lint_job(spark, replace(base, logic=logic), {"shops": StructType.fromDDL(SHOPS)})


def of_rule(result: LintResult, rule: str) -> list[Finding]:
    return [finding for finding in result.findings if finding.rule.id == rule]


def marked_line(logic: Logic) -> int:
    """The line with ``# here``, or that of the function."""
    lines, first = inspect.getsourcelines(logic)
    return next((first + place for place, line in enumerate(lines) if "# here" in line), first)
