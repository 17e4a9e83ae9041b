"""Take single valid records out of one job in both modes, since its function fails on them; and take that back.

Only while the job's stream stands still, and only records that this stream has not read past: what it has counted it
cannot forget. The failed micro-batch is planned and not committed, so that the next start repeats it without them.
"""

from __future__ import annotations

import getpass
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import CheckpointError, InputError
from twinrun.events.decode import decode
from twinrun.events.source import Source
from twinrun.job.job import Job
from twinrun.results.cut import newest_commit
from twinrun.results.records import MOST, Refusal, is_left_out, refusals_of, save_refusals
from twinrun.results.state import StreamState, first_read, stream_state, told_in_offsets
from twinrun.session.plain import plain_errors
from twinrun.tables.checkpoint import Offsets, end_offsets, last_committed, logged, query_id
from twinrun.tables.delta import read_table, table_exists
from twinrun.tables.lease import held_lease


@dataclass(frozen=True)
class Wanted:
    """Coordinates of one record, as a user writes them."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"


@dataclass(frozen=True)
class _Reached:
    """How far the job's stream has come, by source. ``unfinished``: a micro-batch written and not committed."""

    query_id: str | None
    starts: dict[str, Offsets]
    ends: dict[str, Offsets]
    unfinished: int | None

    def has_read(self, source: str, partition: int, offset: int) -> bool:
        first = self.starts.get(source, {}).get(partition, 0)
        return first <= offset < self.ends.get(source, {}).get(partition, 0)


def add(
    spark: SparkSession, cfg: Config, job: Job, places: Sequence[Wanted], why: str, *, new_checkpoint: bool = False
) -> tuple[Refusal, ...]:
    """Leave these records out of the job from the next run of each mode on. About ten small Spark jobs.

    Parameters
    ----------
    new_checkpoint : bool
        Take records too that the stream has used. It is then refused to go on from its checkpoint.

    Raises
    ------
    InputError
        A record is not in bronze, is refused by the decoder anyway, is left out already, or was read by the stream.
    CheckpointError
        The job's stream is running.
    """
    with _standing_still(spark, cfg, job, "--add"):
        entries = refusals_of(spark, cfg, job.job_name)
        reached = _reached(spark, cfg, job)
        new: list[Refusal] = []
        for wanted in dict.fromkeys(places):
            source = _source_of(cfg, job, wanted)
            _refuse_known(entries, wanted)
            event_ms = _event_time(spark, cfg, source, wanted)
            again = any(each.place == str(wanted) and each.passed == reached.query_id for each in entries)
            used = reached.has_read(source.name, wanted.partition, wanted.offset) and not again
            if used and not new_checkpoint:
                raise InputError(
                    f"the stream of {job.job_name} has read {wanted} and has used it; left out now, only the batch "
                    "would lack it.",
                    expected="a record that the stream has not read yet",
                    fix="leave it in; or give --new-checkpoint here, and start the stream anew without the record",
                )
            new.append(_entry(source, wanted, event_ms, why, reached.query_id if used else None))
        if sum(each.counts for each in entries) + len(new) > MOST:
            raise InputError(
                f"{job.job_name} would leave out more than {MOST:,} records.",
                expected="single records",
                fix="correct the function: the try_ forms of Spark give null instead of failing",
            )
        save_refusals(spark, cfg, job.job_name, [*entries, *new])
    return tuple(new)


def remove(spark: SparkSession, cfg: Config, job: Job, places: Sequence[Wanted]) -> tuple[Refusal, ...]:
    """Count these records again, in the batch from its next run on. About six small Spark jobs.

    A stream that has read past them does not get them back: a verify then proves the cause ``quarantined``.

    Raises
    ------
    InputError
        A record is not left out.
    CheckpointError
        The job's stream is running, or its last micro-batch was written and not finished.
    """
    with _standing_still(spark, cfg, job, "--remove"):
        entries = refusals_of(spark, cfg, job.job_name)
        reached = _reached(spark, cfg, job)
        if reached.unfinished is not None:
            raise CheckpointError(
                f"micro-batch {reached.unfinished} of {job.job_name} was written and not finished, without the records "
                "that are left out now: it must be repeated as it was.",
                fix=f"run: twinrun stream {job.job_name}, then --remove",
            )
        kept, gone = list(entries), []
        for wanted in dict.fromkeys(places):
            index = next((i for i, each in enumerate(kept) if each.counts and each.place == str(wanted)), None)
            if index is None:
                raise InputError(
                    f"{wanted} is not left out of {job.job_name}.",
                    fix=f"look at: twinrun quarantine {job.job_name} --list",
                )
            old = kept[index]
            read = reached.has_read(old.source, old.partition, old.offset) and old.used_by != reached.query_id
            passed = reached.query_id if read else None
            kept[index] = replace(old, removed_at_ms=_now_ms(), removed_by=_user(), passed=passed)
            gone.append(kept[index])
        save_refusals(spark, cfg, job.job_name, kept)
    return tuple(gone)


