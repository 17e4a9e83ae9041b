"""Which heals a job's results went through: an append-only record of each, the newest state counts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.tables.control import add_record, none_pinned
from twinrun.tables.delta import delta_table, read_table, table_exists

KIND = "heal"
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
    add_record(spark, cfg, KIND, job, asdict(record))


def heals_of(spark: SparkSession, cfg: Config, job: str) -> tuple[HealRecord, ...]:
    """Every heal of a job that has reached its table, oldest first; undone ones too.

    A process may die between a heal's commit and its record: the table's history then says whether it was made. One
    small Spark job, and one more for each such heal.
    """
    ref = cfg.table("control")
    if not table_exists(spark, ref):
        return ()
    if none_pinned((KIND, job)):
        return ()
    wanted = (F.col("kind") == KIND) & (F.col("subject") == job)
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
