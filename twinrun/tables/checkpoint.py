"""What Spark wrote into a streaming checkpoint: offsets, watermarks, the query's id.

A few small files are read by name, without a Spark job; all micro-batches that it still knows are read as data.
"""

from __future__ import annotations

import json

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.errors import CheckpointError
from twinrun.session.plain import plain_cause
from twinrun.tables.files import at, newest_number, read_text
from twinrun.tables.offsets import Offsets, plain

_MISSING = "PATH_NOT_FOUND"
_OFFSETS_TYPE = "map<string,map<string,bigint>>"
PLANNED_SCHEMA = (
    "micro_batch BIGINT, watermark_ms BIGINT, started_at_ms BIGINT, "
    "end_offsets ARRAY<STRUCT<topic: STRING, partition: INT, offset: BIGINT>>"
)


def query_id(spark: SparkSession, checkpoint: str) -> str | None:
    """Id of the query that owns the checkpoint; None when no query ever started on it. No Spark job."""
    text = _read_file(spark, f"{checkpoint}/metadata")
    if text is None:
        return None
    try:
        return str(json.loads(text)["id"])
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(
            f"the checkpoint's metadata file {checkpoint}/metadata is damaged.",
            expected='JSON such as {"id": "..."}',
            fix="restore the file from a backup, or start anew with --new-checkpoint",
        ) from None


def start_offsets(spark: SparkSession, checkpoint: str) -> dict[str, Offsets]:
    """First offset per topic and partition that the query read; empty before its first micro-batch. No Spark job."""
    starts: dict[str, Offsets] = {}
    for text in _read_each(spark, f"{checkpoint}/sources", "0"):
        # Spark writes a zero byte and a version line before the JSON.
        _add_offsets(
            starts,
            text[max(text.find("{"), 0) :],
            f"a file of the first offsets below {checkpoint}/sources is damaged.",
        )
    return starts


def next_offsets(spark: SparkSession, checkpoint: str) -> dict[str, Offsets]:
    """Per topic and partition the offset that the next run reads first; empty for a checkpoint that never planned.

    A micro-batch that was planned and not committed is read again. No Spark job.
    """
    committed = last_committed(spark, checkpoint)
    return start_offsets(spark, checkpoint) if committed is None else _planned_ends(spark, checkpoint, committed)


def open_micro_batch(spark: SparkSession, checkpoint: str) -> tuple[dict[str, Offsets], dict[str, Offsets]]:
    """First and exclusive end offsets by topic of the micro-batch that was planned and not committed.

    Without one both are the same. No Spark job.
    """
    first = next_offsets(spark, checkpoint)
    committed, planned = last_committed(spark, checkpoint), newest_number(spark, f"{checkpoint}/offsets")
    if planned is None or planned <= (-1 if committed is None else committed):
        return first, first
    return first, _planned_ends(spark, checkpoint, planned) or first


def _planned_ends(spark: SparkSession, checkpoint: str, number: int) -> dict[str, Offsets]:
    """End offsets by topic and partition of a micro-batch, by the file in which it was planned; empty without one."""
    text = _read_file(spark, f"{checkpoint}/offsets/{number}")
    ends: dict[str, Offsets] = {}
    # A version, a header, and a line for each source; "-" for one that had nothing yet.
    for line in (text or "").split("\n")[2:]:
        if line not in ("", "-"):
            damaged = f"the offsets of micro-batch {number} below {checkpoint}/offsets are damaged."
            _add_offsets(ends, line, damaged)
    return ends


def _add_offsets(known: dict[str, Offsets], text: str, damaged: str) -> None:
    """Add what a source of Kafka wrote about itself: offsets by topic and partition as JSON."""
    try:
        found = json.loads(text)
    except ValueError:
        fix = "restore the file from a backup, or start anew with --new-checkpoint"
        raise CheckpointError(damaged, fix=fix) from None
    for topic, partitions in found.items():
        known.setdefault(topic, {}).update(plain(partitions))


def planned_micro_batches(spark: SparkSession, checkpoint: str) -> DataFrame:
    """One row per micro-batch whose offsets file is still there (Spark keeps the last 100): `PLANNED_SCHEMA`.

    ``watermark_ms`` is the watermark that the micro-batch emits by; it drops by that of the one before it. The file
    is written before the micro-batch runs, and a repeated micro-batch keeps it byte for byte.
    """
    try:
        files = _numbered_files(spark, f"{checkpoint}/offsets")
    except Exception as error:
        if _MISSING not in str(error):
            raise
        return spark.createDataFrame([], PLANNED_SCHEMA)
    lines = F.split("value", "\n")
    header = F.from_json(lines[1], "batchWatermarkMs BIGINT, batchTimestampMs BIGINT")
    sources = F.filter(F.slice(lines, F.lit(3), F.greatest(F.size(lines) - 2, F.lit(0))), lambda line: line != "-")
    return files.select(
        F.col("_metadata.file_name").cast("bigint").alias("micro_batch"),
        header["batchWatermarkMs"].alias("watermark_ms"),
        header["batchTimestampMs"].alias("started_at_ms"),
        F.flatten(F.transform(sources, _entries)).alias("end_offsets"),
    )


def _numbered_files(spark: SparkSession, folder: str) -> DataFrame:
    """One row per file of a micro-batch.

    A running stream removes its oldest files between listing and reading; the micro-batch log has those by then, and
    a hole would be counted as missing.
    """
    reader = spark.read.option("ignoreMissingFiles", "true")
    return reader.text(folder, wholetext=True, pathGlobFilter="[0-9]*")


def _entries(line: Column) -> Column:
    topics = F.map_entries(F.from_json(line, _OFFSETS_TYPE))
    return F.flatten(
        F.transform(
            topics,
            lambda topic: F.transform(
                F.map_entries(topic["value"]),
                lambda part: F.struct(
                    topic["key"].alias("topic"),
                    part["key"].cast("int").alias("partition"),
                    part["value"].alias("offset"),
                ),
            ),
        )
    )


def last_committed(spark: SparkSession, checkpoint: str) -> int | None:
    """Number of the newest micro-batch that Spark has committed; None before the first. No Spark job."""
    return newest_number(spark, f"{checkpoint}/commits")


def _read_file(spark: SparkSession, path: str) -> str | None:
    """The text of a small file; None where there is none."""
    where, files = at(spark, path)
    try:
        return read_text(spark, path) if files.exists(where) else None
    except Exception as error:
        if not files.exists(where):  # a running stream removes its oldest files
            return None
        raise CheckpointError(f"the checkpoint file {path} cannot be read: {plain_cause(error)}") from error


def _read_each(spark: SparkSession, folder: str, name: str) -> list[str]:
    """The texts of the file of this name in each folder that lies in a folder, a few; in no order."""
    where, files = at(spark, folder)
    if not files.exists(where):
        return []
    inside = [str(each.getPath()) for each in files.listStatus(where) if each.isDirectory()]
    return [text for each in inside if (text := _read_file(spark, f"{each}/{name}")) is not None]
