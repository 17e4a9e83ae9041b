"""Rules TR3..: expressions that fail on valid values, since Spark 4 is strict (ANSI). One such event stops both modes.

Read from the analysed plan. An expression is left out where it provably cannot fail: its divisor is a constant, was
tested by a condition around it or by a filter below it, or lies in the source's ranges; its cast only widens. Where a
condition looks at the same columns but proves nothing here, the finding is a note.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from twinrun.job.job import Job
from twinrun.lint.calls import Calls
from twinrun.lint.flow import reached
from twinrun.lint.refused import Found
from twinrun.lint.result import Severity
from twinrun.lint.tree import Expr, Node, Tree, line_of
from twinrun.lint.values import Judged, words

_DIVISIONS = frozenset({"Divide", "IntegralDivide", "Remainder", "Pmod"})
_ARITHMETIC = frozenset({"Add", "Subtract", "Multiply"})
_DATES = frozenset(
    {
        "GetTimestamp",
        "ParseToTimestamp",
        "ParseToDate",
        "UnixTimestamp",
        "ToUnixTimestamp",
        "MakeDate",
        "MakeTimestamp",
        "MakeTimestampNTZ",
        "NextDay",
        "SecondsToTimestamp",
        "MillisToTimestamp",
    }
)
_PARSED = frozenset({"UnixTimestamp", "ToUnixTimestamp", "ParseToDate", "ParseToTimestamp", "GetTimestamp"})
_ON_PURPOSE = frozenset({"RaiseError", "AssertTrue"})
_READ = {"ToNumber": "to_number", "ParseUrl": "parse_url", "Conv": "conv"}
_KINDS = _DIVISIONS | _ARITHMETIC | _DATES | _ON_PURPOSE | {"Cast", "ElementAt", "GetArrayItem", "Elt", "Sum", *_READ}
_MINUS = frozenset({"UnaryMinus", "Abs"})
_DIGITS = {"tinyint": 3, "smallint": 5, "int": 10, "bigint": 20}
_WIDTH = {"tinyint": 0, "smallint": 1, "int": 2, "bigint": 3}
_INTEGERS = frozenset(_WIDTH)
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
_MOST_DIGITS = 38
_WHOLE = {"tinyint": 2, "smallint": 4, "int": 9, "bigint": 18}
"""Digits that each of them holds whatever they are."""
_FRAMEWORK = "PreciseTimestampConversion"
"""Stands in what Spark makes of F.window: its arithmetic on times is not the function's."""
_COMPARED = ("GreaterThan", "LessThan", "GreaterThanOrEqual", "LessThanOrEqual", "EqualTo", "EqualNullSafe")


@dataclass(frozen=True)
class _Guard:
    """What holds where an expression is evaluated: ``nonzero`` in the JVM, ``seen`` ids of columns in conditions."""

    nonzero: tuple[Any, ...] = ()
    seen: frozenset[int] = frozenset()

    def also(self, other: _Guard) -> _Guard:
        return _Guard((*self.nonzero, *other.nonzero), self.seen | other.seen)


@dataclass(frozen=True)
class _Case:
    expr: Expr
    guard: _Guard


def values_that_fail(job: Job, tree: Tree, calls: Calls) -> Iterator[Judged]:
    """Expressions of the function that can fail on values which its source calls valid, where they are evaluated."""
    live = {id(each.expr): each.columns for each in reached(tree, lambda expr: expr.kind in _KINDS | _MINUS)}
    nonzero, bounded = _limits(job, tree)
    for node in tree.root.own():
        below = _below(node)
        for root in node.expressions:
            for case in _cases(root, below):
                if id(case.expr) not in live:
                    continue
                found = _judged(case, nonzero, bounded)
                if found is not None:
                    rule, detail, severity = found
                    about = ", ".join(part for part in (detail, words(live[id(case.expr)])) if part)
                    yield Found(rule, line_of(case.expr, calls), about), severity


