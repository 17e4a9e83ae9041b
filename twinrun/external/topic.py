"""Read a result topic up to pinned offsets: all of its rows, or the latest per key; nothing is lost in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Row, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from twinrun.broker.topics import offset_ranges
from twinrun.config.model import Config
from twinrun.config.sections import ExternalBinding
from twinrun.events.exact import EXACT_TIMES, quoted
from twinrun.external.declared import keeps_latest, key_columns
from twinrun.external.formats import field_names
from twinrun.external.records import REASON, ROW, RULE, TOMBSTONE, decode_records
from twinrun.job.job import Job
from twinrun.results.verdict import QuarantineCount
from twinrun.tables.delta import delta_table, one_change, replace_part, table_exists
from twinrun.tables.listed import Question, ask
from twinrun.wording import plural, worded

MOST_FIELDS = 200
_ID = "row_id"
_UNCLEAR, _OVERDRAWN = "unclear_tombstone", "taken_back"


@dataclass(frozen=True)
class Fields:
    """Fields of the records: their names, what is wrong with them, and which some records lack."""

    names: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TopicResult:
    """What a result topic holds.

    Attributes
    ----------
    rows : DataFrame
        The result, materialised.
    records, superseded, tombstones : int
        Good records with a value, those that a later one of the same key replaced or deleted, and deletions.
    malformed : tuple of QuarantineCount
        By rule, each with the coordinates and reason of one record; all are in the table ``external_malformed``.
    split_keys : int
        Keys with records in several partitions, of which no latest is decided.
    fields : Fields
        The fields of its good records.
    """

    rows: DataFrame
    records: int
    superseded: int
    tombstones: int
    malformed: tuple[QuarantineCount, ...]
    split_keys: int
    fields: Fields


def read_result_topic(
    spark: SparkSession, cfg: Config, job: Job, binding: ExternalBinding, schema: StructType
) -> TopicResult:
    """Read the topic from its first record to its end as it is now, committed transactions only. 2 or 3 Spark jobs.

    Parameters
    ----------
    schema : StructType
        The batch's result, less the columns that are not compared.

    Raises
    ------
    BrokerError
        Kafka or the topic cannot be reached.
    """
    topic = binding.topic or ""
    raw = _records(spark, cfg, topic)
    latest, signed = keeps_latest(binding, job), binding.format == "diff"
    if raw is None:
        empty = spark.createDataFrame([], schema)
        _keep_malformed(spark, cfg, job, topic, None)
        return TopicResult(empty, 0, 0, 0, (), 0, Fields())
    decoded = decode_records(raw, schema, job, binding, tombstones=latest).localCheckpoint()
    if latest and not _row_in_record(binding):
        decoded = _without_unclear(decoded, job).localCheckpoint()
    if signed:
        decoded = _without_overdrawn(decoded).localCheckpoint()
    malformed = decoded.filter(F.col(RULE).isNotNull())
    good = decoded.filter(F.col(RULE).isNull())
    kept = _latest(good, job, binding) if latest else _not_taken_back(good) if signed else good
    rows = kept.select(f"{ROW}.*").localCheckpoint(eager=False)
    counted = good.agg(F.count_if(~F.col(TOMBSTONE)).alias("records"), F.count_if(TOMBSTONE).alias("tombstones"))
    per_key = rows.groupBy(*[F.col(quoted(key)) for key in job.keys]) if latest else rows.groupBy()
    left = per_key.agg(F.count(F.lit(1)).alias("n"))
    several = F.count_if(F.col("n") > 1) if latest else F.lit(0)
    left = left.agg(F.coalesce(F.sum("n"), F.lit(0)).alias("rows"), several.alias("split"))
    (records, tombstones), (remaining, split_keys), fields, by_rule = ask(
        Question(counted, lambda found: (found[0]["records"], found[0]["tombstones"])),
        Question(left, lambda found: (found[0]["rows"], found[0]["split"])),
        _fields(good, schema, job, binding),
        _by_rule(malformed, topic),
    )
    _keep_malformed(spark, cfg, job, topic, malformed if by_rule else None)
    return TopicResult(
        rows=rows,
        records=records,
        superseded=records - remaining if latest or signed else 0,
        tombstones=tombstones,
        malformed=by_rule,
        split_keys=split_keys,
        fields=fields(records),
    )


def _records(spark: SparkSession, cfg: Config, topic: str) -> DataFrame | None:
    """Every committed record up to offsets that are pinned now; None where there are none. Lazy."""
    ranges = offset_ranges(cfg.kafka.bootstrap_servers, topic, cfg.kafka.confluent_options(), committed=True)
    if all(low >= high for low, high in ranges.values()):
        return None
    starts, ends = ({str(p): bounds[side] for p, bounds in ranges.items()} for side in (0, 1))
    options = {"kafka.isolation.level": "read_committed", **cfg.kafka.spark_options(), "subscribe": topic}
    reader = spark.read.format("kafka").options(**options).option("failOnDataLoss", "true")
    reader = reader.option("startingOffsets", json.dumps({topic: starts}))
    return reader.option("endingOffsets", json.dumps({topic: ends})).load()


def _row_in_record(binding: ExternalBinding) -> bool:
    """Whether a deletion names its row by key columns, in the record's key or in the record itself."""
    return binding.names_rows or binding.format == "debezium"


