"""Static tables: pinned to one Delta version per run, so that both modes can be told apart by version.

Reading files without a log is a room of its own; it is opened only where a table needs it, since most jobs have none.
"""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from twinrun.config.model import Config
from twinrun.config.sections import TableBinding
from twinrun.errors import ConfigError
from twinrun.job.job import Job
from twinrun.tables.delta import is_path, latest_version, read_table, replace_rows

Pins = dict[str, int]
"""Name of a static table to its Delta version."""


def static_ref(cfg: Config, name: str) -> str:
    """Where the table is read from: its own place, or its Delta copy when it has no versions."""
    binding = _binding(cfg, name)
    return binding.path if binding.format == "delta" else cfg.table("static", table=name)


def pin_tables(spark: SparkSession, cfg: Config, job: Job) -> Pins:
    """Pin every static table of a job to its newest version. One small Spark job per table.

    A table that has no versions (Parquet) is copied to Delta first, each time, so that a change is a new version.
    """
    for table in job.tables:
        binding = _binding(cfg, table.name)
        if binding.format != "delta":
            replace_rows(_read(spark, binding), cfg.table("static", table=table.name))
        elif is_path(binding.path):
            from twinrun.tables.folder import need_root

            need_root(spark, binding.path)
    return {table.name: latest_version(spark, static_ref(cfg, table.name)) for table in job.tables}


def read_static(spark: SparkSession, cfg: Config, pins: Pins) -> dict[str, DataFrame]:
    """The pinned static tables as lazy frames."""
    return {name: read_table(spark, static_ref(cfg, name), version) for name, version in pins.items()}


def static_schema(spark: SparkSession, binding: TableBinding) -> StructType:
    """The schema of a static table as it is now. A table that is not Delta may take a small Spark job."""
    return (read_table(spark, binding.path) if binding.format == "delta" else _read(spark, binding)).schema


def _read(spark: SparkSession, binding: TableBinding) -> DataFrame:
    """A table without versions as it is now: every file, every column; folders' values are text."""
    from twinrun.tables.named import read_named
    from twinrun.tables.parquet import read_parquet

    if is_path(binding.path):
        return read_parquet(spark, binding.path).rows
    return read_named(spark, binding.path)[0]


def _binding(cfg: Config, name: str) -> TableBinding:
    if name not in cfg.tables:
        raise ConfigError(
            f"the job reads the static table {name!r}, which {cfg.file.name} does not bind.",
            expected="an entry under tables: with a path",
            fix=f"add to {cfg.file.name}:  tables: {{{name}: {{path: ..., format: delta}}}}",
        )
    return cfg.tables[name]
