"""Records of what was done to a job's results: runs of either mode, heals, and records taken out of both modes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import CheckpointError
from twinrun.job.job import Job
from twinrun.tables.control import Record, add_record, latest_record, none_pinned
from twinrun.tables.delta import delta_table, read_table, table_exists
from twinrun.wording import plural

# Which heals a job's results went through: an append-only record of each, the newest state counts.


HEALS = "heal"
METADATA, UNDO_METADATA = "heal", "heal_undone"
"""Names in a commit's user metadata under which a heal and its undo keep their id."""

STARTED, APPLIED, UNDOING, UNDONE = "started", "applied", "undoing", "undone"
_RECENT = 50


@dataclass(frozen=True)
class HealRecord:
    """One heal of a job's stream table.

    Attributes
    ----------
    verify_id : str
        The verify whose explained rows it healed; they stand in the table ``differences``.
    watermark_ms : int or None
        The stream's watermark at that verify: windows that end by then were final.
    stream_version, batch_version : int
        Delta versions of the two tables that the plan was made from.
    state : str
        ``started`` until the commit is recorded, then ``applied``; ``undoing`` and ``undone``.
    version, undone_version : int or None
        Delta versions of the stream's table that hold its commit and that of its undo.
    """

    id: str
    verify_id: str
    query_id: str
    table: str
    watermark_ms: int | None
    stream_version: int
    batch_version: int
    rows: int
    causes: dict[str, int]
    at_ms: int
    state: str
    version: int | None = None
    undone_version: int | None = None


def save_heal(spark: SparkSession, cfg: Config, job: str, record: HealRecord) -> None:
    """Append the heal's state to the control table. Three small Spark jobs."""
    add_record(spark, cfg, HEALS, job, asdict(record))


def heals_of(spark: SparkSession, cfg: Config, job: str) -> tuple[HealRecord, ...]:
    """Every heal of a job that has reached its table, oldest first; undone ones too.

    A process may die between a heal's commit and its record: the table's history then says whether it was made. One
    small Spark job, and one more for each such heal.
    """
    ref = cfg.table("control")
    if not table_exists(spark, ref):
        return ()
    if none_pinned((HEALS, job)):
        return ()
    wanted = (F.col("kind") == HEALS) & (F.col("subject") == job)
    payload = F.from_json("payload", _SCHEMA)
    rows = read_table(spark, ref).filter(wanted).orderBy("seq").select(payload.alias("heal")).collect()
    newest: dict[str, HealRecord] = {}
    for row in rows:
        values = row["heal"].asDict()
        newest[values["id"]] = HealRecord(**{**values, "causes": dict(values["causes"] or {})})
    settled = [_settled(spark, record) for record in newest.values()]
    return tuple(record for record in settled if record.version is not None)


def standing(records: tuple[HealRecord, ...], table: str) -> tuple[HealRecord, ...]:
    """Those whose rows are in this table now, oldest first."""
    return tuple(record for record in records if record.table == table and record.state == APPLIED)


def commit_of(spark: SparkSession, table: str, name: str, heal_id: str) -> int | None:
    """The table's version whose commit carries this heal's id under this name, or None. One or two small Spark jobs."""
    for limit in (_RECENT, None):
        commits = delta_table(spark, table).history(limit) if limit else delta_table(spark, table).history()
        ours = F.get_json_object("userMetadata", f"$.{name}.id") == heal_id
        found = commits.filter(ours).agg(F.max("version")).collect()[0][0]
        if found is not None:
            return int(found)
    return None


def _settled(spark: SparkSession, record: HealRecord) -> HealRecord:
    """The record, completed by what the table's history says where its process died before it could."""
    if record.state == STARTED:
        version = commit_of(spark, record.table, METADATA, record.id) if table_exists(spark, record.table) else None
        return record if version is None else replace(record, state=APPLIED, version=version)
    if record.state == UNDOING:
        there = table_exists(spark, record.table)
        version = commit_of(spark, record.table, UNDO_METADATA, record.id) if there else None
        return replace(record, state=APPLIED if version is None else UNDONE, undone_version=version)
    return record


_SCHEMA = (
    "id STRING, verify_id STRING, query_id STRING, table STRING, watermark_ms BIGINT, stream_version BIGINT, "
    "batch_version BIGINT, rows BIGINT, causes MAP<STRING, BIGINT>, at_ms BIGINT, state STRING, version BIGINT, "
    "undone_version BIGINT"
)


