"""The control table: of writers that saw the same number exactly one appends the next, and nothing said is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from twinrun.config.load import load_config
from twinrun.config.model import Config
from twinrun.tables.control import add_record, latest_record, try_append
from twinrun.tables.delta import read_table


@pytest.fixture
def cfg(tmp_path: Path) -> Config:
    text = "kafka:\n  bootstrap_servers: localhost:1\nreport:\n  folder: out\n"
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    return load_config(tmp_path / "c.yaml", [f"warehouse={tmp_path}/wh"], env={})


def test_a_record_follows_the_newest_even_where_the_caller_knows_an_older_one(
    spark_session: SparkSession, cfg: Config
) -> None:
    first = add_record(spark_session, cfg, "k", "s", {"n": 1})
    add_record(spark_session, cfg, "k", "s", {"n": 2}, first)
    third = add_record(spark_session, cfg, "k", "s", {"n": 3}, first)

    newest = latest_record(spark_session, cfg, "k", "s")
    assert newest is not None
    assert (third.seq, newest.seq, newest.payload) == (3, 3, {"n": 3})
    assert latest_record(spark_session, cfg, "k", "other") is None
    assert read_table(spark_session, cfg.table("control")).count() == 3


def test_of_two_writers_of_one_number_exactly_one_wins(spark_session: SparkSession, cfg: Config) -> None:
    add_record(spark_session, cfg, "k", "s", {"n": 0})
    with ThreadPoolExecutor(2) as pool:
        won = list(pool.map(lambda n: try_append(spark_session, cfg, "k", "s", 2, {"n": n}), (1, 2)))

    newest = latest_record(spark_session, cfg, "k", "s")
    assert newest is not None
    assert sorted(won) == [False, True]
    assert newest.payload == {"n": won.index(True) + 1}
    assert try_append(spark_session, cfg, "k", "s", 2, {"n": 9}) is False
