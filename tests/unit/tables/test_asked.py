"""Several questions in one Spark job: each gets its own rows, whatever their columns are named."""

from __future__ import annotations

from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from twinrun.tables.listed import Question, ask, together


def _sum(rows: list[Row]) -> int:
    return sum(row["n"] for row in rows)


def test_each_question_gets_its_own_rows_in_one_spark_job(spark_session: SparkSession) -> None:
    context = spark_session.sparkContext
    numbers = spark_session.range(1, 5, 1, 1).select(F.col("id").alias("n"))
    text = numbers.select(F.concat(F.lit("t"), "n").alias("n"), F.lit(None).cast("int").alias("void"))
    largest = Question(numbers.orderBy(F.col("n").desc()).limit(3), lambda rows: [row["n"] for row in rows])
    none = Question(numbers.filter("n > 9"), len)
    unasked = Question(None, lambda rows: ("nothing", len(rows)))
    context.setJobGroup("asked", "several questions")
    try:
        found = ask(Question(numbers, _sum), largest, none, unasked)
        assert found == (10, [4, 3, 2], 0, ("nothing", 0))
        assert len(context.statusTracker().getJobIdsForGroup("asked")) == 1
        # A row whose cells are all null is a row all the same.
        nulls = Question(text.select("void"), len)
        both = together(lambda one, two: one + two, nulls, together(lambda few: few * 2, Question(text, len)))
        assert both.answer() == 12
        assert together(lambda one: one, unasked).answer() == ("nothing", 0)
        assert len(context.statusTracker().getJobIdsForGroup("asked")) == 2
    finally:
        context.setLocalProperty("spark.jobGroup.id", None)  # type: ignore[arg-type]
