"""The control table: leases, fingerprints and run records as an append-only Delta log.

A record belongs to a (kind, subject) and has a sequence number. Records are appended by one conditional commit: the
rows that are written are computed from the newest records of the same table, in the same Delta transaction, and the
write fails where the condition does not hold. Of two writers that saw the same records, Delta lets one commit; the
other is tried again and then sees the first. A compare-and-set, without any service besides the table.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import QueryError
from twinrun.session.settings import NO_CODE
from twinrun.tables.delta import append_computed, held, lost, read_table, table_exists

LEASE = "lease"
Key = tuple[str, str]
"""Kind and subject of a record."""
_REFUSED = "twinrun: the condition of this record does not hold"
_own: WeakKeyDictionary[SparkSession, SparkSession] = WeakKeyDictionary()
_SCHEMA = "kind STRING, subject STRING, seq BIGINT, at_ms BIGINT, writer STRING, payload STRING"
_SMALL = {
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.shuffle.partitions": "1",
    **NO_CODE,
}
"""A handful of rows: one task, planned once, and no code generated and compiled for it."""


@dataclass(frozen=True)
class Record:
    """One record of the control table; ``seq`` starts at 1 for each (kind, subject)."""

    kind: str
    subject: str
    seq: int
    at_ms: int
    writer: str
    payload: dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """A record to be written; its number is found when it is. ``at_ms`` is epoch ms."""

    kind: str
    subject: str
    payload: dict[str, Any]
    writer: str = field(default_factory=lambda: uuid.uuid4().hex)
    at_ms: int = field(default_factory=lambda: int(time.time() * 1000))


@dataclass(frozen=True)
class _Pinned:
    """Records as they were at one moment, and which were asked for: what is not found among those did not exist."""

    wanted: frozenset[Key]
    starting: tuple[Key, ...]
    found: dict[Key, Record]

    def covers(self, key: Key) -> bool:
        return key in self.wanted or any(key[0] == kind and key[1].startswith(start) for kind, start in self.starting)


_pinned: ContextVar[_Pinned | None] = ContextVar("pinned control records", default=None)


def latest_record(spark: SparkSession, cfg: Config, kind: str, subject: str) -> Record | None:
    """The newest record of a (kind, subject), or None. Two small Spark jobs; one row is collected."""
    return latest_records(spark, cfg, [(kind, subject)]).get((kind, subject))


@contextmanager
def control_pinned(
    spark: SparkSession, cfg: Config, wanted: Sequence[Key], starting: Sequence[Key] = ()
) -> Iterator[None]:
    """Read these records once: within the block, and in this thread, `latest_records` gives them as they are now.

    For work that looks at one moment. Two small Spark jobs.

    Parameters
    ----------
    starting : sequence of (str, str)
        All subjects of a kind that begin with the text, besides.
    """
    found = read_records(spark, cfg, wanted, starting)
    token = _pinned.set(_Pinned(frozenset(wanted), tuple(starting), found))
    try:
        yield
    finally:
        _pinned.reset(token)


def none_pinned(key: Key) -> bool:
    """Whether it is known, within `control_pinned`, that there is no such record. No Spark job."""
    pinned = _pinned.get()
    return pinned is not None and pinned.covers(key) and key not in pinned.found


def latest_records(spark: SparkSession, cfg: Config, wanted: Iterable[Key]) -> dict[Key, Record]:
    """The newest record of each (kind, subject) that has one. Two small Spark jobs; a row for each is collected.

    Within `control_pinned` those that were read there are given without a Spark job, if they are all that is wanted.
    """
    wanted = list(wanted)
    pinned = _pinned.get()
    if pinned is not None and all(pinned.covers(key) for key in wanted):
        return {key: pinned.found[key] for key in wanted if key in pinned.found}
    return read_records(spark, cfg, wanted)


def read_records(
    spark: SparkSession, cfg: Config, wanted: Iterable[Key], starting: Sequence[Key] = ()
) -> dict[Key, Record]:
    """The same as they are now, whatever is pinned. ``starting``: see `control_pinned`."""
    ref = cfg.table("control")
    if not table_exists(spark, ref):
        return {}
    rows = _newest(_session(spark), ref, wanted, starting).collect()
    records = [Record(r.kind, r.subject, r.seq, r.at_ms, r.writer, json.loads(r.payload)) for r in rows]
    return {(record.kind, record.subject): record for record in records}


def try_write(
    spark: SparkSession,
    cfg: Config,
    entries: Sequence[Entry],
    unless: Column | None = None,
    watch: Iterable[tuple[str, str]] = (),
) -> bool:
    """Append records in one commit, each with the next number of its (kind, subject), unless a condition holds.

    Two small Spark jobs, more where other commits come between.

    Parameters
    ----------
    unless : Column, optional
        Over the columns of the newest record of each (kind, subject) of ``entries`` and ``watch``; true for any one of
        them: nothing is written. Null counts as false.
    watch : iterable of tuple
        Further (kind, subject) pairs that the condition looks at.

    Returns
    -------
    bool
        Whether they were written: all of them or none.
    """
    ref, own = cfg.table("control"), _session(spark)
    pairs = {*watch, *((each.kind, each.subject) for each in entries)}

    if not table_exists(own, ref):
        # Empty first: records of a table that is not there would be written without a look at those of a writer who
        # creates it at the same moment, and both would hold the lease.
        append_computed(lambda: own.createDataFrame([], _SCHEMA), ref, partition_by=["kind"])

    def rows() -> DataFrame:
        # Made anew for each try, over what others have committed meanwhile.
        return _numbered(own, ref, entries, pairs, unless)

    try:
        append_computed(rows, ref, partition_by=["kind"])
    except QueryError as error:
        if _REFUSED in f"{error} {error.__cause__}":
            return False
        raise
    return True


def add_record(spark: SparkSession, cfg: Config, kind: str, subject: str, payload: dict[str, Any]) -> None:
    """Append the next record, whatever its number turns out to be. Two small Spark jobs.

    Within `twinrun.tables.lease.held_lease` the record is written only as long as the leases are held, in the same
    transaction: a run that was taken over while it was stopped leaves no record behind.

    Raises
    ------
    CheckpointError
        Another run took a lease over; the record was not written.
    """
    leases = held()
    watch = [(LEASE, subject) for lease in leases for subject in lease.subjects]
    if not try_write(spark, cfg, [Entry(kind, subject, payload)], not_ours(leases) if leases else None, watch):
        for lease in leases:
            lease.lost.set()
        raise lost(leases[-1])


def not_ours(leases: Sequence[Any]) -> Column:
    """Of the newest records of what is held, and of what is written besides: whether a lease is somebody else's."""
    tokens = [lease.owner["token"] for lease in leases]
    return (F.col("kind") == LEASE) & ~F.col("writer").isin(*tokens)


