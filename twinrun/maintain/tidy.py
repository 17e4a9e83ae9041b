"""Compact every table and remove the files of versions that nobody reads any more."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.durations import human
from twinrun.errors import TwinrunError
from twinrun.maintain.files import Detail, compact, detail_of, inventory, stored, vacuum, without_kept
from twinrun.maintain.result import Pin, TableTidy, Tidied
from twinrun.maintain.warehouse import KeptTable, Pins, known, pins_of, places
from twinrun.results.records import Say, quiet
from twinrun.session.plain import plain_errors
from twinrun.tables.control import add_record
from twinrun.tables.delta import delta_table, latest_version, table_exists
from twinrun.tables.lease import held_lease
from twinrun.wording import plural

KIND, LEASE = "maintain", "maintain"
_DAY_MS = 86_400_000


def tidy(
    spark: SparkSession,
    cfg: Config,
    *,
    apply: bool,
    only: Sequence[str] = (),
    on_table: Say = quiet,
) -> Tidied:
    """Look at every table; with ``apply`` compact it and remove files, else only say what could be done.

    A table whose rows somebody is replacing is left alone, and so is one with a pinned version that cannot be read.
    Ingest and the streams of ``final`` jobs may run: appending never meets a compaction, and what they have written
    and not committed is younger than the retention. About ten small Spark jobs per table.

    Parameters
    ----------
    only : sequence of str
        Names in ``layout``; empty: all tables.
    on_table : function of str
        Told each table when it is begun, and with ``apply`` what was done to it.

    Raises
    ------
    TableError
        Nothing ever ran on this warehouse.
    CheckpointError
        Another maintenance is running.
    """
    with ExitStack() as held, plain_errors("the maintenance"):
        if apply:
            held.enter_context(held_lease(spark, cfg, LEASE, "twinrun maintain tidy --apply"))
        found = known(spark, cfg)
        wanted = [kept for kept in places(cfg, found) if not only or kept.table in only]
        pins = pins_of(spark, cfg, found)
        done = []
        for kept in wanted:
            if table_exists(spark, kept.ref):
                on_table(f"{kept.table} at {kept.ref}")
                done.append(_one(spark, cfg, kept, pins, apply))
                if apply:
                    on_table(f"{kept.table} at {kept.ref}: {_done(done[-1])}")
        if apply:
            counts = {t.ref: {"compacted": t.compacted, "removed": t.removed, "left_alone": t.left_alone} for t in done}
            add_record(spark, cfg, KIND, "tidy", {"tables": counts})
    return Tidied(apply, tuple(done))


def _done(table: TableTidy) -> str:
    if table.left_alone:
        return f"left alone: {table.left_alone}"
    return f"{plural(table.compacted or 0, 'file')} compacted, {table.removed or 0:,} removed"


def _one(spark: SparkSession, cfg: Config, kept: KeptTable, pins: Pins, apply: bool) -> TableTidy:
    detail = detail_of(spark, kept.ref)
    seen = stored(inventory(spark, detail.location))
    found = TableTidy(
        table=kept.table,
        ref=kept.ref,
        files=detail.files,
        bytes_used=detail.bytes_used,
        stored=seen.files,
        stored_bytes=seen.size,
        removable=0,
        pins=(),
    )
    try:
        with ExitStack() as leases, plain_errors(f"the maintenance of {kept.ref}"):
            if apply:
                wanted = needed_leases(kept, detail)
                if wanted:
                    leases.enter_context(held_lease(spark, cfg, wanted, "twinrun maintain tidy --apply"))
            if apply and detail.deleted_files_ms < _DAY_MS:
                # A run that ended before the lease was ours has pinned versions that no retention protects.
                pins = pins_of(spark, cfg, known(spark, cfg))
            return _held(spark, kept, detail, found, pins.get(kept.ref, ()), apply)
    except TwinrunError as error:  # held by a run, a pinned version that cannot be read, a writer that came first
        return replace(found, left_alone=error.found)


def needed_leases(kept: KeptTable, detail: Detail) -> tuple[str, ...]:
    """Whose work a change of this table's files could meet. Pure.

    Appending meets nothing, unless the table keeps removed files for less than a day: then a file that was written
    and not yet committed could be taken for one that nobody needs.
    """
    short = detail.deleted_files_ms < _DAY_MS
    return (*kept.rewriters, *(kept.writers if short else ()))


def _held(
    spark: SparkSession, kept: KeptTable, detail: Detail, found: TableTidy, pins: tuple[Pin, ...], apply: bool
) -> TableTidy:
    newest = latest_version(spark, kept.ref)
    first = delta_table(spark, kept.ref).history().agg(F.min("version")).collect()[0][0]
    lost = tuple(pin for pin in pins if pin.version < first)
    older = tuple(pin for pin in pins if first <= pin.version < newest)
    note = "its versions are what runs go by" if not kept.compact else _ends_log(spark, kept, detail, older)
    rewritten = 0
    if apply and not note:
        rewritten = compact(spark, kept.ref)
    # After a compaction the version before it is an older one too: the pins reach up to it.
    keep = [pin.version for pin in pins if first <= pin.version < latest_version(spark, kept.ref)]
    candidates = without_kept(spark, inventory(spark, detail.location), kept.ref, keep)
    found = replace(found, pins=older, lost=lost, note=note)
    if not apply:
        current = without_kept(spark, candidates, kept.ref, [newest])
        old = F.col("modificationTime") < F.lit(int(time.time() * 1000) - detail.deleted_files_ms)
        return replace(found, removable=stored(current.filter(old)).files)
    before = stored(inventory(spark, detail.location))
    vacuum(spark, kept.ref, candidates)
    after = stored(inventory(spark, detail.location))
    return replace(
        found, compacted=rewritten, removed=before.files - after.files, removed_bytes=before.size - after.size
    )


def _ends_log(spark: SparkSession, kept: KeptTable, detail: Detail, older: Iterable[Pin]) -> str:
    """Why a further commit could take a needed version out of the log; empty where it could not. One small Spark job.

    Delta cleans its log when a commit makes a checkpoint. What is needed of it: each pinned version, and in a stream's
    table the newest commit of the sink, which says what the table holds.
    """
    needed = [pin.version for pin in older]
    history = delta_table(spark, kept.ref).history()
    ours = F.col("version").isin(*needed) if needed else F.lit(False)
    if kept.table == "stream_results":
        sink = (F.col("operation") == "STREAMING UPDATE") | F.get_json_object(
            "userMetadata", "$.micro_batch"
        ).isNotNull()
        ours = ours | (F.col("version") == history.filter(sink).agg(F.max("version")).collect()[0][0])
    oldest = history.filter(ours).agg(F.min("timestamp").alias("at")).collect()[0]["at"]
    if oldest is None:
        return ""
    age_ms = int((time.time() - oldest.timestamp()) * 1000)
    if age_ms < detail.log_ms - _DAY_MS:
        return ""
    return f"a version that is needed is {human(age_ms)} old, and the log keeps {human(detail.log_ms)}"
