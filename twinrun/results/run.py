"""What a run of either mode leaves behind, and the columns that tell where a result row comes from."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

LINEAGE = ("_run_id", "_written_at", "_micro_batch")
"""Columns of a result table that are not compared."""


@dataclass(frozen=True)
class RunSummary:
    """One finished run.

    Attributes
    ----------
    mode : str
        ``"batch"``, ``"stream"`` or ``"ingest"``.
    rows : int or None
        Rows written, where known without another Spark job.
    events : int
        Events that were new to this run.
    table, version : str, int
        Where the results are, and the Delta version after the run.
    notes : tuple of str
        What a user should know, such as why everything was recomputed.
    """

    mode: str
    name: str
    run_id: str
    events: int
    table: str
    version: int | None
    micro_batches: int = 0
    rows: int | None = None
    notes: tuple[str, ...] = ()
    duration_ms: int = 0
    stopped_by: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """How far a query is: its newest finished micro-batch (-1: none) and events read by this run."""

    micro_batch: int
    events: int
    watermark: str | None


OnProgress = Callable[[Progress], None]


def new_run_id() -> str:
    """A fresh id for one run."""
    return uuid.uuid4().hex[:12]


def with_lineage(results: DataFrame, run_id: str) -> DataFrame:
    """Add ``_run_id`` and ``_written_at`` (the time of the run or micro-batch); lazy."""
    return results.withColumns({"_run_id": F.lit(run_id), "_written_at": F.current_timestamp()})


def without_lineage(results: DataFrame) -> DataFrame:
    """The result as the job defines it."""
    return results.drop(*LINEAGE)
