"""Leases: all or none in one commit, and whoever was taken over while it was stopped neither commits nor says so."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import psutil
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from twinrun.config.load import load_config
from twinrun.config.model import Config
from twinrun.errors import CheckpointError
from twinrun.tables import delta, lease
from twinrun.tables.control import add_record, latest_record
from twinrun.tables.delta import (
    GONE,
    Lease,
    append,
    holding,
    latest_version,
    merge_by_key,
    one_change,
    raise_fence,
    read_table,
)
from twinrun.tables.lease import held_lease, release_lease, take_leases


@pytest.fixture
def cfg(tmp_path: Path) -> Config:
    text = "kafka:\n  bootstrap_servers: localhost:1\nreport:\n  folder: out\n"
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    return load_config(tmp_path / "c.yaml", [f"warehouse={tmp_path}/wh"], env={})


@pytest.fixture
def table(spark_session: SparkSession, cfg: Config) -> str:
    ref = cfg.table("batch_results", job="j", version=1)
    append(spark_session.range(3).withColumn("v", F.lit("first")), ref)
    return ref


def taken_over(spark: SparkSession, cfg: Config, subject: str) -> tuple[Lease, Lease]:
    """A holder that was stopped until its lease had ended, and the one that took it over."""
    old = take_leases(spark, short(cfg), [subject], "the first")
    time.sleep(max(0.0, old.expires_ms / 1000 - time.time()) + 0.05)
    return old, take_leases(spark, cfg, [subject], "the second")


def short(cfg: Config) -> Config:
    return cfg.model_copy(update={"stream": cfg.stream.model_copy(update={"lease_ttl_s": 1})})


def test_several_leases_are_one_commit_to_take_and_one_to_give_back_or_none_is_taken(
    spark_session: SparkSession, cfg: Config
) -> None:
    wanted = [f"verify:{n}" for n in range(14)]
    control = cfg.table("control")
    with held_lease(spark_session, cfg, "verify:13", "a verify"):
        before = latest_version(spark_session, control)
        with pytest.raises(CheckpointError, match=r"verify:13 is held by another run: .*\(a verify\)"):
            take_leases(spark_session, cfg, wanted, "an erasure")
        assert latest_version(spark_session, control) == before
    context = spark_session.sparkContext
    context.setJobGroup("fourteen leases", "")
    with held_lease(spark_session, cfg, wanted, "an erasure") as held:
        held.renew()
    context.setJobGroup("other", "")
    assert latest_version(spark_session, control) == before + 4  # given back once; taken, renewed, given back
    assert len(context.statusTracker().getJobIdsForGroup("fourteen leases")) <= 6
    for subject in ("verify:0", "verify:12"):
        with held_lease(spark_session, cfg, subject, "a verify"):
            pass


def test_a_lease_left_behind_is_taken_over_when_it_has_ended_and_a_renewed_one_is_not(
    spark_session: SparkSession, cfg: Config
) -> None:
    first = take_leases(spark_session, cfg, ["batch:j"], "the first")
    with pytest.raises(CheckpointError, match="is held"):
        take_leases(spark_session, cfg, ["decode:s", "batch:j"], "the second")
    release_lease(spark_session, cfg, first)
    old, new = taken_over(spark_session, cfg, "batch:j")
    assert (first.took_over, old.took_over, new.took_over) == (False, False, True)
    assert first.at_ms < old.at_ms < new.at_ms
    old.renew()
    assert old.lost.is_set()
    assert not new.lost.is_set()
    release_lease(spark_session, cfg, new)


def test_a_writer_that_was_taken_over_sees_it_before_its_commit(
    spark_session: SparkSession, cfg: Config, table: str
) -> None:
    old, new = taken_over(spark_session, cfg, "batch:j")
    version = latest_version(spark_session, table)
    rows = spark_session.range(1).withColumn("v", F.lit("stale"))
    with holding(old), pytest.raises(CheckpointError, match="batch:j was taken over by another run"):
        append(rows, table)
    assert latest_version(spark_session, table) == version
    with holding(replace(old, lost=Event(), expires_ms=new.expires_ms)), pytest.raises(CheckpointError, match="taken"):
        add_record(spark_session, cfg, "batch", "j", {"stale": True})
    assert latest_record(spark_session, cfg, "batch", "j") is None
    with holding(new):
        add_record(spark_session, cfg, "batch", "j", {"stale": False})
    release_lease(spark_session, cfg, new)


def test_a_writer_that_was_taken_over_between_its_look_and_its_commit_neither_commits_nor_says_so(
    spark_session: SparkSession, cfg: Config, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, versions = delta._save, []

    def stopped_before_the_commit(writer: Any, ref: str) -> None:
        if ref == table and not versions:
            time.sleep(1.1)
            versions.append(-1)
            with ThreadPoolExecutor(1) as another:
                versions.append(another.submit(take_over).result())
        save(writer, ref)

    def take_over() -> int:
        with holding(take_leases(spark_session, cfg, ["batch:j"], "the second")):
            raise_fence(spark_session, table)
        return latest_version(spark_session, table)

    monkeypatch.setattr(lease, "_beat", lambda *_: None)  # a stopped process renews nothing
    monkeypatch.setattr(delta, "_save", stopped_before_the_commit)
    said: list[str] = []

    def work() -> None:
        with held_lease(spark_session, short(cfg), "batch:j", "the first"):
            append(spark_session.range(1).withColumn("v", F.lit("stale")), table)
            said.append("done")

    with pytest.raises(CheckpointError, match="batch:j was taken over by another run"):
        work()
    assert not said
    assert versions == [-1, latest_version(spark_session, table)]
    assert read_table(spark_session, table).filter("v = 'stale'").count() == 0


STALE: dict[str, Callable[[SparkSession, str], None]] = {
    "append": lambda spark, ref: append(spark.range(1).withColumn("v", F.lit("stale")), ref),
    "replace": lambda spark, ref: delta.replace_rows(spark.range(1).withColumn("v", F.lit("stale")), ref),
    "a part": lambda spark, ref: delta.replace_part(spark.range(1).withColumn("v", F.lit("stale")), ref, "id = 0"),
    "MERGE": lambda spark, ref: merge_by_key(
        spark.range(1).withColumns({"v": F.lit("stale"), GONE: F.lit(False)}), ref, ["id"], {"run_id": "x"}
    ),
    "DELETE": lambda spark, ref: deleted(spark, ref),
}


def deleted(spark: SparkSession, ref: str) -> None:
    with one_change(spark):
        delta.delta_table(spark, ref).delete("id >= 0")


def test_no_kind_of_commit_gets_past_the_next_holder_and_each_of_them_does_without_one(
    spark_session: SparkSession, cfg: Config, table: str
) -> None:
    old, new = taken_over(spark_session, cfg, "batch:j")
    with holding(new):
        raise_fence(spark_session, table)
    fenced = latest_version(spark_session, table)
    # By its own clock the old holder has time left, so that nothing but the number stands in its way.
    asleep = replace(old, lost=Event(), expires_ms=new.expires_ms)
    with holding(asleep):
        for write in STALE.values():
            write(spark_session, table)
    assert latest_version(spark_session, table) == fenced
    release_lease(spark_session, cfg, asleep)
    assert asleep.lost.is_set()
    with holding(new):
        made = []
        for write in STALE.values():
            write(spark_session, table)
            made.append(latest_version(spark_session, table))
    assert made == [fenced + 1 + n for n in range(len(STALE))]
    release_lease(spark_session, cfg, new)


def test_a_holder_that_was_killed_is_dead_though_its_parent_never_asked_for_it() -> None:
    with subprocess.Popen(["sleep", "60"]) as holder:
        started_s = psutil.Process(holder.pid).create_time()
        owner = {"token": "t", "machine": lease.machine_id(), "pid": holder.pid, "started_s": started_s}
        assert not lease._owner_is_dead(owner)
        holder.kill()
        while psutil.Process(holder.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert lease._owner_is_dead(owner)
