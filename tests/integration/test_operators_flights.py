"""Sessions over two days of real flights: both tables against machines written here, and every difference proven."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from delta.tables import DeltaTable

from tests.integration import test_shapes_flights as flights_of_two_days
from tests.integration.shapes import result_of
from tests.integration.test_shapes_flights import FlightsWorld, judged, oracle_of

pytestmark = pytest.mark.slow

JOB, GAP = "carrier_sessions", timedelta(minutes=45)
world, flights = flights_of_two_days.world, flights_of_two_days.flights
Key = tuple[str, str, datetime, datetime, int]


def machine(marked: pl.DataFrame, watermarks: list[datetime]) -> set[Key]:
    """Sessions as a stream keeps them: by micro-batch, late flights out, open ones merged, those that end given out."""
    given: set[Key] = set()
    opened: dict[tuple[str, str], list[list[Any]]] = defaultdict(list)
    for number, watermark in enumerate(watermarks):
        for row in marked.filter(pl.col("micro_batch") == number).iter_rows(named=True):
            at = row["scheduled_departure"]
            if at + GAP > row["dropped_by"]:
                opened[row["carrier"], row["origin"]].append([at, at + GAP, 1])
        for key, sessions in opened.items():
            merged: list[list[Any]] = []
            for start, end, count in sorted(sessions):
                if merged and start <= merged[-1][1]:
                    merged[-1] = [merged[-1][0], max(end, merged[-1][1]), merged[-1][2] + count]
                else:
                    merged.append([start, end, count])
            given |= {(*key, start, end, count) for start, end, count in merged if end <= watermark}
            opened[key] = [each for each in merged if each[1] > watermark]
    return given


def held(rows: pl.DataFrame) -> set[Key]:
    found = set(rows.select("carrier", "origin", "window_start", "window_end", "flights").rows())
    assert len(found) == rows.height
    return found


def test_every_difference_of_the_sessions_is_proven(world: FlightsWorld, flights: pl.DataFrame) -> None:
    assert world.stream(JOB).micro_batches >= 8
    world.batch(JOB)
    oracle, assert_same = oracle_of(JOB)
    assert_same(result_of(world, "batch", JOB), oracle(flights))
    marked, _, _ = judged(world, JOB, flights)
    log = world.spark.read.format("delta").load(world.cfg().table("micro_batches")).filter(f"job = '{JOB}'")
    rows = log.select("micro_batch", "watermark_ms", "end_offsets").orderBy("micro_batch").collect()
    ends = [{end["partition"]: end["offset"] for end in row["end_offsets"]} for row in rows]
    number = [
        next(n for n, end in enumerate(ends) if offset < end[partition])
        for partition, offset in marked.select("_partition", "_offset").iter_rows()
    ]
    marked = marked.with_columns(pl.Series("micro_batch", number))
    watermarks = [datetime.fromtimestamp((row["watermark_ms"] or 0) / 1000, UTC) for row in rows]
    stream = machine(marked, watermarks)
    assert held(result_of(world, "stream", JOB)) == stream
    assert stream != held(oracle(flights).filter(pl.col("window_end") <= watermarks[-1])), "something was late"

    verdict = world.verify(JOB)
    print(f"{verdict.duration_ms} ms, {verdict.causes}")
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("explained", 0, 0)
    assert {"late_dropped", "pending"} <= {c.cause for c in verdict.causes} <= {"late_dropped", "late_split", "pending"}
    late = marked.filter(pl.col("scheduled_departure") + GAP <= pl.col("dropped_by"))
    named = pl.read_delta(world.cfg().table("late_events")).filter(pl.col("job") == JOB)
    assert set(named["id"].str.json_path_match("$.flight_id")) == set(late["flight_id"])

    DeltaTable.forPath(world.spark, str(world.table("stream", JOB))).delete("carrier = 'UA' AND flights > 5")
    assert {c.cause for c in world.verify(JOB).causes} >= {"sink_missing"}
