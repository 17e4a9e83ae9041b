"""Check a job against Spark without data: build the function over empty frames and look at what comes out."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pyspark.errors import AnalysisException
from pyspark.logger import PySparkLogger
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DataType,
    MapType,
    NullType,
    NumericType,
    StructField,
    StructType,
    TimestampType,
    VariantType,
)

from twinrun.config.problems import listed, nearest
from twinrun.durations import spark_interval
from twinrun.events.decode import distinct_in_stream, event_schema
from twinrun.events.source import Source
from twinrun.job.code import call_logic, plain_sentence, spark_problem
from twinrun.job.grain import grain_problems, is_window_end, only_from_windows
from twinrun.job.job import Job, Problem
from twinrun.job.jvmplan import Expr, Plan, has_jvm, read_plan, unsupported

# Rules on the columns of a job's result; public DataFrame API only.


_REFUSED_SIGNS = " ,;{}()\n\t="
_SIGN_NAMES = {" ": "a space", "\n": "a line feed", "\t": "a tab"}
_NO_WORD = r"\W+"


def result_problems(job: Job, result: DataFrame) -> list[Problem]:
    """What is wrong with the columns of the function's batch result. No Spark job."""
    schema = result.schema
    problems = list(_names(schema))
    problems += _keys(job, schema)
    if job.windowed or job.gap is not None:
        problems += _window_column(job, schema)
    problems += _tolerances(job, schema)
    if job.delete_when is not None and not problems:
        problems += _delete_when(job.delete_when, result)
    return problems


def _names(schema: StructType) -> Iterator[Problem]:
    if not schema.names:
        yield Problem("the function returns no column", "an explicit select")
    lowered = [name.lower() for name in schema.names]
    for name in sorted({name for name in lowered if lowered.count(name) > 1}):
        found = f"the result has the column {name!r} more than once (upper and lower case count as equal)"
        yield Problem(found, "one column per name", "end the function in a select with aliases")
    yield from _unstorable(schema)
    for name in schema.names:
        if name.startswith("_"):
            yield Problem(f"the result column {name!r} begins with '_', which is kept for twinrun", change="rename it")


def _unstorable(schema: StructType) -> Iterator[Problem]:
    """What Delta does not take: certain signs in a name, also of a nested field, and columns without a type."""
    for each in schema:
        for path, kind in _fields(each.name, each.dataType):
            signs = [sign for sign in _REFUSED_SIGNS if sign in path[-1]]
            column = ".".join(path)
            if signs:
                named = ", ".join(_SIGN_NAMES.get(sign, f"'{sign}'") for sign in signs)
                found = f"the result column {column!r} has {named} in its name, which Delta refuses"
                change = f"end the function in .alias({re.sub(_NO_WORD, '_', path[-1]).strip('_')!r})"
                yield Problem(found, "letters, digits and '_'", change)
            if isinstance(kind, NullType):
                found = f"the result column {column!r} is void: it has no type, and Delta cannot keep it"
                yield Problem(found, "a typed column", "F.lit(None).cast('string'), or the type that is meant")


def _fields(name: str, kind: DataType, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], DataType]]:
    """A column and every field within it, by path; elements of arrays and maps have the name of their column."""
    path = (*above, name)
    yield path, kind
    inner: list[tuple[str, DataType]] = []
    if isinstance(kind, StructType):
        inner = [(field.name, field.dataType) for field in kind]
    elif isinstance(kind, ArrayType):
        inner = [("element", kind.elementType)]
    elif isinstance(kind, MapType):
        inner = [("key", kind.keyType), ("value", kind.valueType)]
    for each, of in inner:
        yield from _fields(each, of, path)


def _absent(what: str, name: str, schema: StructType) -> Problem:
    match = nearest(name, schema.names)
    change = f"write {match!r}" if match else "select it in the function"
    return Problem(f"{what} {name!r} is no column of the result", f"one of {listed(schema.names)}", change)


def _keys(job: Job, schema: StructType) -> Iterator[Problem]:
    for key in job.keys:
        if key not in schema.names:
            yield _absent("the key", key, schema)
        elif _holds_map(schema[key].dataType):
            yield Problem(f"the key {key!r} is {schema[key].dataType.simpleString()}", "types that have an equality")


def _holds_map(kind: DataType) -> bool:
    if isinstance(kind, ArrayType):
        return _holds_map(kind.elementType)
    if isinstance(kind, StructType):
        return any(_holds_map(field.dataType) for field in kind)
    return isinstance(kind, MapType | VariantType)


def _window_column(job: Job, schema: StructType) -> Iterator[Problem]:
    name = job.window_column
    if name not in schema.names:
        # As a key it is already reported.
        if name not in job.keys:
            yield _absent("the window column", name, schema)
    elif not isinstance(schema[name].dataType, TimestampType):
        found = f"the window column {name!r} is {schema[name].dataType.simpleString()}"
        yield Problem(found, "a timestamp", f"F.col('window.start').alias({name!r})")


def _tolerances(job: Job, schema: StructType) -> Iterator[Problem]:
    for name in job.tolerances:
        if name not in schema.names:
            yield _absent("the column with a tolerance,", name, schema)
        elif not isinstance(schema[name].dataType, NumericType):
            yield Problem(f"{name!r} has a tolerance and is {schema[name].dataType.simpleString()}", "a numeric column")


def _delete_when(expression: str, result: DataFrame) -> Iterator[Problem]:
    try:
        kind = result.select(F.expr(expression).alias("gone")).schema["gone"].dataType
    except AnalysisException as error:
        allowed = f"an expression over {listed(result.columns)}"
        yield Problem(f"delete_when cannot be read: {plain_sentence(error)}", allowed)
        return
    if not isinstance(kind, BooleanType):
        yield Problem(f"delete_when is {kind.simpleString()}", "a boolean expression")


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
    if any("ProcessingTime" in node.time_mode for node in plan.root.walk()):
        # Spark 4.2 plans one more micro-batch after each, whether a timer is due or not (tried: 200 in ten minutes).
        yield Problem(
            "the state of transformWithState goes by the machine's clock (time mode processingTime), so that no run "
            "gives the same rows again, and a stream with the trigger available-now never ends",
            "time mode none",
            "keep in the state what is to be forgotten with its event time, and leave it out in handleInputRows",
        )
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
