"""Ask several small questions about tables in one Spark job.

Each answer is a handful of rows, and a Spark job of its own for each costs far more than the rows do. A question is a
lazy frame and the way to read its rows; questions are joined end to end, asked once, and each reads its own rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any, Generic, TypeVar, overload

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")


@dataclass(frozen=True)
class Question(Generic[A]):
    """Rows of bounded number, and what they say; ``rows`` None: nothing need be looked at, it is read from no rows."""

    rows: DataFrame | None
    read: Callable[[list[Row]], A]

    def answer(self) -> A:
        """Ask it by itself. One Spark job, none without rows."""
        return self.read([] if self.rows is None else self.rows.collect())


def together(make: Callable[..., A], *questions: Question[Any]) -> Question[A]:
    """One question for several: their answers, in this order, are given to ``make``. Lazy.

    The rows of each keep the order that a sorting with a limit gave them.
    """
    asked = {f"_{place}": each.rows for place, each in enumerate(questions) if each.rows is not None}
    parts = [rows.select(F.struct("*").alias(name)) for name, rows in asked.items()]
    all_rows = reduce(lambda left, right: left.unionByName(right, allowMissingColumns=True), parts) if parts else None

    def read(rows: list[Row]) -> A:
        mine = {name: [row[name] for row in rows if row[name] is not None] for name in asked}
        return make(*(each.read(mine.get(f"_{place}", [])) for place, each in enumerate(questions)))

    return Question(all_rows, read)


@overload
def ask(one: Question[A], two: Question[B], /) -> tuple[A, B]: ...
@overload
def ask(one: Question[A], two: Question[B], three: Question[C], /) -> tuple[A, B, C]: ...
@overload
def ask(one: Question[A], two: Question[B], three: Question[C], four: Question[D], /) -> tuple[A, B, C, D]: ...
@overload
def ask(
    one: Question[A], two: Question[B], three: Question[C], four: Question[D], five: Question[E], /
) -> tuple[A, B, C, D, E]: ...
def ask(*questions: Question[Any]) -> tuple[Any, ...]:
    """The answers to all of them, in one Spark job."""
    answers: tuple[Any, ...] = together(lambda *found: found, *questions).answer()
    return answers
