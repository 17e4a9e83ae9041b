"""The fingerprint sees every change of the logic, however wide or long its plan; else a batch would mix two logics."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from types import SimpleNamespace
from typing import Any, cast

import pytest
from plan_jobs import STATELESS
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun import Job
from twinrun.errors import CheckpointError
from twinrun.job.code import accepted, changed_parts, fingerprint
from twinrun.results.state import StreamState, check_continues
from twinrun.session.settings import with_settings

Logic = Callable[[DataFrame], DataFrame]


def wide(last: int) -> Logic:
    """Sixty columns; only the last one depends on ``last``."""

    def logic(flights: DataFrame) -> DataFrame:
        more = [(F.col("delay") + (n if n < 59 else last)).alias(f"c{n}") for n in range(60)]
        return flights.select("id", "ts", *more)

    return logic


def long(last: int) -> Logic:
    """A condition of some 60,000 characters; only its end depends on ``last``."""

    def logic(flights: DataFrame) -> DataFrame:
        words = [F.col("dest") == f"{n:0100d}" for n in range(500)]
        return flights.filter(reduce(lambda a, b: a | b, words) | (F.col("delay") > last)).select("id", "ts", "delay")

    return logic


def listed(last: int) -> Logic:
    """A list of forty values in one expression."""

    def logic(flights: DataFrame) -> DataFrame:
        return flights.filter(F.col("delay").isin(*range(40), last)).select("id", "ts", "delay")

    return logic


def with_lambdas(last: int) -> Logic:
    """Functions over an array, whose variables Spark numbers on over a whole session; the last one differs."""

    def logic(flights: DataFrame) -> DataFrame:
        delays = F.array("delay", F.lit(1))
        more = F.zip_with(delays, delays, (lambda a, b: a - b) if last == 100 else (lambda a, b: b - a))
        kept = F.filter(delays, lambda each: each > 5)
        return flights.select("id", "ts", F.size(kept).alias("late"), F.array_max(more).alias("more"))

    return logic


@pytest.mark.parametrize("make", [wide, long, listed, with_lambdas])
def test_a_change_at_the_end_of_a_large_plan_is_seen(spark_session: SparkSession, make: Callable[[int], Logic]) -> None:
    before, same, after = (_print_of(spark_session, make(last)) for last in (100, 100, 200))
    assert changed_parts(before, same) == []
    assert changed_parts(before, after) == ["the logic (its analysed plan)"]


def test_how_much_of_a_plan_spark_shows_people_does_not_matter(spark_session: SparkSession) -> None:
    whole = _print_of(spark_session, wide(100))
    shown = {"spark.sql.maxPlanStringLength": "100", "spark.sql.debug.maxToStringFields": "1"}
    with with_settings(spark_session, shown):
        assert _print_of(spark_session, wide(100)) == whole
        assert {name: spark_session.conf.get(name) for name in shown} == shown


def test_what_another_thread_prints_is_no_part_of_a_fingerprint(spark_session: SparkSession) -> None:
    stop = threading.Event()

    def chatter() -> None:
        while not stop.is_set():
            print("== Analyzed Logical Plan == noise")
            stop.wait(0.001)

    quiet = _print_of(spark_session, wide(100))
    beside = threading.Thread(target=chatter)
    beside.start()
    try:
        assert [_print_of(spark_session, wide(100)) for _ in range(3)] == [quiet] * 3
    finally:
        stop.set()
        beside.join()


def test_another_spark_that_reads_the_same_file_differently_is_told_as_that_with_the_way_out() -> None:
    old = {"plan": "a", "file": "f", "spark": "4.2.0", "schema": "s"}
    new = {**old, "plan": "b", "spark": "4.2.1"}
    said = "the fingerprint was made by Spark 4.2.0, this is 4.2.1: the logic of your file did not change"
    assert len(changed_parts(old, new)) == 1
    assert said in changed_parts(old, new)[0]
    state = StreamState(1, "/nowhere", "/nowhere/t", "earliest", old, None, {}, {}, "")
    with pytest.raises(CheckpointError, match=r"twinrun stream j --set spark\.accept_plans_of=4\.2\.0") as refused:
        check_continues(cast(Any, None), "j", state, new)
    assert said in refused.value.found
    with pytest.raises(CheckpointError, match="made under another plan"):
        check_continues(cast(Any, None), "j", state, new, "4.1.9")
    assert (accepted(old, new, "4.2.0"), accepted(old, new, "4.1.9"), accepted(old, new, None)) == (True, False, False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"file": "g"}, ["the logic (its analysed plan)"]),
        ({"spark": "4.2.0"}, ["the logic (its analysed plan)"]),
        ({"keys": "k"}, ["the logic (its analysed plan)", "keys"]),
        ({"plan": "a"}, []),
    ],
)
def test_a_change_of_the_job_is_no_change_of_spark(change: dict[str, str], words: list[str]) -> None:
    """The negative controls: another file, the same Spark, something else besides; and no change but the version."""
    old = {"plan": "a", "file": "f", "spark": "4.2.0"}
    new = {**old, "plan": "b", "spark": "4.2.1", **change}
    assert changed_parts(old, new) == words
    assert not accepted(old, new, "4.2.0")


def test_a_fingerprint_says_which_spark_made_it_from_which_file(spark_session: SparkSession) -> None:
    found = _print_of(spark_session, wide(100))
    assert found["spark"] == spark_session.version
    assert found["file"]


def _print_of(spark: SparkSession, logic: Logic) -> dict[str, object]:
    job: Job = replace(STATELESS, logic=logic)
    return fingerprint(spark, job, {})


def test_another_version_of_the_decoder_is_named_as_that_and_not_as_a_changed_declaration(
    spark_session: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ["how this version of twinrun decodes records (docs/decoding.md)"]
    now = _print_of(spark_session, wide(100))
    before_it_was_a_part = {part: text for part, text in now.items() if part != "decoder"}
    assert changed_parts(before_it_was_a_part, now) == said
    monkeypatch.setattr("twinrun.job.code.DECODER_VERSION", "4")
    later = _print_of(spark_session, wide(100))
    assert changed_parts(now, later) == said
    state = cast("StreamState", SimpleNamespace(fingerprint=now))
    with pytest.raises(CheckpointError, match=r"decodes records in another way.*The job's definition is the same"):
        check_continues(spark_session, "flights", state, later)
    with pytest.raises(CheckpointError, match=r"the definition of flights changed .*: keys, how this version"):
        check_continues(spark_session, "flights", state, later | {"keys": "other"})