# Records that a user takes out of one job in both modes, since its function fails on them: rule `refused_by_logic`.
#
# The decoder's quarantine belongs to a source: it decides by bytes and declaration, the same for every job. This
# belongs to a job: another job may well count a record that this one divides by. The whole list is one record of the
# control table, and each change the next one, so that who, when and why of every entry stay readable and a change is
# atomic.
#
# The list is changed only while the job's stream stands still. A start of the stream, or of a batch run, keeps the
# places that it leaves out in its own state, and proofs go by that.


REFUSALS = "refusals"
RULE = "refused_by_logic"
MOST = 1_000
"""Entries that one job may have at a time: every plan holds them. More than that is a case for the function."""

Places = dict[str, list[list[int]]]
"""Partition and offset of left-out records, by source; as JSON keeps it."""


@dataclass(frozen=True)
class Refusal:
    """One record that a job leaves out, or left out for a time.

    Attributes
    ----------
    event_time_ms : int or None
        Epoch ms, as its source decodes it.
    why, by : str
        What the user said, and which user on which machine that was.
    at_ms : int
        When it was added.
    removed_at_ms, removed_by : int, str, optional
        When it was taken back, and by whom; None while it counts.
    passed : str or None
        Of an entry that was taken back: id of the query that had read past the record without using it.
    used_by : str or None
        Id of the query that had used the record when it was added; it must not go on.
    """

    source: str
    topic: str
    partition: int
    offset: int
    event_time_ms: int | None
    why: str
    by: str
    at_ms: int
    removed_at_ms: int | None = None
    removed_by: str | None = None
    passed: str | None = None
    used_by: str | None = None

    @property
    def counts(self) -> bool:
        """Whether the record is left out now."""
        return self.removed_at_ms is None

    @property
    def place(self) -> str:
        """``TOPIC:PARTITION:OFFSET``, as the command takes it."""
        return f"{self.topic}:{self.partition}:{self.offset}"


def refusals_of(spark: SparkSession, cfg: Config, job: str) -> tuple[Refusal, ...]:
    """Every entry of a job, oldest first. Two small Spark jobs."""
    return refusals_in(latest_record(spark, cfg, REFUSALS, job))


def refusals_in(record: Record | None) -> tuple[Refusal, ...]:
    """The entries of a control record of `REFUSALS`. Pure."""
    return tuple(Refusal(**entry) for entry in record.payload["entries"]) if record else ()


def save_refusals(spark: SparkSession, cfg: Config, job: str, entries: Iterable[Refusal]) -> None:
    """Make this the job's list; the caller holds the lease of its stream. Two small Spark jobs."""
    add_record(spark, cfg, REFUSALS, job, {"entries": [asdict(each) for each in entries]})


def left_out(cfg: Config, job: Job, entries: Iterable[Refusal]) -> Places:
    """Where the records lie that the job leaves out now, in the topics that its sources are bound to now."""
    return _places(cfg, job, [each for each in entries if each.counts])


def unused_by(cfg: Config, job: Job, entries: Iterable[Refusal], query_id: str) -> Places:
    """Records that a query does not use when it reads them, or did not before they were taken back."""
    unused = [e for e in entries if (e.counts and e.used_by != query_id) or e.passed == query_id]
    return _places(cfg, job, unused)


def check_unused(job: str, entries: Iterable[Refusal], query_id: str | None) -> None:
    """Refuse to go on from a checkpoint whose state holds records that are left out now.

    Raises
    ------
    CheckpointError
        The message names one of them.
    """
    used = [each for each in entries if each.counts and query_id is not None and each.used_by == query_id]
    if used:
        raise CheckpointError(
            f"the checkpoint of {job} holds {plural(len(used), 'record')} that {job} leaves out now, such as "
            f"{used[0].place}.",
            expected="a checkpoint that has not used them",
            fix=f"start anew: twinrun stream {job} --new-checkpoint; or count it again: twinrun quarantine {job} "
            f"--remove {used[0].place}",
        )


def is_left_out(places: Iterable[Iterable[int]], partition: str = "_partition", offset: str = "_offset") -> Column:
    """Condition: the record is one of these places, each a partition and an offset."""
    by_partition: dict[int, list[int]] = {}
    for number, at in places:
        by_partition.setdefault(number, []).append(at)
    condition = F.lit(False)
    for number, offsets in by_partition.items():
        condition = condition | ((F.col(partition) == number) & F.col(offset).isin(sorted(offsets)))
    return condition


def without(events: DataFrame, places: Mapping[str, list[list[int]]], source: str) -> DataFrame:
    """The events of a source that the job does not leave out; the same frame where it leaves out none. Lazy."""
    mine = places.get(source, [])
    return events.filter(~is_left_out(mine)) if mine else events


