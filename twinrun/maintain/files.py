"""The data files of one Delta table: compacted, and removed where no kept version has them.

Delta's VACUUM alone cannot keep an old version: since 4.4 it goes by the table's ``delta.deletedFileRetentionDuration``
whatever RETAIN says, and a file that was taken out of the table longer ago than that is no longer in the log as such.
So VACUUM is given an inventory that leaves out every file of a pinned version: what is not in it is never removed.
The table's own retention is never shortened.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.durations import parse_ms
from twinrun.session.plain import plain_errors
from twinrun.session.settings import with_settings
from twinrun.tables.delta import delta_table, is_path, read_table

DELETED_FILES, LOG = "delta.deletedFileRetentionDuration", "delta.logRetentionDuration"
_DEFAULT_MS = {DELETED_FILES: 7 * 86_400_000, LOG: 30 * 86_400_000}
_VACUUM_LOGGING = "spark.databricks.delta.vacuum.logging.enabled"


@dataclass(frozen=True)
class Detail:
    """What Delta says about a table's newest version; durations in milliseconds."""

    location: str
    files: int
    bytes_used: int
    deleted_files_ms: int
    log_ms: int
    deletion_vectors: bool


@dataclass(frozen=True)
class Stored:
    """Data files in a table's folder, whatever version they belong to."""

    files: int
    size: int


def detail_of(spark: SparkSession, ref: str) -> Detail:
    """Where the table is, what its newest version has, and its own retention. One small Spark job."""
    row = delta_table(spark, ref).detail().collect()[0]
    properties = row["properties"]
    return Detail(
        location=row["location"].rstrip("/"),
        files=row["numFiles"],
        bytes_used=row["sizeInBytes"],
        deleted_files_ms=interval_ms(properties.get(DELETED_FILES), DELETED_FILES),
        log_ms=interval_ms(properties.get(LOG), LOG),
        deletion_vectors=properties.get("delta.enableDeletionVectors", "false").lower() == "true",
    )


def interval_ms(text: str | None, name: str) -> int:
    """A duration as Delta writes it, such as ``interval 7 days``; the default where the table says nothing.

    0, the most careful answer, for what cannot be read.
    """
    if text is None:
        return _DEFAULT_MS[name]
    try:
        return parse_ms(text.lower().strip().removeprefix("interval"))
    except ValueError:
        return 0


def inventory(spark: SparkSession, location: str) -> DataFrame:
    """Data files in a table's folder: ``path``, ``length``, ``isDir``, ``modificationTime`` (epoch ms). Lazy.

    Only listed, never read. Files of other kinds (deletion vectors, change data) are not in it, and so stay.
    """
    reader = spark.read.format("binaryFile").option("recursiveFileLookup", "true")
    found = reader.option("pathGlobFilter", "*.parquet").load(location)
    columns = {
        "path": F.col("path"),
        "length": F.col("length"),
        "isDir": F.lit(False),
        "modificationTime": F.unix_millis("modificationTime"),
    }
    # VACUUM takes only columns that may be null, in this order; a condition without "otherwise" is one.
    return found.select(*[F.when(F.col("path").isNotNull(), cell).alias(name) for name, cell in columns.items()])


def without_kept(spark: SparkSession, files: DataFrame, ref: str, versions: Iterable[int]) -> DataFrame:
    """The files that none of these versions has. Lazy, but each version must be readable in the log.

    Compared by name, which Delta makes unique: at worst a file too many is kept. The driver holds these names.

    Raises
    ------
    TableError, QueryError
        A pinned version is no longer in the table's log.
    """
    # By the log's own list: a file whose rows are all marked as deleted has none that could name it.
    names = {path.rsplit("/", 1)[-1] for version in versions for path in read_table(spark, ref, version).inputFiles()}
    if not names:
        return files
    kept = spark.createDataFrame([(name,) for name in sorted(names)], "_name STRING")
    return files.join(kept, F.element_at(F.split("path", "/"), -1) == F.col("_name"), "left_anti")


def stored(files: DataFrame) -> Stored:
    """Count files. One Spark job."""
    row = files.agg(F.count("*"), F.coalesce(F.sum("length"), F.lit(0))).collect()[0]
    return Stored(row[0], row[1])


def compact(spark: SparkSession, ref: str) -> int:
    """Rewrite small files into larger ones, in a commit that changes no row; how many were rewritten."""
    with plain_errors(f"compacting {ref}"):
        metrics = delta_table(spark, ref).optimize().executeCompaction()
        return int(metrics.select("metrics.numFilesRemoved").collect()[0][0])


def vacuum(spark: SparkSession, ref: str, candidates: DataFrame) -> None:
    """Remove those of the candidates that the table's newest versions do not need; makes no commit.

    Parameters
    ----------
    candidates : DataFrame
        As `inventory` gives it; nothing else is removed. What was taken out of the table within its own retention
        stays as well.
    """
    view = f"twinrun_{uuid.uuid4().hex}"
    # Computed once, before VACUUM reads it: it must not list anew what it is removing.
    candidates.localCheckpoint().createOrReplaceTempView(view)
    quoted = ref.replace("\\", "\\\\").replace("'", "\\'")
    table = f"'{quoted}'" if is_path(ref) else ref
    try:
        with _unlogged(spark), plain_errors(f"removing old files of {ref}"):
            spark.sql(f"VACUUM {table} USING INVENTORY (SELECT * FROM {view})").collect()
    finally:
        spark.catalog.dropTempView(view)


@contextmanager
def _unlogged(spark: SparkSession) -> Iterator[None]:
    """Without the two commits by which VACUUM notes itself: a new version of a static table would mean new content."""
    with with_settings(spark, {_VACUUM_LOGGING: "false"}):
        yield