def _row_id(job: Job) -> Column:
    return F.to_json(F.struct(*[F.col(ROW)[key].alias(key) for key in job.keys]), EXACT_TIMES)


def _without_unclear(decoded: DataFrame, job: Job) -> DataFrame:
    """Tombstones whose record key stands for several rows become malformed: which one they delete is not known."""
    named = decoded.filter(F.col(RULE).isNull() & ~F.col(TOMBSTONE))
    several = named.groupBy("partition", "record_key").agg(F.count_distinct(_row_id(job)).alias("rows"))
    several = several.filter((F.col("rows") > 1) & F.col("record_key").isNotNull())
    joined = decoded.join(several, ["partition", "record_key"], "left")
    unclear = F.col(TOMBSTONE) & F.col(RULE).isNull() & F.col("rows").isNotNull()
    says = F.concat(F.lit("a deletion by a record key that stands for "), F.col("rows"), F.lit(" rows of the result"))
    return joined.withColumns(
        {
            REASON: F.when(unclear, says).otherwise(F.col(REASON)),
            RULE: F.when(unclear, F.lit(_UNCLEAR)).otherwise(F.col(RULE)),
        }
    ).drop("rows")


def _latest(good: DataFrame, job: Job, binding: ExternalBinding) -> DataFrame:
    """The newest record per partition and key by offset, deleted ones left out. Lazy.

    A tombstone names its row by the key columns in the record's key, or else by the bytes of the record's key.
    """
    by_key = _row_in_record(binding)
    ranked = good if by_key else good.filter(~F.col(TOMBSTONE))
    newest = Window.partitionBy("partition", _ID).orderBy(F.col("offset").desc())
    ranked = ranked.withColumn(_ID, _row_id(job)).withColumn("_rank", F.row_number().over(newest))
    kept = ranked.filter((F.col("_rank") == 1) & ~F.col(TOMBSTONE))
    if by_key:
        return kept
    gone = good.filter(TOMBSTONE).groupBy("partition", "record_key").agg(F.max("offset").alias("_gone"))
    return kept.join(gone, ["partition", "record_key"], "left").filter(
        F.coalesce(F.col("_gone") < F.col("offset"), F.lit(True))
    )


_TEXT = "_row_text"


def _with_text(rows: DataFrame) -> DataFrame:
    """The whole row as a text: two rows have the same one only if every column is the same."""
    return rows.withColumn(_TEXT, F.to_json(ROW, {**EXACT_TIMES, "ignoreNullFields": "false"}))


def _without_overdrawn(decoded: DataFrame) -> DataFrame:
    """Records of a row that was taken back more often than written become malformed: what they leave is not known."""
    named = _with_text(decoded)
    signed = named.filter(F.col(RULE).isNull()).groupBy(_TEXT).agg(F.sum("sign").alias("_left"))
    joined = named.join(signed.filter(F.col("_left") < 0), _TEXT, "left")
    over = F.col(RULE).isNull() & F.col("_left").isNotNull()
    says = F.lit("the row of this record was taken back more often than it was written")
    marks = {REASON: F.when(over, says).otherwise(F.col(REASON)), RULE: F.when(over, _OVERDRAWN).otherwise(F.col(RULE))}
    return joined.withColumns(marks).drop("_left", _TEXT)