def _judged(case: _Case, nonzero: set[int], bounded: set[int]) -> tuple[str, str, Severity | None] | None:
    expr, kind = case.expr, case.expr.kind
    if kind in _DIVISIONS:
        return _division(case, nonzero)
    if kind == "Cast":
        return _cast(case)
    if kind in ("ElementAt", "GetArrayItem", "Elt"):
        return _index(case)
    if kind in _DATES:
        return _date(case)
    if kind in _READ:
        tried = _tries(expr) or _is_constant(expr)
        return None if tried else ("TR302", _READ[kind], _unproven(case, expr.operands[0]))
    if kind in _ON_PURPOSE:
        return "TR306", "", None
    if kind in _ARITHMETIC or kind in _MINUS or kind == "Sum":
        return _overflow(expr, bounded)
    return None


def _division(case: _Case, nonzero: set[int]) -> tuple[str, str, Severity | None] | None:
    expr = case.expr
    if _tries(expr):
        return None
    divisor = _bare(expr.operands[1])
    constant = _constant(divisor)
    if constant is not None:
        return None if constant != 0 else ("TR301", "the divisor is 0", None)
    if _is_nonzero(divisor, case.guard, nonzero):
        return None
    return "TR301", "", _unproven(case, divisor)


def _is_nonzero(expr: Expr, guard: _Guard, nonzero: set[int]) -> bool:
    """Whether an expression is null or other than 0, whatever the event."""
    expr = _bare(expr)
    constant = _constant(expr)
    if constant is not None:
        return constant != 0
    if expr.id in nonzero or any(bool(expr.java().semanticEquals(each)) for each in guard.nonzero):
        return True
    if expr.kind == "NullIf":
        return _is_null_for_zero(expr)
    if expr.kind in ("If", "CaseWhen"):
        return all(_is_nonzero(value, guard.also(known), nonzero) for value, known in _branches(expr))
    if expr.kind in ("Greatest", "Coalesce"):
        parts = [_constant(_bare(part)) for part in expr.operands]
        if expr.kind == "Greatest":
            return any(part is not None and part > 0 for part in parts)
        return all(_is_nonzero(part, guard, nonzero) for part in expr.operands)
    return expr.kind == "Literal"  # a null: the quotient is null


def _is_null_for_zero(expr: Expr) -> bool:
    """Whether a nullif compares with 0; Spark writes it as an If within a With."""
    inner = expr
    while inner.kind in ("NullIf", "With") and inner.operands:
        inner = inner.operands[0]
    if inner.kind != "If" or inner.operands[0].kind != "EqualTo":
        return False
    return any(_constant(_bare(side)) == 0 for side in inner.operands[0].operands)


def _cast(case: _Case) -> tuple[str, str, Severity | None] | None:
    expr = case.expr
    if _tries(expr) or _is_constant(expr):
        return None
    source, target = expr.operands[0].data_type(), expr.data_type()
    if not _may_not_fit(source, target) or _counts(expr.operands[0]):
        return None
    return "TR302", f"{source} to {target}", _unproven(case, expr.operands[0])


def _counts(expr: Expr) -> bool:
    """Whether it is a number of rows: no type that is meant for it is too small."""
    inner = expr.operands[0] if expr.kind == "AggregateExpression" else expr
    return inner.kind in ("Count", "CountIf")


def _may_not_fit(source: str, target: str) -> bool:
    """Whether a value of one type can have no form in another; of nested types nothing is said."""
    if source == target or (target in ("string", "binary", "boolean") and source != "string"):
        return False
    if source == "string":
        return target not in ("string", "binary") and not target.startswith(("array", "map", "struct", "variant"))
    held, wanted = _DECIMAL.fullmatch(source), _DECIMAL.fullmatch(target)
    if target in ("double", "float"):
        return False
    if source in _INTEGERS and target in _INTEGERS:
        return _WIDTH[source] > _WIDTH[target]
    if wanted:
        room = int(wanted[1]) - int(wanted[2])
        if held:
            return room < int(held[1]) - int(held[2])
        return source in ("double", "float") or (source in _DIGITS and room < _DIGITS[source])
    if target in _INTEGERS:
        if held:
            return _WHOLE[target] < int(held[1]) - int(held[2])
        return source in ("double", "float") or (source == "timestamp" and target != "bigint")
    return target.startswith("timestamp") and source in ("double", "float")


