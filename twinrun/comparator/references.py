"""Compare two tables by reference: a Delta table, a folder of Parquet files, or a catalog name."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from delta.tables import DeltaTable
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession

from twinrun.comparator.result import Comparison
from twinrun.comparator.tables import compare_frames
from twinrun.config.model import Config
from twinrun.session.plain import plain_errors
from twinrun.tables.cassandra import is_cassandra, read_cassandra
from twinrun.tables.database import is_database, read_database
from twinrun.tables.delta import latest_version, read_table, table_exists
from twinrun.tables.files import local_path
from twinrun.tables.folder import need_root
from twinrun.tables.listed import is_delta
from twinrun.tables.named import read_named
from twinrun.tables.parquet import read_parquet, strict_session
from twinrun.tables.stored import without_padding
from twinrun.tolerance import Tolerance
from twinrun.wording import plural

SAMPLES = 20
"""Differing rows that are shown side by side."""


@dataclass(frozen=True)
class Asked:
    """What to compare and how; see `twinrun.comparator.tables.compare_frames`."""

    keys: tuple[str, ...]
    window: str | None
    ready_until: datetime | None
    tolerances: dict[str, Tolerance]
    ignore: tuple[str, ...]
    full: bool
    types: dict[str, str] = field(default_factory=dict)
    naive_time_zone: str | None = None
    samples: int = SAMPLES


@dataclass(frozen=True)
class Table:
    """A table that was read, with the names of columns that were asked to be left out and are there."""

    rows: DataFrame
    read: Read
    left: tuple[str, ...]


@dataclass(frozen=True)
class Read:
    """What was read of one table: its kind and version, then what one should know about it, a sentence each."""

    note: str
    facts: tuple[str, ...] = ()


def compare_tables(
    spark: SparkSession, cfg: Config | None, refs: tuple[str, str], asked: Asked
) -> tuple[Comparison, tuple[Read, Read]]:
    """Compare two tables as they are now; a Delta table at its newest version, which is pinned.

    Returns
    -------
    Comparison
        The numbers and a few samples.
    tuple of Read
        What was read, one per table.

    Raises
    ------
    TableError
        A table is missing, or a column cannot be used as asked.
    QueryError
        Spark cannot read a table.
    """

    with plain_errors("the comparison"):
        # Names that differ by case alone are two columns here; the caller's session stays as it is.
        own = strict_session(spark)
        left, right = (_read(own, cfg, ref, asked) for ref in refs)
        found, _ = compare_frames(
            left.rows,
            right.rows,
            keys=asked.keys,
            window_column=asked.window,
            tolerances=asked.tolerances,
            ignore=asked.ignore,
            types=asked.types,
            naive_time_zone=asked.naive_time_zone,
            ready_until=asked.ready_until,
            sample_rows=asked.samples,
            full=asked.full,
        )
    return found, (_told(left), _told(right))


def _told(table: Table) -> Read:
    """What was read, and which of its columns were not compared."""
    left = tuple(f"column {name} is not compared" for name in table.left)
    return Read(table.read.note, (*table.read.facts, *left))


def _read(spark: SparkSession, cfg: Config | None, ref: str, asked: Asked) -> Table:

    if is_database(ref) or is_cassandra(ref):
        read = read_database if is_database(ref) else read_cassandra
        texts = [name for name, text in asked.types.items() if text.strip().lower() == "string"]
        rows, note, facts = read(spark, ref, as_text=texts, leave=asked.ignore)
        return Table(rows, Read(note, facts), tuple(name for name in rows.columns if name in asked.ignore))
    is_path = "/" in ref
    more: tuple[str, ...] = ()
    if _is_delta(spark, cfg, ref):
        if is_path:
            need_root(spark, ref)
        version = latest_version(spark, ref)
        rows, note = read_table(spark, ref, version), f"Delta, version {version}"
    elif is_path:
        numbers = [name for name, text in asked.types.items() if text.strip().lower() == "bigint"]
        found = read_parquet(spark, ref, leave=asked.ignore, as_numbers=numbers)
        return Table(found.rows, Read(f"Parquet, {plural(found.files, 'file')}, no versions", found.facts), found.left)
    elif table_exists(spark, ref):
        rows, more = read_named(spark, ref)
        note = "no versions"
    else:
        # read_table says in one sentence that it is not there.
        rows, note = read_table(spark, ref), ""
    left = tuple(name for name in rows.columns if name in asked.ignore)
    rows, facts = without_padding(rows)
    return Table(rows, Read(note, (*more, *facts)), left)


def _is_delta(spark: SparkSession, cfg: Config | None, ref: str) -> bool:

    folder = local_path(cfg, ref)
    if folder is not None:
        return (folder / "_delta_log").is_dir()
    if "/" in ref:
        return is_delta(spark, ref)
    try:
        DeltaTable.forName(spark, ref)
    except AnalysisException:
        return False
    return True