def reached(places: Places, ends: Mapping[str, Mapping[int, int]]) -> Places:
    """Those of the places that lie below these end offsets."""
    inside = {name: [p for p in found if p[1] < ends.get(name, {}).get(p[0], 0)] for name, found in places.items()}
    return {name: found for name, found in inside.items() if found}


def differing(one: Places, other: Places) -> Places:
    """Places that only one of the two has."""
    found = {}
    for name in sorted({*one, *other}):
        sides = [{(partition, offset) for partition, offset in places.get(name, [])} for places in (one, other)]
        found[name] = [list(place) for place in sorted(sides[0] ^ sides[1])]
    return {name: places for name, places in found.items() if places}


def _places(cfg: Config, job: Job, entries: Iterable[Refusal]) -> Places:
    topics = {source.name: cfg.source(source.name).topic for source in job.sources}
    found: dict[str, set[tuple[int, int]]] = {}
    for each in entries:
        if topics.get(each.source) == each.topic:
            found.setdefault(each.source, set()).add((each.partition, each.offset))
    return {name: [list(place) for place in sorted(places)] for name, places in sorted(found.items())}


# What a run of either mode leaves behind, and the columns that tell where a result row comes from.


LINEAGE = ("_run_id", "_written_at", "_micro_batch")
"""Columns of a result table that are not compared."""


@dataclass(frozen=True)
class RunSummary:
    """One finished run.

    Attributes
    ----------
    mode : str
        ``"batch"``, ``"stream"`` or ``"ingest"``.
    rows : int or None
        Rows that this run wrote, as the table's history counts them; None where it does not say.
    events : int
        Valid events that were new to this run; records for an ingest, which decodes nothing.
    quarantined : dict
        Records that this run refused, by rule; None where it is not known how many of its records were valid.
    micro_batches : int
        Of this run.
    table, version : str, int
        Where the results are, and the Delta version after the run.
    notes : tuple of str
        What a user should know, such as why everything was recomputed.
    """

    mode: str
    name: str
    run_id: str
    events: int
    table: str
    version: int | None
    micro_batches: int = 0
    rows: int | None = None
    notes: tuple[str, ...] = ()
    duration_ms: int = 0
    stopped_by: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    quarantined: dict[str, int] | None = None


@dataclass(frozen=True)
class Progress:
    """How far a query is: its newest finished micro-batch (-1: none) and records read by this run.

    ``behind`` are records that its topics had and it had not read; None before that is known. ``waits`` is why nothing
    happens, since when, in words; empty while it goes on. ``refused`` are records by the rule that they broke; None
    where they were not counted.
    """

    micro_batch: int
    events: int
    watermark: str | None
    micro_batches: int = 0
    behind: int | None = None
    waits: str = ""
    refused: dict[str, int] | None = None


OnProgress = Callable[[Progress], None]
Say = Callable[[str], None]
"""Told in a few words what is done now; cheap, from any thread."""


def quiet(_: str) -> None:
    """Say nothing."""


def new_run_id() -> str:
    """A fresh id for one run."""
    return uuid.uuid4().hex[:12]


def counts_of(done: RunSummary) -> list[str]:
    """What a run did, counted over this run alone.

    ``201 valid``, ``5 quarantined (not_json 1, wrong_type 4)``, ``2 micro-batches``, ``40 rows written``.
    """
    if done.mode == "ingest":
        parts = [plural(done.events, "record")]
    elif done.quarantined is None:
        parts = [f"{plural(done.events, 'record')} read (valid and quarantined were not told apart)"]
    else:
        refused = sum(done.quarantined.values())
        rules = ", ".join(f"{rule} {count:,}" for rule, count in done.quarantined.items())
        parts = [f"{done.events:,} valid", f"{refused:,} quarantined{f' ({rules})' if rules else ''}"]
    if done.mode != "batch":
        parts.append(plural(done.micro_batches, "micro-batch"))
    if done.rows is not None:
        parts.append(f"{plural(done.rows, 'row')} written")
    return parts


def with_lineage(results: DataFrame, run_id: str) -> DataFrame:
    """Add ``_run_id`` and ``_written_at`` (the time of the run or micro-batch); lazy."""
    return results.withColumns({"_run_id": F.lit(run_id), "_written_at": F.current_timestamp()})


def without_lineage(results: DataFrame) -> DataFrame:
    """The result as the job defines it."""
    return results.drop(*LINEAGE)
