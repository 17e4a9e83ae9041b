"""A session is started once, stopped always, and ended in order by a signal."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

import twinrun.cli.session
from twinrun.cli.session import cancel_jobs, session_settings, until_stopped, with_spark
from twinrun.config.load import load_config
from twinrun.errors import ConfigError, QueryError


@pytest.fixture
def cfg(project: Path) -> Any:
    return load_config(project / "conf/local.yaml", env={})


def session_conf(cfg: Any) -> dict[str, str]:
    found: dict[str, str] = cfg.spark.session_conf()
    assert found, "the project sets something"
    return found


def test_work_gets_the_session_and_its_result_comes_back(cfg: Any, spark: Any) -> None:
    threads = []

    def work(session: Any, stop: threading.Event) -> str:
        threads.append(threading.current_thread())
        assert session is spark
        assert not stop.is_set()
        return "done"

    assert with_spark(cfg, "batch x", work) == "done"
    assert spark.started == [
        {"name": "twinrun batch x", "master": "local[2]", "spark.master": "local[2]", **session_conf(cfg)}
    ]
    assert spark.stopped == 1
    # A signal must never break into a call to Java, so that the main thread makes none.
    assert threads[0] is not threading.main_thread()


def test_an_error_of_the_work_comes_back_after_the_session_is_stopped(cfg: Any, spark: Any) -> None:
    def work(*_: Any) -> None:
        raise QueryError("it failed")

    with pytest.raises(QueryError, match="it failed"):
        with_spark(cfg, "batch x", work)
    assert spark.stopped == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_the_jobs_and_stops_the_session(cfg: Any, spark: Any, number: int) -> None:
    def work(_: Any, stop: threading.Event) -> None:
        os.kill(os.getpid(), number)
        assert stop.wait(5)
        assert spark.sparkContext.cancelled.wait(5)
        raise QueryError("cancelled")

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        with_spark(cfg, "verify x", work)
    assert spark.stopped == 1
    assert signal.getsignal(number) is before


def test_work_that_does_not_end_loses_its_session(cfg: Any, spark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twinrun.cli.session, "GRACE_S", 0.5)
    released = threading.Event()

    def work(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        released.wait(20)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        with_spark(cfg, "verify x", work)
    assert time.monotonic() - began < 10
    assert spark.stopped == 1
    released.set()


def test_a_second_signal_does_not_wait(cfg: Any, spark: Any) -> None:
    released = threading.Event()

    def work(_: Any, stop: threading.Event) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        stop.wait(5)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)
        released.wait(5)

    with pytest.raises(KeyboardInterrupt):
        with_spark(cfg, "verify x", work)
    assert spark.stopped >= 1
    released.set()


def test_a_stream_ends_in_order_by_sigterm_and_cancels_nothing(cfg: Any, spark: Any) -> None:
    def work(_: Any, stop: threading.Event) -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(5)
        return "stopped in order"

    assert until_stopped(cfg, "stream x", work) == "stopped in order"
    assert spark.stopped == 1
    assert not spark.sparkContext.cancelled.is_set()


def test_a_stream_that_is_interrupted_finishes_first(cfg: Any, spark: Any) -> None:
    finished = []

    def work(_: Any, stop: threading.Event) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        finished.append(stop.wait(5))

    with pytest.raises(KeyboardInterrupt):
        until_stopped(cfg, "stream x", work)
    assert finished == [True]
    assert spark.stopped == 1


def test_what_is_said_in_yaml_wins_over_the_file_beside_it(project: Path) -> None:
    (project / "conf/spark").mkdir()
    (project / "conf/spark/local.conf").write_text(
        "spark.master local[7]\nspark.driver.memory 2g\nspark.ui.enabled false\n", encoding="utf-8"
    )
    conf = project / "conf/local.yaml"

    plain = session_settings(load_config(conf, env={}))
    changed = session_settings(
        load_config(conf, ["spark.master=local[3]", "spark.conf.spark.driver.memory=4g"], env={})
    )

    yaml = session_conf(load_config(conf, env={}))
    assert plain == {"spark.master": "local[2]", "spark.driver.memory": "2g", "spark.ui.enabled": "false", **yaml}
    assert changed == {"spark.master": "local[3]", "spark.driver.memory": "4g", "spark.ui.enabled": "false", **yaml}


def test_a_named_file_of_settings_is_read_instead(project: Path) -> None:
    (project / "mine.conf").write_text("spark.driver.memory 9g\n", encoding="utf-8")

    found = session_settings(load_config(project / "conf/local.yaml", ["spark.conf_file=mine.conf"], env={}))

    assert found["spark.driver.memory"] == "9g"
    assert found["spark.master"] == "local[2]"


def test_no_master_is_refused_and_no_configuration_takes_the_defaults(project: Path) -> None:
    with pytest.raises(ConfigError, match="names no Spark master"):
        session_settings(load_config(project / "conf/local.yaml", ["spark.master=null"], env={}))
    assert session_settings(None) == {}


def test_a_signal_ends_the_queries_of_the_session_and_not_those_that_give_its_leases_back(
    spark_session: SparkSession,
) -> None:
    """Those of the control table run in a session of its own."""
    control = spark_session.newSession()
    ended: dict[str, str] = {}

    def query(session: SparkSession, name: str, seconds: int) -> None:
        sleeps = f"java_method('java.lang.Thread', 'sleep', {seconds * 1000}L) AS s"
        try:
            session.range(0, 1, 1, 1).selectExpr(sleeps).collect()
            ended[name] = "done"
        except Exception as error:
            ended[name] = type(error).__name__

    threads = [
        threading.Thread(target=query, args=args) for args in ((spark_session, "work", 30), (control, "lease", 3))
    ]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    while len(spark_session.sparkContext.statusTracker().getActiveJobsIds()) < len(threads):
        assert time.monotonic() - began < 20
        time.sleep(0.05)
    try:
        cancel_jobs(spark_session)
        for thread in threads:
            thread.join(20)
    finally:
        spark_session.sparkContext.setLogLevel("WARN")
    assert time.monotonic() - began < 20
    assert sorted(ended) == ["lease", "work"]
    assert (ended["lease"], ended["work"] != "done") == ("done", True)
