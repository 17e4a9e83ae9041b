"""How a late event came to be late: it arrived late, or it lay in Kafka in time and was read late.

An event is late by the watermark, and the watermark was moved by other events. The evidence is the order in which
Kafka got them. **Arrived late**: when the event came, Kafka already held what moves the watermark past its window, so
that no reader could have been in time who reads in the order of arrival. **Read late**: the event lay in Kafka before
any of that did; its partition was read behind the others.

An event came when its Kafka timestamp says, but not before those that were read earlier from its own partition: a
producer may stamp records as it likes, and a partition has one order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from twinrun.comparator.digest import sent
from twinrun.events.exact import quoted
from twinrun.events.source import Source
from twinrun.explain.used import PASSED_FROM, USED
from twinrun.job.passing import EVERY, Passage
from twinrun.results.cut import StreamCut
from twinrun.results.verdict import Arrival, PartitionBehind, PartitionPoint
from twinrun.tables.checkpoint import total
from twinrun.tables.listed import Question

ARRIVED, READ, NOT_TOLD = "arrived_late", "read_late", "not_told"
MOST_PARTITIONS = 8
MOST_STEPS = 200
_BUCKETS = 10_000


@dataclass(frozen=True)
class Read:
    """Events of one source that the stream used, with ``_micro_batch``, and which of them move the watermark.

    ``steps``: what each micro-batch read from each partition, see `steps_of`; None: worked out where it is asked for.
    """

    source: Source
    topic: str
    marked: DataFrame
    passage: Passage = EVERY
    steps: DataFrame | None = None

    @property
    def events(self) -> DataFrame:
        """Those that the stream read and did not refuse."""
        return self.marked.filter(F.col(USED) & F.col("_micro_batch").isNotNull())

    @property
    def moment(self) -> Column:
        """The event time in epoch milliseconds."""
        return F.unix_millis(F.col(quoted(self.source.event_time)))


def steps_of(read: Read) -> DataFrame:
    """By partition and micro-batch, of the events that the stream used: newest event time and newest Kafka timestamp.

    Columns ``topic``, ``partition``, ``micro_batch``, ``newest_ms`` and ``known_ms`` (epoch ms). Lazy where the read
    has none yet; else what it has.
    """
    if read.steps is not None:
        return read.steps
    keys = [F.col(f"_{name}").alias(name) for name in ("topic", "partition", "micro_batch")]
    known = F.max(F.unix_millis("_kafka_timestamp")).alias("known_ms")
    return read.events.groupBy(*keys).agg(F.max(read.moment).alias("newest_ms"), known)


def with_steps(reads: Sequence[Read]) -> list[Read]:
    """The reads with their steps at hand: one look at the events of all sources, by whatever asks first."""
    each = [steps_of(read).withColumn("source", F.lit(read.source.name)) for read in reads]
    found = reduce(DataFrame.unionByName, each).localCheckpoint(eager=False)
    mine = F.col("source")
    return [replace(read, steps=found.filter(mine == read.source.name).drop("source")) for read in reads]


def with_arrival(rows: DataFrame, reads: Sequence[Read]) -> DataFrame:
    """`twinrun.explain.used.late_rows` with ``arrival`` (`ARRIVED`, `READ` or `NOT_TOLD`) and ``passed_at_ms``.

    ``passed_at_ms``: the Kafka timestamp of the first event that moves the watermark past the window's end, of the
    slowest source; null where none is found. One Spark job, and one pass over the events where rows are late.

    Parameters
    ----------
    reads : sequence of Read
        All sources of the job.
    """
    columns = [name for name in rows.columns if name != PASSED_FROM]
    rows = rows.localCheckpoint(eager=False)
    bounds = rows.agg(F.min(PASSED_FROM), F.max(PASSED_FROM), F.approx_count_distinct(PASSED_FROM)).collect()[0]
    timed = [read for read in reads if read.source.lateness_ms is not None]
    if bounds[0] is None or not timed:
        nothing = {"arrival": F.lit(NOT_TOLD), "passed_at_ms": F.lit(None).cast("bigint")}
        return rows.withColumns(nothing).select(*columns, *nothing)
    ends = rows.select(PASSED_FROM).distinct()
    for place, read in enumerate(timed):
        first = _first_past(ends.select(PASSED_FROM), read, bounds[0], bounds[1], bounds[2])
        ends = ends.join(first.withColumnRenamed("passed_ms", f"_passed_{place}"), PASSED_FROM, "left")
    # The watermark of several sources is the least of theirs: it has passed when the last of them has.
    passed, *others = [F.col(f"_passed_{place}") for place in range(len(timed))]
    for one in others:
        passed = F.when(passed.isNull() | one.isNull(), F.lit(None)).otherwise(F.greatest(passed, one))
    ends = ends.select(PASSED_FROM, passed.cast("bigint").alias("passed_at_ms"))
    came = _before(reads)
    joined = rows.join(sent(ends, bounds[2]), PASSED_FROM, "left")
    joined = joined.join(came, ["topic", "partition", "micro_batch"], "left")
    came_ms = F.greatest("known_at_ms", F.coalesce("_before_ms", "known_at_ms"))
    # Before 1970 no event moves a watermark past anything: it begins there.
    not_told = F.col("passed_at_ms").isNull() | (F.col(PASSED_FROM) <= 0)
    joined = joined.withColumn("passed_at_ms", F.when(~not_told, F.col("passed_at_ms")))
    arrival = F.when(F.col("passed_at_ms").isNull(), NOT_TOLD).when(came_ms >= F.col("passed_at_ms"), ARRIVED)
    return joined.withColumn("arrival", arrival.otherwise(READ)).select(*columns, "arrival", "passed_at_ms")


def _first_past(ends: DataFrame, read: Read, low_ms: int, high_ms: int, count: int) -> DataFrame:
    """By end of a window: when Kafka first held an event that moves the source's watermark to it. Lazy.

    A least value over all that is newer. The events are put into buckets by their time; the buckets above an end count
    as a whole, and the events of its own bucket one by one.
    """
    lateness = read.source.lateness_ms or 0
    low, high = low_ms + lateness, high_ms + lateness
    width = (high - low) // _BUCKETS + 1

    def bucket(at: Column) -> Column:
        return F.floor((F.least(at, F.lit(high)) - F.lit(low)) / F.lit(width))

    movers = read.passage.moving(read.events).filter(read.moment >= low)
    movers = movers.select(read.moment.alias("_at"), F.unix_millis("_kafka_timestamp").alias("_known"))
    movers = movers.withColumn("_bucket", bucket(F.col("_at")))
    reached = (F.col(PASSED_FROM) + F.lit(lateness)).alias("_needed")
    marks = ends.select(PASSED_FROM, reached).withColumn("_bucket", bucket(F.col("_needed")))
    firsts = movers.groupBy("_bucket").agg(F.min("_known").alias("_first"))
    places = firsts.unionByName(marks.select("_bucket", F.lit(None).cast("bigint").alias("_first")))
    above = Window.orderBy(F.col("_bucket").desc()).rowsBetween(Window.unboundedPreceding, -1)
    later = places.groupBy("_bucket").agg(F.min("_first").alias("_first"))
    later = later.select("_bucket", F.min("_first").over(above).alias("_above"))
    inside = movers.join(sent(marks, count), "_bucket").filter(F.col("_at") >= F.col("_needed"))
    inside = inside.groupBy(PASSED_FROM).agg(F.min("_known").alias("_within"))
    found = marks.join(later, "_bucket", "left").join(inside, PASSED_FROM, "left")
    return found.select(PASSED_FROM, F.least("_above", "_within").alias("passed_ms"))


def _before(reads: Sequence[Read]) -> DataFrame:
    """By partition and micro-batch: the newest Kafka timestamp that was read from it earlier, ``_before_ms``. Lazy."""
    parts = reduce(DataFrame.unionByName, [steps_of(read).drop("newest_ms") for read in reads])
    earlier = Window.partitionBy("topic", "partition").orderBy("micro_batch")
    earlier = earlier.rowsBetween(Window.unboundedPreceding, -1)
    return parts.withColumn("_before_ms", F.max("known_ms").over(earlier)).drop("known_ms")


def newest_by_micro_batch(read: Read) -> DataFrame:
    """Newest event time that each micro-batch read: ``micro_batch``, ``newest_ms`` (epoch ms). Lazy."""
    return steps_of(read).groupBy("micro_batch").agg(F.max("newest_ms").alias("newest_ms"))


def events_that_count(reads: Sequence[Read]) -> int | None:
    """How many events the stream used that would have reached the result; None where all do, or it cannot be told.

    One Spark job per source of a job that filters, else none.
    """
    passages = [read.passage for read in reads]
    if not all(each.told for each in passages) or all(each.all_reach for each in passages):
        return None
    return sum(read.passage.reaching(read.events).count() for read in reads)


def by_partition(read: Read, cut: StreamCut) -> DataFrame:
    """How far each partition had been read after each micro-batch, in event time. Lazy.

    Columns ``topic``, ``partition``, ``micro_batch``, ``newest_ms`` (newest event time so far, null before the first),
    ``overall_ms`` (of all partitions of the topic), ``since`` (first micro-batch of those, up to this one, in which it
    was more than the lateness behind the newest; null where it is not).
    """
    seen = steps_of(read).drop("known_ms").withColumnRenamed("newest_ms", "_newest")
    partitions = seen.select("topic", "partition").distinct()
    grid = cut.micro_batches.select("micro_batch").crossJoin(partitions)
    upto = Window.partitionBy("topic", "partition").orderBy("micro_batch")
    upto = upto.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    each = grid.join(seen, ["topic", "partition", "micro_batch"], "left")
    each = each.withColumn("newest_ms", F.max("_newest").over(upto))
    overall = F.max("newest_ms").over(Window.partitionBy("topic", "micro_batch"))
    each = each.withColumn("overall_ms", overall)
    lateness = F.lit(read.source.lateness_ms or 0)
    behind = F.coalesce(F.col("newest_ms") + lateness < F.col("overall_ms"), F.col("overall_ms").isNotNull())
    level = F.max(F.when(~behind, F.col("micro_batch"))).over(upto)
    since = F.when(behind, F.coalesce(level + 1, F.lit(0)))
    return each.select("topic", "partition", "micro_batch", "newest_ms", "overall_ms", since.alias("since"))


def arrivals(late: DataFrame | None) -> Question[Arrival | None]:
    """How many late events arrived late and how many were read late; None where none are named.

    An event that is late for several windows was read late if it was so for one.
    """
    if late is None:
        return Question(None, lambda _: None)
    told = "arrival" in late.columns  # else all of it was named by an older twinrun, and cannot be made anew
    found = F.col("arrival") if told else F.lit(None).cast("string")
    rank = F.when(found == READ, 2).when(found == ARRIVED, 1).otherwise(0)
    events = late.groupBy("topic", "partition", "offset").agg(F.max(rank).alias("rank"))
    names = ("not_told", "arrived", "read_late")
    counts = [F.count_if(F.col("rank") == place).alias(name) for place, name in enumerate(names)]

    def read(rows: list[Row]) -> Arrival:
        return Arrival(rows[0]["arrived"], rows[0]["read_late"], rows[0]["not_told"])

    return Question(events.agg(*counts), read)


def with_behind(arrival: Arrival, late: DataFrame, reads: Sequence[Read], cut: StreamCut) -> Arrival:
    """With the partitions that were behind where events were read late. One Spark job per source then, else none."""
    behind: list[PartitionBehind] = []
    for read in reads if arrival.read_late else []:
        mine = late.filter((F.col("arrival") == READ) & (F.col("topic") == read.topic))
        # What was known to the stream when it was judged: up to the micro-batch before its own.
        mine = mine.select("partition", "offset", (F.col("micro_batch") - 1).alias("micro_batch"))
        placed = mine.join(by_partition(read, cut).drop("topic"), ["partition", "micro_batch"], "left")
        rows = placed.groupBy("partition").agg(
            F.count_distinct("offset").alias("events"),
            F.min("since").alias("since"),
            F.max(F.when(F.col("since").isNotNull(), F.col("overall_ms") - F.col("newest_ms"))).alias("behind"),
        )
        behind += [
            PartitionBehind(read.topic, row["partition"], row["events"], row["since"], row["behind"])
            for row in rows.orderBy(F.col("events").desc(), "partition").collect()
        ]
    return replace(arrival, behind=tuple(behind))


def partition_points(
    read: Read, cut: StreamCut, behind: Sequence[PartitionBehind]
) -> Question[tuple[PartitionPoint, ...]]:
    """Progress of the partitions of a source, thinned to `MOST_STEPS` micro-batches and `MOST_PARTITIONS` partitions.

    Those that were behind come first. Empty where fewer than two partitions were read.
    """
    if len(cut.end.get(read.source.name, {})) < 2 or total(cut.end) == total(cut.start):
        return Question(None, lambda _: ())
    step = max(1, -(-(cut.committed.micro_batch + 1) // MOST_STEPS))
    last = F.col("micro_batch") == cut.committed.micro_batch
    few = by_partition(read, cut).filter((F.col("micro_batch") % step == 0) | last)
    late = [each.partition for each in behind if each.topic == read.topic][:MOST_PARTITIONS]
    # In the order in which they are chosen: those that were behind, then by number.
    places = [F.when(F.col("partition") == number, F.lit(place)) for place, number in enumerate(late)]
    place = F.coalesce(*places, F.col("partition") + len(late))
    ranked = few.withColumn("_place", F.dense_rank().over(Window.orderBy(place, "partition")))
    chosen = ranked.filter((F.col("_place") <= MOST_PARTITIONS) & F.col("newest_ms").isNotNull())

    def points(rows: list[Row]) -> tuple[PartitionPoint, ...]:
        if len({row["partition"] for row in rows}) < 2:
            return ()
        rows = sorted(rows, key=lambda row: (row["partition"], row["micro_batch"]))
        return tuple(PartitionPoint(*row) for row in rows)

    return Question(chosen.select("topic", "partition", "micro_batch", "newest_ms"), points)
