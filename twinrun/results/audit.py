"""Conservation: bronze = valid + quarantine, and offsets without holes, checked on every verify."""

from __future__ import annotations

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from twinrun.broker.topics import TopicInfo
from twinrun.config.model import Config
from twinrun.events.source import Source
from twinrun.results.verdict import Audit, QuarantineCount
from twinrun.tables.delta import read_table
from twinrun.tables.gone import Gone
from twinrun.tables.offsets import Offsets, at_or_after, before, count_partitions
from twinrun.wording import plural, worded

NOTHING = Gone()
_GAPPY = ("compact",)


def audit_source(
    spark: SparkSession, cfg: Config, source: Source, ends: Offsets, topic: TopicInfo | None, gone: Gone = NOTHING
) -> Audit:
    """Count what bronze, events and quarantine hold below ``ends``. Two Spark jobs over two narrow columns.

    What has expired is counted in none of them; an erased record counts as one that is not missing.
    """
    name = cfg.source(source.name).topic
    inside = before(ends, "partition", "offset") & at_or_after(gone.ends, "partition", "offset")
    bronze = read_table(spark, cfg.table("bronze", topic=name)).filter(inside)
    erased = None if gone.erased is None else gone.erased.filter(inside)
    places = bronze.select("partition", "offset")
    if erased is not None:
        places = places.unionByName(erased.select("partition", "offset"))
    counted = count_partitions(places, "partition", "offset")
    rows = sum(part.rows for part in counted.values()) - (0 if erased is None else erased.count())
    missing = sum(part.missing for part in counted.values())
    # Expiry took a whole beginning: what follows it must be there.
    missing += sum(max(0, counted[p].first - end) for p, end in gone.ends.items() if p in counted)
    repeated = sum(part.repeated for part in counted.values())
    unlanded = [p for p, end in ends.items() if end > gone.ends.get(p, 0) and p not in counted]
    kept = before(ends) & at_or_after(gone.ends)
    events = read_table(spark, cfg.table("events", source=source.name)).filter(kept)
    refused = read_table(spark, cfg.table("quarantine", source=source.name)).filter(kept)
    still_refused = refused.filter(F.col("_requeued_seq").isNull())
    marked = events.select(F.lit(True).alias("valid")).unionByName(still_refused.select(F.lit(False).alias("valid")))
    valid, quarantined = marked.agg(F.count_if("valid"), F.count_if(~F.col("valid"))).collect()[0]
    allowed = gaps_allowed(source, topic)
    notes = []
    if missing and not allowed:
        notes.append(
            f"{worded(missing, 'offset is', 'offsets are')} missing in bronze though the topic should have no gaps"
        )
    if repeated:
        notes.append(f"{worded(repeated, 'record stands', 'records stand')} in bronze more than once")
    if valid + quarantined != rows:
        notes.append(
            f"bronze has {plural(rows, 'record')}, but {valid} valid and {quarantined} quarantined make "
            f"{valid + quarantined}"
        )
    if unlanded:
        notes.append(f"partitions {unlanded} have no record in bronze")
    return Audit(
        source=source.name,
        bronze_rows=rows,
        valid_rows=valid,
        quarantined_rows=quarantined,
        missing_offsets=missing,
        repeated_offsets=repeated,
        gaps_allowed=allowed,
        ok=not notes,
        note="; ".join(notes),
    )


def gaps_allowed(source: Source, topic: TopicInfo | None) -> bool:
    """Whether missing offsets are normal: as declared, else for a compacted topic. Unknown topics have none."""
    if source.offsets is not None:
        return source.offsets == "gaps"
    policy = topic.config.get("cleanup.policy", "") if topic else ""
    return any(word in policy for word in _GAPPY)


def quarantine_counts(spark: SparkSession, cfg: Config, source: Source) -> tuple[QuarantineCount, ...]:
    """Open quarantine by rule, each with one example. One Spark job; a row per rule is collected."""
    place = F.concat_ws(
        " ",
        F.col("_topic"),
        F.concat(F.lit("partition "), F.col("_partition")),
        F.concat(F.lit("offset "), F.col("_offset")),
    )
    rows = (
        read_table(spark, cfg.table("quarantine", source=source.name))
        .filter(F.col("_requeued_seq").isNull())
        .groupBy("_rule")
        .agg(
            F.count("*").alias("n"),
            F.min_by(place, F.struct("_partition", "_offset")).alias("place"),
            F.min_by("_reason", F.struct("_partition", "_offset")).alias("reason"),
        )
        .orderBy("_rule")
        .collect()
    )
    return tuple(QuarantineCount(source.name, r["_rule"], r["n"], r["place"], r["reason"] or "") for r in rows)
