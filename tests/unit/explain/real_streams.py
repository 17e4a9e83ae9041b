"""A job's function over real streams of files, one file of each source per micro-batch: what Spark itself does."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from twinrun import Job, Source
from twinrun.durations import spark_interval
from twinrun.events.decode import distinct_in_stream
from twinrun.job.plan import seen_schema

T0_US = 1_700_000_000_000_000
SCHEMA = "k STRING NOT NULL, at STRING NOT NULL, v INT"
Event = tuple[str, int, int]
"""Key, event time in µs after `T0_US` (a negative one far below it lies before 1970), value."""
Files = list[list[Event]]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def source(name: str, lateness: str | None = "10 seconds", **more: Any) -> Source:
    """A source with a key, an event time in microseconds and a value."""
    return Source(name, schema=SCHEMA, event_time="at", event_time_format="iso8601", lateness=lateness, **more)


@dataclass(frozen=True)
class Ran:
    """What came out per micro-batch, and the watermark (epoch ms) of each."""

    rows: list[list[dict[str, Any]]]
    watermark_ms: dict[int, int]

    @property
    def keys(self) -> set[str]:
        """The keys that came out, whenever."""
        return {row["k"] for rows in self.rows for row in rows}

    def table(self, keys: list[str]) -> list[dict[str, Any]]:
        """What a merge by key makes of it."""
        return list({tuple(row[key] for key in keys): row for rows in self.rows for row in rows}.values())


class Streams:
    """Files of each source in a folder; runs any number of jobs over them, each with a checkpoint of its own."""

    def __init__(self, spark: SparkSession, root: Path, files: dict[str, Files]) -> None:
        self.spark, self.root, self.runs = spark, root, 0
        self.schema = seen_schema(source("any"))
        arrow = to_arrow_schema(self.schema, timezone="UTC")
        for name, each in files.items():
            (root / name).mkdir(parents=True)
            offset = 0
            for number, events in enumerate(each):
                rows = []
                for key, at_us, value in events:
                    at = EPOCH + timedelta(microseconds=T0_US + at_us)
                    rows.append({"k": key, "at": at, "v": value, "_topic": name, "_partition": 0, "_offset": offset})
                    rows[-1]["_kafka_timestamp"] = at
                    offset += 1
                file = root / name / f"{number:05d}.parquet"
                pq.write_table(pa.Table.from_pylist(rows, schema=arrow), file)
                os.utime(file, (1_600_000_000 + number, 1_600_000_000 + number))

    def frames(self, job: Job) -> dict[str, DataFrame]:
        """The sources as streams, with the watermark and the de-duplication that the framework gives them."""
        made = {}
        for each in job.sources:
            reader = self.spark.readStream.schema(self.schema).option("maxFilesPerTrigger", 1)
            frame = reader.parquet(str(self.root / each.name))
            if each.lateness_ms is not None:
                frame = frame.withWatermark(each.event_time, spark_interval(each.lateness_ms))
                frame = distinct_in_stream(frame, each)
            made[each.name] = frame
        return made

    def stream(self, job: Job) -> Ran:
        """Run the job's function until all files are read; an error of Spark passes through."""
        self.runs += 1
        checkpoint = self.root / f"checkpoint-{self.runs}"
        written: list[list[dict[str, Any]]] = []

        def keep(rows: DataFrame, _: int) -> None:
            written.append([row.asDict() for row in rows.collect()])

        writer = job.apply(self.frames(job)).writeStream.outputMode("update" if job.emit == "updates" else "append")
        writer = writer.option("checkpointLocation", str(checkpoint)).foreachBatch(keep)
        writer.trigger(availableNow=True).start().awaitTermination()
        marks = {
            int(each.name): json.loads(each.read_text(encoding="utf-8").split("\n")[1])["batchWatermarkMs"]
            for each in (checkpoint / "offsets").iterdir()
            if each.name.isdigit()
        }
        return Ran(written, marks)

    def events(self, name: str) -> DataFrame:
        """A source at rest."""
        return self.spark.read.schema(self.schema).parquet(str(self.root / name))

    def batch(self, job: Job) -> list[dict[str, Any]]:
        """The job's function over everything at rest; sources that are ``distinct`` have no copies here."""
        return [
            row.asDict() for row in job.apply({each.name: self.events(each.name) for each in job.sources}).collect()
        ]