def _not_taken_back(good: DataFrame) -> DataFrame:
    """Each row as often as it was written and not taken back, whatever the order. Lazy."""
    left = _with_text(good).groupBy(_TEXT).agg(F.sum("sign").cast("int").alias("_left"), F.any_value(ROW).alias(ROW))
    return left.filter(F.col("_left") > 0).select(F.explode(F.array_repeat(ROW, F.col("_left"))).alias(ROW))


def _by_rule(malformed: DataFrame, topic: str) -> Question[tuple[QuarantineCount, ...]]:
    """Malformed records by rule, each with one example: a row per rule."""
    order = F.struct("partition", "offset")
    spot = F.concat(F.lit(f"{topic} partition "), F.col("partition"), F.lit(" offset "), F.col("offset"))
    counted = malformed.groupBy(RULE).agg(
        F.count("*").alias("n"), F.min_by(spot, order).alias("spot"), F.min_by(REASON, order).alias("reason")
    )

    def read(rows: list[Row]) -> tuple[QuarantineCount, ...]:
        by_name = sorted(rows, key=lambda row: str(row[RULE]))
        return tuple(QuarantineCount(topic, r[RULE], r["n"], r["spot"], r["reason"] or "") for r in by_name)

    return Question(counted, read)


def _keep_malformed(spark: SparkSession, cfg: Config, job: Job, topic: str, malformed: DataFrame | None) -> None:
    """Replace what the table ``external_malformed`` has about this job: all malformed records of its topic now."""
    ref = cfg.table("external_malformed")
    there = table_exists(spark, ref)
    if malformed is None and not there:
        return
    if malformed is None:
        with one_change(spark):
            delta_table(spark, ref).delete(F.col("job") == job.job_name)
        return
    key = F.col("record_key").alias("key")
    place: list[Column | str] = ["topic", "partition", "offset", "timestamp", key, "value", RULE, REASON]
    rows = malformed.select(F.lit(job.job_name).alias("job"), *place)
    replace_part(rows, ref, f"job = '{job.job_name}'")


def _fields(
    good: DataFrame, schema: StructType, job: Job, binding: ExternalBinding
) -> Question[Callable[[int], Fields]]:
    """Fields against the result's columns, by the number of records; at most `MOST_FIELDS` foreign names."""
    wanted = [field.name for field in schema]
    names = good.filter(~F.col(TOMBSTONE)).select(F.explode(field_names(binding, wanted, job)).alias("name"))
    # The result's own columns first: none of them may fall to the limit.
    order = (F.col("name").isin(*wanted).desc(), F.col("n").desc(), "name")
    counted = names.groupBy("name").agg(F.count(F.lit(1)).alias("n")).orderBy(*order).limit(len(wanted) + MOST_FIELDS)

    def read(rows: list[Row]) -> Callable[[int], Fields]:
        found = {row["name"]: row["n"] for row in rows}
        return lambda total: _held_against(found, total, wanted, job, binding)

    return Question(counted, read)


def _held_against(found: dict[str, int], total: int, wanted: list[str], job: Job, binding: ExternalBinding) -> Fields:
    """What is wrong with the fields of ``total`` records, of which so many have each."""
    if not total:
        return Fields()
    in_key = key_columns(binding, job)
    absent = [f"no record has the field {name}" for name in wanted if name not in found and name not in in_key]
    known = {*wanted, *binding.ignore}
    foreign = [
        f"{worded(count, 'record has', 'records have')} the field {name}, which the result does not have"
        for name, count in found.items()
        if name not in known
    ]
    some = [
        f"The field {name} is missing in {total - found[name]} of {plural(total, 'record')}: it was read as null."
        for name in wanted
        if name in found and found[name] < total and name not in in_key
    ]
    return Fields(tuple(found), (*absent, *foreign), tuple(some))
