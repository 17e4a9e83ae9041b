"""Proofs without a checkpoint, on logs by hand: only what a row needs is blamed, copies are told from other rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun import Job, Source
from twinrun.comparator.schema import plan_schema
from twinrun.comparator.tables import compare_frames
from twinrun.config.sections import ExternalBinding
from twinrun.errors import TableError
from twinrun.events.decode import DECODER_VERSION
from twinrun.events.exact import EXACT_TIMES
from twinrun.explain.differing import KEY_ID, Sides
from twinrun.explain.evidence import Statics, proof_inputs_of
from twinrun.external.causes import Hypothesis, explain_copies, explain_events, rule_refuted, rules_of, with_lateness
from twinrun.external.explain import Case, not_judged
from twinrun.external.mark import Rules, mark_declared
from twinrun.external.read import _of_engine
from twinrun.external.rules import RULES
from twinrun.external.side import aligned, as_declared, less, without_copies
from twinrun.external.words import decoder_notes
from twinrun.job.dataflow import Dataflow, LateRule
from twinrun.results.cut import Committed, StreamCut, TimeRange
from twinrun.results.state import BatchState

SOURCE = Source(
    "clicks", schema="id STRING, at BIGINT NOT NULL, page STRING", event_time="at", lateness="20 seconds", id=["id"]
)
T0_S = 1_357_466_400
RANGES = [TimeRange(T0_S * 1000, (T0_S + 600) * 1000)]
START, END = {0: 1}, {0: 9}


def seen(clicks: DataFrame) -> DataFrame:
    """Only clicks whose id begins with x count."""
    per_minute = clicks.filter("id LIKE 'x%'").groupBy("page", F.window("at", "1 minute"))
    rows = per_minute.agg(F.count(F.lit(1)).alias("n"))
    return rows.select("page", F.col("window.start").alias("window_start"), "n")


JOB = Job(seen, sources=[SOURCE], keys=["page", "window_start"], window="1 minute", name="seen")
FLOW = Dataflow(("Aggregate",), {"clicks": LateRule("none")}, closed_form=True)
# Partition 0: id, second, page. Offset 0 lies before the start; offsets 6 to 8 come after 200 s, and are late.
LOG = [
    ("x0", 5, "a"),
    ("x1", 6, "a"),
    ("x2", 7, "b"),
    ("x3", 8, "c"),
    ("x4", 9, "c"),
    ("x5", 200, "a"),
    ("y6", 10, "a"),
    ("x7", 11, "b"),
    ("x8", 12, "c"),
    ("x9", 13, "c"),
]
Row = tuple[str, int, int]
"""Page, minute, n."""
BATCH: list[Row] = [("a", 0, 2), ("b", 0, 2), ("c", 0, 4), ("a", 3, 1)]


def frame(spark: SparkSession, rows: list[Row]) -> DataFrame:
    made = spark.createDataFrame(rows, "page STRING, minute BIGINT, n BIGINT")
    start = F.timestamp_seconds(F.lit(T0_S) + F.col("minute") * 60).alias("window_start")
    return made.select("page", start, "n")


UNKNOWN = cast("Any", None)
CUT = StreamCut(UNKNOWN, "", Committed(0, -1), {"clicks": START}, {"clicks": END}, None, 0, UNKNOWN, 0, {}, False, 0)


def logged(spark: SparkSession) -> DataFrame:
    rows = [(name, (T0_S + at) * 1000, page, "t", 0, offset, 0) for offset, (name, at, page) in enumerate(LOG)]
    schema = "id STRING, ms BIGINT, page STRING, _topic STRING, _partition INT, _offset BIGINT, k BIGINT"
    return spark.createDataFrame(rows, schema).select(
        "id", F.timestamp_millis("ms").alias("at"), "page", "_topic", "_partition", "_offset",
        F.timestamp_millis("k").alias("_kafka_timestamp"),
    )  # fmt: skip


def hypothesis(
    spark: SparkSession, external: list[Row], rule: bool = True, left_out: str = "", held: list[Row] | None = None
) -> tuple[Hypothesis, DataFrame]:
    """The hypothesis by the rule, and the differing rows; without the event of the id ``left_out``."""
    events = logged(spark).filter(F.col("id") != left_out)
    marked = mark_declared(events, None, SOURCE, CUT, Rules(20_000 if rule else None)).localCheckpoint()
    batch, stream = frame(spark, BATCH if held is None else held), frame(spark, external)
    job = with_lateness(JOB, "20 seconds" if rule else None)
    sides = Sides(batch, without_copies(job, stream))
    inputs = proof_inputs_of(
        job,
        rules_of(JOB, FLOW, RULES["partition-order"] if rule else None),
        {"clicks": marked},
        Statics({}, {}),
        sides,
        RANGES,
    )
    _, differences = compare_frames(batch, stream, keys=JOB.keys, window_column="window_start")
    found = differences.withColumn(KEY_ID, F.to_json("key", EXACT_TIMES)).localCheckpoint()
    return Hypothesis(job, True, inputs), found


def judged(spark: SparkSession, external: list[Row], rule: bool = True) -> dict[tuple[str, str], dict[str, int]]:
    """Causes by page and kind; none for an unexplained row."""
    made, found = hypothesis(spark, external, rule)
    copies = F.col("kind") == "duplicate_in_stream"
    rows = explain_events(made.inputs.matching.of_rows(found.filter(~copies), JOB), made)
    rows = rows.unionByName(explain_copies(found.filter(copies), made), allowMissingColumns=True)
    collected = rows.select("key.page", "kind", "verdict", "causes").collect()
    assert all((row["verdict"] == "explained") == bool(row["causes"]) for row in collected)
    return {(row["page"], row["kind"]): dict(row["causes"]) for row in collected}


RIGHT: list[Row] = [("a", 0, 1), ("b", 0, 1), ("c", 0, 2), ("a", 3, 1)]
"""What an engine writes that read offsets 1 to 8 and dropped what came too late."""


def test_only_events_that_a_row_needs_are_blamed(spark_session: SparkSession) -> None:
    assert judged(spark_session, RIGHT) == {
        ("a", "changed"): {"before_start": 1},  # y6 was late too, and does not count in any case
        ("b", "changed"): {"late_dropped": 1},
        ("c", "changed"): {"late_dropped": 1, "beyond_cut": 1},
    }


def test_without_the_rule_late_rows_stay_unexplained(spark_session: SparkSession) -> None:
    assert judged(spark_session, RIGHT, rule=False) == {
        ("a", "changed"): {"before_start": 1},
        ("b", "changed"): {},
        ("c", "changed"): {},
    }


def test_a_row_that_is_wrong_besides_is_unexplained(spark_session: SparkSession) -> None:
    wrong: list[Row] = [("a", 0, 9), ("b", 0, 1), ("c", 0, 3), ("a", 3, 1)]
    assert judged(spark_session, wrong) == {
        ("a", "changed"): {},
        ("b", "changed"): {"late_dropped": 1},
        ("c", "changed"): {},
    }


def test_copies_of_the_right_row_are_a_fault_of_the_sink_and_others_are_not(spark_session: SparkSession) -> None:
    rows: list[Row] = [*RIGHT, ("b", 0, 1), ("a", 3, 1), ("c", 0, 7)]
    assert judged(spark_session, rows) == {
        ("a", "changed"): {"before_start": 1},
        ("a", "duplicate_in_stream"): {"sink_duplicate": 0},  # a copy of a row that is as in the batch
        ("b", "changed"): {"late_dropped": 1},
        ("b", "duplicate_in_stream"): {"sink_duplicate": 0},  # ... of one that lacks its late event
        ("c", "changed"): {},  # two rows of one key with different values
        ("c", "duplicate_in_stream"): {},
    }


@pytest.mark.parametrize(("rows", "refuted"), [(RIGHT, 0), ([("a", 0, 1), ("b", 0, 2), ("c", 0, 4), ("a", 3, 1)], 2)])
def test_rows_that_agree_although_the_rule_drops_their_events_refute_it(
    spark_session: SparkSession, rows: list[Row], refuted: int
) -> None:
    made, found = hypothesis(spark_session, rows)
    assert rule_refuted(made, found, RANGES) == refuted


def test_types_of_another_engine_are_brought_together_and_said(spark_session: SparkSession) -> None:
    batch = spark_session.createDataFrame([("a", 1, 2.5)], "page STRING, n BIGINT, mean DOUBLE")
    other = spark_session.createDataFrame([("a", 1, "x", 1)], "page STRING, n INT, mean STRING, _run_id INT")

    left, right, notes = aligned(batch, less(other, []))

    assert [field.dataType.simpleString() for field in left.schema] == ["string", "bigint", "double"]
    # A string is no number: left to the comparison of the schemas.
    assert [field.dataType.simpleString() for field in right.schema] == ["string", "bigint", "string"]
    assert len(notes) == 1
    assert "n is bigint in the batch and int in the external result" in notes[0]


def test_what_the_job_leaves_out_is_not_told_as_a_difference_of_the_engine(spark_session: SparkSession) -> None:
    """x2 of page b is in quarantine for this job; the engine has counted it. Page c is wrong besides."""
    held: list[Row] = [("a", 0, 2), ("b", 0, 1), ("c", 0, 4), ("a", 3, 1)]
    external: list[Row] = [("a", 0, 1), ("b", 0, 2), ("c", 0, 7), ("a", 3, 1)]
    made, found = hypothesis(spark_session, external, rule=False, left_out="x2", held=held)
    rows = explain_events(made.inputs.matching.of_rows(found, JOB), made)
    sides = made.inputs.sides

    def verdicts(left_out: dict[str, DataFrame]) -> dict[str, str]:
        case = Case(JOB, FLOW, UNKNOWN, CUT, {}, {}, sides, 0, True, left_out)
        judged = not_judged(rows, case, made)
        assert set(judged.columns) == set(rows.columns)
        return {row["key"]["page"]: row["verdict"] for row in judged.select("key", "verdict").collect()}

    of_b = logged(spark_session).filter("id = 'x2'")
    assert verdicts({"clicks": of_b}) == {"a": "explained", "b": "input_behind", "c": "unexplained"}
    # The negative control: a record of another minute, or of a page that agrees, touches none of them.
    other = of_b.withColumn("at", F.expr("at + INTERVAL 1 HOUR"))
    assert verdicts({"clicks": other})["b"] == "unexplained"
    assert verdicts({"clicks": of_b.withColumn("page", F.lit("z"))})["b"] == "unexplained"


def test_a_batch_whose_events_another_decoder_read_is_told_as_that() -> None:
    """The definition is the batch's own by construction: without a note nothing would tell it."""
    batch = BatchState(1, "/wh/batch", 5, {"decoder": DECODER_VERSION}, {}, {}, {}, {}, "r", 0)
    assert decoder_notes(JOB, batch) == ()
    for old in ({"decoder": "1"}, {}):
        (note,) = decoder_notes(JOB, replace(batch, fingerprint=old))
        assert "decodes records in another way than this one" in note
        assert note.endswith(f"twinrun batch {JOB.job_name}")


