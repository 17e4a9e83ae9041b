"""By which columns the events of different values never meet: read from Spark's optimised streaming plan.

A column is *carried* if it is a field of every source, handed on unchanged, and each operator that keeps
state keeps its rows apart by it: it groups, de-duplicates or joins by that field. Then a row of the result depends on
the events that have its own value in this field, on static tables and on the watermark, and on nothing else: the
function over those events alone, under the same watermarks, gives the same row. What the plan does not show is not
taken to be so.

The column need not be in the result. Where a key of the result is a field of the same event, such as the id of a click
that was joined by its page, the events of that key say which values are concerned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pyspark.sql import DataFrame, SparkSession

from twinrun.job.job import Job
from twinrun.job.jvmplan import Expr, items, read_expr
from twinrun.job.passing import stream_plan

Fields = Mapping[str, str]
"""By source, the field whose value a column has."""
_Held = dict[int, Fields]
_Own = dict[int, tuple[int, str, str]]
"""By id of a column: of which reading of which source it is which field, in the event that a row was made of."""

_T = TypeVar("_T")
_SAME_TYPES = ("string", "tinyint", "smallint", "int", "bigint", "boolean", "date", "timestamp", "binary", "decimal")
"""Types whose equal values are one value: not doubles (0.0 and -0.0), and no text under a collation."""
_HAND_ON = ("Filter", "Generate", "EventTimeWatermark", "SubqueryAlias", "ResolvedHint", "CollectMetrics")
_HAND_ON_ALSO = ("Repartition", "Rebalance")
_DEDUPLICATES = ("Deduplicate", "DeduplicateWithinWatermark")
_BOTH_SIDES = {
    "Inner": (True, True),
    "LeftOuter": (True, False),
    "RightOuter": (False, True),
    "LeftSemi": (True, False),
}
"""Of a join of two streams: whether a column of its left and of its right side is that of every row that comes out."""


@dataclass(frozen=True)
class Carried:
    """The columns by which a job's events are kept apart, each with the field that it is of every source.

    Attributes
    ----------
    columns : mapping of str to mapping
        By key column of the result. Of those that are no key the name is another; see ``through``.
    through : tuple of (str, mapping of str to str) or None
        Where no key itself is carried: a source, and by key column of the result its field, such that each row was
        made of an event with both these fields and the carried ones.
    why : str
        Why there are none, as the end of a sentence; empty where there are some.
    """

    columns: Mapping[str, Fields] = field(default_factory=dict)
    through: tuple[str, Mapping[str, str]] | None = None
    why: str = ""


class _Mixed(Exception):
    """An operator in which rows of different keys may meet; the end of a sentence."""


def carried(spark: SparkSession, job: Job, statics: Mapping[str, DataFrame]) -> Carried:
    """Read which keys are carried. Optimises the streaming plan once; no Spark job.

    Parameters
    ----------
    statics : mapping of str to DataFrame
        The static tables as the stream joined them.
    """
    plan = stream_plan(spark, job, statics)
    if plan is None:
        return Carried(why="Spark's plan of the stream could not be read")
    root, sources = plan.optimised, {leaf: name for name, leaf in plan.leaves.items()}
    patterns: Any = spark._jvm.org.apache.spark.sql.catalyst.trees.TreePattern  # type: ignore[union-attr]
    for pattern, why in (
        (patterns.PYTHON_UDF(), "the job calls functions in Python, which may look at other rows too"),
        (patterns.SCALA_UDF(), "the job calls functions that Spark cannot look into"),
        (patterns.CURRENT_LIKE(), "the job asks the clock"),
    ):
        if plan.analyzed.containsPattern(pattern):
            return Carried(why=why)
    try:
        held = _held(root, sources)
    except _Mixed as mixed:
        return Carried(why=str(mixed))
    ids = {str(column.name()): _id(column) for column in items(root.output())}
    keys = {key: ids[key] for key in job.keys if key in ids}
    everywhere = {source.name for source in job.sources}
    whole = {i: fields for i, fields in held.items() if set(fields) == everywhere}
    found = {key: whole[i] for key, i in keys.items() if i in whole}
    if found:
        return Carried(found)
    own = _own(root, sources)
    for i, fields in whole.items():
        if i not in own:
            continue
        reading, source, _ = own[i]
        through = {key: own[k][2] for key, k in keys.items() if k in own and own[k][0] == reading}
        if through:
            return Carried({f"field {fields[source]}": fields}, (source, through))
    return Carried(why="no field of the events is one by which every operator with state keeps its rows apart")


def _held(node: Any, sources: Mapping[int, str]) -> _Held:
    """By id of a column that comes out of an operator, the fields whose values it has; others are left out.

    A column is in it only if each row depends on no other events than those with the row's own value in these fields,
    of all sources below.
    """
    kind = _kind(node)
    if not node.isStreaming():
        return {}
    if kind == "LogicalRDD":
        return _fields(node, sources)
    if not all(bool(each.deterministic()) for each in items(node.expressions())):
        raise _Mixed("the job draws numbers, or numbers its rows")
    children = items(node.children())
    below = [_held(child, sources) for child in children]
    if kind in _HAND_ON or kind.startswith(_HAND_ON_ALSO):
        return below[0]
    if kind == "Project":  # what it leaves out still is what keeps the rows apart
        return below[0] | _named(node.projectList(), below[0])
    if kind == "Aggregate":
        return _grouped(node, below[0])
    if kind in _DEDUPLICATES:
        keys = {_id(each) for each in items(node.keys())}
        return {i: held for i, held in below[0].items() if i in keys}
    if kind == "Expand":
        return _expanded(node, below[0])
    if kind == "Union":
        return _united(node, children, below)
    if kind == "Join":
        return _joined(node, children, below)
    raise _Mixed(f"an operator of the job ({kind}) may let rows of different keys meet")


def _own(node: Any, sources: Mapping[int, str]) -> _Own:
    """Columns that are a field of one event, of which the row was made; of a group, of each of its events."""
    kind = _kind(node)
    if not node.isStreaming():
        return {}
    if kind == "LogicalRDD":
        held = _fields(node, sources)
        return {i: (min(held), *next(iter(fields.items()))) for i, fields in held.items()}
    children = items(node.children())
    sides = [_own(child, sources) for child in children]
    if kind == "Join" and all(bool(child.isStreaming()) for child in children):
        keeps = _BOTH_SIDES.get(str(node.joinType().toString()), (False, False))
        sides = [own for own, keep in zip(sides, keeps, strict=True) if keep]
    below: _Own = {i: own for side in sides for i, own in side.items()}
    if kind in ("Union", "Expand"):
        return {}
    if kind == "Project":
        return below | _named(node.projectList(), below)
    if kind == "Aggregate":
        return _grouped(node, below)
    return below


def _fields(leaf: Any, sources: Mapping[int, str]) -> _Held:
    name = sources.get(int(leaf.rdd().id()))
    if name is None:
        raise _Mixed("the job reads a stream that is none of its sources")
    found: _Held = {}
    for column in items(leaf.output()):
        kind = str(column.dataType().sql()).lower()
        if kind.split("(")[0] in _SAME_TYPES and "collate" not in kind:
            found[_id(column)] = {name: str(column.name())}
    return found


def _named(expressions: Any, below: dict[int, _T]) -> dict[int, _T]:
    """What a list of expressions hands on of the columns below, under the same or another name."""
    found: dict[int, _T] = {}
    for each in items(expressions):
        made = read_expr(each)
        name = made.id
        while made.kind == "Alias":
            made = made.operands[0]
        if made.kind == "AttributeReference" and made.id in below:
            found[name] = below[made.id]
    return found


def _grouped(node: Any, below: dict[int, _T]) -> dict[int, _T]:
    """What an aggregation groups by of the columns below, and what it hands on of them."""
    groups = {each.id for each in map(read_expr, items(node.groupingExpressions()))}
    grouped = {i: value for i, value in below.items() if i in groups}
    return grouped | _named(node.aggregateExpressions(), grouped)


def _expanded(node: Any, below: _Held) -> _Held:
    """Columns that every copy of a row has from the same column below."""
    rows = [[read_expr(each) for each in items(projection)] for projection in items(node.projections())]
    found: _Held = {}
    for place, column in enumerate(items(node.output())):
        made = {(row[place].kind, row[place].id) for row in rows}
        kind, name = made.pop()
        if not made and kind == "AttributeReference" and name in below:
            found[_id(column)] = below[name]
    return found


def _united(node: Any, children: list[Any], below: list[_Held]) -> _Held:
    found: _Held = {}
    for place, column in enumerate(items(node.output())):
        sides = [held.get(_id(items(child.output())[place])) for child, held in zip(children, below, strict=True)]
        both = _together(sides)
        if both is not None:
            found[_id(column)] = both
    return found


def _joined(node: Any, children: list[Any], below: list[_Held]) -> _Held:
    streams = [bool(child.isStreaming()) for child in children]
    if not all(streams):
        # A row of the stream meets rows of a static table only.
        return below[streams.index(True)]
    keeps = _BOTH_SIDES.get(str(node.joinType().toString()))
    if keeps is None or not node.condition().isDefined():
        return {}
    found: _Held = {}
    for left, right in _equal(read_expr(node.condition().get())):
        for one, other in ((left, right), (right, left)):
            both = _together([below[0].get(one), below[1].get(other)])
            if both is not None:
                found.update({each: both for each, keep in zip((one, other), keeps, strict=True) if keep})
    return found


def _equal(condition: Expr) -> Iterator[tuple[int, int]]:
    """Pairs of columns that must be equal for a condition to hold."""
    if condition.kind == "And":
        for operand in condition.operands:
            yield from _equal(operand)
    elif condition.kind in ("EqualTo", "EqualNullSafe"):
        one, other = condition.operands
        if one.kind == other.kind == "AttributeReference":
            yield one.id, other.id


def _together(sides: list[Fields | None]) -> Fields | None:
    """The fields of all sides; None where one has none, or where a source comes under two fields."""
    found: dict[str, str] = {}
    for side in sides:
        if side is None or any(found.get(name, held) != held for name, held in side.items()):
            return None
        found |= side
    return found


def _id(column: Any) -> int:
    return int(column.exprId().id())


def _kind(node: Any) -> str:
    return str(node.getClass().getSimpleName())
