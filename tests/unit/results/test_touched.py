"""Which rows lie in a set of spans: a search tree must say what looking at each span says."""

from __future__ import annotations

import random

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from twinrun.results.cut import in_spans


@pytest.mark.parametrize("count", [1, 2, 3, 51, 200])
def test_a_value_is_inside_exactly_where_one_of_the_spans_holds_it(spark_session: SparkSession, count: int) -> None:
    chance = random.Random(count)
    # In no order, some inside others, some that touch.
    spans = [(low, low + chance.randint(1, 40)) for low in (chance.randint(-500, 3_000) for _ in range(count))]
    spans += [(spans[0][1], spans[0][1] + 3)]
    values = spark_session.range(-600, 3_200).select("id")
    found = {row["id"] for row in values.filter(in_spans(F.col("id"), spans)).collect()}
    assert found == {value for value in range(-600, 3_200) if any(low <= value < end for low, end in spans)}


def test_null_is_in_no_span(spark_session: SparkSession) -> None:
    nothing = spark_session.range(1).select(F.lit(None).cast("bigint").alias("id"))
    for spans in ([(0, 9)], [(0, 1), (3, 4), (5, 9)]):
        assert nothing.select(in_spans(F.col("id"), spans).alias("inside")).first() == (None,)
