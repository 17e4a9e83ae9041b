"""Clicks of a page since it was last without one for so long that its state was forgotten: a TTL, by the clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyspark.sql import DataFrame, Row
from pyspark.sql.streaming import StatefulProcessor, StatefulProcessorHandle
from pyspark.sql.types import LongType, StructField, StructType

from twinrun import Job, Source

CLICKS = Source(
    "clicks",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL, amount DECIMAL(10,2), weight DOUBLE",
    event_time="at",
    lateness="10 seconds",
    id=["id"],
)
KEPT = StructType([StructField("clicks", LongType())])
TTL_MS = 1


class Forgets(StatefulProcessor):
    """Counts clicks; every micro-batch finds the count of the one before forgotten."""

    def init(self, handle: StatefulProcessorHandle) -> None:
        self.kept = handle.getValueState("kept", KEPT, TTL_MS)

    def handleInputRows(self, key: Any, rows: Iterator[Row], timerValues: Any) -> Iterator[Row]:
        clicks = self.kept.get()[0] if self.kept.exists() else 0
        clicks += sum(1 for _ in rows)
        self.kept.update((clicks,))
        yield Row(page=key[0], clicks=clicks)

    def close(self) -> None:
        pass


def forgetful(clicks: DataFrame) -> DataFrame:
    """A row per page."""
    groups = clicks.select("page", "at", "id").groupBy("page")
    return groups.transformWithState(Forgets(), "page STRING, clicks LONG", "update", "processingTime")


JOB = Job(forgetful, sources=[CLICKS], keys=["page"], emit="updates")
