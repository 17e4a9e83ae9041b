"""A stream over bronze: Delta's source, and which of Kafka's offsets a version of the table reaches.

Such a stream's checkpoint knows versions of the table, and everything else knows offsets: the log of micro-batches, the
cut, every proof. Each version of bronze is a micro-batch of the ingest or changes no record, and the ingest's
checkpoint says up to which offsets that micro-batch read. So versions are told in offsets where the checkpoint is read
(`in_offsets`), and nothing behind that is another for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import CheckpointError, ConfigError, TableError
from twinrun.tables.checkpoint import (
    Offsets,
    Told,
    at_or_after,
    before,
    end_offsets,
    planned_ends,
    query_id,
    start_offsets,
    versions_of,
)
from twinrun.tables.delta import delta_table, is_path, latest_version, newest_logged, read_table, table_exists
from twinrun.tables.landed import recorded_landing

BRONZE, TOPIC = "bronze", "topic"
"""What a stream may read, see ``stream.reads``."""

_ALL_FILES = str(2**31 - 1)
_BESIDES = 20
"""Commits of bronze that are no micro-batch, as compactions, for which one look at its history has room."""


def bronze_stream(spark: SparkSession, cfg: Config, topic: str) -> DataFrame:
    """Bronze of a topic as a stream of raw records, all that is landed first; nothing is read yet.

    Each micro-batch ends with a version: all files that are there are read at once, whatever their number. Commits that
    erase, expire or compact records bring none, and are passed over.

    Raises
    ------
    TableError
        Nothing of the topic was landed.
    """
    ref = cfg.table("bronze", topic=topic)
    if not table_exists(spark, ref):
        raise TableError(
            f"there is no bronze table of {topic} at {ref}, which the stream is to read (stream.reads: bronze).",
            fix="land the topic first: twinrun ingest SOURCE; or read the topic itself (stream.reads: topic)",
        )
    reader = spark.readStream.format("delta").option("maxFilesPerTrigger", _ALL_FILES)
    reader = reader.option("skipChangeCommits", "true")
    return reader.load(ref) if is_path(ref) else reader.table(ref)


def check_beginning(cfg: Config, starting: str) -> None:
    """Refuse a stream over bronze that is to begin anywhere but with what was landed first. No Spark job.

    Raises
    ------
    ConfigError
        ``starting`` is not ``earliest``.
    """
    if cfg.stream.reads == BRONZE and starting != "earliest":
        raise ConfigError(
            f"a stream over bronze cannot begin at {starting}: it reads all that was landed (stream.reads: bronze).",
            expected="earliest",
            fix="leave out --from and starting_offsets, or read the topic itself (stream.reads: topic)",
        )


def in_offsets(spark: SparkSession, cfg: Config, topics: Iterable[str], reads: str) -> Told | None:
    """How the versions in a stream's checkpoint are told in offsets; None where it reads topics and has offsets.

    Lazy; each use takes about three small Spark jobs per topic, and one more per version whose micro-batch the ingest's
    checkpoint has forgotten.

    Raises
    ------
    CheckpointError
        When used: the checkpoint belongs to a query over another table, or bronze no longer has those versions.
    """
    if reads == TOPIC:
        return None
    by_id: dict[str, str] = {}

    def told(places: Sequence[Mapping[str, Offsets]]) -> list[dict[str, Offsets]]:
        if not by_id:
            by_id.update({_table_id(spark, cfg, topic): topic for topic in topics})
        read = [versions_of(place) for place in places]
        foreign = sorted({table for each in read for table in each} - set(by_id))
        if foreign:
            raise CheckpointError(
                f"the checkpoint reads a table with the id {foreign[0]}, which is not bronze of {', '.join(topics)}.",
                expected=f"a table id of {', '.join(sorted(by_id))}",
                fix="put back the table or the checkpoint that belongs here, or start anew with --new-checkpoint",
            )
        ends = {
            table: _ends_before(spark, cfg, topic, {each[table] for each in read if table in each})
            for table, topic in by_id.items()
        }
        return [{by_id[table]: ends[table][version] for table, version in each.items()} for each in read]

    return told


def first_offsets(
    spark: SparkSession, cfg: Config, topics: Iterable[str], checkpoint: str, reads: str
) -> dict[str, Offsets]:
    """First offset per topic and partition that a stream read; empty before its first micro-batch.

    Over bronze it is the first that was landed, where that is on record. One small Spark job per topic then, else none.
    """
    if reads == TOPIC:
        return start_offsets(spark, checkpoint)
    return {topic: recorded_landing(spark, cfg, topic).starts for topic in topics}


def bronze_range(spark: SparkSession, cfg: Config, topic: str, starts: Offsets, ends: Offsets) -> DataFrame:
    """Raw records of bronze between offsets, as `bronze_stream` reads them; lazy. No end of a partition: none of it."""
    places = ("partition", "offset")
    bronze = read_table(spark, cfg.table("bronze", topic=topic))
    return bronze.filter(at_or_after(starts, *places) & before(ends, *places))


def _table_id(spark: SparkSession, cfg: Config, topic: str) -> str:
    found = delta_table(spark, cfg.table("bronze", topic=topic)).detail().select("id").collect()
    return str(found[0][0])


def _ends_before(spark: SparkSession, cfg: Config, topic: str, versions: set[int]) -> dict[int, Offsets]:
    """End offsets of what bronze held before each of these versions."""
    ref = cfg.table("bronze", topic=topic)
    wanted = sorted(version for version in versions if version > 0)
    ends: dict[int, Offsets] = {version: {} for version in versions}
    if not wanted:
        return ends
    landed = _micro_batches(spark, ref, wanted[0])
    checkpoints = _checkpoints(spark, cfg, topic)
    for version in wanted:
        last = max((each for each in landed if each < version), default=None)
        owner, number = landed[last] if last is not None else ("", -1)
        planned = planned_ends(spark, checkpoints[owner], number) if owner in checkpoints else {}
        # The ingest's checkpoint keeps its last hundred; what is older is asked of the records themselves.
        ends[version] = planned.get(topic) or _held_before(spark, ref, version)
    return ends


def _micro_batches(spark: SparkSession, ref: str, first: int) -> dict[int, tuple[str, int]]:
    """By version the query and the micro-batch that it is, from the newest before version ``first`` on.

    One small Spark job, one more for a table by catalog name; two more where none of them is near.
    """
    by_ingest = F.col("operation") == "STREAMING UPDATE"
    parameters = F.col("operationParameters")
    row = F.struct(
        "version", parameters["queryId"].alias("query"), parameters["epochId"].cast("bigint").alias("number")
    )
    logged = newest_logged(spark, ref)
    back = (latest_version(spark, ref) if logged is None else logged) - first + 1 + _BESIDES
    near = delta_table(spark, ref).history(back).filter(by_ingest).select(row.alias("found")).collect()
    rows = [each["found"] for each in near]
    if not any(each["version"] < first for each in rows):
        older = delta_table(spark, ref).history().filter(by_ingest & (F.col("version") < first))
        rows += [each[0] for each in older.agg(F.max(row)).collect() if each[0] is not None]
    return {each["version"]: (each["query"], each["number"]) for each in rows}


def _checkpoints(spark: SparkSession, cfg: Config, topic: str) -> dict[str, str]:
    """The ingest's checkpoints by the id of their query. No Spark job where the record is pinned, else one."""
    newest = recorded_landing(spark, cfg, topic).version
    paths = [cfg.checkpoint("ingest", topic, version) for version in range(1, newest + 1)]
    return {owner: path for path in paths if (owner := query_id(spark, path)) is not None}


def _held_before(spark: SparkSession, ref: str, version: int) -> Offsets:
    try:
        return end_offsets(read_table(spark, ref, version - 1), "partition", "offset")
    except TableError as error:
        raise CheckpointError(
            f"which offsets version {version - 1} of {ref} reached is not known any more: {error.found}",
            expected="the micro-batch log written before bronze and the ingest's checkpoint forget a version",
            fix="start anew with --new-checkpoint; a verify over this query would say evidence_expired",
        ) from error
