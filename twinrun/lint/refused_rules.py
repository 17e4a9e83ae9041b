"""Rules TR1..: what one of the two modes refuses to run."""

from __future__ import annotations

from twinrun.lint.result import Rule, Shown


def _refused(number: int, title: str, why: str, instead: str, shown: Shown = "spark") -> Rule:
    return Rule(f"TR{number}", title, "refused", why, instead, shown)


REFUSED: tuple[Rule, ...] = (
    _refused(
        101,
        "distinct aggregate",
        "A stream cannot count distinct values: it would have to keep all of them beside the aggregate.",
        "F.size(F.collect_set(x)) is exact in both modes; F.approx_count_distinct(x) is small",
    ),
    _refused(
        102,
        "window function over rows",
        "A stream never has all rows of a partition, so row_number, lag, rank and running sums do not exist there.",
        "F.max_by or F.min_by over a total order for the first or last row; transformWithState for the last n",
    ),
    _refused(
        103,
        "sort",
        "A stream has no end at which it could sort, within partitions neither.",
        "leave it out: a result table has no order; sort where it is read",
    ),
    _refused(
        104,
        "limit with emit='updates'",
        "A stream that updates rows cannot keep a limit.",
        "leave it out, or take the first rows where the table is read",
    ),
    _refused(105, "offset", "A stream has no first rows that could be skipped.", "a filter on a column"),
    _refused(
        106,
        "sample",
        "A stream cannot sample, and each mode would draw other rows.",
        "a filter by a hash of the key: F.pmod(F.xxhash64('id'), F.lit(100)) < 5",
    ),
    _refused(
        107,
        "pivot",
        "Without a list of values a pivot looks at the data first, which a stream cannot do; with a list it is two "
        "aggregations, which emit='updates' does not run.",
        "one conditional aggregate per value: F.sum(F.when(F.col('kind') == 'a', F.col('n')))",
    ),
    _refused(
        108,
        "intersect",
        "A stream cannot intersect.",
        "a left-semi join with a static table, or an inner join with an event-time range between streams",
    ),
    _refused(
        109,
        "except",
        "A stream cannot stand on the right of an except; with a static table there, emit='final' fails when the query "
        "starts.",
        "a left-anti join of the events with the static table",
    ),
    _refused(
        110,
        "union of events with static rows",
        "A stream and a static frame cannot be united.",
        "send the static rows as events, or unite where the result is read",
    ),
    _refused(
        111,
        "join that keeps rows of a static table",
        "Static rows without a partner can only be told at the end of the events, which a stream does not have.",
        "the events on the left, and an inner, left, left-semi or left-anti join",
    ),
    _refused(
        112,
        "left-anti join of two streams",
        "A stream never knows that no partner will come.",
        "a left outer join with an event-time range, then keep the rows without a partner",
    ),
    _refused(
        113,
        "join of two streams without an equality",
        "State is kept by key; the query fails when it starts.",
        "add an equality to the condition, for instance of a time bucket",
        "run",
    ),
    _refused(
        114,
        "outer or semi join of two streams without a time range",
        "Without watermarks and a range between the event times no row can be given up as partnerless.",
        "lateness on both sources, and b.ts BETWEEN a.ts AND a.ts + an interval in the condition",
    ),
    _refused(
        115,
        "outer join of two streams with emit='updates'",
        "Its null rows are final, so Spark runs it only with emit='final'.",
        "emit='final', or an inner join",
    ),
    _refused(
        116,
        "chained stateful operators",
        "The second one would drop rows that the first still changes: one watermark serves both.",
        "emit='final' and group the second time by F.window(F.window_time('window'), ...)",
    ),
    _refused(
        117,
        "session window with emit='updates'",
        "A session that grows changes its key, so its old row could not be found again.",
        "emit='final' and a gap in the job",
    ),
    _refused(
        118,
        "session window without another key",
        "A stream merges sessions per key; the query fails when it starts.",
        "group by a key too, or by a tumbling window",
        "run",
    ),
    _refused(
        119,
        "grouped aggregate in pandas or Arrow",
        "Its state cannot be kept between micro-batches; the query fails when it starts.",
        "built-in aggregates, or F.aggregate over a sorted F.collect_list",
        "run",
    ),
    _refused(
        120,
        "monotonically_increasing_id",
        "The number depends on partitions; a stream refuses it.",
        "_topic, _partition and _offset: they name an event in both modes",
    ),
    _refused(
        121,
        "stream inside a subquery",
        "A subquery needs all events at once.",
        "a join",
    ),
    _refused(
        122,
        "session with a gap of 0 or less",
        "Such a session holds no time, so that both modes drop every event, without a word.",
        "a gap above 0",
        "run",
    ),
    _refused(
        123,
        "aggregation without an end",
        "emit='final' needs to know when a group is over, and nothing it is grouped by has the watermark.",
        "group by F.window of the source's event time, or emit='updates'",
    ),
    _refused(
        124,
        "watermark beside the source's",
        "A frame has one watermark, and the source's lateness has set it; the query fails when it starts.",
        "Source(lateness=..) alone",
        "run",
    ),
    _refused(
        130,
        "action",
        "It looks at the data: a stream refuses it, and in batch it runs before the result does.",
        "DataFrame operations only; put a number that is needed into a static table",
    ),
    _refused(
        131,
        "materialisation",
        "cache, persist, checkpoint and rdd need all rows now; a stream refuses them.",
        "leave it out: the runners decide what is kept",
    ),
    _refused(
        132,
        "write",
        "A job has no output of its own: the runners write, once and in both modes the same.",
        "return the DataFrame",
    ),
    _refused(
        141,
        "dropDuplicatesWithinWatermark",
        "Batch refuses it.",
        "Source(distinct=[..]), which has its own operator in each mode, or dropDuplicates of key and event time",
    ),
    _refused(
        142,
        "applyInPandasWithState",
        "Batch refuses it when the run begins.",
        "built-in aggregates, or transformWithState, which runs in both modes",
    ),
    _refused(
        199,
        "refused by Spark",
        "Spark says so when the query would start.",
        "what Spark's sentence says",
    ),
)
