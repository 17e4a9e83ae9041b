"""A small log by hand: two partitions, ties with window ends, a micro-batch without data, offsets outside the cut."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun import Job, Source
from twinrun.results.cut import Committed, StreamCut

T0_MS = 1_357_466_400_000
LATENESS_MS = 10_000
SOURCE = Source(
    "clicks",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL",
    event_time="at",
    lateness="10 seconds",
    id=["id"],
    distinct=["id"],
)


def _count(window: str, slide: str) -> Any:
    def per_window(clicks: DataFrame) -> DataFrame:
        grouped = clicks.groupBy("page", F.window("at", window, slide)).agg(F.count(F.lit(1)).alias("n"))
        return grouped.select("page", F.col("window.start").alias("window_start"), "n")

    return per_window


KEYS = ["page", "window_start"]
TUMBLING = Job(_count("20 seconds", "20 seconds"), [SOURCE], KEYS, window="20 seconds", name="tumbling")
SLIDING = Job(
    _count("20 seconds", "10 seconds"), [SOURCE], KEYS, window="20 seconds", slide="10 seconds", name="sliding"
)

CLICKS = replace(SOURCE, distinct=[])
ORDERS = replace(CLICKS, name="orders")


def _sessions(clicks: DataFrame) -> DataFrame:
    grouped = clicks.groupBy("page", F.session_window("at", "5 seconds")).agg(F.count(F.lit(1)).alias("n"))
    return grouped.select("page", F.col("session_window.start").alias("window_start"), "n")


def _over_tens(clicks: DataFrame) -> DataFrame:
    tens = clicks.groupBy("page", F.window("at", "10 seconds")).agg(F.count(F.lit(1)).alias("n"))
    grouped = tens.groupBy("page", F.window(F.window_time("window"), "20 seconds")).agg(F.sum("n").alias("n"))
    return grouped.select("page", F.col("window.start").alias("window_start"), "n")


def _once(clicks: DataFrame) -> DataFrame:
    return _count("20 seconds", "20 seconds")(clicks.dropDuplicates(["id", "at"]))


def _joined(clicks: DataFrame, orders: DataFrame) -> DataFrame:
    on = F.expr("c.id = o.id AND o.at BETWEEN c.at AND c.at + INTERVAL 30 SECONDS")
    return clicks.alias("c").join(orders.alias("o"), on).select("c.id", "c.page")


def _projected(clicks: DataFrame) -> DataFrame:
    return clicks.select("id", "page")


CHAINS = {
    "session": Job(_sessions, [CLICKS], KEYS, gap="5 seconds", name="session"),
    "window over windows": Job(_over_tens, [CLICKS], KEYS, window="20 seconds", name="chain"),
    "de-duplication, window": Job(_once, [CLICKS], KEYS, window="20 seconds", name="once"),
    "join": Job(_joined, [CLICKS, ORDERS], ["id"], name="joined"),
    "projection": Job(_projected, [CLICKS], ["id"], name="projected"),
}
FIRST = {
    "session": {("session", None, None, 5_000_000)},
    "window over windows": {("window", 10_000_000, 10_000_000, None)},
    "de-duplication, window": {("time", None, None, None)},
    "join": {("time", None, None, None)},
    "projection": {("none", None, None, None)},
}
"""Which rule the first operator of each job drops events by: kind, window, slide, gap (µs)."""


@dataclass(frozen=True)
class Event:
    """One event; ``at_s`` in seconds after `T0_MS`."""

    partition: int
    offset: int
    at_s: float
    page: str = "a"
    name: str = ""

    @property
    def at_us(self) -> int:
        return T0_MS * 1000 + round(self.at_s * 1_000_000)

    @property
    def id(self) -> str:
        return self.name or f"p{self.partition}o{self.offset}"


EVENTS = [
    # Partition 0 begins at offset 2: the first two lie before the stream's start.
    *[
        Event(0, offset, at)
        for offset, at in enumerate((1, 2, 5, 18, 30.0005, 19.999, 20, 41, 20, 45, 39.999, 40, 90, 29, 95))
    ],
    *[Event(1, offset, at, "b") for offset, at in enumerate((3, 12, 30, 33, 10, 44, 20, 60, 59.999, 91))],
    # Copies of an id that the stream has forgotten, of one that it has not, and of one that comes late itself.
    Event(0, 15, 96, name="p0o3"),
    Event(0, 16, 97, name="p0o4"),
    Event(0, 17, 12, name="p0o2"),
    # Judged by 40 s: a window that ends with it, an event time that lies just before it, and one upon it.
    Event(0, 18, 35),
    Event(0, 19, 39.5),
    Event(0, 20, 40),
    Event(1, 10, 70, "b"),
    # Half a millisecond after the watermark of 40 s is not late, half a millisecond before it is; so too for a session
    # of 5 s. Above, the id of 30.0005 s is remembered until 40.0005 s; that of 30 s is forgotten here.
    *[Event(0, 21 + n, at) for n, at in enumerate((40.0005, 39.9995, 35.0005, 34.9995))],
    Event(1, 11, 95, "b", "p1o2"),
    Event(1, 12, 96, "b"),
]
START = {0: 2, 1: 0}
# Exclusive ends of each micro-batch by partition, and the watermark (seconds after T0) that it emits by.
MICRO_BATCHES = [
    ({0: 4, 1: 2}, None),
    ({0: 7, 1: 3}, 8.0),
    ({0: 7, 1: 3}, 21.0),  # no data: it drops nothing, and is the one before the next
    ({0: 9, 1: 5}, 21.0),
    ({0: 9, 1: 7}, 31.0),
    ({0: 12, 1: 7}, 35.0),
    ({0: 14, 1: 9}, 40.0),
    ({0: 25, 1: 12}, 80.0),
]
END = MICRO_BATCHES[-1][0]
TOPIC = "clicks"


def watermark_ms(number: int) -> int:
    """Recorded watermark of a micro-batch."""
    at_s = MICRO_BATCHES[number][1]
    return 0 if at_s is None else T0_MS + int(at_s * 1000)


def events_frame(spark: SparkSession) -> DataFrame:
    """The events as the events table has them."""
    rows = [(e.id, e.at_us, e.page, TOPIC, e.partition, e.offset, e.at_us) for e in EVENTS]
    schema = "id STRING, at BIGINT, page STRING, _topic STRING, _partition INT, _offset BIGINT, _kafka_timestamp BIGINT"
    frame = spark.createDataFrame(rows, schema)
    times = {name: F.timestamp_micros(name) for name in ("at", "_kafka_timestamp")}
    return frame.withColumns(times).localCheckpoint()


def cut(spark: SparkSession) -> StreamCut:
    """The cut at the last micro-batch."""
    rows = [
        (number, watermark_ms(number), 1_000 * number, [(TOPIC, p, o) for p, o in ends.items()], None)
        for number, (ends, _) in enumerate(MICRO_BATCHES)
    ]
    schema = (
        "micro_batch BIGINT, watermark_ms BIGINT, started_at_ms BIGINT, "
        "end_offsets ARRAY<STRUCT<topic: STRING, partition: INT, offset: BIGINT>>, static_versions MAP<STRING,BIGINT>"
    )
    return StreamCut(
        state=cast("Any", None),
        query_id="q",
        committed=Committed(1, len(MICRO_BATCHES) - 1),
        start={"clicks": START},
        end={"clicks": END},
        watermark_ms=watermark_ms(len(MICRO_BATCHES) - 1),
        started_at_ms=0,
        micro_batches=spark.createDataFrame(rows, schema).localCheckpoint(),
        missing=0,
        static={},
        static_mixed=False,
        taken_at_ms=0,
    )
