"""What a run of either mode leaves behind, and the columns that tell where a result row comes from."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from twinrun.wording import plural

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
        Rows that this run wrote, as the table's history counts them; None where it does not say.
    events : int
        Valid events that were new to this run; records for an ingest, which decodes nothing.
    quarantined : dict
        Records that this run refused, by rule; None where it is not known how many of its records were valid.
    micro_batches : int
        Of this run.
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
    quarantined: dict[str, int] | None = None


@dataclass(frozen=True)
class Progress:
    """How far a query is: its newest finished micro-batch (-1: none) and records read by this run.

    ``behind`` are records that its topics had and it had not read; None before that is known. ``waits`` is why nothing
    happens, since when, in words; empty while it goes on. ``refused`` are records by the rule that they broke; None
    where they were not counted.
    """

    micro_batch: int
    events: int
    watermark: str | None
    micro_batches: int = 0
    behind: int | None = None
    waits: str = ""
    refused: dict[str, int] | None = None


OnProgress = Callable[[Progress], None]
Say = Callable[[str], None]
"""Told in a few words what is done now; cheap, from any thread."""


def quiet(_: str) -> None:
    """Say nothing."""


def new_run_id() -> str:
    """A fresh id for one run."""
    return uuid.uuid4().hex[:12]


def counts_of(done: RunSummary) -> list[str]:
    """What a run did, counted over this run alone.

    ``201 valid``, ``5 quarantined (not_json 1, wrong_type 4)``, ``2 micro-batches``, ``40 rows written``.
    """
    if done.mode == "ingest":
        parts = [plural(done.events, "record")]
    elif done.quarantined is None:
        parts = [f"{plural(done.events, 'record')} read (valid and quarantined were not told apart)"]
    else:
        refused = sum(done.quarantined.values())
        rules = ", ".join(f"{rule} {count:,}" for rule, count in done.quarantined.items())
        parts = [f"{done.events:,} valid", f"{refused:,} quarantined{f' ({rules})' if rules else ''}"]
    if done.mode != "batch":
        parts.append(plural(done.micro_batches, "micro-batch"))
    if done.rows is not None:
        parts.append(f"{plural(done.rows, 'row')} written")
    return parts


def with_lineage(results: DataFrame, run_id: str) -> DataFrame:
    """Add ``_run_id`` and ``_written_at`` (the time of the run or micro-batch); lazy."""
    return results.withColumns({"_run_id": F.lit(run_id), "_written_at": F.current_timestamp()})


def without_lineage(results: DataFrame) -> DataFrame:
    """The result as the job defines it."""
    return results.drop(*LINEAGE)
