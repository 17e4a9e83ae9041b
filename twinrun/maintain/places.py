"""Which tables a warehouse has, and whose work a change of their files could meet: read from the control table."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import TableError
from twinrun.results.state import BATCH, STREAM
from twinrun.tables.delta import read_table, table_exists

ERASURE = "erasure"
_KINDS = (STREAM, BATCH, "decode", "ingest")


@dataclass(frozen=True)
class Place:
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


def places(cfg: Config, found: Known) -> tuple[Place, ...]:
    """Every table of twinrun's own, in the order of the data; whether it is there is not looked at. No Spark job."""
    verifies = tuple(f"verify:{job}" for job in found.jobs)
    runs = tuple(f"{mode}:{job}" for job in found.jobs for mode in ("batch", "stream"))
    made = [Place("bronze", cfg.table("bronze", topic=topic), (f"ingest:{topic}",)) for topic in found.topics]
    for source in found.sources:
        made += [
            Place(kind, cfg.table(kind, source=source), rewriters=(f"decode:{source}",))
            for kind in ("events", "quarantine")
        ]
    for job, state in found.batches.items():
        made.append(Place("batch_results", state["table"], rewriters=(f"batch:{job}", f"verify:{job}")))
    for job, tables in found.stream_tables.items():
        lease, verify = (f"stream:{job}",), (f"verify:{job}",)  # a heal holds the lease of verify
        for table in tables:
            replaces = table == found.streams[job]["table"] and _merges(found.streams[job])
            made.append(
                Place("stream_results", table, () if replaces else lease, (*lease, *verify) if replaces else verify)
            )
    own_static = [name for name in found.static if name in cfg.tables and cfg.tables[name].format != "delta"]
    made += [Place("static", cfg.table("static", table=name), runs, compact=False) for name in own_static]
    made += [Place("control", cfg.table("control")), Place("micro_batches", cfg.table("micro_batches"), runs)]
    made += [Place(name, cfg.table(name), verifies) for name in ("ledger", "differences", "erased")]
    made += [Place(name, cfg.table(name), rewriters=verifies) for name in ("late_events", "duplicate_events")]
    return tuple(made)


def _merges(state: dict[str, Any]) -> bool:
    """Whether the stream replaces rows of its table; a running append is never in the way of a compaction."""
    text = state["fingerprint"].get("emit")
    return text is None or json.loads(text)[0] == "updates"
