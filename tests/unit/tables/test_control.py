"""The control table: of writers that saw the same record exactly one goes on from it, and nothing said is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from twinrun.config.load import load_config
from twinrun.config.model import Config
from twinrun.tables import delta
from twinrun.tables.control import Entry, add_record, latest_record, latest_records, try_write
from twinrun.tables.delta import read_table


@pytest.fixture
def cfg(tmp_path: Path) -> Config:
    text = "kafka:\n  bootstrap_servers: localhost:1\nreport:\n  folder: out\n"
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    return load_config(tmp_path / "c.yaml", [f"warehouse={tmp_path}/wh"], env={})


def test_records_are_numbered_by_subject_and_several_are_one_commit(spark_session: SparkSession, cfg: Config) -> None:
    add_record(spark_session, cfg, "k", "s", {"n": 1})
    add_record(spark_session, cfg, "k", "s", {"n": 2})
    assert try_write(spark_session, cfg, [Entry("k", "s", {"n": 3}), Entry("other", "s", {"n": 4})])

    found = latest_records(spark_session, cfg, [("k", "s"), ("other", "s"), ("k", "other")])
    assert {pair: (record.seq, record.payload["n"]) for pair, record in found.items()} == {
        ("k", "s"): (3, 3),
        ("other", "s"): (1, 4),
    }
    assert latest_record(spark_session, cfg, "k", "other") is None
    assert read_table(spark_session, cfg.table("control")).count() == 4
    # The empty table, and a commit for each call.
    assert delta.latest_version(spark_session, cfg.table("control")) == 3


def test_a_writer_that_saw_no_table_looks_at_what_another_has_written_meanwhile(
    spark_session: SparkSession, cfg: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both once wrote the first record of a table that was not there, and both held the lease."""
    add_record(spark_session, cfg, "k", "s", {"n": 1})
    monkeypatch.setattr("twinrun.tables.control.table_exists", lambda *_: False)
    assert not try_write(spark_session, cfg, [Entry("k", "s", {"n": 2})], F.col("seq") > 0)
    assert read_table(spark_session, cfg.table("control")).count() == 1


def test_of_two_writers_that_saw_the_same_record_exactly_one_goes_on(spark_session: SparkSession, cfg: Config) -> None:
    add_record(spark_session, cfg, "k", "s", {"n": 0})

    def go_on(n: int) -> bool:
        return try_write(spark_session, cfg, [Entry("k", "s", {"n": n})], F.col("seq") > 1)

    with ThreadPoolExecutor(2) as pool:
        won = list(pool.map(go_on, (1, 2)))

    newest = latest_record(spark_session, cfg, "k", "s")
    assert newest is not None
    assert sorted(won) == [False, True]
    assert (newest.seq, newest.payload) == (2, {"n": won.index(True) + 1})


def test_a_condition_is_looked_at_by_the_commit_itself_and_not_before_it(
    spark_session: SparkSession, cfg: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_record(spark_session, cfg, "k", "s", {"n": 0})
    save, held = delta._save, []

    def with_another_before_it(writer: Any, ref: str) -> None:
        if not held:
            held.append(ref)
            add_record(spark_session, cfg, "k", "s", {"n": "another"})
        save(writer, ref)

    monkeypatch.setattr(delta, "_save", with_another_before_it)
    assert not try_write(spark_session, cfg, [Entry("k", "s", {"n": 1})], F.col("seq") > 1)
    assert try_write(spark_session, cfg, [Entry("k", "s", {"n": 2})], F.col("seq") > 2)
    newest = latest_record(spark_session, cfg, "k", "s")
    assert newest is not None
    assert (newest.seq, newest.payload) == (3, {"n": 2})