def entries_of(spark: SparkSession, cfg: Config, job: Job) -> tuple[Refusal, ...]:
    """Every entry of the job, those that were taken back among them, oldest first. One small Spark job."""
    return refusals_of(spark, cfg, job.job_name)


@contextmanager
def _standing_still(spark: SparkSession, cfg: Config, job: Job, option: str) -> Iterator[None]:
    doing = f"twinrun quarantine {job.job_name} {option}"
    with held_lease(spark, cfg, f"stream:{job.job_name}", doing), plain_errors("the quarantine"):
        yield


def _source_of(cfg: Config, job: Job, wanted: Wanted) -> Source:
    return next(source for source in job.sources if cfg.source(source.name).topic == wanted.topic)


def _refuse_known(entries: Sequence[Refusal], wanted: Wanted) -> None:
    for each in entries:
        if each.counts and each.place == str(wanted):
            raise InputError(
                f"{wanted} is left out already, since {each.by} said: {each.why}", fix="nothing is to be done"
            )


def _event_time(spark: SparkSession, cfg: Config, source: Source, wanted: Wanted) -> int | None:
    """Event time (epoch ms) of a record that is a valid event of its source."""
    ref = cfg.table("bronze", topic=wanted.topic)
    land = f"if the topic has it, land it first: twinrun ingest {source.name}"
    if not table_exists(spark, ref):
        raise InputError(f"there is no record {wanted} in bronze: nothing has been landed.", fix=land)
    bronze = read_table(spark, ref)
    here = bronze.filter(is_left_out([[wanted.partition, wanted.offset]], "partition", "offset"))
    at = F.unix_millis(F.col(f"`{source.event_time}`")).alias("at")
    rows = decode(here, source).select("_rule", "_reason", at).limit(1).collect()
    if not rows:
        part = bronze.filter(F.col("partition") == wanted.partition)
        first, last = part.agg(F.min("offset"), F.max("offset")).collect()[0]
        if first is None:
            partitions = ", ".join(str(number) for number in sorted(end_offsets(bronze, "partition", "offset")))
            raise InputError(
                f"there is no record {wanted}: bronze has no partition {wanted.partition} of {wanted.topic}.",
                expected=f"one of the partitions {partitions}",
                fix=land,
            )
        raise InputError(
            f"there is no record {wanted} in bronze.",
            expected=f"an offset from {first} to {last} that is there",
            fix=land,
        )
    if rows[0]["_rule"] is not None:
        raise InputError(
            f"{wanted} never reaches {source.name}'s jobs: its decoder refuses it ({rows[0]['_rule']}: "
            f"{rows[0]['_reason']}).",
            expected="a valid record",
        )
    return None if rows[0]["at"] is None else int(rows[0]["at"])


def _reached(spark: SparkSession, cfg: Config, job: Job) -> _Reached:
    """What the job's current stream has read and used; nothing where it never ran. Up to six small Spark jobs."""
    state = stream_state(spark, cfg, job.job_name)
    owner = None if state is None else state.query_id or query_id(spark, state.checkpoint)
    if state is None or owner is None:
        return _Reached(None, {}, {}, None)
    committed = last_committed(spark, state.checkpoint)
    done = -1 if committed is None else committed
    written = _written(spark, job, state, owner)
    topics = {cfg.source(source.name).topic: source.name for source in job.sources}
    ends: dict[str, Offsets] = {}
    told = told_in_offsets(spark, cfg, job, state)
    newest = logged(spark, cfg, owner, state.checkpoint, told).filter(F.col("micro_batch") == max(done, written))
    for row in newest.select("end_offsets").collect():
        for end in row[0]:
            if end["topic"] in topics:
                ends.setdefault(topics[end["topic"]], {})[end["partition"]] = end["offset"]
    first = first_read(spark, cfg, job, state)
    starts = {topics[topic]: found for topic, found in first.items() if topic in topics}
    return _Reached(owner, starts, ends, written if written > done else None)


def _written(spark: SparkSession, job: Job, state: StreamState, owner: str) -> int:
    if not table_exists(spark, state.table):
        return -1
    return newest_commit(spark, state.table, owner, job.emit).micro_batch


def _entry(source: Source, wanted: Wanted, event_ms: int | None, why: str, used_by: str | None) -> Refusal:
    return Refusal(
        source=source.name,
        topic=wanted.topic,
        partition=wanted.partition,
        offset=wanted.offset,
        event_time_ms=event_ms,
        why=why,
        by=_user(),
        at_ms=_now_ms(),
        used_by=used_by,
    )


def _user() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _now_ms() -> int:
    return int(time.time() * 1000)
