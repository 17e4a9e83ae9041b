"""What the lint says can differ does differ: one function, run as batch and as a stream of several micro-batches.

The files of the stream arrive in order; batch reads the same files elsewhere, the largest first. So whatever depends
on arrival or on micro-batches comes out different, and what the lint recommends instead comes out equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from tests.integration.both_modes import ARRIVALS, Both
from twinrun.session.plain import data_failure
from twinrun.session.spark import _quiet_pyspark


@pytest.fixture
def both(spark_session: SparkSession, tmp_path: Path) -> Both:
    return Both(spark_session, tmp_path, ARRIVALS)


def test_clock_random_and_place_tr210_tr240_tr241(both: Both) -> None:
    def logic(events: DataFrame) -> DataFrame:
        file = F.input_file_name()
        return events.select("n", F.current_timestamp().alias("at"), F.rand().alias("r"), file, F.xxhash64("id"))

    batch, stream = both.rows(logic)

    assert [row[0] for row in batch] == [row[0] for row in stream] == [1, 2, 3]
    assert len({row[1] for row in batch}) == 1
    assert len({row[1] for row in stream}) == 3
    for place in (2, 3):
        assert [row[place] for row in batch] != [row[place] for row in stream]
    assert [row[4] for row in batch] == [row[4] for row in stream]


def test_order_tr230_tr231_tr232_tr233(both: Both) -> None:
    """first, collect_list, a tie, a sum of doubles; then what to write instead of each."""

    def logic(events: DataFrame) -> DataFrame:
        order = F.struct("ts", "n")
        return events.groupBy("kind").agg(
            F.first("n"),
            F.collect_list("n"),
            F.max_by("n", "kind"),
            F.sum("x"),
            F.min_by("n", order),
            F.sort_array(F.collect_list("n")),
            F.max_by("n", order),
            F.sum(F.col("x").cast("decimal(30,6)")),
            F.avg("n"),
        )

    [batch], [stream] = both.latest(logic)

    assert [batch[place] == stream[place] for place in range(1, 5)] == [False] * 4
    assert batch[5:] == stream[5:]


def test_function_over_groups_and_chunks_tr220_tr221(both: Both) -> None:
    # Functions inside a function are sent to the workers by value: they cannot import this file.
    def counted(rows: Any) -> Any:
        return rows.head(1)[["kind"]].assign(rows=len(rows))

    def sizes(chunks: Iterator[Any]) -> Iterator[Any]:
        for rows in chunks:
            yield rows.head(1)[["kind"]].assign(rows=len(rows))

    def per_group(events: DataFrame) -> DataFrame:
        return events.groupBy("kind").applyInPandas(counted, "kind STRING, rows INT")

    def in_chunks(events: DataFrame) -> DataFrame:
        return events.mapInPandas(sizes, "kind STRING, rows INT")

    assert both.rows(per_group) == ([("a", 3)], [("a", 1)] * 3)
    assert both.rows(in_chunks) == ([("a", 3)], [("a", 1)] * 3)


def test_rows_that_are_chosen_tr260_tr261(both: Both) -> None:
    def limited(events: DataFrame) -> DataFrame:
        return events.select("n").limit(1)

    def deduplicated(events: DataFrame) -> DataFrame:
        return events.dropDuplicates(["id"]).select("n")

    assert both.rows(limited) == ([(3,)], [(1,)])
    assert both.rows(deduplicated) == ([(3,)], [(1,)])


FAILING: dict[str, Callable[[], tuple[Column, Column]]] = {
    "tr301": lambda: (F.col("n") / (F.col("n") - 2), F.try_divide(F.col("n"), F.col("n") - 2)),
    "tr302": lambda: (F.col("id").cast("int"), F.col("id").try_cast("int")),
    "tr303": lambda: (F.element_at(F.split("id", "-"), 2), F.try_element_at(F.split("id", "-"), F.lit(2))),
    "tr304": lambda: (F.to_timestamp("id", "yyyy"), F.try_to_timestamp("id", F.lit("yyyy"))),
    "tr305": lambda: ((F.col("n") * 700_000_000) * F.col("n"), F.try_multiply(F.col("n") * 700_000_000, F.col("n"))),
    "tr306": lambda: (F.when(F.col("n") == 2, F.raise_error(F.lit("two"))), F.when(F.col("n") == 2, F.lit("two"))),
}


@pytest.mark.parametrize("rule", FAILING)
def test_what_can_fail_ends_both_modes_and_what_to_write_instead_does_not(both: Both, rule: str) -> None:
    fails, instead = FAILING[rule]()
    _quiet_pyspark()
    for mode in (both.batch, both.stream):
        with pytest.raises(PySparkException) as raised:
            mode(lambda events: events.select(fails.cast("string")))
        assert data_failure(raised.value) is not None

    batch, stream = both.rows(lambda events: events.select("n", instead.cast("string")))

    assert batch == stream
    assert batch[1][1] in (None, "two")
