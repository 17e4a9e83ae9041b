"""Rules on the columns of a job's result; public DataFrame API only."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DataType,
    MapType,
    NullType,
    NumericType,
    StructType,
    TimestampType,
    VariantType,
)

from twinrun.config.nearest import listed, nearest
from twinrun.job.calls import plain_sentence
from twinrun.job.job import Job
from twinrun.job.problem import Problem

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
    for field in schema:
        for path, kind in _fields(field.name, field.dataType):
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
