"""The external side and the batch's, brought into one shape: rows, schema, versions, copies."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    DataType,
    MapType,
    StringType,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from twinrun.comparator.schema import changes, declared_problem, offset_s, type_named
from twinrun.comparator.values import common_type
from twinrun.config.model import Config
from twinrun.config.problems import listed, nearest
from twinrun.config.sections import ExternalBinding
from twinrun.errors import TableError
from twinrun.events.exact import EXACT_TIMES, quoted, wider
from twinrun.external.topic import TopicResult, read_result_topic
from twinrun.job.job import Job
from twinrun.results.records import LINEAGE
from twinrun.tables.delta import is_path, latest_version, read_table
from twinrun.tables.folder import need_root
from twinrun.tables.named import read_named
from twinrun.tables.parquet import ParquetTable, read_parquet
from twinrun.tables.stored import without_padding
from twinrun.wording import plural

NO_VERSION = -1
_NESTED = (ArrayType, MapType, StructType)


@dataclass(frozen=True)
class External:
    """What another engine wrote. ``version`` is `NO_VERSION` unless it is a Delta table; ``topic`` None for a table.

    ``facts`` are sentences on how a table was read, such as which columns only some files have.
    """

    rows: DataFrame
    version: int
    topic: TopicResult | None = None
    facts: tuple[str, ...] = ()


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
    version = NO_VERSION
    facts: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    if binding.format in (None, "delta"):
        if is_path(ref):
            need_root(spark, ref)
        version = latest_version(spark, ref)
        rows = read_table(spark, ref, version)
    elif is_path(ref):
        table = read_parquet(spark, ref, leave=[*LINEAGE, *binding.ignore])
        rows, left = _as_results(table, whole, ref), table.left
        facts = tuple(fact for fact in table.facts if not fact.startswith("partition values"))
        if table.partitions:
            types = {field.name: field.dataType.simpleString() for field in rows.schema}
            facts += (f"from folders' names: {', '.join(f'{name} ({types[name]})' for name in table.partitions)}",)
    else:
        rows, facts = read_named(spark, ref)
    _need_columns(binding.ignore, {*whole.columns, *rows.columns, *left}, job)
    rows, more = without_padding(rows)
    rows = as_declared(rows, whole, binding, job)
    return External(less(rows, binding.ignore), version, facts=tuple(f"{_upper(each)}." for each in facts + more))


def as_declared(rows: DataFrame, whole: DataFrame, binding: ExternalBinding, job: Job) -> DataFrame:
    """A table's columns in the types that are declared for them. At most one small Spark job.

    Raises
    ------
    TableError
        There is no such column, or a value is none of the declared type, or becomes another.
    """
    held = {field.name: field.dataType for field in rows.schema}
    _need_columns(list(binding.types), set(held), job, "types")
    made, lossy = {}, {}
    for name, text in binding.types.items():
        dtype = type_named(text)
        problem = declared_problem(name, held[name], dtype, "stream")
        if problem is not None:
            theirs = problem.replace("stream table", "external result")
            raise TableError(f"{theirs.replace('--naive-time-zone', f'external.{job.job_name}.naive_time_zone')}.")
        made[name] = F.col(quoted(name)).try_cast(dtype)
        if held[name] != dtype and wider(held[name], dtype) != dtype:
            lossy[name] = F.count_if(changes(F.col(quoted(name)), held[name], dtype))
    if binding.naive_time_zone is not None:
        if rows.sparkSession.conf.get("spark.sql.session.timeZone") != "UTC":
            raise TableError("naive_time_zone needs a session in UTC.", fix="set spark.sql.session.timeZone to UTC")
        ours = {field.name for field in whole.schema if isinstance(field.dataType, TimestampType)}
        for name in (n for n, t in held.items() if isinstance(t, TimestampNTZType) and n in ours and n not in made):
            ahead = F.lit(offset_s(binding.naive_time_zone) * 1_000_000).cast("bigint")
            made[name] = F.timestamp_micros(F.unix_micros(F.col(quoted(name)).cast("timestamp")) - ahead)
    counts = rows.agg(*lossy.values()).collect()[0] if lossy else ()
    for name, count in zip(lossy, counts, strict=True):
        if count:
            raise TableError(
                f"the column {name!r} of the external result, {held[name].simpleString()}, holds "
                f"{plural(count, 'value')} that {binding.types[name]} cannot hold unchanged.",
                expected="a type that holds every value",
                fix=f"declare another in external.{job.job_name}.types, or ignore the column",
            )
    return rows.select(*[made[n].alias(n) if n in made else F.col(quoted(n)) for n in rows.columns])


def _upper(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _as_results(found: ParquetTable, whole: DataFrame, ref: str) -> DataFrame:
    """Folders' values in the type of the result's column: the job declares it. At most one small Spark job.

    Raises
    ------
    TableError
        A folder's name is not how a value of that type is written.
    """
    types = {field.name: field.dataType for field in whole.schema}
    casts = {name: types[name] for name in found.partitions if not isinstance(types.get(name), StringType | None)}
    if not casts:
        return found.rows
    # 02134 is not how 2134 is written: as a number both would be one.
    other = {n: F.col(quoted(n)).try_cast(t).cast("string").eqNullSafe(F.col(quoted(n))) for n, t in casts.items()}
    firsts = found.rows.agg(*(F.max(F.when(~same, F.col(quoted(name)))) for name, same in other.items())).collect()[0]
    for first, (name, dtype) in zip(firsts, casts.items(), strict=True):
        if first is not None:
            raise TableError(
                f"the folder {name}={first} of {ref} does not name a value of the result's column {name}, which is "
                f"{dtype.simpleString()}.",
                expected="values written as Spark writes them",
                fix=f"rename the folder, or keep {name} inside the files",
            )
    return _cast(found.rows, casts)


def _need_columns(names: list[str], known: set[str], job: Job, key: str = "ignore") -> None:
    """Refuse to ignore or type a column that is not there: it is a typing error that would pass in silence."""
    where = "neither result has" if key == "ignore" else "the external result does not have"
    for name in names:
        if name not in known:
            match = nearest(name, known)
            raise TableError(
                f"external.{job.job_name}.{key} names {name!r}, which {where}.",
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
