"""What a verify found out about the tables of the sources, carried on to the next one.

Bronze and events only grow as a rule. What they hold up to a version is then known from the verify before, and only the
files that were added since are looked at. A fact is used only where the log of the table proves that nothing but
additions has happened since (`twinrun.tables.listed.added_since`); after an erasure, an expiry, a requeue of a changed
table, a compaction or any foreign change everything is looked at again. ``verify --full`` uses no fact.

What is kept are numbers and coordinates, no values: an erased key leaves nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pyspark.sql import SparkSession

from twinrun.config.model import Config
from twinrun.job.job import Job
from twinrun.tables.control import Entry, latest_record
from twinrun.tables.listed import Mark
from twinrun.tables.offsets import Offsets, PartitionCount

KIND = "facts"
"""Kind of the control record, by job."""
_FORM = 1
MOST_REPEATED = 1_000
"""Ids that stand at several offsets, up to which their places are carried on."""


@dataclass(frozen=True)
class Span:
    """Records of one partition, by their number and the offsets of the first and the last."""

    rows: int
    first: int
    last: int

    @property
    def solid(self) -> bool:
        """Whether every offset from the first to the last stands there once, given that none stands there twice."""
        return self.rows == self.last - self.first + 1

    def inside(self, low: int, high: int) -> int:
        """Offsets of a solid span in ``[low, high)``."""
        return max(0, min(self.last + 1, high) - max(self.first, low))


Spans = dict[int, Span]
"""By Kafka partition."""


@dataclass(frozen=True)
class Ids:
    """Where events stand whose id stands at several offsets, up to a version of the events.

    Attributes
    ----------
    names : tuple of str
        The fields that make the id.
    decoded_seq : int
        The decode up to which events count; no event of a later one is in that version.
    places : tuple of (int, int)
        Partition and offset of one event of each such id.
    """

    at: Mark
    names: tuple[str, ...]
    decoded_seq: int
    places: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class SourceFacts:
    """What is known of the tables of one source; None: not known.

    Attributes
    ----------
    bronze : (Mark, dict) or None
        Spans of all partitions; each solid, none with a repeated offset, and no record of the topic erased.
    events : (Mark, dict) or None
        Spans of all partitions, whatever decode they are from.
    last_seq : int
        Number of the last decode that any of those events is from.
    """

    bronze: tuple[Mark, Spans] | None = None
    events: tuple[Mark, Spans] | None = None
    last_seq: int = 0
    ids: Ids | None = None


NOTHING = SourceFacts()


@dataclass(frozen=True)
class Facts:
    """What is known of each source."""

    sources: Mapping[str, SourceFacts] = field(default_factory=dict)

    def of(self, source: str) -> SourceFacts:
        """Of one source; all None where nothing is known."""
        return self.sources.get(source, NOTHING)


def facts_of(spark: SparkSession, cfg: Config, job: Job) -> Facts:
    """What the last verify of the job found. No Spark job within `twinrun.explain.reach.records_pinned`."""
    record = latest_record(spark, cfg, KIND, job.job_name)
    if record is None or record.payload.get("form") != _FORM:
        return Facts()
    return Facts({name: _read(each) for name, each in record.payload["sources"].items()})


def facts_entry(job: Job, facts: Facts) -> Entry:
    """The record of them. Pure."""
    written = {name: asdict(each) for name, each in facts.sources.items()}
    return Entry(KIND, job.job_name, {"form": _FORM, "sources": written})


def behind(old: Spans, new: Spans) -> bool:
    """Whether the new spans begin behind the old ones in every partition: then they have no offset in common. Pure."""
    return all(span.first > old[p].last for p, span in new.items() if p in old)


def grown(old: Spans, new: Spans) -> Spans:
    """Spans of a table after rows were added to it. Pure."""
    both_spans = dict(old)
    for p, span in new.items():
        mine = old.get(p)
        both_spans[p] = (
            span
            if mine is None
            else Span(mine.rows + span.rows, min(mine.first, span.first), max(mine.last, span.last))
        )
    return both_spans


def counted_in(old: Spans, low: Offsets, high: Offsets, stream: tuple[Offsets, Offsets]) -> dict[int, PartitionCount]:
    """How many records of solid spans lie in ``[low, high)``, and in the stream's span of those. Pure.

    A partition that ``low`` does not name begins at 0; one that an end does not name has none.
    """
    counts = {}
    for p, span in old.items():
        first, end = low.get(p, 0), high.get(p, 0)
        rows = span.inside(first, end)
        if rows:
            streamed = span.inside(max(first, stream[0].get(p, 0)), min(end, stream[1].get(p, 0)))
            counts[p] = PartitionCount(p, rows, rows, max(span.first, first), min(span.last + 1, end) - 1, streamed)
    return counts


def whole_in(old: Spans, low: Offsets, high: Offsets) -> int | None:
    """How many records of spans, solid or not, lie in ``[low, high)``; None where a span lies in it in part. Pure."""
    rows = 0
    for p, span in old.items():
        first, end = low.get(p, 0), high.get(p, 0)
        if span.first >= first and span.last < end:
            rows += span.rows
        elif span.last >= first and span.first < end:
            return None
    return rows


def both(one: Mapping[int, PartitionCount], other: Mapping[int, PartitionCount]) -> dict[int, PartitionCount]:
    """Counts of two sets of records that have no offset in common, as those of their union. Pure."""
    counts = dict(one)
    for p, each in other.items():
        mine = counts.get(p)
        counts[p] = (
            each
            if mine is None
            else PartitionCount(
                p,
                mine.rows + each.rows,
                mine.distinct + each.distinct,
                min(mine.first, each.first),
                max(mine.last, each.last),
                mine.inside + each.inside,
            )
        )
    return counts


def _read(payload: Mapping[str, Any]) -> SourceFacts:
    ids = payload["ids"]
    return SourceFacts(
        bronze=_spans(payload["bronze"]),
        events=_spans(payload["events"]),
        last_seq=payload["last_seq"],
        ids=None
        if ids is None
        else Ids(
            Mark(**ids["at"]),
            tuple(ids["names"]),
            ids["decoded_seq"],
            tuple((partition, offset) for partition, offset in ids["places"]),
        ),
    )


def _spans(payload: Any) -> tuple[Mark, Spans] | None:
    if payload is None:
        return None
    at, spans = payload
    return Mark(**at), {int(p): Span(**span) for p, span in spans.items()}
