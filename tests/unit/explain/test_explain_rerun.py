"""Floating-point order and functions that do not repeat themselves, told from values that somebody changed."""

from __future__ import annotations

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tests.unit.explain.explain_log import T0_MS
from twinrun import Job, Source
from twinrun.explain.differing import Matching, Sides, differing
from twinrun.explain.evidence import ProofInputs, count_causes
from twinrun.explain.rerun import explain_floats, explain_unstable
from twinrun.explain.used import USED
from twinrun.job.dataflow import LateRule

SOURCE = Source("clicks", schema="id STRING, at BIGINT NOT NULL, weight DOUBLE", event_time="at")
WEIGHTS = (0.1, 0.2, 0.3)
SUMS = {"in order": (0.1 + 0.2) + 0.3, "the other way": 0.1 + (0.2 + 0.3)}


def totals(clicks: DataFrame) -> DataFrame:
    return clicks.groupBy("id").agg(F.sum("weight").alias("weight"), F.count(F.lit(1)).alias("n"))


def drawn(clicks: DataFrame) -> DataFrame:
    return clicks.groupBy("id").agg(F.sum("weight").alias("weight")).withColumn("n", F.rand() * 1_000_000)


def inputs(spark: SparkSession, job: Job, batch: DataFrame, stream: DataFrame) -> ProofInputs:
    rows = [("a", T0_MS, weight, "t", 0, offset, T0_MS) for offset, weight in enumerate(WEIGHTS)]
    schema = (
        "id STRING, at BIGINT, weight DOUBLE, _topic STRING, _partition INT, _offset BIGINT, _kafka_timestamp BIGINT"
    )
    events = spark.createDataFrame(rows, schema)
    times = {name: F.timestamp_millis(name) for name in ("at", "_kafka_timestamp")}
    nothing = {"_cause": F.lit(None).cast("string"), "_late_ms": F.lit(0).cast("bigint"), "_copy": F.lit(False)}
    nothing["_micro_batch"] = F.lit(0).cast("bigint")
    marked = events.withColumns({**times, **nothing, USED: F.lit(True)}).localCheckpoint()
    matching = Matching({"clicks": frozenset({"id"})})
    evidence = (count_causes(marked, job, SOURCE, LateRule("none"), matching),)
    sides = Sides(batch, stream)
    return ProofInputs({"clicks": marked}, [], {}, {}, False, batch, matching, evidence, sides)


def judged(spark: SparkSession, logic: str, batch: tuple[float, float], stream: tuple[float, float]) -> dict[str, str]:
    """Verdict by proof, of one row that differs."""
    job = Job(totals if logic == "totals" else drawn, sources=[SOURCE], keys=["id"], emit="updates")
    kinds = "id STRING, weight DOUBLE, n " + ("BIGINT" if logic == "totals" else "DOUBLE")
    sides = [spark.createDataFrame([("a", *values)], kinds) for values in (batch, stream)]
    given = inputs(spark, job, *sides)
    rows = given.matching.of_rows(differing(job, *sides), job)
    floats = explain_floats(job, rows, given)
    found = {"floats": floats, "unstable": explain_unstable(job, rows, given)}
    return {name: ",".join(frame.collect()[0]["causes"]) if frame else "" for name, frame in found.items()}


def test_a_sum_in_another_order_is_float_order(spark_session: SparkSession) -> None:
    assert SUMS["in order"] != SUMS["the other way"]
    found = judged(spark_session, "totals", (SUMS["in order"], 3), (SUMS["the other way"], 3))
    assert found == {"floats": "float_order", "unstable": ""}


@pytest.mark.parametrize(
    ("batch", "stream"),
    [((0.6, 3), (0.601, 3)), ((0.601, 3), (0.6, 3)), ((0.6, 3), (SUMS["in order"], 4)), ((0.6, 3), (float("nan"), 3))],
    ids=["the stream's sum is another", "the batch's sum is another", "the count is another", "NaN"],
)
def test_another_value_is_neither(
    spark_session: SparkSession, batch: tuple[float, float], stream: tuple[float, float]
) -> None:
    assert judged(spark_session, "totals", batch, stream) == {"floats": "", "unstable": ""}


def test_a_function_that_draws_numbers_is_nondeterministic_in_that_column_only(spark_session: SparkSession) -> None:
    assert judged(spark_session, "drawn", (0.6, 1.0), (0.6, 2.0))["unstable"] == "nondeterministic"
    assert judged(spark_session, "drawn", (0.6, 1.0), (0.7, 2.0))["unstable"] == ""
