"""Marks by declared rules: a running newest event time per partition, against the same in plain Python."""

from __future__ import annotations

import random
from typing import Any, cast

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun import Source
from twinrun.explain.used import USED
from twinrun.external import mark
from twinrun.external.mark import NOTHING_LATE, Rules, mark_declared
from twinrun.results.cut import Committed, StreamCut

SOURCE = Source("clicks", schema="id STRING NOT NULL, at BIGINT NOT NULL", event_time="at", lateness="1 minute")
LATENESS_MS = 70


def cut(start: dict[int, int], end: dict[int, int]) -> StreamCut:
    unknown = cast("Any", None)
    return StreamCut(
        unknown, "", Committed(0, -1), {"clicks": start}, {"clicks": end}, None, 0, unknown, 0, {}, False, 0
    )


def events(spark: SparkSession, log: list[tuple[int, int, int]]) -> DataFrame:
    rows = [("t", partition, offset, at) for partition, offset, at in log]
    frame = spark.createDataFrame(rows, "_topic STRING, _partition INT, _offset BIGINT, ms BIGINT")
    return frame.withColumn("at", F.timestamp_millis("ms"))


def expected(log: list[tuple[int, int, int]], start: int, ends: dict[int, int], refused: set[tuple[int, int]]) -> Any:
    newest: dict[int, int] = {}
    found = {}
    for partition, offset, at in sorted(log):
        if offset < start:
            cause: str | None = "before_start"
        elif offset >= ends[partition]:
            cause = "beyond_cut"
        else:
            cause = "quarantined" if (partition, offset) in refused else None
        late = newest[partition] - LATENESS_MS if partition in newest else NOTHING_LATE
        found[partition, offset] = (cause, late)
        if cause is None:
            newest[partition] = max(at, newest.get(partition, at))
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_each_event_is_judged_by_the_used_events_before_it_in_its_partition(
    spark_session: SparkSession, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mark, "_BIN_OFFSETS", 7)
    dice = random.Random(seed)
    log = [(p, o, o * 10 + dice.randint(-200, 100)) for p in (0, 1) for o in range(60) if dice.random() > 0.1]
    refused = {(p, o) for p, o, _ in log if dice.random() < 0.1}
    requeued = events(spark_session, [(p, o, 0) for p, o in refused]).drop("at", "ms")
    ends = {0: 50, 1: 33}

    marked = mark_declared(
        events(spark_session, log), requeued, SOURCE, cut({0: 5, 1: 5}, ends), Rules(LATENESS_MS, refuse=True)
    )

    rows = marked.select("_partition", "_offset", "_cause", USED, "_late_ms").collect()
    assert {(r[0], r[1]): (r[2], r[4]) for r in rows} == expected(log, 5, ends, refused)
    assert all(row[USED] == (row["_cause"] is None) for row in rows)
    assert len(rows) == len(log)


def test_without_a_rule_nothing_is_late_and_requeued_records_count_as_used(spark_session: SparkSession) -> None:
    log = [(0, 0, 1_000_000), (0, 1, 0)]
    requeued = events(spark_session, [(0, 1, 0)]).drop("at", "ms")

    rows = mark_declared(events(spark_session, log), requeued, SOURCE, cut({}, {0: 2}), Rules()).collect()

    assert [(row["_cause"], row["_late_ms"]) for row in rows] == [(None, NOTHING_LATE)] * 2
