"""Erase one key: its records from every table that holds them, on record by coordinates and counts, not by value."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import InputError, TableError
from twinrun.events.decode import declared_fields
from twinrun.events.exact import quoted
from twinrun.events.source import Source
from twinrun.maintain.result import Erased, Removal
from twinrun.maintain.rows import delete_marked, delete_rows, evidence_removals, matching_records, undecoded, unfinished
from twinrun.maintain.warehouse import ERASURE, Known, known
from twinrun.results.cut import foreign_commits
from twinrun.results.records import Say, quiet
from twinrun.results.state import batch_state, save_batch_state
from twinrun.session.plain import plain_errors
from twinrun.session.settings import with_settings
from twinrun.tables.control import add_record, latest_record
from twinrun.tables.delta import Commit, append, latest_version, read_table, table_exists
from twinrun.tables.lease import held_lease
from twinrun.wording import worded

_REWRITE = {f"spark.databricks.delta.{verb}.deletionVectors.persistent": "false" for verb in ("delete", "merge")}
"""Rows must leave the files, and not only be marked as deleted."""


def erase(
    spark: SparkSession,
    cfg: Config,
    source: Source,
    field: str,
    value: str,
    *,
    results: bool,
    apply: bool,
    on_step: Say = quiet,
) -> Erased:
    """Count, and with ``apply`` remove, every record of a source whose field has this value. About forty Spark jobs.

    Bronze, events, quarantine, late and duplicate events, and differences that show the value; with ``results`` also
    the result rows of jobs over this source that have a column of that name with that value. The erased coordinates
    are recorded first, so that no audit misses them and no verify judges by what is left. The files go with the next
    tidy after each table's own retention: no pin keeps a version that still holds the records. All leases are one
    commit. ``on_step`` is told what is done now.

    Raises
    ------
    InputError
        The source has no such field.
    TableError
        Records were landed and not decoded yet, so that it is not known whose they are.
    CheckpointError
        With ``apply``: a run over this source, a verify, a heal or another maintenance is running.
    """
    if field not in declared_fields(source).fieldNames():
        names = ", ".join(declared_fields(source).fieldNames())
        raise InputError(f"the source {source.name} has no field {field!r}.", expected=f"one of {names}")
    with ExitStack() as held, plain_errors("the erasure"):
        found = known(spark, cfg)
        jobs = [job for job, state in found.batches.items() if source.name in state["ends"]]
        if apply:
            doing = f"twinrun maintain erase {source.name} --apply"
            leases = _leases(found, source, jobs, results)
            on_step(f"taking {len(leases)} leases in one commit")
            held.enter_context(held_lease(spark, cfg, leases, doing))
            held.enter_context(with_settings(spark, _REWRITE))
        on_step("looking for the records")
        waiting = undecoded(spark, cfg, source)
        if waiting:
            raise TableError(
                f"{worded(waiting, 'record', 'records')} of {source.name} {'was' if waiting == 1 else 'were'} landed "
                "and not decoded yet: it is not known whose they are.",
                expected="a decode that has come as far as bronze",
                fix="run a batch of a job that reads it, then erase",
            )
        refuse_behind(spark, cfg, source, jobs, results)
        marked = unfinished(spark, cfg, source, matching_records(spark, cfg, source, field, value)).localCheckpoint()
        erasure = uuid.uuid4().hex[:12]
        if apply and not marked.isEmpty():
            rows = marked.withColumns({"erasure_id": F.lit(erasure), "erased_at_ms": F.lit(_now_ms())})
            append(rows, cfg.table("erased"), Commit(f"erasure:{erasure}", 1))
        on_step("late and duplicate events, differences")
        removals = evidence_removals(spark, cfg, source, jobs, marked, field, value, apply)
        if results:
            on_step("results")
            removals += _results(spark, found, jobs, field, value, erasure, apply)
        on_step("events, quarantine and bronze")
        removals = [*_records(spark, cfg, source, marked, apply), *removals]
        if apply:
            on_step("recording the erasure")
            _record(spark, cfg, source, field, value, erasure, removals)
            _move_pins(spark, cfg, source, jobs, results)
    return Erased(applied=apply, source=source.name, field=field, id=erasure if apply else "", removals=tuple(removals))


def hash_of(source: str, field: str, value: str) -> str:
    """What stands on record in the place of the value. Pure."""
    return hashlib.sha256("\0".join((source, field, value)).encode()).hexdigest()


def _leases(found: Known, source: Source, jobs: Iterable[str], results: bool) -> list[str]:
    modes = ("batch", "verify", "stream") if results else ("batch", "verify")
    # Differences and late events of all jobs stand in one table each, and other jobs may read this source too.
    verifies = [f"verify:{job}" for job in found.jobs]
    runs = [f"{mode}:{job}" for job in jobs for mode in modes]
    return ["maintain", f"decode:{source.name}", *dict.fromkeys([*runs, *verifies])]


def _records(spark: SparkSession, cfg: Config, source: Source, marked: DataFrame, apply: bool) -> list[Removal]:
    bronze = cfg.table("bronze", topic=cfg.source(source.name).topic)
    inner = "target._topic = source.topic AND target._partition = source.partition AND target._offset = source.offset"
    removals = [
        delete_marked(spark, kind, cfg.table(kind, source=source.name), marked, inner, apply)
        for kind in ("events", "quarantine")
    ]
    # Bronze last: as long as a record is there, the next erasure sees that this one was not finished.
    return [*removals, delete_marked(spark, "bronze", bronze, marked, inner.replace("target._", "target."), apply)]


def _results(
    spark: SparkSession, found: Known, jobs: list[str], field: str, value: str, erasure: str, apply: bool
) -> list[Removal]:
    refs = [("batch_results", found.batches[job]["table"]) for job in jobs]
    refs += [("stream_results", table) for job in jobs for table in found.stream_tables.get(job, ())]
    same = F.col(quoted(field)).cast("string") == F.lit(value)
    removals = []
    for table, ref in refs:
        if table_exists(spark, ref) and field in read_table(spark, ref).columns:
            # By the name of a run: a verify must not take it for a change by somebody else.
            removals.append(delete_rows(spark, table, ref, same, apply, {"run_id": f"erase-{erasure}"}))
    return removals


def _record(
    spark: SparkSession, cfg: Config, source: Source, field: str, value: str, erasure: str, removals: list[Removal]
) -> None:
    add_record(
        spark,
        cfg,
        ERASURE,
        source.name,
        {
            "id": erasure,
            "field": field,
            "sha256": hash_of(source.name, field, value),
            "rows": {each.ref: each.rows for each in removals},
            "versions": {each.ref: latest_version(spark, each.ref) for each in removals if each.rows},
        },
    )


def refuse_behind(spark: SparkSession, cfg: Config, source: Source, jobs: Iterable[str], results: bool) -> None:
    """Refuse while a job's last batch run is not what its tables hold: the erasure would move it to other rows.

    Two small Spark jobs per job.

    Raises
    ------
    TableError
        Events were decoded that the run has not seen, or with ``results`` somebody else changed its table.
    """
    last = latest_record(spark, cfg, "decode", source.name)
    for job in jobs:
        state = batch_state(spark, cfg, job)
        if state is None or last is None:
            continue
        if state.decoded_seq[source.name] != last.payload["seq"]:
            raise TableError(
                f"the last batch run of {job} has not seen all decoded events of {source.name}.",
                fix=f"run: twinrun batch {job}, then erase",
            )
        changes = foreign_commits(spark, state.table, state.table_version) if results else ()
        if changes:
            raise TableError(
                f"the batch's table {state.table} was changed by somebody else: {', '.join(map(str, changes))}.",
                fix=f"run: twinrun batch {job} --full, then erase",
            )


def _move_pins(spark: SparkSession, cfg: Config, source: Source, jobs: Iterable[str], results: bool) -> None:
    """Let the last batch runs stand on versions without the records; nothing else in them differs."""
    for job in jobs:
        state = batch_state(spark, cfg, job)
        if state is not None:
            events = {source.name: latest_version(spark, cfg.table("events", source=source.name))}
            moved = replace(state, events_version={**state.events_version, **events})
            if results:
                moved = replace(moved, table_version=latest_version(spark, state.table))
            save_batch_state(spark, cfg, job, moved)


def _now_ms() -> int:
    return int(time.time() * 1000)
