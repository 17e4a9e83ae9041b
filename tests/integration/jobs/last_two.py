"""The last two clicks of each page, kept by hand: what each micro-batch brings is put behind what came before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F
from pyspark.sql.streaming import StatefulProcessor, StatefulProcessorHandle
from pyspark.sql.types import StringType, StructField, StructType

from twinrun import Job, Source

CLICKS = Source(
    "clicks",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL, amount DECIMAL(10,2), weight DOUBLE",
    event_time="at",
    lateness="10 seconds",
    id=["id"],
)
KEPT = StructType([StructField("newest", StringType()), StructField("before", StringType())])


class LastTwo(StatefulProcessor):
    """Sorts by time only what it gets at once, so that an event that comes too late ends up as the newest."""

    def init(self, handle: StatefulProcessorHandle) -> None:
        self.kept = handle.getValueState("kept", KEPT)

    def handleInputRows(self, key: Any, rows: Iterator[Row], timerValues: Any) -> Iterator[Row]:
        newest, before = self.kept.get() if self.kept.exists() else (None, None)
        for row in sorted(rows, key=lambda each: (each["at"], each["id"])):
            newest, before = row["id"], newest
        self.kept.update((newest, before))
        yield Row(page=key[0], newest=newest, before=before)

    def close(self) -> None:
        pass


def last_two(clicks: DataFrame) -> DataFrame:
    """A row per page."""
    groups = clicks.select("page", "at", "id").groupBy("page")
    rows = groups.transformWithState(LastTwo(), "page STRING, newest STRING, before STRING", "update", "none")
    return rows.filter(F.col("page").isNotNull())


JOB = Job(last_two, sources=[CLICKS], keys=["page"], emit="updates")
