"""Explain the rows that differ: recompute both sides from the events that each used, and keep what is proven."""

from __future__ import annotations

from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DateType, DecimalType, TimestampNTZType, TimestampType

from twinrun.compare.drilldown import differing_pairs, public_rows
from twinrun.compare.frame import prepare
from twinrun.compare.schema import plan_schema
from twinrun.config.model import Config
from twinrun.events.decode import event_schema
from twinrun.events.json_ import quoted
from twinrun.explain.counterfactual import batch_rows, stream_rows
from twinrun.explain.evidence import causes_of, count_causes, events_by_cause, mark_events
from twinrun.job.job import Job
from twinrun.job.lineage import unchanged_fields
from twinrun.results.cut import StreamCut
from twinrun.results.state import BatchState
from twinrun.results.touched import TimeRange, events_of, in_ranges, join_ranges
from twinrun.tables.delta import Commit, append, read_table, table_exists
from twinrun.tables.static import read_static


@dataclass(frozen=True)
class Found:
    """The differing rows of one verify, as `twinrun.compare.drilldown.public_rows` gives them."""

    verify_id: str
    rows: DataFrame


EXACT_TIMES = {"timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX", "ignoreNullFields": "false"}


@dataclass(frozen=True)
class Explained:
    """What a verify wrote to ``differences``, and how many events each proven cause is about.

    ``rows`` has ``key_id``, ``batch`` and ``stream`` (JSON), ``window_start`` (null without windows), ``kind``,
    ``columns``, ``verdict`` and ``causes`` (events by cause, for this row).
    """

    rows: DataFrame
    events: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Sides:
    """Both results at the cut, closed windows only, without lineage columns."""

    batch: DataFrame
    stream: DataFrame


def explain(
    spark: SparkSession, cfg: Config, job: Job, cut: StreamCut, batch: BatchState, sides: Sides, found: Found
) -> Explained:
    """Give each differing row a ``verdict`` and its ``causes``, and keep it in the ``differences`` table.

    A row is ``explained`` only if two recomputations hold: the function over the events that the stream used gives
    the stream's row, and the function over all events gives the batch's row. Otherwise it is ``unexplained``; with a
    hole in the micro-batch log it is ``evidence_expired``. About eight Spark jobs over the differing windows only.
    """
    keyed = found.rows.withColumn("key_id", F.to_json("key", EXACT_TIMES)).localCheckpoint()
    if cut.missing > 0:
        return Explained(_keep(spark, cfg, job, found, _verdict(keyed, "evidence_expired")))
    source = job.sources[0]
    events = read_table(spark, cfg.table("events", source=source.name), batch.events_version[source.name])
    ranges: list[TimeRange] = []
    if job.windowed:
        starts = keyed.select(F.unix_millis("window").alias("s")).filter(F.col("s").isNotNull()).distinct()
        ranges = join_ranges(starts, job.slide_ms or 1)
        if not ranges:  # only rows without a window: nothing that events could prove
            return Explained(_keep(spark, cfg, job, found, _verdict(keyed, "unexplained")))
        events = events_of(events, job, ranges)
    topic = cfg.source(source.name).topic
    # Cut off from its plan: five later plans stand on it, and planning them anew costs more than their data.
    marked = mark_events(events, requeued(spark, cfg, job), job, cut, topic).localCheckpoint()
    names = [field.name for field in event_schema(source)]
    used_by_stream = stream_rows(job, marked, names, read_static(spark, cfg, cut.static))
    used_by_batch = batch_rows(job, marked, names, read_static(spark, cfg, batch.static))
    wrong_stream = _differing_keys(job, used_by_stream, sides.stream, ranges)
    wrong_batch = _differing_keys(job, used_by_batch, sides.batch, ranges)
    wrong = wrong_stream.unionByName(wrong_batch).distinct().withColumn("_wrong", F.lit(True))
    evidence = count_causes(marked, job, unchanged_fields(used_by_batch, marked, job.keys))
    with_causes = causes_of(keyed, evidence).join(wrong, "key_id", "left")
    static_differs = bool(job.tables) and cut.static != batch.static and not cut.static_mixed
    causes = F.map_concat("causes", _static_cause(static_differs))
    proven = F.col("_wrong").isNull() & (F.size(causes) > 0)
    verdict = F.when(proven, F.lit("explained")).otherwise(F.lit("unexplained"))
    judged = with_causes.withColumn("verdict", verdict).withColumn("causes", causes)
    kept = _keep(spark, cfg, job, found, judged)
    proven_keys = kept.filter(F.col("verdict") == "explained").select("key_id").distinct()
    return Explained(kept, events_by_cause(keyed.join(proven_keys, "key_id", "left_semi"), evidence))


