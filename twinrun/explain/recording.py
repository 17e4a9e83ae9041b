"""What a stream did, as a list of micro-batches that can be done again: which had data, and where it was restarted."""

from __future__ import annotations

import json
from dataclasses import dataclass

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
