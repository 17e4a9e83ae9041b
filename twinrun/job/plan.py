"""Check a job against Spark without data: build the function over empty frames and look at what comes out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pyspark.errors import AnalysisException
from pyspark.logger import PySparkLogger
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructField, StructType

from twinrun.config.nearest import listed
from twinrun.durations import spark_interval
from twinrun.events.decode import event_schema
from twinrun.events.distinct import distinct_in_stream
from twinrun.events.source import Source
from twinrun.job.calls import call_logic, plain_sentence, spark_problem
from twinrun.job.grain import grain_problems, is_window_end, only_from_windows
from twinrun.job.job import Job
from twinrun.job.jvmplan import Expr, Plan, has_jvm, read_plan, unsupported
from twinrun.job.problem import Problem
from twinrun.job.result import result_problems

_LOGGERS = ("DataFrameQueryContextLogger", "SQLQueryContextLogger")


def check_plan(
    job: Job, spark: SparkSession, table_schemas: Mapping[str, StructType]
) -> tuple[StructType, list[Problem]]:
    """Call the job's function over empty batch and streaming frames and check the two results.

    Reads no data and starts no query: no Spark job. On Spark Connect some of it is left out, see ``not_checked``.

    Parameters
    ----------
    job : Job
        A definition without ``definition_problems``.
    spark : SparkSession
        Any session.
    table_schemas : mapping of str to StructType
        Schema of every static table of the job, by name.

    Returns
    -------
    StructType
        Schema of the batch result with Spark's own nullability; empty where the function cannot be built.
    list of Problem
        Everything that is wrong, with the line of the job file where there is one.
    """
    empty = StructType([])
    missing = [table.name for table in job.tables if table.name not in table_schemas]
    if missing:
        change = f"bind {', '.join(missing)} under tables: in the configuration"
        return empty, [Problem(f"the table {listed(missing)} has no schema", change=change)]
    with quiet_spark():
        try:
            schemas = {source.name: seen_schema(source) for source in job.sources}
        except Exception as error:
            return empty, [Problem(f"a schema cannot be read by Spark: {plain_sentence(error)}")]
        tables = {table.name: spark.createDataFrame([], table_schemas[table.name]) for table in job.tables}
        events = {name: spark.createDataFrame([], schema) for name, schema in schemas.items()}
        streams = {source.name: stream_frame(spark, source, schemas[source.name]) for source in job.sources}
        batch, problems = call_logic(job, events | tables)
        stream, stream_problems = call_logic(job, streams | tables, streaming=True)
        problems += [problem for problem in stream_problems if problem not in problems]
        if batch is None:
            return empty, problems
        problems += result_problems(job, batch)
        problems += _schema_problems(batch, stream)
        if has_jvm(spark):
            problems += _jvm_problems(job, spark, batch, stream)
        return batch.schema, problems


def not_checked(spark: SparkSession) -> tuple[str, ...]:
    """Sentences on what ``check_plan`` leaves out in this session; empty where it checks everything."""
    if has_jvm(spark):
        return ()
    return (
        "the grain (window, slide, gap) and the grouping keys against the plan: not checked, no JVM",
        "keys that may be null: not checked, no JVM",
        "operations that Spark refuses in streaming: not checked before the query starts, no JVM",
    )


def seen_schema(source: Source) -> StructType:
    """Schema of the events as the function sees them; the event time is never null, since null is quarantined."""
    return StructType(
        [
            StructField(field.name, field.dataType, field.nullable and field.name != source.event_time)
            for field in event_schema(source)
        ]
    )


def stream_frame(spark: SparkSession, source: Source, schema: StructType) -> DataFrame:
    """An unstarted stream with the columns of the events, and the watermark that the framework puts on them."""
    clock = spark.readStream.format("rate").load()
    columns = [
        (F.col("timestamp") if field.name == source.event_time else F.lit(None).cast(field.dataType)).alias(field.name)
        for field in schema
    ]
    frame = clock.select(*columns)
    if source.lateness_ms is None:
        return frame
    return distinct_in_stream(frame.withWatermark(source.event_time, spark_interval(source.lateness_ms)), source)


def _schema_problems(batch: DataFrame, stream: DataFrame | None) -> Iterator[Problem]:
    """A function that looks at its mode can return two kinds of result."""
    if stream is None:
        return
    one = [(field.name, field.dataType.simpleString()) for field in batch.schema]
    other = [(field.name, field.dataType.simpleString()) for field in stream.schema]
    if one != other:
        differing = [name for name, _ in one + other if (name in dict(one)) != (name in dict(other))]
        differing += [name for name, kind in one if name in dict(other) and dict(other)[name] != kind]
        what = listed(set(differing)) if differing else "their order"
        yield Problem(f"the function returns other columns in streaming than in batch: {what}", "one result schema")


def _jvm_problems(job: Job, spark: SparkSession, batch: DataFrame, stream: DataFrame | None) -> Iterator[Problem]:
    yield from _null_keys(job, batch)
    if stream is None:
        return
    plan = read_plan(stream)
    found = grain_problems(job, plan)
    yield from found
    columns = dict(plan.output)
    if (job.windowed or job.gap) and job.window_column in columns and is_window_end(plan, columns[job.window_column]):
        change = f"select the window's start as {job.window_column}"
        yield Problem(f"{job.window_column!r} holds the end of the window", "its start", change)
    if found:
        # Another grain than declared is often the reason why Spark refuses the query: one message is enough.
        return
    try:
        unsupported(spark, stream, "update" if job.emit == "updates" else "append")
    except AnalysisException as error:
        yield spark_problem(error, f"Spark cannot run this as a stream with emit={job.emit!r}")


def _null_keys(job: Job, batch: DataFrame) -> Iterator[Problem]:
    nullable = {field.name for field in batch.schema if field.nullable} & set(job.keys)
    if not nullable:
        return
    plan = read_plan(batch)
    columns = dict(plan.output)
    for key in job.keys:
        if key in nullable and not _never_null(plan, columns[key]):
            yield Problem(
                f"the key {key!r} can be null",
                "keys that are never null",
                f"declare its field NOT NULL, or filter in the function: .filter(F.col({key!r}).isNotNull())",
            )


def _never_null(plan: Plan, column_id: int) -> bool:
    expr = Expr("AttributeReference", id=column_id)
    if only_from_windows(plan, expr):
        return True
    while expr.kind == "AttributeReference":
        if expr.id in plan.never_null:
            return True
        if expr.id not in plan.made_from:
            return False
        expr = plan.made_from[expr.id]
    return False


@contextmanager
def quiet_spark() -> Iterator[None]:
    """Keep pyspark from logging each failed analysis as a Java trace: here it becomes a sentence."""
    # Made by pyspark's own factory: a plain logger under this name would make its later errors fail with a TypeError.
    loggers = [PySparkLogger.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
