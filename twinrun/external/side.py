"""The external side and the batch's, brought into one shape: rows, schema, versions, copies."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, MapType, StructType

from twinrun.compare.types import common_type
from twinrun.config.external import ExternalBinding
from twinrun.config.model import Config
from twinrun.config.nearest import listed, nearest
from twinrun.errors import TableError
from twinrun.events.json_ import quoted
from twinrun.explain.differing import EXACT_TIMES
from twinrun.external.topic import TopicResult, read_result_topic
from twinrun.job.job import Job
from twinrun.results.run import LINEAGE
from twinrun.session.plain import plain_errors
from twinrun.tables.delta import is_path, latest_version, read_table

NO_VERSION = -1
_NESTED = (ArrayType, MapType, StructType)


@dataclass(frozen=True)
class External:
    """What another engine wrote. ``version`` is `NO_VERSION` unless it is a Delta table; ``topic`` None for a table."""

    rows: DataFrame
    version: int
    topic: TopicResult | None = None


def read_external(spark: SparkSession, cfg: Config, job: Job, binding: ExternalBinding, whole: DataFrame) -> External:
    """Read the result as it is now: a Delta table at its newest version, a topic up to its end.

    Parameters
    ----------
    whole : DataFrame
        The batch's result. Its schema, less ignored columns, is that which records of a topic are read with.

    Raises
    ------
    TableError, BrokerError, QueryError
        The table or topic is not there or cannot be read, or an ignored column is in neither result.
    """
    if binding.topic is not None:
        found = read_result_topic(spark, cfg, job, binding, less(whole, binding.ignore).schema)
        if found.fields.names:
            _need_columns(binding.ignore, {*whole.columns, *found.fields.names}, job)
        return External(found.rows, NO_VERSION, found)
    ref = binding.table or ""
    if binding.format == "delta":
        version = latest_version(spark, ref)
        rows = read_table(spark, ref, version)
    else:
        version = NO_VERSION
        with plain_errors(f"reading {ref}"):
            rows = spark.read.parquet(ref) if is_path(ref) else spark.read.table(ref)
    _need_columns(binding.ignore, {*whole.columns, *rows.columns}, job)
    return External(less(rows, binding.ignore), version)


def _need_columns(names: list[str], known: set[str], job: Job) -> None:
    """Refuse to ignore a column that neither side has: it is a typing error that would pass in silence."""
    for name in names:
        if name not in known:
            match = nearest(name, known)
            raise TableError(
                f"external.{job.job_name}.ignore names {name!r}, which neither result has.",
                expected=f"some of {listed(sorted(known))}",
                fix=f"write {match}" if match else "remove it",
            )


def less(rows: DataFrame, ignore: list[str]) -> DataFrame:
    """Without lineage and ignored columns."""
    gone = {*LINEAGE, *ignore}
    return rows.select(*[F.col(quoted(name)) for name in rows.columns if name not in gone])


def compared_job(job: Job, binding: ExternalBinding) -> Job:
    """The job with tolerances for compared columns only."""
    return replace(job, tolerances={name: t for name, t in job.tolerances.items() if name not in binding.ignore})


def aligned(batch: DataFrame, external: DataFrame) -> tuple[DataFrame, DataFrame, tuple[str, ...]]:
    """Both sides with columns in their common types where these keep every value, and a note per such column. Lazy.

    Another engine has types of its own: INT for BIGINT is no difference of the results.
    """
    theirs = {field.name: field.dataType for field in external.schema}
    casts: dict[str, DataType] = {}
    notes = []
    for field in batch.schema:
        other = theirs.get(field.name)
        if other is None or isinstance(field.dataType, _NESTED) or field.dataType == other:
            continue
        common = common_type(field.dataType, other)
        if common is not None:
            casts[field.name] = common
            notes.append(
                f"Column {field.name} is {field.dataType.simpleString()} in the batch and {other.simpleString()} in "
                f"the external result: compared as {common.simpleString()}, which keeps every value."
            )
    return _cast(batch, casts), _cast(external, casts), tuple(notes)


def without_copies(job: Job, rows: DataFrame) -> DataFrame:
    """One of each exact copy of a row, in every column. Lazy, one shuffle."""
    text = F.to_json(F.struct(*[F.col(quoted(name)) for name in sorted(rows.columns)]), EXACT_TIMES)
    return rows.withColumn("_text", text).dropDuplicates(["_text"]).drop("_text")


def _cast(rows: DataFrame, casts: dict[str, DataType]) -> DataFrame:
    return rows.select(
        *[F.col(quoted(n)).cast(casts[n]).alias(n) if n in casts else F.col(quoted(n)) for n in rows.columns]
    )
