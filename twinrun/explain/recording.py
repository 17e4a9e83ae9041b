"""What a stream did, as a list of micro-batches that can be done again: which had data, and where it was restarted."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from twinrun.results.cut import StreamCut
from twinrun.tables.offsets import total
from twinrun.tables.static import Pins


@dataclass(frozen=True)
class Recorded:
    """One micro-batch. ``watermark_ms`` is the one that it emitted by."""

    number: int
    watermark_ms: int
    has_data: bool
    static: Pins


@dataclass(frozen=True)
class Segment:
    """Micro-batches with data that follow each other, under one version of the static tables.

    ``idle_after``: a micro-batch without data came next, so that the replay must make one too.
    """

    data: tuple[int, ...]
    idle_after: bool
    static: Pins


@dataclass(frozen=True)
class Step:
    """One micro-batch of a replay that stands for a recorded one, and for those since the step before.

    ``number`` is the recorded one, None for the step that stands for those before the first. ``watermark_ms`` is the
    one that it emitted by.
    """

    number: int | None
    watermark_ms: int
    static: Pins


@dataclass(frozen=True)
class Steps:
    """The steps of a replay in order, and of each recorded micro-batch (``micro_batch``) the ``place`` of its step.

    What comes in with a micro-batch that is no step itself comes in with the step before it.
    """

    each: tuple[Step, ...]
    places: DataFrame

    def parts(self, more: int = 0) -> list[Segment]:
        """The steps cut where a static table got another version; ``more`` further ones at the end, then an idle one.

        Never empty where there are steps.
        """
        found: list[Segment] = []
        for place, step in enumerate(self.each):
            if found and found[-1].static == step.static:
                found[-1] = Segment((*found[-1].data, place), False, step.static)
            else:
                found.append(Segment((place,), False, step.static))
        if more:
            end = len(self.each)
            found[-1] = Segment((*found[-1].data, *range(end, end + more)), True, found[-1].static)
        return found


def steps_of(cut: StreamCut, read: DataFrame, *, marked: bool, limit: int | None) -> Steps | int:
    """The steps that give the same rows as the whole recording; their number where there are more than ``limit``.

    A step of its own is each micro-batch in ``read``, and each with which a static table got another version. Under a
    watermark (``marked``) so is the last, by which the cut's rows came out; and the micro-batch before each, unless all
    that was read so far, with it, is newer than its watermark: by that nothing is dropped, and nothing comes out or is
    forgotten. Three small Spark jobs; only steps are collected.

    Parameters
    ----------
    read : DataFrame
        ``micro_batch``, those that read what the replay is about, and ``from_ms``, the oldest event time of each.
    """
    in_order = Window.orderBy("micro_batch")
    reads = read.select("micro_batch", "from_ms", F.lit(True).alias("_reads"))
    log = cut.micro_batches.select(
        "micro_batch",
        F.coalesce("watermark_ms", F.lit(0)).alias("watermark_ms"),
        F.to_json("static_versions").alias("static"),
    ).join(reads, "micro_batch", "left")
    before = F.lag("static").over(in_order)
    own = F.coalesce("_reads", F.lit(False)) | F.coalesce(F.col("static") != before, F.lit(False))
    counts = F.min("from_ms").over(in_order) <= F.lag("watermark_ms").over(in_order)
    log = log.withColumns({"_own": own, "_drops": own & F.coalesce(counts, F.lit(False))})
    step = F.col("_own")
    if marked:
        step = step | F.coalesce(F.lead("_drops").over(in_order), F.lit(False))
        step = step | (F.col("micro_batch") == F.lit(cut.committed.micro_batch))
    log = log.withColumn("_step", step)
    log = log.withColumn("place", F.sum(F.col("_step").cast("bigint")).over(in_order) - F.lit(1)).localCheckpoint()
    count = log.filter("_step").count()
    if limit is not None and count > limit:
        return count
    rows = log.filter("_step").orderBy("place").collect()
    found = [
        Step(row["micro_batch"], row["watermark_ms"], json.loads(row["static"]) if row["static"] else cut.static)
        for row in rows
    ]
    first = 0
    if found and found[0].number and marked:  # what moved the watermark before the first of them comes in first
        found.insert(0, Step(None, 0, found[0].static))
        first = 1
    places = log.select("micro_batch", (F.col("place") + F.lit(first)).alias("place"))
    return Steps(tuple(found), places.filter(F.col("place") >= 0))


def recorded(cut: StreamCut) -> list[Recorded]:
    """The micro-batches up to the cut, in order. One Spark job.

    As many small rows as micro-batches are collected: ask for a recording that is no longer than
    ``verify.max_replay_micro_batches``.
    """
    ends = F.aggregate("end_offsets", F.lit(0).cast("bigint"), lambda total, end: total + end["offset"])
    rows = (
        cut.micro_batches.select(
            "micro_batch", "watermark_ms", ends.alias("ends"), F.to_json("static_versions").alias("static")
        )
        .orderBy("micro_batch")
        .collect()
    )
    before = total(cut.start)
    found: list[Recorded] = []
    for row in rows:
        static = json.loads(row["static"]) if row["static"] else cut.static
        # A query that starts at the newest offsets has a first micro-batch that reads nothing. No watermark made Spark
        # run it, so that the replay runs it as one whose files are empty.
        has_data = row["ends"] > before or not found
        found.append(Recorded(row["micro_batch"], row["watermark_ms"] or 0, has_data, static))
        before = row["ends"]
    return found


def segments(record: list[Recorded]) -> list[Segment]:
    """Cut the recording at each micro-batch without data, and where a static table got another version."""
    found: list[Segment] = []
    data: list[int] = []
    static: Pins = record[0].static if record else {}
    for each in record:
        if each.static != static and data:
            found.append(Segment(tuple(data), False, static))
            data = []
        static = each.static
        if each.has_data:
            data.append(each.number)
        else:
            found.append(Segment(tuple(data), True, static))
            data = []
    if data:
        found.append(Segment(tuple(data), False, static))
    return found
