"""A recording of any number of micro-batches, made without running one: its events, its log, what Spark makes of it.

Micro-batch b reads `EACH` events of one partition, of the second b, in order. Some of them are given another page and
another time (`Other`). Watermarks follow Spark's rule: the newest event time so far, less the lateness.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from twinrun import Job, Source
from twinrun.config.load import load_config
from twinrun.config.model import Config
from twinrun.explain.by_replay import Ask, Replayed, explain_by_replay
from twinrun.explain.differing import Sides, differing
from twinrun.job.dataflow import Dataflow, dataflow
from twinrun.results.cut import Committed, Context, StreamCut
from twinrun.results.state import BatchState
from twinrun.tables.delta import latest_version, replace_rows

EACH = 5
T0_MS = 1_357_466_400_000
LATENESS_S, GAP_S = 20, 10
CLICKS = Source(
    "clicks",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL",
    event_time="at",
    lateness=f"{LATENESS_S} seconds",
    id=["id"],
)


def visits(clicks: DataFrame) -> DataFrame:
    """Clicks per page and visit."""
    grouped = clicks.groupBy("page", F.session_window("at", f"{GAP_S} seconds")).agg(F.count(F.lit(1)).alias("n"))
    return grouped.select("page", F.col("session_window.start").alias("window_start"), "n")


VISITS = Job(visits, [CLICKS], ["page", "window_start"], gap=f"{GAP_S} seconds")


@dataclass(frozen=True)
class Other:
    """Of micro-batch ``number`` the event at this ``place`` is of another page and second."""

    number: int
    place: int
    at_s: float
    page: str = "bad"


@dataclass(frozen=True)
class LongLog:
    """Events, log and results of a recording of ``micro_batches``."""

    spark: SparkSession
    cfg: Config
    job: Job
    flow: Dataflow
    micro_batches: int
    others: tuple[Other, ...]
    events: DataFrame
    cut: StreamCut
    batch: BatchState

    def watermarks_s(self) -> list[float]:
        """By micro-batch, in seconds after `T0_MS`; far below 0 where there is none yet."""
        found, newest = [], -1e9
        for number in range(self.micro_batches):
            found.append(newest - LATENESS_S if number else -1e9)
            moved = {other.place: other.at_s for other in self.others if other.number == number}
            newest = max(newest, *(moved.get(i, number + i / EACH) for i in range(EACH)))
        return found

    def emitted(self, page: str = "bad") -> list[tuple[float, int]]:
        """Visits of one page as Spark emits them (start in seconds, clicks): the state machine, by hand."""
        marks = self.watermarks_s()
        state: list[list[float]] = []
        out: list[tuple[float, int]] = []
        theirs = sorted((o for o in self.others if o.page == page), key=lambda o: (o.number, o.place))
        for number in range(self.micro_batches):
            late = marks[number - 1] if number else -1e9
            state += [[o.at_s, o.at_s + GAP_S, 1] for o in theirs if o.number == number and o.at_s + GAP_S > late]
            merged: list[list[float]] = []
            for each in sorted(state):
                if merged and each[0] <= merged[-1][1]:
                    merged[-1][1] = max(merged[-1][1], each[1])
                    merged[-1][2] += each[2]
                else:
                    merged.append(list(each))
            out += [(each[0], int(each[2])) for each in merged if each[1] <= marks[number]]
            state = [each for each in merged if each[1] > marks[number]]
        return out

    def sides(self, stream: Iterable[tuple[float, int]] | None = None, page: str = "bad") -> Sides:
        """Both results. The stream's rows of one page are those given, or what Spark emits of it."""
        whole = self.job.apply({"clicks": self.events.select("id", "at", "page")}).localCheckpoint()
        rows = [(page, T0_MS + round(at_s * 1000), n) for at_s, n in (self.emitted(page) if stream is None else stream)]
        theirs = self.spark.createDataFrame(rows, "page STRING, ms BIGINT, n BIGINT")
        theirs = theirs.select("page", F.timestamp_millis("ms").alias("window_start"), "n")
        return Sides(whole, whole.filter(F.col("page") != page).unionByName(theirs))

    def ask(self, sides: Sides, **settings: Any) -> Ask:
        """What a verify would ask to have proven."""
        cfg = load_config(self.cfg.file, [f"{key}={value}" for key, value in settings.items()], env={})
        rows = differing(self.job, sides.batch, sides.stream).localCheckpoint()
        return Ask(Context(self.spark, cfg, self.job, self.flow, self.cut, self.batch), sides, rows, "v")

    def prove(self, sides: Sides, **settings: Any) -> Replayed:
        """Explain the differing rows by replay."""
        return explain_by_replay(self.ask(sides, **settings))