def test_a_table_is_read_in_the_types_that_are_declared_for_it_or_refused(spark_session: SparkSession) -> None:
    whole = spark_session.sql("SELECT 'a' page, TIMESTAMP '2024-01-01 10:00:00' window_start, 1L n")
    table = spark_session.sql("SELECT 'a' page, TIMESTAMP_NTZ '2024-01-01 11:00:00.000001' window_start, '12' n")

    def read(**declared: Any) -> DataFrame:
        return as_declared(table, whole, ExternalBinding(table="/t", **declared), JOB)

    assert read().schema == table.schema
    row = read(types={"n": "bigint"}, naive_time_zone="+01:00").collect()[0]
    assert (row["n"], row["window_start"].isoformat()) == (12, "2024-01-01T10:00:00.000001")
    for declared, says in (
        ({"types": {"page": "bigint"}}, "'page' of the external result, string, holds 1 value that bigint cannot hold"),
        ({"types": {"m": "bigint"}}, "external.seen.types names 'm', which the external result does not have"),
        ({"types": {"window_start": "timestamp"}}, "declare it (external.seen.naive_time_zone UTC)"),
    ):
        with pytest.raises(TableError) as error:
            read(**declared)
        assert says in str(error.value)


def test_keys_of_two_types_are_refused_with_the_way_out_of_an_external_result(spark_session: SparkSession) -> None:
    ours = spark_session.sql("SELECT 'a' page, TIMESTAMP '2024-01-01 10:00:00' window_start").schema
    theirs = spark_session.sql("SELECT 'a' page, TIMESTAMP_NTZ '2024-01-01 10:00:00' window_start").schema
    with pytest.raises(TableError) as error:
        plan_schema(ours, theirs, JOB.keys, None, {})
    said = str(_of_engine(error.value, JOB))
    assert "declare it (external.seen.types.window_start, or naive_time_zone where one has no zone)" in said
    assert "timestamp_ntz in the external result" in said
    assert "--as" not in said
