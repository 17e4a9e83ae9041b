"""Which watermark reaches which operator: what real streams drop of each source, against the rules of the plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tests.unit.explain.real_streams import Event, Files, Streams, source
from tests.unit.explain.test_explain_edges import SECOND_US, joined, once, once_per_key, sessions, start
from twinrun import Job, Source
from twinrun.explain.explain import NOBODY
from twinrun.explain.judge import Shown, notes_of
from twinrun.explain.used import event_dropped
from twinrun.job.dataflow import dataflow
from twinrun.job.jvmplan import unsupported
from twinrun.job.plan import seen_schema, stream_frame

NEWEST_US, WATERMARK_US = 300 * SECOND_US, 290 * SECOND_US
MINUTE_US = 60 * SECOND_US


def events(of: str) -> list[Event]:
    """One whose minute is over, one whose minute is open though its time has passed, and one that is in time."""
    return [
        (f"{of}-old", MINUTE_US, 0),
        (f"{of}-passed", WATERMARK_US - SECOND_US, 0),
        (f"{of}-ok", WATERMARK_US + 1, 0),
    ]


def files(of: str, fill: str) -> Files:
    later = [[(fill, NEWEST_US + step * 1000 * SECOND_US, 0)] for step in (1, 2)]
    return [[(fill, NEWEST_US, 0)], [(fill, NEWEST_US, 0)], events(of), *later]


def minutes(frame: DataFrame) -> DataFrame:
    grouped = frame.groupBy("k", F.window("at", "1 minute")).agg(F.count("*").alias("n"))
    return grouped.select("k", start("window"), "n")


def at_times(frame: DataFrame) -> DataFrame:
    return frame.groupBy("k", "at").agg(F.count("*").alias("n"))


def once_per_key_alone(frame: DataFrame) -> DataFrame:
    return frame.dropDuplicates(["k"]).select("k")


def different(frame: DataFrame) -> DataFrame:
    return frame.select("k", "at").distinct()


OPERATORS: dict[str, tuple[Callable[[DataFrame], DataFrame], dict[str, Any], list[str]]] = {
    "minutes": (minutes, {"window": "1 minute"}, ["k", "window_start"]),
    "sessions": (sessions, {"gap": "5 seconds"}, ["k", "window_start"]),
    "once": (once, {}, ["k"]),
    "once per key": (once_per_key, {}, ["k"]),
    "once per key, no time": (once_per_key_alone, {}, ["k"]),
    "at times": (at_times, {}, ["k"]),
    "different": (different, {}, ["k"]),
}
LATENESS = {
    "a with, b without": ("10 seconds", None),
    "b longer": ("10 seconds", "60 seconds"),
    "same": ("10 seconds",) * 2,
}
ORDERS = ("a.union(b)", "b.union(a)")


def united(operator: Callable[[DataFrame], DataFrame], order: str) -> Callable[[DataFrame, DataFrame], DataFrame]:
    def a_then_b(a: DataFrame, b: DataFrame) -> DataFrame:
        return operator(a.unionByName(b))

    def b_then_a(a: DataFrame, b: DataFrame) -> DataFrame:
        return operator(b.unionByName(a))

    return a_then_b if order == ORDERS[0] else b_then_a


def job_of(name: str, order: str, lateness: str, emit: str) -> Job:
    operator, grain, keys = OPERATORS[name]
    longest = LATENESS[lateness]
    sources = [source("a", longest[0]), source("b", longest[1])]
    return Job(united(operator, order), sources, keys, name="united", emit=emit, **grain)  # type: ignore[arg-type]


def check(spark: SparkSession, streams: Streams, job: Job) -> set[str]:
    """What the stream drops must be what the rules say of each source; returns the keys that were dropped."""
    flow = dataflow(spark, job, {})
    ran = streams.stream(job)
    late_ms = max(ran.watermark_ms[1], 0)
    dropped = {key for each in job.sources for key, *_ in events(each.name)} - ran.keys
    predicted: set[str] = set()
    for each in job.sources:
        judged = streams.events(each.name).filter("k LIKE '%-%'").withColumn("_late_ms", F.lit(late_ms).cast("bigint"))
        predicted |= {row["k"] for row in judged.filter(event_dropped(each, flow.rules[each.name])).collect()}
    assert predicted == dropped, (job.job_name, flow.rules)
    assert flow.unnamed == ()
    return dropped


@pytest.fixture(scope="module")
def streams(spark_session: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Streams:
    both = {"a": files("a", "fill"), "b": files("b", "fill")}
    return Streams(spark_session, tmp_path_factory.mktemp("marks"), both)


def test_the_first_frame_of_a_union_decides_what_is_dropped_of_both(
    spark_session: SparkSession, streams: Streams
) -> None:
    """A source without a lateness loses rows to the other's watermark; in the other order neither loses any."""
    without = "a with, b without"
    first = check(spark_session, streams, job_of("minutes", ORDERS[0], without, "updates"))
    assert first == {"a-old", "b-old"}
    assert check(spark_session, streams, job_of("minutes", ORDERS[1], without, "updates")) == set()


