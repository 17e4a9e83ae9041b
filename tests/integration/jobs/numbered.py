"""Clicks numbered within their page by a count kept by hand, in the order in which they come."""

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
KEPT = StructType([StructField("n", LongType())])


class Numbered(StatefulProcessor):
    """Sorts by time only what it gets at once."""

    def init(self, handle: StatefulProcessorHandle) -> None:
        self.kept = handle.getValueState("kept", KEPT)

    def handleInputRows(self, key: Any, rows: Iterator[Row], timerValues: Any) -> Iterator[Row]:
        n = self.kept.get()[0] if self.kept.exists() else 0
        for row in sorted(rows, key=lambda each: (each["at"], each["id"])):
            n += 1
            yield Row(id=row["id"], page=key[0], n=n)
        self.kept.update((n,))

    def close(self) -> None:
        pass


def numbered(clicks: DataFrame) -> DataFrame:
    """A row per click."""
    groups = clicks.select("page", "at", "id").groupBy("page")
    rows = groups.transformWithState(Numbered(), "id STRING, page STRING, n BIGINT", "append", "none")
    return rows.filter(F.col("id").isNotNull())


JOB = Job(numbered, sources=[CLICKS], keys=["id"])
