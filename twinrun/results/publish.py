"""Results as records of a topic: what a mode writes into its table, sent to Kafka as well, at least once.

A record's key is a JSON object of the result's keys, its value one of all columns, or nothing (a tombstone) where the
row is gone. ``record_id`` in the value is a function of what was written: the micro-batch of a stream's checkpoint, or
the version of the batch's table, and the key. So a repeated micro-batch, or a run that died between table and topic,
sends records again with the ids that they had, and a reader drops the copies by them.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.config.sections import SinkBinding
from twinrun.errors import ConfigError, QueryError, TableError
from twinrun.events.exact import EXACT_TIMES, quoted
from twinrun.job.job import Job
from twinrun.results.records import without_lineage
from twinrun.session.plain import plain_errors
from twinrun.tables.control import add_record, latest_record
from twinrun.tables.delta import GONE, read_table
from twinrun.tables.kafka import topic_info

PUBLISHED = "published"
RECORD_ID = "record_id"
_ID_DIGITS = 32


def need_sink(cfg: Config, job: Job, columns: Sequence[str]) -> SinkBinding | None:
    """The topic that a job's results go to besides its table, or None. One request to Kafka where there is one.

    Parameters
    ----------
    columns : sequence of str
        Those of the result.

    Raises
    ------
    ConfigError
        The topic is one that the job reads, or a column of the result has the name of the record's id.
    BrokerError
        Kafka does not answer, or the topic is not there.
    """
    sink = cfg.sinks.get(job.job_name)
    if sink is None:
        return None
    where = f"sinks.{job.job_name}.topic in {cfg.file}"
    read = [source.name for source in job.sources if cfg.source(source.name).topic == sink.topic]
    if read:
        raise ConfigError(
            f"{where} is {sink.topic}, which the job reads as {read[0]}: its own results would come back as events.",
            expected="a topic that the job does not read",
            fix=f"write another topic, such as {job.job_name}_results",
        )
    # Spark takes names for the same that differ in case only, and so do many readers of JSON.
    taken = [name for name in columns if name.lower() == RECORD_ID]
    if taken:
        raise ConfigError(
            f"The result of {job.job_name} has a column {taken[0]}, which is the name of a record's id in {where}.",
            expected=f"a result without a column {RECORD_ID}",
            fix=f"name the column otherwise, or take sinks.{job.job_name} out of the configuration",
        )
    topic_info(cfg, sink.topic)
    return sink


def publish_micro_batch(
    rows: DataFrame, cfg: Config, job: Job, sink: SinkBinding, checkpoint: str, number: int
) -> None:
    """Send the rows of one micro-batch; a row that `Job.delete_when` takes away as a tombstone. One Spark job.

    Parameters
    ----------
    rows : DataFrame
        What the micro-batch writes into the table, persisted and worked out, since it is read twice; with `GONE` rows
        may go.
    """
    written = without_lineage(rows)
    gone = F.coalesce(F.col(GONE), F.lit(False)) if GONE in rows.columns else F.lit(False)
    columns = [F.col(quoted(name)) for name in written.columns if name not in (GONE, "_micro_batch")]
    row = F.when(~gone, F.struct(*columns)).alias("row")
    version = checkpoint.rstrip("/").rsplit("/", 1)[-1]
    _send(written.select(_key(job), row), f"{job.job_name}/{version}/{number}", cfg, sink)


def publish_changes(spark: SparkSession, cfg: Config, job: Job, sink: SinkBinding, table: str, version: int) -> int:
    """Send what changed in the batch's table since the version that was sent last; how many records.

    Of a row that is as it was nothing is sent; of one that is gone a tombstone. Where that version is not there any
    more all rows are sent. About five Spark jobs, over both versions whole.

    Parameters
    ----------
    version : int
        The newest version of ``table``, just written.
    """
    known = latest_record(spark, cfg, PUBLISHED, job.job_name)
    place = {"topic": sink.topic, "table": table}
    since = None
    if known is not None and {name: known.payload[name] for name in place} == place:
        since = int(known.payload["version"])
    if since == version:
        return 0
    records = _changed(spark, job, table, version, since).persist()
    try:
        count = records.count()
        if count:
            _send(records, f"{job.job_name}/batch/{version}", cfg, sink)
    finally:
        records.unpersist()
    add_record(spark, cfg, PUBLISHED, job.job_name, {**place, "version": version})
    return count


def _changed(spark: SparkSession, job: Job, table: str, version: int, since: int | None) -> DataFrame:
    """``key`` and ``row`` of what a version has and an older one has not; ``row`` null for keys that it lacks. Lazy."""
    now = keyed(read_table(spark, table, version), job)
    if since is None:
        return now.select("key", "row")
    try:
        before = keyed(read_table(spark, table, since), job)
    except (TableError, QueryError):  # its files were removed: all is sent again, which a reader can bear
        return now.select("key", "row")
    both = now.alias("n").join(before.alias("b"), F.col("n.key") == F.col("b.key"), "full_outer")
    other = both.filter(~F.col("n.text").eqNullSafe(F.col("b.text")))
    return other.select(F.coalesce("n.key", "b.key").alias("key"), F.col("n.row").alias("row"))


def keyed(table: DataFrame, job: Job) -> DataFrame:
    """``key``, ``row`` and the row as ``text``, without what says which run wrote it. Lazy."""
    rows = without_lineage(table)
    row = F.struct(*[F.col(quoted(name)) for name in rows.columns])
    return rows.select(_key(job), row.alias("row"), F.to_json(row, EXACT_TIMES).alias("text"))


def _key(job: Job) -> Column:
    """The key columns as a JSON object; a result of one row has none."""
    named = F.struct(*[F.col(quoted(key)) for key in job.keys]) if job.keys else None
    return (F.lit("{}") if named is None else F.to_json(named, EXACT_TIMES)).alias("key")


def _send(records: DataFrame, written: str, cfg: Config, sink: SinkBinding) -> None:
    """Send ``key`` and ``row``, acknowledged by all replicas. One Spark job."""
    record_id = F.substring(F.sha2(F.concat(F.lit(f"{written}/"), F.col("key")), 256), 1, _ID_DIGITS)
    value = F.when(
        F.col("row").isNotNull(), F.to_json(F.struct(record_id.alias(RECORD_ID), F.col("row.*")), EXACT_TIMES)
    )
    writer = records.select("key", value.alias("value")).write.format("kafka").option("topic", sink.topic)
    with plain_errors(f"sending results to the topic {sink.topic}"):
        writer.options(**cfg.kafka.spark_options()).option("kafka.acks", "all").save()
