"""What the tests of the other job shapes share: lazily run worlds, planted faults, results read without Spark."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

import polars as pl
from delta.tables import DeltaTable
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tests.integration.conftest import T0_MS, World
from twinrun.produce.records import Record
from twinrun.results.records import LINEAGE
from twinrun.results.verdict import Verdict
from twinrun.tables.delta import replace_rows

Dropped = Mapping[str, Iterable[int]]
"""Event id to the starts (seconds) of the windows from which the stream drops it."""


def ensure_run(world: World, job: str) -> None:
    """Run a job in both modes unless that has been done: what is not asked for costs nothing."""
    if not world.table("stream", job).exists():
        world.stream(job)
        world.batch(job)


def result_of(world: World, kind: str, job: str) -> pl.DataFrame:
    """A result table as polars reads it, without lineage columns."""
    rows = pl.read_delta(str(world.table(kind, job)))
    return rows.drop([name for name in LINEAGE if name in rows.columns])


def counted(world: World, kind: str, job: str) -> dict[tuple[str, int], int]:
    """Clicks by page and window start (seconds after `T0_MS`) in a result table; a repeated key fails."""
    rows = result_of(world, kind, job)
    found = {(row["page"], second_of(row["window_start"])): row["clicks"] for row in rows.iter_rows(named=True)}
    assert len(found) == rows.height
    return found


def expected_counts(log: list[Record], length_s: int, step_s: int, dropped: Dropped) -> dict[tuple[str, int], int]:
    """The same by plain counting: every event in every window that holds it, but for those that are dropped."""
    counts: Counter[tuple[str, int]] = Counter()
    for record in log:
        event = json.loads(record.value or b"")
        second = (event["at"] - T0_MS) / 1000
        last = int(second // step_s) * step_s
        for start in range(last, last - length_s, -step_s):
            if start not in dropped.get(event["id"], ()):
                counts[event["page"], start] += 1
    return dict(counts)


def second_of(instant: datetime) -> int:
    """Seconds after `T0_MS`."""
    return round(instant.timestamp()) - T0_MS // 1000


def named_pairs(world: World, job: str) -> set[tuple[str, int]]:
    """What the ``late_events`` table names for a job: (event id, window start in seconds after `T0_MS`)."""
    rows = pl.read_delta(world.cfg().table("late_events")).filter(pl.col("job") == job)
    pairs = [(json.loads(row["id"]), row["window_start_ms"]) for row in rows.iter_rows(named=True)]
    found = {(next(iter(name.values())), (start - T0_MS) // 1000) for name, start in pairs}
    assert len(found) == rows.height, "each pair once"
    return found


def verify_with(world: World, job: str, change: Callable[[DataFrame], DataFrame]) -> Verdict:
    """Rewrite the stream's table behind the stream's back, verify, and put the table back."""
    ref = str(world.table("stream", job))
    table = DeltaTable.forPath(world.spark, ref)
    version = table.history(1).collect()[0]["version"]
    rows = world.spark.read.format("delta").option("versionAsOf", version).load(ref)
    replace_rows(change(rows), ref)
    try:
        return world.verify(job)
    finally:
        table.restoreToVersion(version)


def changed(column: str, where: str) -> Callable[[DataFrame], DataFrame]:
    """Add 1 to a column where a condition holds."""
    return lambda rows: rows.withColumn(column, F.expr(f"CASE WHEN {where} THEN {column} + 1 ELSE {column} END"))


def deleted(where: str) -> Callable[[DataFrame], DataFrame]:
    return lambda rows: rows.filter(f"NOT ({where})")


def doubled(where: str) -> Callable[[DataFrame], DataFrame]:
    return lambda rows: rows.unionByName(rows.filter(where))
