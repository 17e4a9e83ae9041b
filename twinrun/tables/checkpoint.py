"""What a stream has read: offsets, what Spark wrote into its checkpoint, and our own log of its micro-batches."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import CheckpointError
from twinrun.session.plain import plain_cause
from twinrun.tables.delta import append, read_table, table_exists
from twinrun.tables.files import at, newest_number, read_text, write_text

# Offsets per Kafka partition: how far a table reaches, and whether anything is missing in it.


Offsets = dict[int, int]
"""Kafka partition to offset; as an end, exclusive."""

Told = Callable[[Sequence[Mapping[str, Offsets]]], list[dict[str, Offsets]]]
"""Takes what micro-batches of a checkpoint had read, as it says so, and gives it as offsets by topic and partition."""


@dataclass(frozen=True)
class PartitionCount:
    """Records of one Kafka partition in a table; ``first`` and ``last`` are offsets, both inclusive.

    ``inside``: rows for which the condition holds that was asked for besides.
    """

    partition: int
    rows: int
    distinct: int
    first: int
    last: int
    inside: int = 0

    @property
    def missing(self) -> int:
        """Offsets between the first and the last that the table lacks."""
        return self.last - self.first + 1 - self.distinct

    @property
    def repeated(self) -> int:
        """Rows whose offset stands in the table more than once, beyond the first."""
        return self.rows - self.distinct


def end_offsets(records: DataFrame, partition: str = "_partition", offset: str = "_offset") -> Offsets:
    """Exclusive end offset per Kafka partition. One Spark job; a row per Kafka partition is collected."""
    rows = records.groupBy(partition).agg((F.max(offset) + 1).alias("end")).collect()
    return {row[0]: row["end"] for row in rows}


def covers(reached: Offsets, wanted: Offsets) -> bool:
    """Whether every partition of ``wanted`` is reached at least as far."""
    return all(reached.get(partition, 0) >= end for partition, end in wanted.items())


def later_of(one: Offsets, other: Offsets) -> Offsets:
    """Of each partition the later of two offsets; a partition that only one has keeps that one."""
    return {p: max(one.get(p, 0), other.get(p, 0)) for p in sorted({*one, *other})}


def lag(ahead: Offsets, behind: Offsets) -> int:
    """Records that ``ahead`` has and ``behind`` does not have yet; never negative."""
    return sum(max(0, end - behind.get(partition, 0)) for partition, end in ahead.items())


def total(offsets: Mapping[str, Offsets]) -> int:
    """Sum of the offsets of all partitions, by topic or source: a number that grows with every record read."""
    return sum(offset for partitions in offsets.values() for offset in partitions.values())


def before(ends: Offsets, partition: str = "_partition", offset: str = "_offset") -> Column:
    """Condition: the record lies below the end of its partition; a partition that is not listed has none."""
    return _below(ends, F.col(partition), F.col(offset))


def at_or_after(starts: Offsets, partition: str = "_partition", offset: str = "_offset") -> Column:
    """Condition: the record lies at or beyond the given offset; a partition that is not listed starts at 0."""
    return ~_below(starts, F.col(partition), F.col(offset))


def _below(ends: Offsets, partition: Column, offset: Column) -> Column:
    condition = F.lit(False)
    for number, end in ends.items():
        condition = condition | ((partition == number) & (offset < end))
    return condition


def plain(offsets: dict[str, int] | Offsets) -> Offsets:
    """Offsets as read back from JSON, where keys are text."""
    return {int(partition): int(offset) for partition, offset in offsets.items()}


# The watermark that a checkpoint hands on to its next micro-batch, in the file that says the last one is done.


_NEXT = "nextBatchWatermarkMs"


def hand_on(spark: SparkSession, checkpoint: str, micro_batch: int, watermark_ms: int) -> None:
    """Let the next start of a stopped query begin with this watermark (epoch ms) instead of its own.

    Only for a checkpoint of one's own: it replaces what Spark wrote. A start takes the watermark of the last
    micro-batch, or of its commit file where that is later (Spark: MicroBatchExecution).
    """
    path = f"{checkpoint}/commits/{micro_batch}"
    version, text = read_text(spark, path).split("\n", 1)
    facts: dict[str, Any] = json.loads(text)
    write_text(spark, path, f"{version}\n{json.dumps({**facts, _NEXT: watermark_ms})}")


# What Spark wrote into a streaming checkpoint: offsets, watermarks, the query's id.
#
# A few small files are read by name, without a Spark job; all micro-batches that it still knows are read as data.


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
    return start_offsets(spark, checkpoint) if committed is None else planned_ends(spark, checkpoint, committed)


def open_micro_batch(spark: SparkSession, checkpoint: str) -> tuple[dict[str, Offsets], dict[str, Offsets]]:
    """First and exclusive end offsets by topic of the micro-batch that was planned and not committed.

    Without one both are the same. No Spark job.
    """
    first = next_offsets(spark, checkpoint)
    committed, planned = last_committed(spark, checkpoint), newest_number(spark, f"{checkpoint}/offsets")
    if planned is None or planned <= (-1 if committed is None else committed):
        return first, first
    return first, planned_ends(spark, checkpoint, planned) or first


def planned_ends(spark: SparkSession, checkpoint: str, number: int) -> dict[str, Offsets]:
    """End offsets by topic and partition of a micro-batch, by the file in which it was planned; empty without one.

    No Spark job. Of a stream over bronze: see `versions_of`.
    """
    text = _read_file(spark, f"{checkpoint}/offsets/{number}")
    ends: dict[str, Offsets] = {}
    # A version, a header, and a line for each source; "-" for one that had nothing yet.
    for line in (text or "").split("\n")[2:]:
        if line not in ("", "-"):
            damaged = f"the offsets of micro-batch {number} below {checkpoint}/offsets are damaged."
            _add_offsets(ends, line, damaged)
    return ends


def _add_offsets(known: dict[str, Offsets], text: str, damaged: str) -> None:
    """Add what a source wrote about itself as JSON: Kafka's offsets by topic and partition, or Delta's version."""
    try:
        found = json.loads(text)
    except ValueError:
        fix = "restore the file from a backup, or start anew with --new-checkpoint"
        raise CheckpointError(damaged, fix=fix) from None
    if _TABLE in found:
        known[f"{_VERSIONS}{found[_TABLE]}"] = {0: _version(found)}
        return
    for topic, partitions in found.items():
        known.setdefault(topic, {}).update(plain(partitions))


# A stream over a Delta table has versions where one over Kafka has offsets. They stand here as the one partition of a
# topic that no Kafka can have, so that what reads a checkpoint need not know of them.


_TABLE = "reservoirId"
_VERSIONS = "delta table "
_WITHIN = -1
"""In place of a version: the micro-batch ends somewhere within one."""
_BEFORE_FILES = (-1, -100)
"""Index of an offset that lies before all files of its version (delta-spark: DeltaSourceOffset)."""


def _version(found: Mapping[str, Any]) -> int:
    """The version before which all was read; 0 where a first snapshot is yet to be read."""
    if int(found["index"]) not in _BEFORE_FILES:
        return _WITHIN
    return 0 if found.get("isStartingVersion") else int(found["reservoirVersion"])


def versions_of(read: Mapping[str, Offsets]) -> dict[str, int]:
    """By table id the version before which all was read, from what `planned_ends` and its like say. Pure.

    Raises
    ------
    CheckpointError
        The query reads no table, or a micro-batch ended within a version.
    """
    found = {name.removeprefix(_VERSIONS): places[0] for name, places in read.items() if name.startswith(_VERSIONS)}
    if len(found) < len(read):
        raise CheckpointError(
            f"the checkpoint belongs to a query over {', '.join(sorted(set(read)))}, not over bronze.",
            expected="the checkpoint of a stream with stream.reads: bronze",
            fix="put back the checkpoint that belongs here, or start anew with --new-checkpoint",
        )
    if _WITHIN in found.values():
        raise CheckpointError(
            "a micro-batch over bronze ended within a version of the table, so that what it read has no end offset.",
            expected="micro-batches that read whole versions",
            fix="leave Delta's limits of a micro-batch as twinrun sets them, and start anew with --new-checkpoint",
        )
    return found


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
    offsets = F.flatten(
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
    table, index = (F.get_json_object(line, f"$.{name}") for name in (_TABLE, "index"))
    before_files, starting = index.cast("int").isin(*_BEFORE_FILES), F.get_json_object(line, "$.isStartingVersion")
    version = F.when(~before_files, F.lit(_WITHIN)).when(starting == "true", F.lit(0))
    version = version.otherwise(F.get_json_object(line, "$.reservoirVersion").cast("bigint"))
    place = F.struct(
        F.concat(F.lit(_VERSIONS), table).alias("topic"),
        F.lit(0).alias("partition"),
        version.cast("bigint").alias("offset"),
    )
    return F.when(table.isNotNull(), F.array(place)).otherwise(offsets)


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


# Our own log of micro-batches: what the checkpoint forgets after 100 of them, kept for ever.
#
# It is filled from the checkpoint's offsets files, which are the truth, and never from listener events, which die with
# a crash. One writer per query: the holder of its lease.


RETAINED = 100
"""Micro-batches that Spark keeps in a checkpoint (spark.sql.streaming.minBatchesToRetain)."""

_AT_ONCE = 500
"""So many are held by the driver at once, where a checkpoint keeps more than usual."""


@dataclass(frozen=True)
class RunFacts:
    """What the micro-batches of one run have in common.

    ``durations_ms`` maps the numbers of recent micro-batches to how long they took.
    """

    job: str
    run_id: str
    static_versions: dict[str, int]
    decoders: dict[str, str]
    durations_ms: dict[int, int] = field(default_factory=dict)


def flush(
    spark: SparkSession,
    cfg: Config,
    query_id: str,
    checkpoint: str,
    facts: RunFacts,
    newest: int | None = None,
    told: Told | None = None,
) -> int:
    """Append the micro-batches that the checkpoint has and the log lacks. About two small Spark jobs.

    Parameters
    ----------
    newest : int, optional
        The newest micro-batch in the log, -1 for none, where the caller knows it from its last call; else it is looked
        up, one small Spark job more.
    told : Told, optional
        How what the checkpoint says is told in offsets; None where it says offsets, as over Kafka.

    Returns
    -------
    int
        The newest micro-batch in the log; -1 when there is none yet.

    Raises
    ------
    CheckpointError
        The checkpoint already forgot micro-batches that the log lacks: proofs would have a hole.
    """
    newest = _newest(spark, cfg, query_id) if newest is None else newest
    planned = planned_micro_batches(spark, checkpoint)
    while True:
        # Read once, and written from here: the files of a running query may be gone by a second look.
        rows = planned.filter(F.col("micro_batch") > newest).orderBy("micro_batch").limit(_AT_ONCE).collect()
        if not rows:
            return newest
        first, last = rows[0]["micro_batch"], rows[-1]["micro_batch"]
        if first > newest + 1:
            raise CheckpointError(
                f"micro-batches {newest + 1} to {first - 1} of {facts.job} are gone from the checkpoint and were never "
                "logged.",
                expected=f"a log that is never more than {RETAINED} micro-batches behind",
                fix="start anew with --new-checkpoint; a verify over this query would say evidence_expired",
            )
        append(_log_rows(spark, _told_rows(rows, told), query_id, facts), cfg.table("micro_batches"))
        newest = int(last)
        if len(rows) < _AT_ONCE:
            return newest


def logged(spark: SparkSession, cfg: Config, query_id: str, checkpoint: str, told: Told | None = None) -> DataFrame:
    """Every known micro-batch of a query: the log, and what the checkpoint has beyond it. Read-only.

    Lazy without ``told``, see `flush`; with it one small Spark job more than that takes, now.

    Columns: `PLANNED_SCHEMA`, and from the log ``static_versions``, ``decoders``, ``run_id``, ``duration_ms`` (null
    for rows that only the checkpoint has).
    """
    columns = ["micro_batch", "watermark_ms", "started_at_ms", "end_offsets"]
    extra = {
        "static_versions": "map<string,bigint>",
        "decoders": "map<string,string>",
        "run_id": "string",
        "duration_ms": "bigint",
    }
    ref = cfg.table("micro_batches")
    kept = None
    if table_exists(spark, ref):
        kept = read_table(spark, ref).filter(F.col("query_id") == query_id).select(*columns, *extra)
    planned = planned_micro_batches(spark, checkpoint)
    if kept is not None:
        planned = planned.join(kept.select("micro_batch"), "micro_batch", "left_anti")
    if told is not None:
        rows = _told_rows(planned.select(*columns).collect(), told)  # those that Spark retains, a hundred
        planned = spark.createDataFrame([tuple(row.values()) for row in rows], PLANNED_SCHEMA)
    planned = planned.select(*columns, *[F.lit(None).cast(kind).alias(name) for name, kind in extra.items()])
    return planned if kept is None else kept.unionByName(planned)


def _told_rows(rows: Sequence[Row], told: Told | None) -> list[dict[str, Any]]:
    """Rows of `PLANNED_SCHEMA` with their ends as offsets."""
    found = [row.asDict() for row in rows]
    if told is None:
        return found
    read: list[dict[str, Offsets]] = [{} for _ in found]
    for row, places in zip(found, read, strict=True):
        for end in row["end_offsets"]:
            places.setdefault(end["topic"], {})[end["partition"]] = end["offset"]
    ends = told(read)
    return [{**row, "end_offsets": _listed(each)} for row, each in zip(found, ends, strict=True)]


def _listed(ends: Mapping[str, Offsets]) -> list[tuple[str, int, int]]:
    return [(topic, partition, end) for topic, places in ends.items() for partition, end in sorted(places.items())]


def _newest(spark: SparkSession, cfg: Config, query_id: str) -> int:
    ref = cfg.table("micro_batches")
    if not table_exists(spark, ref):
        return -1
    newest = read_table(spark, ref).filter(F.col("query_id") == query_id).agg(F.max("micro_batch")).collect()[0][0]
    return -1 if newest is None else int(newest)


def _log_rows(spark: SparkSession, rows: Sequence[Mapping[str, Any]], query_id: str, facts: RunFacts) -> DataFrame:
    known = (dict(facts.static_versions), dict(facts.decoders), facts.run_id)
    return spark.createDataFrame(
        [
            (
                query_id,
                facts.job,
                row["micro_batch"],
                row["watermark_ms"],
                row["started_at_ms"],
                row["end_offsets"],
                *known,
                facts.durations_ms.get(row["micro_batch"]),
            )
            for row in rows
        ],
        f"query_id STRING, job STRING, {PLANNED_SCHEMA}, static_versions MAP<STRING, BIGINT>, "
        "decoders MAP<STRING, STRING>, run_id STRING, duration_ms BIGINT",
    ).coalesce(1)
