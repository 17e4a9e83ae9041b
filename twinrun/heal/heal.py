"""Apply a heal: exactly the planned keys, in one transaction, recorded before and after."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import QueryError
from twinrun.explain.explain import around, healed_keys, rows_by_key
from twinrun.heal.plan import Healed, HealPlan, plan_on
from twinrun.heal.preconditions import find_seen_states, refuse_moved, refuse_unhealable
from twinrun.heal.write import merge_keys, one_per_key
from twinrun.job.job import Job
from twinrun.results.records import APPLIED, METADATA, STARTED, HealRecord, commit_of, save_heal
from twinrun.session.plain import plain_errors
from twinrun.tables.delta import GONE, read_table
from twinrun.tables.lease import held_lease

RUN_ID = "heal-{}"
"""What a healed row carries in ``_run_id``: it tells that neither a batch run nor the stream wrote it."""


def apply_heal(spark: SparkSession, cfg: Config, job: Job) -> tuple[HealPlan, Healed | None]:
    """Plan and, where there is something to heal, make the planned rows of the stream's table the batch's.

    One MERGE: either all of them change or none. Holds the lease of verify, so that no verify looks meanwhile; a
    running stream is not disturbed, since it never writes these rows again. About thirty small Spark jobs.

    Returns
    -------
    tuple of HealPlan and Healed
        Healed is None where there was nothing to heal.

    Raises
    ------
    JobError, TableError, CheckpointError
        As `twinrun.heal.plan.plan_heal`; or a verify or another heal of this job is running.
    QueryError
        Spark failed; the table is as it was.
    """
    refuse_unhealable(job)
    name = job.job_name
    with held_lease(spark, cfg, f"verify:{name}", f"twinrun heal {name}"), plain_errors(f"the heal of {name}"):
        seen = find_seen_states(spark, cfg, job)
        plan = plan_on(spark, cfg, job, seen)
        if plan.rows == 0:
            return plan, None
        record = HealRecord(
            id=uuid.uuid4().hex[:12],
            verify_id=plan.verify_id,
            query_id=seen.verify.query_id,
            table=plan.stream_table,
            watermark_ms=plan.watermark_ms,
            stream_version=plan.stream_version,
            batch_version=plan.batch_version,
            rows=plan.rows,
            causes={cause.cause: cause.rows for cause in plan.causes},
            at_ms=int(time.time() * 1000),
            state=STARTED,
        )
        rows = one_per_key(_rows(spark, cfg, job, record, plan), job, plan.rows, "the plan")
        save_heal(spark, cfg, name, record)
        # A last look, as late as it can be: what was planned is right for these versions only.
        refuse_moved(spark, cfg, job, seen)
        merge_keys(rows, job, plan.stream_table, {METADATA: _metadata(record)})
        version = commit_of(spark, plan.stream_table, METADATA, record.id)
        if version is None:
            raise QueryError(f"the heal {record.id} made no commit in {plan.stream_table}; the table is as it was.")
        save_heal(spark, cfg, name, replace(record, state=APPLIED, version=version))
    return plan, Healed(record.id, plan, version, record.at_ms)


def _rows(spark: SparkSession, cfg: Config, job: Job, record: HealRecord, plan: HealPlan) -> DataFrame:
    """The planned keys: with the batch's values, or marked as gone where the batch has no such row. One Spark job."""
    keys = healed_keys(spark, cfg, job, record)
    where = around(job, keys)
    stream = read_table(spark, plan.stream_table, plan.stream_version)
    batch = read_table(spark, plan.batch_table, plan.batch_version)
    marks = {"_run_id": F.lit(RUN_ID.format(record.id)), "_written_at": F.current_timestamp()}
    names = stream.columns
    only_stream = F.col("kind") == "only_stream"
    wanted = rows_by_key(batch, job, keys.filter(~only_stream), where).withColumns(marks).select(*names)
    gone = rows_by_key(stream, job, keys.filter(only_stream), where).select(*names)
    return wanted.withColumn(GONE, F.lit(False)).unionByName(gone.withColumn(GONE, F.lit(True)))


def _metadata(record: HealRecord) -> dict[str, str | int]:
    return {
        "id": record.id,
        "verify_id": record.verify_id,
        "stream_version": record.stream_version,
        "batch_version": record.batch_version,
    }