def long_log(
    spark: SparkSession,
    root: Path,
    micro_batches: int,
    others: Iterable[Other],
    *,
    job: Job = VISITS,
    marks: Mapping[int, int] = {},
) -> LongLog:
    """Make one. ``marks``: micro-batches whose recorded watermark is another by so many ms."""
    others = tuple(others)
    cfg = _config(root)
    number, place = F.floor(F.col("_offset") / EACH), F.col("_offset") % EACH
    moved = spark.createDataFrame(
        [(o.number * EACH + o.place, T0_MS + round(o.at_s * 1000), o.page) for o in others],
        "_offset BIGINT, _at BIGINT, _page STRING",
    )
    made = (
        spark.range(micro_batches * EACH).withColumnRenamed("id", "_offset").join(F.broadcast(moved), "_offset", "left")
    )
    at_ms = F.coalesce("_at", F.lit(T0_MS) + number * 1000 + place * F.lit(1000 // EACH))
    events = made.select(
        F.concat(F.lit("e"), "_offset").alias("id"),
        F.timestamp_millis(at_ms).alias("at"),
        F.coalesce("_page", F.concat(F.lit("p"), F.col("_offset") % 97)).alias("page"),
        F.lit("t").alias("_topic"),
        F.lit(0).alias("_partition"),
        "_offset",
        F.timestamp_millis(at_ms).alias("_kafka_timestamp"),
        F.lit(1).cast("bigint").alias("_decoded_seq"),
    )
    ref = cfg.table("events", source="clicks")
    replace_rows(events, ref)
    events = spark.read.format("delta").load(ref)
    newest = events.groupBy(number.cast("bigint").alias("micro_batch")).agg(F.max(F.unix_millis("at")).alias("newest"))
    in_order = Window.orderBy("micro_batch").rowsBetween(Window.unboundedPreceding, -1)
    mark = F.coalesce(F.greatest(F.max("newest").over(in_order) - F.lit(LATENESS_S * 1000), F.lit(0)), F.lit(0))
    wrong = F.lit(0)
    for each, by_ms in marks.items():
        wrong = F.when(F.col("micro_batch") == each, by_ms).otherwise(wrong)
    log = newest.select(
        "micro_batch",
        (mark + wrong).cast("bigint").alias("watermark_ms"),
        (F.col("micro_batch") * 1000).alias("started_at_ms"),
        F.array(
            F.struct(
                F.lit("t").alias("topic"),
                F.lit(0).alias("partition"),
                ((F.col("micro_batch") + 1) * EACH).alias("offset"),
            )
        ).alias("end_offsets"),
        F.lit(None).cast("map<string,bigint>").alias("static_versions"),
    )
    end = {"clicks": {0: micro_batches * EACH}}
    cut = StreamCut(
        state=cast("Any", None),
        query_id="q",
        committed=Committed(1, micro_batches - 1),
        start={"clicks": {0: 0}},
        end=end,
        watermark_ms=0,
        started_at_ms=0,
        micro_batches=log.localCheckpoint(),
        missing=0,
        static={},
        static_mixed=False,
        taken_at_ms=0,
    )
    batch = BatchState(1, "", 0, {}, end, {"clicks": 1}, {"clicks": latest_version(spark, ref)}, {}, "r", 0)
    return LongLog(spark, cfg, job, dataflow(spark, job, {}), micro_batches, others, events, cut, batch)


def _config(root: Path) -> Config:
    file = root / "conf" / "test.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    text = {
        "kafka": {"bootstrap_servers": "127.0.0.1:9"},
        "warehouse": str(root / "wh"),
        "checkpoints": str(root / "cp"),
        "report": {"folder": str(root / "reports")},
        "sources": {"clicks": {"topic": "t"}},
    }
    file.write_text(json.dumps(text), encoding="utf-8")
    return load_config(file, [], env={})