def _session(spark: SparkSession) -> SparkSession:
    """A session of the control table's own: settings of a running MERGE are not those of a heartbeat beside it."""
    own = _own.get(spark)
    if own is None:
        own = _own[spark] = spark.newSession()
        for name, value in _SMALL.items():
            own.conf.set(name, value)
    return own


def _newest(own: SparkSession, ref: str, wanted: Iterable[Key], starting: Sequence[Key] = ()) -> DataFrame:
    pairs = sorted(set(wanted))
    asked = _key(F.col("kind"), F.col("subject")).isin(*(f"{kind}:{subject}" for kind, subject in pairs))
    for kind, start in starting:
        asked = asked | ((F.col("kind") == kind) & F.col("subject").startswith(start))
    # The kinds first: whole folders are skipped by them.
    mine = F.col("kind").isin(*sorted({kind for kind, _ in [*pairs, *starting]})) & asked
    # One partition: no shuffle for a handful of rows.
    records = read_table(own, ref).filter(mine).coalesce(1)
    newest = F.max(F.struct("seq", "at_ms", "writer", "payload")).alias("newest")
    return records.groupBy("kind", "subject").agg(newest).select("kind", "subject", "newest.*")


def _numbered(
    own: SparkSession, ref: str, entries: Sequence[Entry], pairs: set[tuple[str, str]], unless: Column | None
) -> DataFrame:
    cells = [
        F.struct(
            F.lit(each.kind).alias("kind"),
            F.lit(each.subject).alias("subject"),
            F.lit(each.at_ms).cast("bigint").alias("at_ms"),
            F.lit(each.writer).alias("writer"),
            F.lit(json.dumps(each.payload, sort_keys=True)).alias("payload"),
        )
        for each in entries
    ]
    refused = F.lit(False) if unless is None else unless
    numbers = F.map_from_entries(F.collect_list(F.struct(_key(F.col("kind"), F.col("subject")), "seq")))
    known = _newest(own, ref, pairs).agg(
        numbers.alias("numbers"), F.coalesce(F.bool_or(refused), F.lit(False)).alias("refused")
    )
    each = known.select("numbers", "refused", F.explode(F.array(*cells)).alias("new"))
    last = F.try_element_at("numbers", _key(F.col("new.kind"), F.col("new.subject")))
    return each.select(
        "new.kind",
        F.when(F.col("refused"), F.raise_error(F.lit(_REFUSED))).otherwise(F.col("new.subject")).alias("subject"),
        (F.coalesce(last, F.lit(0)) + 1).alias("seq"),
        "new.at_ms",
        "new.writer",
        "new.payload",
    ).coalesce(1)


def _key(kind: Column, subject: Column) -> Column:
    return F.concat(kind, F.lit(":"), subject)
