"""A job over Avro in Confluent's frame, through a real broker: late, doubled and broken records in both modes."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import fastavro
import polars as pl
import pytest

from tests.integration.conftest import T0_MS, World
from tests.integration.shapes import result_of
from twinrun import Avro, Source
from twinrun.job.job import Job
from twinrun.produce.records import Record

SCHEMA = {
    "type": "record",
    "name": "Click",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "page", "type": "string"},
        {"name": "amount", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}]},
        {"name": "weight", "type": "double"},
    ],
}
CLICKS = Source(
    "clicks",
    schema="id STRING NOT NULL, at TIMESTAMP NOT NULL, page STRING NOT NULL, amount DECIMAL(10,2), weight DOUBLE",
    event_time="at",
    event_time_format="iso8601",
    lateness="10 seconds",
    id=["id"],
    format=Avro(json.dumps(SCHEMA), framing="confluent", schema_id=12),
)
PARSED = fastavro.parse_schema(SCHEMA)


def record(second: float, page: str, name: str, *, schema_id: int = 12, cut: int = 0) -> Record:
    out = io.BytesIO()
    at = datetime.fromtimestamp(T0_MS / 1000 + second, UTC)
    click = {"id": name, "at": at, "page": page, "amount": Decimal("1.25"), "weight": second / 7}
    fastavro.schemaless_writer(out, PARSED, click)
    value = b"\x00" + struct.pack(">I", schema_id) + out.getvalue()
    return Record(name.encode(), value[: len(value) - cut], T0_MS + int(second * 1000))


class AvroWorld(World):
    """A world whose job reads Avro."""

    def job(self, name: str = "per_minute") -> Job:
        return replace(super().job(name), sources=[CLICKS])


@pytest.mark.slow
def test_both_modes_read_the_same_of_avro_and_a_late_record_is_proven(make_world: Any) -> None:
    world = AvroWorld(**vars(make_world()))
    log = [record(second, page, f"{page}{second}") for second in range(5, 200, 15) for page in "ab"]
    late = record(30, "a", "late")
    broken = [record(100, "a", "cut", cut=3), record(100, "a", "other", schema_id=13), record(100, "b", "again")]
    verdict = world.run_all([*log[:20], *broken, broken[-1], *log[20:], late, record(400, "a", "last")])

    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("explained", 0, 0), verdict.problems
    assert [(cause.cause, cause.events) for cause in verdict.causes if cause.cause != "pending"] == [
        ("late_dropped", 1)
    ]
    assert {each.rule: each.events for each in verdict.quarantine} == {"not_avro": 1, "other_schema": 1}
    # The oracle counts by hand what was sent and can be read.
    counted = [(page, second // 60) for second in range(5, 200, 15) for page in "ab"]
    counted += [("b", 1), ("b", 1), ("a", 0), ("a", 6)]
    wanted = pl.DataFrame(counted, ["page", "minute"], orient="row").group_by("page", "minute").len()
    rows = result_of(world, "batch", "per_minute")
    minutes = ((pl.col("window_start").dt.epoch("ms") - T0_MS) // 60_000).alias("minute")
    found = rows.select("page", minutes, "clicks", "amount")
    assert sorted(found.select("page", "minute", "clicks").rows()) == sorted(wanted.rows())
    assert found.filter(pl.col("amount") != pl.col("clicks") * Decimal("1.25")).is_empty()