def _index(case: _Case) -> tuple[str, str, Severity | None] | None:
    expr = case.expr
    if _tries(expr):
        return None
    if expr.kind == "Elt":
        return "TR303", "", _unproven(case, expr.operands[0])
    array, index = expr.operands[0], _constant(_bare(expr.operands[1]))
    if array.data_type().startswith("map"):
        return None
    first = 1 if expr.kind == "ElementAt" else 0
    if array.kind in ("StringSplit", "StringSplitSQL") and index in ((1, -1) if first else (0,)):
        return None  # a split has one part at least
    if array.kind == "CreateArray" and index is not None:
        size = len(array.operands)
        if first <= index < size + first or (first and -size <= index < 0):
            return None
    return "TR303", "", _unproven(case, array)


def _date(case: _Case) -> tuple[str, str, Severity | None] | None:
    expr = case.expr
    if _tries(expr) or _is_constant(expr):
        return None
    if expr.kind in _PARSED and expr.operands[0].data_type() != "string":
        return None
    if expr.kind == "SecondsToTimestamp" and expr.operands[0].data_type() in ("int", "smallint", "tinyint"):
        return None
    if expr.kind == "NextDay" and expr.operands[1].kind == "Literal":
        return None
    return "TR304", "", _unproven(case, expr)


def _overflow(expr: Expr, bounded: set[int]) -> tuple[str, str, Severity | None] | None:
    """Arithmetic beyond the largest value of its type. Small integers overflow soon, so that only they are no note."""
    if _tries(expr) or any(part.kind == _FRAMEWORK for part in expr.parts()):
        return None
    kind = expr.data_type()
    columns = {part.id for part in expr.parts() if part.kind == "AttributeReference"}
    if not columns or columns <= bounded:
        return None
    if kind in ("tinyint", "smallint", "int"):
        both = sum(_constant(_bare(part)) is None for part in expr.operands) == len(expr.operands)
        return "TR305", kind, None if expr.kind == "Multiply" and both else "note"
    if kind == "bigint":
        # The sum of integers below 64 bits, and one more or less, would need more events than there are.
        small = expr.kind == "Sum" and expr.operands[0].data_type() != "bigint"
        constant = [_constant(_bare(part)) for part in expr.operands if _constant(_bare(part)) is not None]
        return None if small or (constant and expr.kind != "Multiply") else ("TR305", kind, "note")
    found = _DECIMAL.fullmatch(kind)
    if found and int(found[1]) == _MOST_DIGITS:
        return "TR305", kind, "note"
    return None


def _unproven(case: _Case, about: Expr) -> Severity | None:
    """A note where a condition looks at the same columns; else the rule's own severity."""
    columns = {part.id for part in about.parts() if part.kind == "AttributeReference"}
    return "note" if columns and columns & case.guard.seen else None


def _cases(root: Expr, guard: _Guard) -> Iterator[_Case]:
    """Every expression below one that a rule is about, with what is known where it is evaluated."""
    if root.kind == _FRAMEWORK:
        return
    if root.kind in _KINDS or root.kind in _MINUS:
        yield _Case(root, guard)
    if root.kind in ("If", "CaseWhen"):
        for value, known in _branches(root):
            yield from _cases(value, guard.also(known))
        for condition in _conditions(root):
            yield from _cases(condition, guard)
        return
    for operand in root.operands:
        yield from _cases(operand, guard)