MATRIX = [
    (name, order, lateness, emit)
    for name in OPERATORS
    for order in ORDERS
    for lateness in LATENESS
    for emit in ("final", "updates")
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "order", "lateness", "emit"), MATRIX)
def test_every_union_drops_what_the_plan_says(
    spark_session: SparkSession, streams: Streams, name: str, order: str, lateness: str, emit: str
) -> None:
    job = job_of(name, order, lateness, emit)
    refused = _refused(spark_session, job)
    if refused:
        assert emit == "updates" or order == ORDERS[1], refused
    else:
        check(spark_session, streams, job)


def _refused(spark: SparkSession, job: Job) -> str:
    """Why Spark does not run it; empty where it does."""
    frames = {each.name: stream_frame(spark, each, seen_schema(each)) for each in job.sources}
    try:
        unsupported(spark, job.apply(frames), "update" if job.emit == "updates" else "append")
    except AnalysisException as error:
        return str(error)
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("lateness", [("10 seconds", "10 seconds"), ("10 seconds", None), (None, "10 seconds")])
@pytest.mark.parametrize("by_key", [False, True])
def test_a_join_drops_of_the_side_that_a_watermark_reaches(
    spark_session: SparkSession, tmp_path: Path, lateness: tuple[str | None, str | None], by_key: bool
) -> None:
    """A row has a partner of its own time on the other side; a pair is missing where either was dropped."""

    def by_key_alone(left: DataFrame, right: DataFrame) -> DataFrame:
        return left.alias("l").join(right.alias("r"), F.expr("l.k = r.k")).select("l.k", F.col("l.v").alias("v"))

    sources: list[Source] = [source("left", lateness[0]), source("right", lateness[1])]
    job = Job(by_key_alone if by_key else joined, sources, ["k"], name="joined")
    both = {"left": files("e", "fill"), "right": files("e", "fill")}
    streams = Streams(spark_session, tmp_path, both)
    flow, ran = dataflow(spark_session, job, {}), streams.stream(job)
    lost = {key for key, *_ in events("e")} - ran.keys
    judged = streams.events("left").filter("k LIKE 'e-%'").withColumn("_late_ms", F.lit(ran.watermark_ms[1]))
    predicted: set[str] = set()
    for each in sources:
        predicted |= {row["k"] for row in judged.filter(event_dropped(each, flow.rules[each.name])).collect()}
    assert predicted == lost, flow.rules
    assert (lost == set()) is by_key


def test_the_notes_say_what_is_known_of_losses_and_no_more() -> None:
    """Where no watermark reaches an operator, the size of micro-batches changes nothing."""
    cut: Any = SimpleNamespace(
        committed=SimpleNamespace(micro_batch=3),
        static_mixed=False,
        state=SimpleNamespace(starting="earliest"),
        static={},
    )

    def notes(late: int, drops: bool, unnamed: tuple[str, ...], covered: bool = True, known: bool = True) -> str:
        checks: Any = SimpleNamespace(
            late_events=late, drops_late=drops, unnamed=unnamed, sink=NOBODY, duplicates=0, silent=False
        )
        checks.covered, checks.late_known = covered, known
        batch: Any = SimpleNamespace(static={})
        shown = Shown((), (), (), (), ())
        return " ".join(notes_of(job_of("minutes", ORDERS[0], "same", "updates"), cut, checks, batch, shown))

    assert notes(0, False, ()) == ""
    assert "dropped no event in 4 micro-batches" in notes(0, True, ())
    # What nobody has looked at is not said to be none.
    assert notes(0, True, (), covered=False, known=False) == (
        "Whether the stream dropped late events is not known: the batch lacks events that it has read."
    )
    assert "is not known: events that it has read are not there" in notes(0, True, (), known=False)
    assert notes(2, True, (), known=False).startswith("The stream dropped at least 2 late events. An event")
    assert "dropped 2 late events" in notes(2, True, ())
    assert "Whether the stream dropped events of b is not known" in notes(0, True, ("b",))
    assert "dropped no event" not in notes(0, True, ("b",))
    assert "dropped 2 late events" in notes(2, True, ("b",))
    assert "events of b is not known" in notes(2, True, ("b",))
