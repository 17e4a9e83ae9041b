"""What Spark wrote into a streaming checkpoint, read through Spark as data: offsets, watermarks, the query's id."""

from __future__ import annotations

import json

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.errors import CheckpointError
from twinrun.session.plain import plain_cause
from twinrun.tables.offsets import Offsets, plain

_MISSING = "PATH_NOT_FOUND"
_OFFSETS_TYPE = "map<string,map<string,bigint>>"
PLANNED_SCHEMA = (
    "micro_batch BIGINT, watermark_ms BIGINT, started_at_ms BIGINT, "
    "end_offsets ARRAY<STRUCT<topic: STRING, partition: INT, offset: BIGINT>>"
)


def query_id(spark: SparkSession, checkpoint: str) -> str | None:
    """Id of the query that owns the checkpoint; None when no query ever started on it. One small Spark job."""
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
    """First offset per topic and partition that the query read; empty before its first micro-batch."""
    starts: dict[str, Offsets] = {}
    for text in _read_files(spark, f"{checkpoint}/sources/*/0"):
        # Spark writes a zero byte and a version line before the JSON.
        try:
            found = json.loads(text[text.index("{") :])
        except ValueError:
            raise CheckpointError(
                f"a file of the first offsets below {checkpoint}/sources is damaged.",
                fix="restore it from a backup, or start anew with --new-checkpoint",
            ) from None
        for topic, partitions in found.items():
            starts.setdefault(topic, {}).update(plain(partitions))
    return starts


def next_offsets(spark: SparkSession, checkpoint: str) -> dict[str, Offsets]:
    """Per topic and partition the offset that the next run reads first; empty for a checkpoint that never planned.

    A micro-batch that was planned and not committed is read again. Up to three small Spark jobs.
    """
    committed = last_committed(spark, checkpoint)
    if committed is None:
        return start_offsets(spark, checkpoint)
    plan = planned_micro_batches(spark, checkpoint).filter(F.col("micro_batch") == committed)
    found: dict[str, Offsets] = {}
    for ends in plan.select("end_offsets").collect():
        for end in ends[0]:
            found.setdefault(end["topic"], {})[end["partition"]] = end["offset"]
    return found


def open_micro_batch(spark: SparkSession, checkpoint: str) -> tuple[dict[str, Offsets], dict[str, Offsets]]:
    """First and exclusive end offsets by topic of the micro-batch that was planned and not committed.

    Without one both are the same. Up to four small Spark jobs.
    """
    first = next_offsets(spark, checkpoint)
    plan = planned_micro_batches(spark, checkpoint)
    committed = last_committed(spark, checkpoint)
    ends: dict[str, Offsets] = {}
    for row in plan.filter(F.col("micro_batch") > F.lit(-1 if committed is None else committed)).collect():
        for end in row["end_offsets"]:
            ends.setdefault(end["topic"], {})[end["partition"]] = end["offset"]
    return first, ends or first


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
    """Number of the newest micro-batch that Spark has committed; None before the first. One small Spark job."""
    try:
        files = _numbered_files(spark, f"{checkpoint}/commits")
        newest = files.agg(F.max(F.col("_metadata.file_name").cast("bigint"))).collect()[0][0]
        return None if newest is None else int(newest)
    except Exception as error:
        if _MISSING in str(error):
            return None
        raise


_MOST_SOURCES = 100


def _read_file(spark: SparkSession, path: str) -> str | None:
    return next(iter(_read_files(spark, path)), None)


def _read_files(spark: SparkSession, paths: str) -> list[str]:
    """The texts of a few small files; none where there is no such file."""
    try:
        rows = spark.read.text(paths, wholetext=True).limit(_MOST_SOURCES).collect()
    except Exception as error:
        if _MISSING in str(error):
            return []
        raise CheckpointError(f"the checkpoint file {paths} cannot be read: {plain_cause(error)}") from error
    return [row["value"] for row in rows] or [""]
