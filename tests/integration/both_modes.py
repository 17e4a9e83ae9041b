"""One function in both modes over the same files: what the tests of the lint compare."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession

Logic = Callable[[DataFrame], DataFrame]
Events = list[list[dict[str, Any]]]
SCHEMA = "id STRING, ts TIMESTAMP, kind STRING, n INT, x DOUBLE, pad STRING"
START = datetime(2024, 1, 1, 10, tzinfo=UTC)


def event(minute: float, n: int = 1, x: float = 0.0, kind: str = "a", name: str = "e", pad: int = 0) -> dict[str, Any]:
    at = (START + timedelta(minutes=minute)).isoformat()
    return {"id": name, "ts": at, "kind": kind, "n": n, "x": x, "pad": "." * pad}


ARRIVALS: Events = [
    [event(0, 1, 1e16, pad=400)],
    [event(1, 2, 1.0)],
    [event(2, 3, -1e16, pad=4000)],
]
"""Three micro-batches; batch reads the last file first, then the first, then the second."""


class Both:
    """Runs one function in both modes over the same files."""

    def __init__(self, spark: SparkSession, root: Path, arrivals: Events) -> None:
        self.spark, self.root = spark, root
        (root / "stream").mkdir()
        for number, rows in enumerate(arrivals):
            file = root / "stream" / f"{number}.json"
            file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            os.utime(file, (1_700_000_000 + number, 1_700_000_000 + number))
        shutil.copytree(root / "stream", root / "batch")
        self.watermarks: list[str] = []

    def batch(self, logic: Logic) -> list[tuple[Any, ...]]:
        frame = self.spark.read.schema(SCHEMA).json(str(self.root / "batch")).coalesce(1)
        return sorted(tuple(row) for row in logic(frame).collect())

    def stream(self, logic: Logic, mode: str = "append", lateness: str = "30 seconds") -> list[list[tuple[Any, ...]]]:
        """Rows per micro-batch."""
        frame = self.spark.readStream.schema(SCHEMA).option("maxFilesPerTrigger", 1).json(str(self.root / "stream"))
        written: list[list[tuple[Any, ...]]] = []

        def keep(rows: DataFrame, _: int) -> None:
            written.append(sorted(tuple(row) for row in rows.collect()))

        writer = logic(frame.withWatermark("ts", lateness)).writeStream.outputMode(mode).foreachBatch(keep)
        query = writer.trigger(availableNow=True).start()
        query.awaitTermination()
        self.watermarks = [each["eventTime"].get("watermark", "") for each in query.recentProgress]
        return written

    def rows(self, logic: Logic, **how: Any) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """Batch rows, and all rows of the stream."""
        return self.batch(logic), sorted(row for rows in self.stream(logic, **how) for row in rows)

    def latest(self, logic: Logic, keys: int = 1) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """Batch rows, and the newest row per key of a stream in update mode."""
        table: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        for rows in self.stream(logic, "update"):
            table |= {row[:keys]: row for row in rows}
        return self.batch(logic), sorted(table.values())