def closed(job: Job, results: DataFrame, watermark_ms: int | None) -> DataFrame:
    """Rows of windows that the stream had to emit: their end is at or before the watermark. All rows without one."""
    if not waits_for_close(job):
        return results
    return results.filter(window_end_ms(job) <= F.lit(watermark_ms or 0))


def waits_for_close(job: Job) -> bool:
    """Whether rows come out only when their window closes."""
    return job.windowed and job.emit == "final"


def window_end_ms(job: Job) -> Column:
    """End of a row's window in epoch milliseconds."""
    return F.unix_millis(F.col(quoted(job.window_column))) + F.lit(job.window_ms)


def _differing_keys(job: Job, expected: DataFrame, actual: DataFrame, ranges: list[TimeRange]) -> DataFrame:
    if ranges:
        expected = expected.filter(in_ranges(job.window_column, ranges))
        actual = actual.filter(in_ranges(job.window_column, ranges))
    window = job.window_column if job.windowed else None
    plan = plan_schema(expected.schema, actual.schema, job.keys, window, job.tolerances)
    sides = prepare(expected, plan, "batch", None, 1), prepare(actual, plan, "stream", None, 1)
    rows = public_rows(differing_pairs(*sides, plan), plan)
    return rows.select(F.to_json("key", EXACT_TIMES).alias("key_id"))


def requeued(spark: SparkSession, cfg: Config, job: Job) -> DataFrame | None:
    """Records that left quarantine later than they were refused; None where nothing ever was. Lazy."""
    ref = cfg.table("quarantine", source=job.sources[0].name)
    if not table_exists(spark, ref):
        return None
    return read_table(spark, ref).filter(F.col("_requeued_at").isNotNull())


def _static_cause(differs: bool) -> Column:
    entry = F.create_map(F.lit("static_version"), F.lit(0).cast("bigint"))
    return entry if differs else F.map_filter(entry, lambda _key, _count: F.lit(False))


def _keep(spark: SparkSession, cfg: Config, job: Job, found: Found, judged: DataFrame) -> DataFrame:
    ref = cfg.table("differences")
    rows = judged.select(
        F.lit(found.verify_id).alias("verify_id"),
        F.lit(job.job_name).alias("job"),
        "key_id",
        (F.col("window") if job.windowed else F.lit(None)).cast("timestamp").alias("window_start"),
        "kind",
        "copy",
        "columns",
        as_text(judged, "batch").alias("batch"),
        as_text(judged, "stream").alias("stream"),
        "verdict",
        F.col("causes").cast("map<string,bigint>").alias("causes"),
    )
    append(rows, ref, Commit(app_id=f"differences:{found.verify_id}", version=1))
    return read_table(spark, ref).filter(F.col("verify_id") == found.verify_id)


def as_text(frame: DataFrame, side: str) -> Column:
    """A side's row as JSON: decimals and times as text, so that no digit is lost; null where the side has no row."""
    struct = frame.select(f"{side}.*").schema
    exact = (DecimalType, TimestampType, TimestampNTZType, DateType)
    names = [field.name for field in struct if isinstance(field.dataType, exact)]
    cells = [
        (F.col(side)[field.name].cast("string") if field.name in names else F.col(side)[field.name]).alias(field.name)
        for field in struct
    ]
    return F.when(F.col(side).isNotNull(), F.to_json(F.struct(*cells), EXACT_TIMES))


def _verdict(keyed: DataFrame, verdict: str) -> DataFrame:
    return keyed.withColumns({"verdict": F.lit(verdict), "causes": F.create_map().cast("map<string,bigint>")})
