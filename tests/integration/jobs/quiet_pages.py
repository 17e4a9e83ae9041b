"""A row for each page that had no click for a minute when the watermark got there: a timer by event time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F
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
QUIET_MS = 60_000
KEPT = StructType([StructField("clicks", LongType()), StructField("last_ms", LongType())])


class Quiet(StatefulProcessor):
    """Counts clicks until none came for a minute."""

    def init(self, handle: StatefulProcessorHandle) -> None:
        self.handle = handle
        self.kept = handle.getValueState("kept", KEPT)

    def handleInputRows(self, key: Any, rows: Iterator[Row], timerValues: Any) -> Iterator[Row]:
        clicks, last_ms = self.kept.get() if self.kept.exists() else (0, 0)
        for row in rows:
            clicks, last_ms = clicks + 1, max(last_ms, int(row["at"].timestamp() * 1000))
        self.kept.update((clicks, last_ms))
        for timer in self.handle.listTimers():
            self.handle.deleteTimer(timer)
        self.handle.registerTimer(last_ms + QUIET_MS)
        return iter(())

    def handleExpiredTimer(self, key: Any, timerValues: Any, expiredTimerInfo: Any) -> Iterator[Row]:
        clicks, last_ms = self.kept.get()
        self.kept.clear()
        yield Row(page=key[0], last_ms=last_ms, clicks=clicks)

    def close(self) -> None:
        pass


def quiet_pages(clicks: DataFrame) -> DataFrame:
    """A row per page and quiet minute."""
    groups = clicks.select("page", "at", "id").groupBy("page")
    rows = groups.transformWithState(Quiet(), "page STRING, last_ms LONG, clicks LONG", "append", "eventTime")
    return rows.filter(F.col("page").isNotNull() & F.col("last_ms").isNotNull())


JOB = Job(quiet_pages, sources=[CLICKS], keys=["page", "last_ms"])
