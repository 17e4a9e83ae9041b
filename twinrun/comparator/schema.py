"""Match the columns of two tables, and say all that is wrong with them or with what was asked.

No Spark job runs here; only the two schemas are read.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence

from pyspark.sql import types as T

from twinrun.comparator.declared import declared_problem
from twinrun.comparator.plan import PlannedColumn, SchemaDifference, SchemaPlan, Side
from twinrun.comparator.types import common_type, incomparable
from twinrun.comparator.within import tolerance_problem
from twinrun.errors import TableError
from twinrun.tolerance import Tolerance, as_tolerance


def plan_schema(
    batch_schema: T.StructType,
    stream_schema: T.StructType,
    keys: Sequence[str],
    window_column: str | None,
    tolerances: Mapping[str, Tolerance | float],
    ignore: Iterable[str] = (),
    types: Mapping[str, T.DataType] | None = None,
    naive_offset_s: int | None = None,
) -> SchemaPlan:
    """Match the columns of two tables by exact name.

    Parameters
    ----------
    batch_schema, stream_schema : StructType
        The two tables' schemas. Nullability and metadata do not count.
    keys : sequence of str
        The columns that name a row. At least one.
    window_column : str, optional
        The column by which rows are grouped into windows.
    tolerances : mapping of str to Tolerance or float
        A bare number is absolute. Columns that are not named are compared exactly.
    ignore : iterable of str
        Columns left out on both sides (lineage). They may be missing.
    types : mapping of str to DataType, optional
        As what columns are compared whose types differ, or have no common one.
    naive_offset_s : int, optional
        Seconds ahead of UTC by which times without a zone are read where the other table's have one.

    Raises
    ------
    TableError
        All at once: no key; a key or window column missing on either side or of two types that do not match; a
        tolerance for a column that neither table has, is not a plain number, is a key, a window or ignored; a
        repeated column name; a type that cannot be compared. A column with a tolerance that only one table has is
        a schema difference, not an error.
    """
    ignored = frozenset(ignore)
    batch, stream = _positions(batch_schema, ignored), _positions(stream_schema, ignored)
    allowed = {name: as_tolerance(value) for name, value in tolerances.items()}
    declared = dict(types or {})
    columns, differences = _match(batch, stream, allowed, declared, naive_offset_s)
    named = [*keys, *([] if window_column is None else [window_column])]
    problems = [
        *_name_problems(batch_schema, "batch"),
        *_name_problems(stream_schema, "stream"),
        *([] if keys else ["no key column is given"]),
        *(f"{name!r} is named twice among the keys" for name in sorted({n for n in keys if list(keys).count(n) > 1})),
        *_role_problems(named, batch, stream, columns),
        *_tolerance_problems(allowed, named, batch, stream, columns),
        *_declared_problems(declared, batch, stream, columns),
        *_type_problems(columns),
    ]
    if problems:
        raise TableError(
            "; ".join(problems),
            expected=f"batch columns: {_listed(batch_schema)}; stream columns: {_listed(stream_schema)}",
            fix=_advice(named + list(allowed), batch, stream),
        )
    places = {column.name: place for place, column in enumerate(columns)}
    return SchemaPlan(
        columns=tuple(columns),
        keys=tuple(places[key] for key in keys),
        window=None if window_column is None else places[window_column],
        differences=tuple(sorted(differences, key=lambda difference: difference.name)),
        batch_width=len(batch_schema.fields),
        stream_width=len(stream_schema.fields),
    )


Positions = dict[str, tuple[int, T.DataType]]


def _positions(schema: T.StructType, ignored: frozenset[str]) -> Positions:
    return {
        field.name: (place, field.dataType) for place, field in enumerate(schema.fields) if field.name not in ignored
    }


def _match(
    batch: Positions,
    stream: Positions,
    allowed: Mapping[str, Tolerance],
    declared: Mapping[str, T.DataType],
    naive_offset_s: int | None,
) -> tuple[list[PlannedColumn], list[SchemaDifference]]:
    columns: list[PlannedColumn] = []
    differences: list[SchemaDifference] = []
    for name, (place, dtype) in batch.items():
        if name not in stream:
            near = _nearest(name, stream.keys() - batch.keys())
            differences.append(SchemaDifference(name, "missing_in_stream", dtype.simpleString(), None, near))
            continue
        other_place, other = stream[name]
        common = declared.get(name) or common_type(dtype, other)
        naive = None
        if common is None and {type(dtype), type(other)} == {T.TimestampType, T.TimestampNTZType}:
            naive = naive_offset_s
            common = None if naive is None else T.TimestampType()
        if common is None:
            differences.append(SchemaDifference(name, "type_differs", dtype.simpleString(), other.simpleString()))
            continue
        tolerance = allowed.get(name)
        exact = tolerance is None or tolerance.exact
        kept = None if exact else tolerance
        columns.append(PlannedColumn(name, place, other_place, dtype, other, common, kept, name in declared, naive))
    for name in stream.keys() - batch.keys():
        near = _nearest(name, batch.keys() - stream.keys())
        differences.append(SchemaDifference(name, "missing_in_batch", None, stream[name][1].simpleString(), near))
    return columns, differences


def _name_problems(schema: T.StructType, side: str) -> list[str]:
    repeated = sorted({name for name in schema.names if schema.names.count(name) > 1})
    return [f"the {side} table has more than one column named {name!r}" for name in repeated]


def _role_problems(
    named: Sequence[str], batch: Positions, stream: Positions, columns: Sequence[PlannedColumn]
) -> list[str]:
    matched = {column.name for column in columns}
    problems: list[str] = []
    for name in dict.fromkeys(named):
        lacking = [side for side, table in (("batch", batch), ("stream", stream)) if name not in table]
        if lacking:
            problems.append(f"the column {name!r} is missing in the {' and the '.join(lacking)} table")
        elif name not in matched:
            types = f"{batch[name][1].simpleString()} in the batch, {stream[name][1].simpleString()} in the stream"
            problems.append(f"rows cannot be paired by {name!r}, which is {types}: declare it (--as {name}=TYPE)")
    return problems


def _tolerance_problems(
    allowed: Mapping[str, Tolerance],
    named: Sequence[str],
    batch: Positions,
    stream: Positions,
    columns: Sequence[PlannedColumn],
) -> list[str]:
    types = {column.name: column.dtype for column in columns}
    problems: list[str] = []
    for name, tolerance in allowed.items():
        if name not in batch and name not in stream:
            problems.append(f"the column {name!r} has a tolerance but is in neither table, or is ignored")
        elif name in named:
            problems.append(f"the column {name!r} names rows or windows and is compared exactly: no tolerance")
        elif name in types and not tolerance.exact:
            problem = tolerance_problem(types[name], tolerance)
            problems += [f"the column {name!r} {problem}"] if problem else []
    return problems


def _declared_problems(
    declared: Mapping[str, T.DataType], batch: Positions, stream: Positions, columns: Sequence[PlannedColumn]
) -> list[str]:
    matched = {column.name for column in columns}
    problems: list[str] = []
    for name, dtype in declared.items():
        if name not in matched:
            problems.append(f"the column {name!r} is declared as {dtype.simpleString()} but is not in both tables")
            continue
        sides: tuple[tuple[Side, Positions], ...] = (("batch", batch), ("stream", stream))
        found = (declared_problem(name, table[name][1], dtype, side) for side, table in sides)
        problems += [problem for problem in found if problem]
    return problems


def _type_problems(columns: Sequence[PlannedColumn]) -> list[str]:
    found = ((column.name, incomparable(column.dtype)) for column in columns)
    return [
        f"the column {name!r} holds {bad}, which cannot be compared: ignore or cast it" for name, bad in found if bad
    ]


def _nearest(name: str, others: Iterable[str]) -> str | None:
    fold: Callable[[str], str] = str.casefold
    candidates = {fold(other): other for other in sorted(others)}
    near = difflib.get_close_matches(fold(name), list(candidates), n=1, cutoff=0.6)
    return candidates[near[0]] if near else None


def _advice(names: Iterable[str], batch: Positions, stream: Positions) -> str:
    advice: list[str] = []
    for name in dict.fromkeys(names):
        for side, table in (("batch", batch), ("stream", stream)):
            near = None if name in table else _nearest(name, table)
            advice += [f"for {name!r} the {side} table's nearest column is {near!r}"] if near else []
    return "; ".join(advice)


def _listed(schema: T.StructType) -> str:
    return ", ".join(schema.names) or "none"
