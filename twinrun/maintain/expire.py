"""Retention: remove what is older than a limit, and record it so that later verifies neither miss it nor judge by it.

Records of a topic expire as a whole beginning of each partition, in bronze, events and quarantine alike. What a
job's next run cannot do without is never removed: see docs/decisions/0008.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import InputError
from twinrun.events.times import utc_day
from twinrun.job.dataflow import dataflow
from twinrun.job.job import Job
from twinrun.maintain.result import Expired, Removal
from twinrun.maintain.rows import delete_rows, log_removals
from twinrun.maintain.warehouse import Known, known
from twinrun.results.cut import incremental_by
from twinrun.results.records import Say, quiet
from twinrun.session.plain import plain_errors
from twinrun.tables.checkpoint import Offsets, before, plain
from twinrun.tables.control import add_record, latest_record
from twinrun.tables.delta import read_table, table_exists
from twinrun.tables.kafka import EXPIRY
from twinrun.tables.lease import held_lease
from twinrun.tables.static import read_static

DAY_MS = 86_400_000


def expire(
    spark: SparkSession,
    cfg: Config,
    jobs: Iterable[Job],
    keep_days: int,
    *,
    apply: bool,
    now_ms: int | None = None,
    on_step: Say = quiet,
) -> Expired:
    """Say what is older than so many days; with ``apply`` remove it. About ten small Spark jobs per source.

    A record counts as old when it was landed, and its event happened, before the beginning (UTC) of the day that lies
    ``keep_days`` back; of each partition the newest record stays. Of the ledger and the differences each job's last
    verify and the verifies of heals stay, of the micro-batch log and the late events all that belongs to a current
    query.

    Parameters
    ----------
    jobs : iterable of Job
        The jobs of the configuration: whether they can do without old events is read from their definitions.
    now_ms : int, optional
        The present (epoch ms).
    on_step : function of str
        Told what is done now.

    Raises
    ------
    InputError
        ``keep_days`` is below 1.
    TableError
        Nothing ever ran on this warehouse.
    CheckpointError
        With ``apply``: a batch, verify, heal, decode or another maintenance is running.
    """
    if keep_days < 1:
        raise InputError(f"--keep-days is {keep_days}.", expected="1 or more")
    now_ms = int(time.time() * 1000) if now_ms is None else now_ms
    before_ms = (now_ms - keep_days * DAY_MS) // DAY_MS * DAY_MS
    with ExitStack() as held, plain_errors("the retention"):
        found = known(spark, cfg)
        if apply:
            leases = ("maintain", *_leases(found))
            on_step(f"taking {len(leases)} leases in one commit")
            held.enter_context(held_lease(spark, cfg, leases, "twinrun maintain expire --apply"))
            found = known(spark, cfg)
        by_name = {job.job_name: job for job in jobs}
        whole = needing_all(spark, cfg, found, by_name)
        removals: list[Removal] = []
        for topic in found.topics:
            on_step(f"topic {topic}")
            removals += _of_topic(spark, cfg, found, by_name, whole, topic, before_ms, now_ms, apply)
        on_step("verifies, logs and spent leases")
        removals += log_removals(spark, cfg, found, before_ms, apply)
    return Expired(applied=apply, keep_days=keep_days, before_ms=before_ms, removals=tuple(removals))


def _leases(found: Known) -> tuple[str, ...]:
    jobs = [f"{mode}:{job}" for job in found.jobs for mode in ("batch", "verify")]
    return (*jobs, *(f"decode:{source}" for source in found.sources))


def _of_topic(
    spark: SparkSession,
    cfg: Config,
    found: Known,
    jobs: dict[str, Job],
    whole: frozenset[str],
    topic: str,
    before_ms: int,
    now_ms: int,
    apply: bool,
) -> list[Removal]:
    sources = [source for source in found.sources if cfg.source(source).topic == topic]
    bronze = cfg.table("bronze", topic=topic)
    if not sources or not table_exists(spark, bronze):
        return []
    seqs = {source: _decoded(spark, cfg, source)[0] for source in sources}
    why = why_not(found, jobs, seqs, whole)
    if why:
        return [Removal("bronze", bronze, 0, why)]
    last = latest_record(spark, cfg, EXPIRY, topic)
    known_ends = plain(last.payload["ends"]) if last else {}
    found_ends = _ends(spark, cfg, topic, sources, before_ms)
    ends = {p: max(found_ends.get(p, 0), known_ends.get(p, 0)) for p in {*found_ends, *known_ends}}
    tables = [("bronze", bronze, before(ends, "partition", "offset"))]
    for source in sources:
        tables += [(kind, cfg.table(kind, source=source), before(ends)) for kind in ("events", "quarantine")]
    if apply and ends != known_ends:
        # Recorded first: a run that dies now has said what may be missing, and the next one removes the rest.
        steps = next_steps(last.payload["steps"] if last else [], before_ms, seqs, now_ms)
        add_record(spark, cfg, EXPIRY, topic, {"ends": ends, "steps": steps})
    return [delete_rows(spark, table, ref, where, apply) for table, ref, where in tables]


def next_steps(steps: list[dict[str, Any]], before_ms: int, seqs: dict[str, int], now_ms: int) -> list[dict[str, Any]]:
    """The expiries on record with one more; those that no record can be about any more are forgotten. Pure.

    What came too late for a window by an older expiry was landed after it, and expires in its turn.
    """
    newest = max((step["before_ms"] for step in steps), default=0)
    if before_ms > newest:
        steps = [*steps, {"before_ms": before_ms, "seqs": seqs, "at_ms": now_ms}]
    keep_ms = now_ms - before_ms + 2 * DAY_MS
    return [step for step in steps if step is steps[-1] or step["at_ms"] >= now_ms - keep_ms]


def needing_all(spark: SparkSession, cfg: Config, found: Known, jobs: dict[str, Job]) -> frozenset[str]:
    """The jobs with operators besides the one that they declare, such as a de-duplication. No Spark job."""
    names = set()
    for name in set(found.batches) & set(jobs):
        static = read_static(spark, cfg, found.batches[name]["static"])
        if not dataflow(spark, jobs[name], {table: frame.schema for table, frame in static.items()}).closed_form:
            names.add(name)
    return frozenset(names)


def why_not(found: Known, jobs: dict[str, Job], seqs: dict[str, int], whole: frozenset[str] = frozenset()) -> str:
    """Why no record of these sources may go; empty where they may. Pure.

    ``seqs`` has the number of each source's last decode, ``whole`` the jobs whose operators need all events.

    A job that computes windows keeps the rows of windows that have lost events, and one that computes each event by
    itself never looks back. Every other one would put a result of what is left in the place of that of everything.
    """
    for name, state in sorted(found.batches.items()):
        read = set(state["ends"]) & set(seqs)
        if not read:
            continue
        if any(state["decoded_seq"][source] != seqs[source] for source in read):
            return f"the last batch run of {name} has not seen all decoded events: run it first"
        job = jobs.get(name)
        if job is None:
            return f"the job {name} has run here and is not in the configuration: what it needs is not known"
        if name in whole or incremental_by(job) not in ("windows", "events"):
            return f"the job {name} needs all events: it is computed neither by windows nor event by event"
    return ""


def _ends(spark: SparkSession, cfg: Config, topic: str, sources: list[str], before_ms: int) -> Offsets:
    """Per partition the offset below which everything is old, decoded, and not the newest. Three small Spark jobs."""
    limit = F.timestamp_millis(F.lit(before_ms))
    bronze = read_table(spark, cfg.table("bronze", topic=topic))
    young = F.min(F.when(F.col("_landed_at") >= limit, F.col("offset")))
    rows = bronze.groupBy("partition").agg(young.alias("young"), F.max("offset").alias("newest")).collect()
    ends = {row["partition"]: row["newest"] if row["young"] is None else row["young"] for row in rows}
    for source in sources:
        events = read_table(spark, cfg.table("events", source=source))
        found = events.filter(F.col("_event_date") >= utc_day(limit)).groupBy("_partition")
        first = {row[0]: row[1] for row in found.agg(F.min("_offset")).collect()}
        decoded = _decoded(spark, cfg, source)[1]
        ends = {p: min(end, first.get(p, end), decoded.get(p, 0)) for p, end in ends.items()}
    return {partition: end for partition, end in ends.items() if end > 0}


def _decoded(spark: SparkSession, cfg: Config, source: str) -> tuple[int, Offsets]:
    """Number and ends of the last decode that finished."""
    record = latest_record(spark, cfg, "decode", source)
    if record is None or record.payload["phase"] != "done":
        return 0, {}
    return int(record.payload["seq"]), plain(record.payload["to"])
