"""More of what the lint says, shown by runs: late events, open windows, watermarks, zones, what a start refuses."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.errors import AnalysisException, StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tests.integration.both_modes import ARRIVALS, SCHEMA, Both, Logic, event

pytestmark = pytest.mark.slow


@pytest.fixture
def both(spark_session: SparkSession, tmp_path: Path) -> Both:
    return Both(spark_session, tmp_path, ARRIVALS)


def windows(events: DataFrame) -> DataFrame:
    per = events.groupBy("kind", F.window("ts", "1 minute")).agg(F.sum("n"))
    return per.select("kind", F.date_format("window.start", "mm"), "sum(n)")


def test_late_and_open_windows_tr201_tr202(spark_session: SparkSession, tmp_path: Path) -> None:
    """The second event of minute 0 is late, by the watermark of a micro-batch before; minute 10 is never closed."""
    both = Both(spark_session, tmp_path, [[event(0)], [event(10)], [event(10.1)], [event(0.5, n=5)], [event(10.2)]])

    batch, stream = both.rows(windows)

    assert batch == [("a", "00", 6), ("a", "10", 3)]
    assert stream == [("a", "00", 1)]


def test_a_filter_holds_the_watermark_back_tr203(spark_session: SparkSession, tmp_path: Path) -> None:
    both = Both(spark_session, tmp_path, [[event(0)], [event(10, kind="b")], [event(11, kind="b")]])

    def before(events: DataFrame) -> DataFrame:
        return windows(events.filter("kind = 'a'"))

    def after(events: DataFrame) -> DataFrame:
        return windows(events).filter("kind = 'a'")

    def by_time(events: DataFrame) -> DataFrame:
        return windows(events.filter("ts > '2000-01-01'"))

    assert both.rows(before) == ([("a", "00", 1)], [])
    assert max(both.watermarks) < "2024-01-01T10:01"
    assert both.rows(after) == ([("a", "00", 1)], [])
    _, stream = both.rows(by_time)
    assert ("a", "00", 1) in stream
    assert max(both.watermarks) > "2024-01-01T10:09"


def test_a_watermark_of_its_own_tr204(spark_session: SparkSession, tmp_path: Path) -> None:
    both = Both(spark_session, tmp_path, [[event(0)], [event(10)], [event(10.1)], [event(0.5, n=5)], [event(20)]])

    def logic(events: DataFrame) -> DataFrame:
        return windows(
            events.select("kind", "n", F.col("ts").alias("at"))
            .withWatermark("at", "1 second")
            .select("kind", "n", F.col("at").alias("ts"))
        )

    frame = spark_session.readStream.schema(SCHEMA).option("maxFilesPerTrigger", 1).json(str(tmp_path / "stream"))
    written: list[Any] = []
    query = (
        logic(frame)
        .writeStream.foreachBatch(lambda rows, _: written.extend(tuple(row) for row in rows.collect()))
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()

    assert ("a", "00", 6) in both.batch(logic)
    assert ("a", "00", 1) in written


def test_a_filter_over_totals_leaves_rows_behind_tr264(both: Both) -> None:
    def few(events: DataFrame) -> DataFrame:
        return events.groupBy("kind").agg(F.count("*").alias("c")).filter("c < 3")

    assert both.latest(few) == ([], [("a", 2)])

    def many(events: DataFrame) -> DataFrame:
        return events.groupBy("kind").agg(F.count("*").alias("c")).filter("c >= 2")

    assert both.latest(many) == ([("a", 3)], [("a", 3)])


def test_zones_and_days_tr205_tr206(both: Both, spark_session: SparkSession) -> None:
    def logic(events: DataFrame) -> DataFrame:
        day = F.window("ts", "1 day")["start"].cast("long")
        return events.limit(1).select(day, F.date_trunc("day", "ts").cast("long"))

    [(window, date)] = both.batch(logic)
    assert window == date
    spark_session.conf.set("spark.sql.session.timeZone", "America/New_York")
    try:
        [(window_abroad, date_abroad)] = both.batch(logic)
    finally:
        spark_session.conf.set("spark.sql.session.timeZone", "UTC")
    assert window_abroad == window
    assert date_abroad != date


def test_python_values_and_modes_tr211_tr222_tr242(both: Both) -> None:
    def drawn(events: DataFrame) -> DataFrame:
        return events.select("n", F.lit(random.random()))

    def by_mode(events: DataFrame) -> DataFrame:
        return events.select("n").filter("n > 1") if events.isStreaming else events.select("n")

    def udf(events: DataFrame) -> DataFrame:
        draw = F.udf(lambda _: random.random(), "double").asNondeterministic()
        return events.select("n", draw("n"))

    for logic in (drawn, by_mode, udf):
        batch, stream = both.rows(logic)
        assert batch != stream


def session_of_all(events: DataFrame) -> DataFrame:
    return events.groupBy(F.session_window("ts", "1 minute")).agg(F.sum("n"))


def unequal_pairs(events: DataFrame) -> DataFrame:
    return events.alias("a").join(events.alias("b"), F.expr("a.n < b.n")).select("a.n")


def without_static(events: DataFrame) -> DataFrame:
    return events.select("n").subtract(events.sparkSession.range(1).selectExpr("cast(id AS INT) AS n"))


def pandas_mean(events: DataFrame) -> DataFrame:
    import pandas as pd

    def mean(values: pd.Series) -> float:
        return float(values.mean())

    mean.__annotations__ = {"values": pd.Series, "return": float}
    mean_of: Any = F.pandas_udf(mean, "double")
    return events.groupBy(F.window("ts", "1 minute")).agg(mean_of("x")).select("window.start", "mean(x)")


@pytest.mark.parametrize(
    ("logic", "says"),
    [
        (unequal_pairs, "without equality predicate"),
        (session_of_all, "session window"),
        (pandas_mean, "group aggregate pandas UDF"),
        (without_static, "watermark"),
    ],
    ids=["TR113", "TR118", "TR119", "TR109"],
)
def test_what_is_refused_only_at_the_start(both: Both, logic: Logic, says: str) -> None:
    assert both.batch(logic) is not None
    with pytest.raises((StreamingQueryException, AnalysisException), match=says):
        both.stream(logic)


def test_batch_refuses_a_state_of_pandas_tr142(both: Both) -> None:
    def first(key: Any, frames: Iterator[Any], state: Any) -> Iterator[Any]:
        yield from frames

    def logic(events: DataFrame) -> DataFrame:
        groups = events.select("kind").groupBy("kind")
        return groups.applyInPandasWithState(first, "kind STRING", "n INT", "append", "NoTimeout")

    with pytest.raises(Exception, match="applyInPandasWithState is unsupported in batch"):
        both.batch(logic)


def test_a_pivot_with_values_in_windows_that_close_is_equal(spark_session: SparkSession, tmp_path: Path) -> None:
    """The lint does not refuse it with emit='final', and rightly so."""
    both = Both(spark_session, tmp_path, [[event(0)], [event(0.5, kind="b")], [event(10)], [event(11)]])

    def logic(events: DataFrame) -> DataFrame:
        per = events.groupBy(F.window("ts", "1 minute")).pivot("kind", ["a", "b"]).agg(F.sum("n"))
        return per.select(F.date_format("window.start", "mm"), "a", "b").filter("a = 1 AND b = 1")

    assert both.rows(logic) == ([("00", 1, 1)], [("00", 1, 1)])


def test_sessions_without_a_gap_are_empty_in_both_modes_tr122(both: Both) -> None:
    for gap in ("0 seconds", "-5 minutes"):
        assert both.rows(lambda events, gap=gap: events.groupBy("kind", F.session_window("ts", gap)).count()) == (
            [],
            [],
        )


def test_a_second_watermark_fails_when_the_query_starts_tr124(both: Both) -> None:
    def logic(events: DataFrame) -> DataFrame:
        return events.withColumn("at", F.expr("ts + INTERVAL 1 SECOND")).withWatermark("at", "1 second").select("id")

    assert len(both.batch(logic)) == 3
    with pytest.raises(StreamingQueryException, match="Redefining watermark is disallowed"):
        both.stream(logic)


def test_a_lateness_of_0_drops_an_event_of_the_instant_that_was_reached_tr208(
    spark_session: SparkSession, tmp_path: Path
) -> None:
    at_once = [[event(10, name="a")], [event(10, name="b")], [event(10, name="c")], [event(11, name="d")]]
    both = Both(spark_session, tmp_path, at_once)

    def logic(events: DataFrame) -> DataFrame:
        return events.dropDuplicates(["id", "ts"]).select("id")

    batch, stream = both.rows(logic, lateness="0 seconds")
    assert batch == [("a",), ("b",), ("c",), ("d",)]
    assert stream == [("a",), ("b",), ("d",)]
    assert both.rows(logic, lateness="1 millisecond") == (batch, batch)


def test_what_nothing_uses_is_removed_with_its_watermark_tr209(spark_session: SparkSession, tmp_path: Path) -> None:
    late = [[event(0, name="a")], [event(10, name="b")], [event(10.1, name="c")], [event(0.5, name="d")]]
    both = Both(spark_session, tmp_path, late)

    def ids(events: DataFrame) -> DataFrame:
        return events.dropDuplicates(["id"]).select("id")

    def ids_and_times(events: DataFrame) -> DataFrame:
        return events.dropDuplicates(["id"]).select("id", F.date_format("ts", "mm"))

    batch, stream = both.rows(ids)
    assert stream == batch == [("a",), ("b",), ("c",), ("d",)]
    batch, stream = both.rows(ids_and_times)
    assert set(batch) - set(stream) == {("d", "00")}


def test_a_row_that_meets_a_condition_on_its_own_side_and_finds_no_partner_never_comes_tr265(
    spark_session: SparkSession, tmp_path: Path
) -> None:
    first = [event(0, n=n, name=name) for name, n in (("alone-1", 1), ("alone-9", 9))]
    both = Both(spark_session, tmp_path, [first, *[[event(60 * hour, n=9, name="last")] for hour in (1, 2, 3)]])

    def joined(condition: str) -> Logic:
        near = f"a.id = b.pad AND b.ts BETWEEN a.ts AND a.ts + INTERVAL 5 SECONDS{condition}"

        def logic(events: DataFrame) -> DataFrame:
            pairs = events.alias("a").join(events.alias("b"), F.expr(near), "left")
            return pairs.select("a.id", "a.n")

        return logic

    def alone(condition: str) -> tuple[list[str], list[str]]:
        """Not by a filter of the function: Spark would move it below the watermark, which then stands still."""
        batch, stream = both.rows(joined(condition))
        return [row[0] for row in batch if row[0] != "last"], [row[0] for row in stream if row[0] != "last"]

    whole = ["alone-1", "alone-9"]
    assert alone("") == (whole, whole)
    assert alone(" AND a.n > 5") == (whole, ["alone-1"])
    assert alone(" AND b.n > 5") == (whole, whole)
    assert alone(" AND a.n + b.n > 5") == (whole, whole)
