"""``twinrun show``: rows of a result as they are, in order, with times in UTC and decimals digit by digit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from tests.unit.lint.test_lint_first_run import project
from twinrun.cli import show
from twinrun.cli.show import Mode, Shown, shown
from twinrun.config.model import Config
from twinrun.errors import InputError
from twinrun.job.job import Job
from twinrun.session.settings import with_settings
from twinrun.tables.control import add_record

ROWS = """
    SELECT shop, TIMESTAMP'2024-03-01 10:00:00.25' + make_interval(0, 0, 0, 0, n) AS window_start, orders,
        CAST(cents AS DECIMAL(20,3)) AS cents, array(named_struct('at', TIMESTAMP'2024-03-01 00:00:00')) AS parts,
        X'FF' AS raw, 'r' AS _run_id, current_timestamp() AS _written_at
    FROM VALUES ('a', 0, 3, 1.1), ('a', 1, 9, 0.1), ('b', 0, CAST(NULL AS INT), 2), ('c', 0, 5, 7)
        AS t(shop, n, orders, cents)
"""


@pytest.fixture
def made(spark_session: SparkSession, tmp_path: Path) -> tuple[Config, Job]:
    """A project whose batch has run, by a table and a record made by hand."""
    cfg, job = project(tmp_path / "p")
    table = cfg.table("batch_results", job=job.job_name, version=1)
    spark_session.sql(ROWS).write.format("delta").save(table)
    state = {"version": 1, "table": table, "fingerprint": {}, "static": {}, "run_id": "r"}
    more = {"table_version": 0, "ends": {}, "decoded_seq": {}, "events_version": {}, "finished_at_ms": 0}
    add_record(spark_session, cfg, "batch", job.job_name, state | more)
    return cfg, job


def test_rows_come_by_their_keys_with_exact_values(spark_session: SparkSession, made: tuple[Config, Job]) -> None:
    with with_settings(spark_session, {"spark.sql.session.timeZone": "Asia/Tokyo"}):
        found = shown(spark_session, *made, Mode.batch, None, None, 20)
    assert found.names == ("shop", "window_start", "orders", "cents", "parts", "raw")
    assert found.rows[:2] == (
        ("a", "2024-03-01 10:00:00.25", 3, "1.100", '[{"at":"2024-03-01T00:00:00.000000Z"}]', "/w=="),
        ("a", "2024-03-01 11:00:00.25", 9, "0.100", '[{"at":"2024-03-01T00:00:00.000000Z"}]', "/w=="),
    )
    assert [(row[0], row[2]) for row in found.rows] == [("a", 3), ("a", 9), ("b", None), ("c", 5)]
    assert found.found == 4


def test_some_rows_in_another_order_and_how_many_there_are(
    spark_session: SparkSession, made: tuple[Config, Job]
) -> None:
    found = shown(spark_session, *made, Mode.batch, "shop <> 'c'", "orders  desc", 2)
    assert [row[2] for row in found.rows] == [9, 3]
    assert found.found == 3
    assert shown(spark_session, *made, Mode.batch, "shop = 'x'", None, 2).rows == ()


@pytest.mark.parametrize(
    ("mode", "where", "order_by", "sentence"),
    [
        (Mode.stream, None, None, "no stream of first_job has run"),
        (
            Mode.batch,
            "shops = 'a'",
            None,
            r"--where \"shops = 'a'\": there is no column 'shops'",
        ),
        (Mode.batch, "shop = = 'a'", None, "--where .*Syntax error"),
        (Mode.batch, "orders", None, "--where 'orders': "),
        (Mode.batch, None, "order  desc", "--order-by names 'order', which is no column"),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(
    spark_session: SparkSession,
    made: tuple[Config, Job],
    mode: Mode,
    where: str,
    order_by: str,
    sentence: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(InputError, match=sentence):
        shown(spark_session, *made, mode, where, order_by, 2)
    assert "Exception" not in capfd.readouterr().err


def test_the_command_prints_a_table_or_one_document(
    run: Any, spark: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Shown("/w/t", ("shop", "orders"), (("a\nb", 3), ("b", None)), 7)
    asked: list[Any] = []
    monkeypatch.setattr(show, "shown", lambda _spark, _cfg, _job, *rest: asked.append(rest) or found)
    monkeypatch.setattr(show, "need_table", lambda *_, **__: None)

    done = run("show", "first_job", "--mode", "stream", "--where", "orders > 1", "--limit", "2")
    assert (done.code, asked) == (0, [(Mode.stream, "orders > 1", None, 2)])
    assert [line.split() for line in done.out.splitlines()] == [
        ["first_job", "in", "the", "stream:", "2", "of", "7", "rows"],
        ["shop", "orders"],
        ["a\\nb", "3"],
        ["b", "null"],
        ["table", "/w/t"],
    ]
    told = json.loads(run("show", "first_job", "--json").out)
    assert told == {
        "job": "first_job",
        "mode": "batch",
        "table": "/w/t",
        "rows_found": 7,
        "rows": [{"shop": "a\nb", "orders": 3}, {"shop": "b", "orders": None}],
    }


def test_where_nothing_has_run_is_told_before_spark_starts(run: Any, spark: Any, project: Path) -> None:
    done = run("show", "first_job")
    assert done.code == 2
    assert "there is nothing yet; run: twinrun batch first_job" in done.err
    assert spark.started == []
