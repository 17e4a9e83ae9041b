"""Which older versions of tables somebody still reads: the next verify, what-if, heal or undo, and recorded runs."""

from __future__ import annotations

from collections.abc import Iterable

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.maintain.places import Known
from twinrun.maintain.result import Pin
from twinrun.results.heals import APPLIED, HealRecord, heals_of
from twinrun.tables.delta import read_table, table_exists
from twinrun.tables.static import static_ref

Pins = dict[str, tuple[Pin, ...]]
"""Table reference to its pinned versions, oldest first, each version once."""

_Found = tuple[str, int, str]


def pins_of(spark: SparkSession, cfg: Config, found: Known) -> Pins:
    """Every pinned version. One small Spark job per job of the warehouse, and about three more.

    * the last batch run of a job: its result, the events and static tables that it read;
    * the last verify of a job: what a heal would read;
    * heals that stand: the version of the heal and the one before, which its undo and every later proof read;
    * static tables by the state of each stream, and by each logged micro-batch of its query: replays read them.
    """
    pinned = [*_of_batches(cfg, found), *_of_streams(spark, cfg, found), *_of_verifies(spark, cfg, found)]
    for job in found.jobs:
        pinned += of_heals(heals_of(spark, cfg, job))
    return gathered(still_allowed(pinned, found.erased_at))


def gathered(pinned: Iterable[_Found]) -> Pins:
    """Pins by table; a version that several pin counts once, with all reasons. Pure."""
    by_table: dict[str, dict[int, list[str]]] = {}
    for ref, version, why in pinned:
        reasons = by_table.setdefault(ref, {}).setdefault(version, [])
        if why not in reasons:
            reasons.append(why)
    return {
        ref: tuple(Pin(version, ", ".join(reasons)) for version, reasons in sorted(versions.items()))
        for ref, versions in by_table.items()
    }


def still_allowed(pinned: Iterable[_Found], erased_at: dict[str, int]) -> list[_Found]:
    """Without versions from before an erasure of the table: they must go, whoever reads them. Pure."""
    return [pin for pin in pinned if pin[1] >= erased_at.get(pin[0], 0)]


def of_heals(records: Iterable[HealRecord]) -> list[_Found]:
    """A heal that stands needs its own version and the one before. Pure."""
    return [
        (heal.table, version, f"heal {heal.id}")
        for heal in records
        if heal.state == APPLIED and heal.version is not None
        for version in (heal.version - 1, heal.version)
    ]


def _of_batches(cfg: Config, found: Known) -> list[_Found]:
    pinned = []
    for job, state in found.batches.items():
        why = f"batch of {job}"
        pinned.append((state["table"], state["table_version"], why))
        pinned += [(cfg.table("events", source=s), version, why) for s, version in state["events_version"].items()]
        pinned += _static(cfg, state["static"], why)
    return pinned


def _of_streams(spark: SparkSession, cfg: Config, found: Known) -> list[_Found]:
    pinned = []
    for job, state in found.streams.items():
        pinned += _static(cfg, state["static"], f"stream of {job}")
    queries = {state["query_id"]: job for job, state in found.streams.items() if state["query_id"]}
    ref = cfg.table("micro_batches")
    if not queries or not table_exists(spark, ref):
        return pinned
    log = read_table(spark, ref).filter(F.col("query_id").isin(*queries))
    seen = log.select("query_id", F.explode("static_versions").alias("name", "version")).distinct().collect()
    for row in seen:
        pinned += _static(cfg, {row["name"]: row["version"]}, f"stream of {queries[row['query_id']]}")
    return pinned


def _of_verifies(spark: SparkSession, cfg: Config, found: Known) -> list[_Found]:
    ref = cfg.table("ledger")
    if not table_exists(spark, ref):
        return []
    cut = F.struct("query_id", "stream_version", "batch_version")
    newest = read_table(spark, ref).groupBy("job").agg(F.max_by(cut, "verified_at_ms").alias("cut")).collect()
    pinned = []
    for row in newest:
        job, cut_of = row["job"], row["cut"]
        stream, batch = found.streams.get(job), found.batches.get(job)
        if stream is not None and stream["query_id"] == cut_of["query_id"]:
            pinned.append((stream["table"], cut_of["stream_version"], f"verify of {job}"))
        if batch is not None:
            pinned.append((batch["table"], cut_of["batch_version"], f"verify of {job}"))
    return pinned


def _static(cfg: Config, versions: dict[str, int], why: str) -> list[_Found]:
    return [(static_ref(cfg, name), version, why) for name, version in versions.items() if name in cfg.tables]