def _conditions(expr: Expr) -> list[Expr]:
    return list(expr.operands[:1] if expr.kind == "If" else expr.operands[0 : len(expr.operands) // 2 * 2 : 2])


def _branches(expr: Expr) -> list[tuple[Expr, _Guard]]:
    """The values of an If or CaseWhen, with what holds where each is taken."""
    conditions = _conditions(expr)
    values = list(expr.operands[1:2] if expr.kind == "If" else expr.operands[1::2])
    found, failed = [], _Guard()
    for condition, value in zip(conditions, values, strict=False):
        found.append((value, failed.also(_holds(condition))))
        failed = failed.also(_fails(condition))
    if len(expr.operands) % 2:
        found.append((expr.operands[-1], failed))
    return found


def _holds(condition: Expr) -> _Guard:
    """What is known where a condition is true."""
    seen = _seen(condition)
    if condition.kind == "And":
        left, right = (_holds(part) for part in condition.operands)
        return left.also(right)
    if condition.kind == "Not":
        return _fails(condition.operands[0]).also(seen)
    return seen.also(_compared(condition, holds=True))


def _fails(condition: Expr) -> _Guard:
    """What is known where a condition is false or null: a divisor that is null gives null."""
    seen = _seen(condition)
    if condition.kind == "Or":
        left, right = (_fails(part) for part in condition.operands)
        return left.also(right)
    if condition.kind == "Not":
        return _holds(condition.operands[0]).also(seen) if condition.operands[0].kind != "And" else seen
    return seen.also(_compared(condition, holds=False))


def _compared(condition: Expr, *, holds: bool) -> _Guard:
    """What is not 0 where a comparison with a constant holds, or does not: it would be the other way for 0."""
    if condition.kind not in _COMPARED:
        return _Guard()
    known = []
    for this, other in ((0, 1), (1, 0)):
        value = _constant(_bare(condition.operands[other]))
        if value is not None:
            left, right = (0.0, value) if this == 0 else (value, 0.0)
            of_zero = {"Greater": left > right, "Less": left < right, "Equal": left == right}
            kinds = [word for word in of_zero if word in condition.kind]
            if any(of_zero[word] for word in kinds) != holds:
                known.append(_bare(condition.operands[this]).java())
    return _Guard(tuple(known))


def _seen(condition: Expr) -> _Guard:
    return _Guard(seen=frozenset(part.id for part in condition.parts() if part.kind == "AttributeReference"))


def _below(node: Node) -> _Guard:
    """What filters below an operator have tested; a union has the columns of its first input for all of them."""
    known = _Guard()
    for child in node.inputs:
        if child.kind == "Union":
            continue
        if child.kind == "Filter" and child.expressions:
            known = known.also(_holds(child.expressions[0]))
        known = known.also(_below(child))
    return known


def _limits(job: Job, tree: Tree) -> tuple[set[int], set[int]]:
    """Ids of source columns whose declared ranges exclude 0, and of those with a limit on both sides."""
    ranges = {name: limits for source in job.sources for name, limits in source.ranges.items()}
    nonzero, bounded = set(), set()
    names = [name for source in job.sources for name in source.ranges]
    for node in tree.root.walk():
        if node.line != 0 or not names:
            continue
        for name, column in node.columns():
            if name in ranges and names.count(name) == 1:
                low, high = ranges[name]
                if (low is not None and low > 0) or (high is not None and high < 0):
                    nonzero.add(column)
                if low is not None and high is not None:
                    bounded.add(column)
    return nonzero, bounded


def _bare(expr: Expr) -> Expr:
    """Without casts and marks around it, which turn no other value into 0 where they only widen."""
    while expr.kind in ("Cast", "KnownNotNull", "PromotePrecision", "Alias") and expr.operands:
        if expr.kind == "Cast" and _narrows(expr):
            break
        expr = expr.operands[0]
    return expr


def _narrows(expr: Expr) -> bool:
    source, target = expr.operands[0].data_type(), expr.data_type()
    if target in ("double", "float"):
        return source == "string"
    if source in _INTEGERS and target in _INTEGERS:
        return False  # what does not fit fails, and what fits is the same
    wanted, held = _DECIMAL.fullmatch(target), _DECIMAL.fullmatch(source)
    if wanted and held:
        return int(wanted[2]) < int(held[2])
    return not (wanted and source in _INTEGERS)


def _constant(expr: Expr) -> float | None:
    """The number that a constant is; None where it is none, or null."""
    if not _is_constant(expr):
        return None
    java = expr.java()
    try:
        value = java.eval(None) if java.foldable() else None
        return None if value is None else float(str(value))
    except Exception:  # no number, or it fails by itself
        return None


def _is_constant(expr: Expr) -> bool:
    return not any(part.kind in ("AttributeReference", "NamedLambdaVariable") for part in expr.parts())


def _tries(expr: Expr) -> bool:
    """Whether it is the form that gives null instead of failing."""
    java = expr.java()
    if expr.kind == "Sum":
        return str(java.evalContext().evalMode().toString()) != "ANSI"
    for name in ("evalMode", "failOnError", "ansiEnabled"):
        try:
            said = getattr(java, name)()
        except Exception:  # this expression has no such setting
            continue
        return said is False or (name == "evalMode" and str(said.toString()) != "ANSI")
    return False
