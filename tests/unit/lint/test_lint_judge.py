"""Who is judge, what is watched and what is not: several refusals, what Spark accepts, tolerances, other threads."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from lint_base import EVENTS, HOURLY, RECORDS, Logic, hour, hourly, linted, of_rule, plain
from lint_fails_jobs import quotient
from lint_refused_jobs import as_rdd, counting
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from twinrun import rel
from twinrun.lint.calls import calls_of, watched
from twinrun.lint.rules import RULES


def three_faults(events: DataFrame) -> DataFrame:
    few = events.sample(0.1)
    rank = F.row_number().over(Window.partitionBy("kind").orderBy("ts"))
    return few.withColumn("rank", rank).orderBy("rank").select("id", "rank")


def test_all_that_is_refused_is_found_at_once(spark_session: SparkSession) -> None:
    result = linted(spark_session, RECORDS, three_faults)

    first = three_faults.__code__.co_firstlineno
    found = [(finding.rule.id, finding.line - first) for finding in result.findings if finding.severity == "refused"]
    assert found == [("TR106", 1), ("TR102", 2), ("TR103", 3)]


def pivoted_hours(events: DataFrame) -> DataFrame:
    return hourly(events.groupBy("kind", hour()).pivot("dest", ["a", "b"]).agg(F.sum("n")), "a", "b")


def test_what_spark_accepts_is_not_called_refused(spark_session: SparkSession) -> None:
    assert linted(spark_session, HOURLY, pivoted_hours).count("refused") == 0
    assert of_rule(linted(spark_session, replace(HOURLY, emit="updates"), pivoted_hours), "TR107")


def test_a_function_that_stops_says_what_was_not_looked_at(spark_session: SparkSession) -> None:
    result = linted(spark_session, RECORDS, as_rdd)

    assert of_rule(result, "TR131")
    assert result.not_looked_at == ("the plan: the function stops at what is refused",)
    assert linted(spark_session, RECORDS, plain).not_looked_at == ()


def two_sums(events: DataFrame) -> DataFrame:
    per = events.groupBy("kind", hour()).agg(
        F.sum("x").alias("x"),
        F.avg("x").alias("mean"),
    )
    return hourly(per, "x", "mean")


@pytest.mark.parametrize(
    ("tolerances", "expected"),
    [
        ({}, ["differs", "differs"]),
        ({"x": 1e-6}, ["note", "differs"]),
        ({"x": 1e-6, "mean": rel(1e-9)}, ["note", "note"]),
    ],
)
def test_a_tolerance_turns_a_sum_into_a_note(
    spark_session: SparkSession, tolerances: dict[str, Any], expected: list[str]
) -> None:
    result = linted(spark_session, replace(HOURLY, tolerances=tolerances), two_sums)

    found = of_rule(result, "TR233")
    assert [(finding.detail, finding.severity) for finding in found] == [
        ("column x" + ", within a tolerance" * (expected[0] == "note"), expected[0]),
        ("column mean" + ", within a tolerance" * (expected[1] == "note"), expected[1]),
    ]
    assert result.exit_code(strict=True) == int("differs" in expected)


def by_offset(events: DataFrame) -> DataFrame:
    last = F.max_by("dest", F.struct("ts", "_offset"))
    return hourly(events.groupBy("kind", hour()).agg(last.alias("dest")), "dest")


def test_an_order_by_the_offset_is_a_note_since_the_topic_may_be_keyed_by_the_group(
    spark_session: SparkSession,
) -> None:
    result = linted(spark_session, HOURLY, by_offset)

    [finding] = of_rule(result, "TR232")
    assert finding.severity == "note"
    assert finding.detail == "column dest, unless one partition holds all events of a group"


def test_sorting_a_set_is_what_the_rule_on_lists_advises(spark_session: SparkSession) -> None:
    def sorted_set(events: DataFrame) -> DataFrame:
        dests = F.sort_array(F.collect_set("dest"))
        return hourly(events.groupBy("kind", hour()).agg(dests.alias("dests")), "dests")

    assert of_rule(linted(spark_session, HOURLY, sorted_set), "TR231") == []
    assert "collect_list or collect_set" in RULES["TR231"].instead


def matched(events: DataFrame) -> DataFrame:
    return events.select(
        "id",
        F.when(F.col("dest").rlike("^[0-9]{1,9}$"), F.col("dest").cast("int")).alias("n"),
        F.when(F.size(F.split("dest", "-")) > 2, F.split("dest", "-")[2]).alias("third"),
        (F.col("n") + 1).alias("next"),
    )


def test_what_a_condition_may_rule_out_and_what_is_far_from_usual_values_are_notes(spark_session: SparkSession) -> None:
    result = linted(spark_session, RECORDS, matched)

    found = {finding.rule.id: finding.severity for finding in result.findings}
    assert found == {"TR302": "note", "TR303": "note", "TR305": "note"}
    assert result.exit_code(strict=True) == 0


def test_a_filter_below_a_union_guards_only_its_own_side(spark_session: SparkSession) -> None:
    def united(events: DataFrame) -> DataFrame:
        both = events.filter(F.col("n") > 0).unionByName(events)
        return both.select("id", (F.col("x") / F.col("n")).alias("q"))

    [finding] = of_rule(linted(spark_session, RECORDS, united), "TR301")
    assert finding.severity == "fails"


def test_without_ansi_nothing_can_fail(spark_session: SparkSession) -> None:
    spark_session.conf.set("spark.sql.ansi.enabled", "false")
    try:
        result = linted(spark_session, RECORDS, quotient)
    finally:
        spark_session.conf.unset("spark.sql.ansi.enabled")

    assert of_rule(result, "TR301") == []


def test_what_the_framework_puts_on_a_source_is_not_blamed(spark_session: SparkSession) -> None:
    job = replace(RECORDS, sources=[replace(EVENTS, distinct=["id"])])

    result = linted(spark_session, job, plain)

    assert [finding.rule.id for finding in result.findings] == []


@pytest.mark.parametrize("logic", [plain, counting])
def test_an_action_in_the_function_is_not_run(spark_session: SparkSession, logic: Logic) -> None:
    spark_session.sparkContext.setJobGroup("lint-action", "lint")
    try:
        linted(spark_session, RECORDS, logic)
        assert list(spark_session.sparkContext.statusTracker().getJobIdsForGroup("lint-action")) == []
    finally:
        spark_session.sparkContext._jsc.clearJobGroup()


def test_other_threads_work_on_while_one_is_watched(spark_session: SparkSession) -> None:
    counts: list[int] = []
    calls = calls_of(replace(RECORDS, logic=plain))
    frame = spark_session.range(3)

    with watched(spark_session, calls):
        other = threading.Thread(target=lambda: counts.append(frame.count()))
        other.start()
        other.join()
        watched_count = frame.count()

    assert counts == [3]
    assert watched_count == 0
    assert [seen.rule for seen in calls.seen] == ["TR130"]
