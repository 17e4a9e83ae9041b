"""Which tables a warehouse has, and which of their versions and files somebody still needs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import TableError
from twinrun.maintain.result import Pin
from twinrun.results.records import APPLIED, HealRecord, heals_of
from twinrun.results.state import BATCH, STREAM
from twinrun.tables.delta import read_table, table_exists
from twinrun.tables.static import static_ref

# Which tables a warehouse has, and whose work a change of their files could meet: read from the control table.


ERASURE = "erasure"
_KINDS = (STREAM, BATCH, "decode", "ingest")


@dataclass(frozen=True)
class KeptTable:
    """One table.

    Attributes
    ----------
    table : str
        Its name in ``layout``.
    writers : tuple of str
        Leases under which it is appended to.
    rewriters : tuple of str
        Leases under which rows of it are replaced: a compaction that ran beside could make that work fail.
    compact : bool
        Whether a new version without any change may be made; not of static tables, whose versions runs compare.
    """

    table: str
    ref: str
    writers: tuple[str, ...] = ()
    rewriters: tuple[str, ...] = ()
    compact: bool = True


@dataclass(frozen=True)
class Known:
    """What the control table knows, newest record each.

    Attributes
    ----------
    streams, batches : dict
        State by job, as in `twinrun.results.state`.
    stream_tables : dict
        By job, every table that its streams ever wrote.
    sources, topics : tuple of str
        Sources that were decoded, topics that were landed.
    erased_at : dict
        By table reference, the version of the last erasure: older ones hold what was erased.
    """

    streams: dict[str, dict[str, Any]]
    batches: dict[str, dict[str, Any]]
    stream_tables: dict[str, tuple[str, ...]]
    sources: tuple[str, ...]
    topics: tuple[str, ...]
    erased_at: dict[str, int] = field(default_factory=dict)

    @property
    def jobs(self) -> tuple[str, ...]:
        """Every job that ever ran in a mode."""
        return tuple(sorted({*self.streams, *self.batches}))

    @property
    def static(self) -> tuple[str, ...]:
        """Static tables that a run pinned."""
        states = [*self.streams.values(), *self.batches.values()]
        return tuple(sorted({name for state in states for name in state["static"]}))


def known(spark: SparkSession, cfg: Config) -> Known:
    """Read the control table. Two Spark jobs; a row per job, source, topic and table is collected.

    Raises
    ------
    TableError
        There is no control table: nothing ever ran on this warehouse.
    """
    ref = cfg.table("control")
    if not table_exists(spark, ref):
        raise TableError(
            f"there is no control table at {ref}: nothing has run on this warehouse yet.",
            fix="correct warehouse in the configuration, or run the jobs first",
        )
    rows = (
        read_table(spark, ref)
        .filter(F.col("kind").isin(*_KINDS))
        .groupBy("kind", "subject")
        .agg(
            F.max_by("payload", "seq").alias("payload"),
            F.sort_array(F.collect_set(F.get_json_object("payload", "$.table"))).alias("tables"),
        )
        .collect()
    )
    versions = F.from_json(F.get_json_object("payload", "$.versions"), "map<string,bigint>")
    erased = read_table(spark, ref).filter(F.col("kind") == ERASURE).select(F.explode(versions).alias("ref", "version"))
    by_kind = {kind: {r["subject"]: r for r in rows if r["kind"] == kind} for kind in _KINDS}
    return Known(
        streams={job: json.loads(row["payload"]) for job, row in by_kind[STREAM].items()},
        batches={job: json.loads(row["payload"]) for job, row in by_kind[BATCH].items()},
        stream_tables={job: tuple(row["tables"]) for job, row in by_kind[STREAM].items()},
        sources=tuple(sorted(by_kind["decode"])),
        topics=tuple(sorted(by_kind["ingest"])),
        erased_at={row[0]: row[1] for row in erased.groupBy("ref").agg(F.max("version")).collect()},
    )


def places(cfg: Config, found: Known) -> tuple[KeptTable, ...]:
    """Every table of twinrun's own, in the order of the data; whether it is there is not looked at. No Spark job."""
    verifies = tuple(f"verify:{job}" for job in found.jobs)
    runs = tuple(f"{mode}:{job}" for job in found.jobs for mode in ("batch", "stream"))
    made = [KeptTable("bronze", cfg.table("bronze", topic=topic), (f"ingest:{topic}",)) for topic in found.topics]
    for source in found.sources:
        made += [
            KeptTable(kind, cfg.table(kind, source=source), rewriters=(f"decode:{source}",))
            for kind in ("events", "quarantine")
        ]
    for job, state in found.batches.items():
        made.append(KeptTable("batch_results", state["table"], rewriters=(f"batch:{job}", f"verify:{job}")))
    for job, tables in found.stream_tables.items():
        lease, verify = (f"stream:{job}",), (f"verify:{job}",)  # a heal holds the lease of verify
        for table in tables:
            replaces = table == found.streams[job]["table"] and _merges(found.streams[job])
            made.append(
                KeptTable("stream_results", table, () if replaces else lease, (*lease, *verify) if replaces else verify)
            )
    own_static = [name for name in found.static if name in cfg.tables and cfg.tables[name].format != "delta"]
    made += [KeptTable("static", cfg.table("static", table=name), runs, compact=False) for name in own_static]
    made += [KeptTable("control", cfg.table("control")), KeptTable("micro_batches", cfg.table("micro_batches"), runs)]
    made += [KeptTable(name, cfg.table(name), verifies) for name in ("ledger", "differences", "erased")]
    made += [KeptTable(name, cfg.table(name), rewriters=verifies) for name in ("late_events", "duplicate_events")]
    return tuple(made)


def _merges(state: dict[str, Any]) -> bool:
    """Whether the stream replaces rows of its table; a running append is never in the way of a compaction."""
    text = state["fingerprint"].get("emit")
    return text is None or json.loads(text)[0] == "updates"


# Which older versions of tables somebody still reads: the next verify, what-if, heal or undo, and recorded runs.


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
