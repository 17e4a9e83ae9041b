"""Which columns of the result an expression reaches, and whether what hides its order lies between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from twinrun.lint.tree import Expr, Node, Tree

CONDITION = ""
"""Stands for a filter, join or grouping, which decides on rows instead of being a column."""

_NEUTRAL = frozenset(
    {
        "Alias",
        "AttributeReference",
        "AggregateExpression",
        "Cast",
        "KnownNotNull",
        "Coalesce",
        "ArrayDistinct",
        "CollectList",
        "CollectSet",
    }
)
_ORDERLESS = frozenset({"Size", "SortArray", "ArrayContains", "ArrayMax", "ArrayMin"})
_DECIDES = ("Filter", "Join", "Aggregate", "Deduplicate")
Wanted = Callable[[Expr], bool]


@dataclass(frozen=True, eq=False)
class Reached:
    """An expression, and the result columns that are made from it (`CONDITION` among them where it picks rows)."""

    expr: Expr
    columns: frozenset[str]


def reached(tree: Tree, wanted: Wanted, *, order_only: bool = False) -> list[Reached]:
    """Expressions of a kind that reach the result, in the order of the plan.

    Parameters
    ----------
    order_only : bool
        Leave out those of which only what does not depend on order is used, such as the size of a list.
    """
    found: dict[int, tuple[Expr, set[str]]] = {}
    for name, root in _roots(tree):
        for expr in _under(tree, root, wanted, order_only):
            found.setdefault(id(expr), (expr, set()))[1].add(name)
    return [Reached(expr, frozenset(columns)) for expr, columns in found.values()]


def everything_under(tree: Tree, root: Expr, stop: frozenset[int] = frozenset()) -> Iterator[Expr]:
    """All that an expression is made from; a column of ``stop`` itself, but not what that is made from."""
    seen: set[int] = set()
    rest = [root]
    while rest:
        expr = rest.pop()
        yield expr
        if expr.kind == "AttributeReference":
            if expr.id not in stop and expr.id not in seen:
                seen.add(expr.id)
                rest += tree.made_from.get(expr.id, [])
        else:
            rest += expr.operands


def ids_below(tree: Tree, root: Expr, stop: frozenset[int]) -> set[int]:
    """Ids of ``stop`` that an expression is made from; what those are made from does not count."""
    under = everything_under(tree, root, stop)
    return {expr.id for expr in under if expr.kind == "AttributeReference" and expr.id in stop}


def ancestors(root: Node, node: Node) -> list[Node]:
    """The operators above one, from the root on."""
    if root is node:
        return []
    for child in root.inputs:
        if any(each is node for each in child.walk()):
            return [root, *ancestors(child, node)]
    return []


def deciding(node: Node) -> tuple[Expr, ...]:
    """The expressions of an operator that pick or group rows."""
    if not node.kind.startswith(_DECIDES):
        return ()
    if node.kind == "Aggregate":
        return node.expressions[: node.java.groupingExpressions().size()]
    return node.expressions


def column_expr(tree: Tree, column: int) -> list[Expr]:
    """What a column of the result is made from."""
    return tree.made_from.get(column, [])


def _roots(tree: Tree) -> Iterator[tuple[str, Expr]]:
    for name, column in tree.output:
        for expr in column_expr(tree, column):
            yield name, expr
    for node in tree.root.walk():
        for expr in deciding(node):
            yield CONDITION, expr


def _under(tree: Tree, root: Expr, wanted: Wanted, order_only: bool) -> Iterator[Expr]:
    seen: set[tuple[int, bool]] = set()
    rest = [(root, False)]
    while rest:
        expr, hidden = rest.pop()
        if wanted(expr) and not (order_only and hidden):
            yield expr
        below = _is_orderless(expr) or (hidden and expr.kind in _NEUTRAL)
        if expr.kind == "AttributeReference":
            if (expr.id, below) in seen:
                continue
            seen.add((expr.id, below))
            rest += [(made, below) for made in tree.made_from.get(expr.id, [])]
        rest += [(operand, below) for operand in expr.operands]


def _is_orderless(expr: Expr) -> bool:
    if expr.kind == "ArraySort":
        # Without a comparator of its own Spark fills in a nested If; one that is given may tie.
        body = expr.operands[-1].operands
        return bool(body) and body[0].kind == "If"
    return expr.kind in _ORDERLESS
