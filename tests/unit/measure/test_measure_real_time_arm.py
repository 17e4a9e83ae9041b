"""The arm in real time beside the others: when it is asked for, how it is shown, and that it is not advised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

import twinrun.measure.real_time
import twinrun.measure.run
from tests.integration.conftest import JOBS
from tests.unit.measure.measured import ARMS, freshness, measurement, result
from twinrun.cli.measure import run_arms
from twinrun.cli.measure_asked import asked_for, possible, with_real_time
from twinrun.config.load import load_config
from twinrun.config.model import Config
from twinrun.config.sections import SinkBinding
from twinrun.errors import InputError, MachineError
from twinrun.job.job import Job
from twinrun.job.loader import load_job
from twinrun.measure.advise import Slo, advise
from twinrun.measure.arms import Arm, keeps_state, parse_arm
from twinrun.measure.freshness import key_fields
from twinrun.measure.model import held_out
from twinrun.measure.page import render_html, render_markdown, table_of
from twinrun.measure.real_time import refused, with_slots

ARM = Arm("real-time", 10_000)


def real_time(arm: Arm = ARM, **changed: Any) -> Any:
    """What no law of micro-batches says: milliseconds, and no micro-batch to tell of."""
    fresh = freshness(0.0, 0.012)
    return result(
        arm, freshness=fresh, units=(), micro_batches=None, cpu_s={**CPU, **changed.pop("cpu_s", {})}, **changed
    )


def config(folder: Path) -> Config:
    """A configuration of nothing but places."""
    places = {name: str(folder / name) for name in ("warehouse", "checkpoints")}
    file = folder / "conf.yaml"
    text = {"kafka": {"bootstrap_servers": "127.0.0.1:1"}, "report": {"folder": str(folder)}, **places}
    file.write_text(json.dumps(text), encoding="utf-8")
    return load_config(file, env={})


CPU = {"jvm": 12.0, "python": 0.1, "broker": 4.0, "producer": 0.5}


def test_its_interval_is_one_that_spark_takes() -> None:
    assert parse_arm("real-time 10s") == ARM
    assert ARM.stays_up
    with pytest.raises(InputError, match="no micro-batches as short as that"):
        parse_arm("real-time 1s")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("cents_of_a", ""),
        ("per_minute", "per_minute keeps state: windows"),
        ("page_totals", "keeps state: the latest row of each key"),
        ("counted_once", "keeps state"),
    ],
)
def test_a_job_that_declares_state_is_none_for_it(name: str, why: str) -> None:
    assert (
        (why in keeps_state(load_job(JOBS / f"{name}.py"))) if why else not keeps_state(load_job(JOBS / f"{name}.py"))
    )


@pytest.mark.parametrize(
    ("name", "sink", "arms", "there"),
    [
        ("cents_of_a", True, None, True),
        ("cents_of_a", False, None, False),
        ("cents_of_a", True, ["stream 1s"], False),
        ("cents_of_a", False, ["real-time 10s"], True),
        ("per_minute", True, None, False),
    ],
)
def test_it_is_measured_where_a_job_without_state_writes_a_topic_or_where_it_is_named(
    tmp_path: Path, name: str, sink: bool, arms: list[str] | None, there: bool
) -> None:
    job = load_job(JOBS / f"{name}.py")
    cfg = config(tmp_path)
    cfg = cfg.model_copy(update={"sinks": {job.job_name: SinkBinding(topic="out")} if sink else {}})

    asked = with_real_time(asked_for(True, None, None, arms, None, 1), cfg, job)

    assert (ARM in asked.arms) is there
    assert len(asked.arms) == (1 if arms else 7)
    full = with_real_time(asked_for(False, None, None, arms, None, 1), cfg, job)
    assert (Arm("real-time", 60_000) in full.arms) is (there and arms is None)


def test_a_job_that_keeps_state_is_refused_where_it_is_named(tmp_path: Path) -> None:
    job = load_job(JOBS / "per_minute.py")
    with pytest.raises(InputError, match="per_minute keeps state: windows"):
        with_real_time(asked_for(True, None, None, ["real-time 10s"], None, 1), config(tmp_path), job)


def test_it_is_shown_in_milliseconds_and_has_no_micro_batches() -> None:
    found = measurement([*(result(arm) for arm in ARMS), real_time()])

    line = next(line for line in table_of(found) if line[0] == ARM.name)
    assert line[1:5] == ("0.012 s",) * 4
    page = render_html(found)
    assert "by Spark&#39;s real-time trigger, into a topic" in page
    assert "in real time until the record" in page
    assert f"| {ARM.name} | – |" in render_markdown(found)
    assert "real-time" not in render_html(measurement())


def test_its_figures_are_told_and_it_is_no_candidate() -> None:
    found = advise(measurement([*(result(arm) for arm in ARMS), real_time()]), Slo(freshness_s=0.1))

    assert found.best is None
    assert all(each.arm.mode != "real-time" for each in found.candidates)
    assert any("Spark's real-time trigger had p99 0.012 s at 2,017 CPU s per million" in note for note in found.notes)
    assert not any("real-time trigger" in note for note in advise(measurement(), Slo(freshness_s=300)).notes)


def test_three_of_it_are_not_predicted_from_each_other() -> None:
    arms = [real_time(Arm("real-time", ms)) for ms in (5_000, 10_000, 15_000)]
    assert not any(each.arm.startswith("real-time") for each in held_out(measurement([*arms, result(ARMS[0])])))


def test_where_it_alone_was_measured_there_is_no_advice() -> None:
    with pytest.raises(InputError, match=r"says nothing about 100 events/s: the arms with figures are real-time 10 s"):
        advise(measurement([real_time()]), Slo(freshness_s=300))


@pytest.mark.parametrize(
    ("master", "slots"),
    [("local", "local[3]"), ("local[2]", "local[3]"), ("local[8]", "local[8]"), ("local[2, 4]", "local[3]")],
)
def test_a_local_master_has_a_thread_for_each_partition(master: str, slots: str) -> None:
    assert with_slots(master, 3) == slots


@pytest.mark.parametrize("master", ["yarn", "spark://host:7077", "local-cluster[2,1,1024]"])
def test_another_master_is_left_as_it_is(master: str) -> None:
    assert with_slots(master, 3) == master


def test_what_spark_says_of_an_operator_is_told_without_its_advice() -> None:
    said = (
        "it failed: [STREAMING_REAL_TIME_MODE.OPERATOR_OR_SINK_NOT_IN_ALLOWLIST] Streaming real-time mode has the "
        "following limitation: The operator(s): org.apache.spark.sql.execution.A, org.apache.spark.sql.execution.B are "
        "not in the operator allowlist for Real-Time Mode. To bypass this check, set x to false."
    )
    job = load_job(JOBS / "cents_of_a.py")
    assert refused(job, said).endswith("cents_of_a in real time: A, B is not among the operators that it allows")
    assert refused(job, "the topic is gone.") == "cents_of_a does not run in real time: the topic is gone"


def _words(clicks: DataFrame) -> DataFrame:
    return clicks.select("id", F.explode(F.split("page", " ")).alias("word"))


def _renamed(clicks: DataFrame) -> DataFrame:
    return clicks.select(F.col("id").alias("click"), F.upper("page").alias("page"))


def _lowered(clicks: DataFrame) -> DataFrame:
    return clicks.select(F.lower("id").alias("id"), "page")


@pytest.mark.parametrize(
    ("logic", "keys", "fields"),
    [
        (_words, ["id"], {"id": "id"}),
        (_words, ["id", "word"], {}),
        (_renamed, ["click"], {"click": "id"}),
        (_renamed, ["click", "page"], {}),
        (_lowered, ["id"], {}),
        (_lowered, ["page"], {"page": "page"}),
    ],
)
def test_only_keys_that_are_all_fields_as_they_are_say_of_which_event_a_row_is(
    spark_session: SparkSession, logic: Any, keys: list[str], fields: dict[str, str]
) -> None:
    [source] = load_job(JOBS / "cents_of_a.py").sources
    assert key_fields(spark_session, Job(logic, sources=[source], keys=keys), {}) == fields


@pytest.mark.parametrize("why", ["", "Spark does not take it"])
def test_what_spark_refuses_leaves_its_place_to_the_arm_that_it_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    job = load_job(JOBS / "cents_of_a.py")
    cfg = config(tmp_path).model_copy(update={"sinks": {job.job_name: SinkBinding(topic="out")}})
    asked = with_real_time(asked_for(True, None, None, None, None, 1), cfg, job)
    monkeypatch.setattr(twinrun.measure.real_time, "why_not", lambda _: why)

    arms, notes = possible(Any, asked, lambda _: None)  # type: ignore[arg-type]

    assert len(arms) == 7
    assert (ARM in arms) is (not why)
    assert any(arm.mode == "available-now" for arm in arms) is bool(why)
    assert notes == ([f"Not measured: real-time 10 s. {why}."] if why else [])
    named = with_real_time(asked_for(True, None, None, ["real-time 10s"], None, 1), cfg, job)
    if why:
        with pytest.raises(InputError, match=why):
            possible(Any, named, lambda _: None)  # type: ignore[arg-type]


def test_an_arm_in_real_time_that_fails_leaves_the_others_their_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_arm(_: Any, arm: Arm, repeat: int, *__: Any) -> Any:
        if arm.mode == "real-time" and repeat == 1:
            raise MachineError("the query in real time ended by itself: Killed.")
        return result(arm, repeat)

    monkeypatch.setattr(twinrun.measure.run, "run_arm", run_arm)
    monkeypatch.setattr(twinrun.measure.run, "warm_up", lambda *_: None)
    monkeypatch.setattr(twinrun.measure.real_time, "why_not", lambda _: "")
    asked = asked_for(True, None, None, ["real-time 10s", "stream 1s"], 3, 1)

    results, notes = run_arms(Silent(), Any, asked, lambda _: None)  # type: ignore[arg-type]

    assert len(results) == 5
    assert notes == ["real-time 10 s, repeat 2, has no figures: the query in real time ended by itself: Killed."]

    def fails(*_: Any) -> Any:
        raise MachineError("it did not begin.")

    monkeypatch.setattr(twinrun.measure.run, "run_arm", fails)
    alone = asked_for(True, None, None, ["real-time 10s"], 1, 1)
    with pytest.raises(MachineError):
        run_arms(Silent(), Any, alone, lambda _: None)  # type: ignore[arg-type]


class Silent:
    """A call whose notes nobody reads."""

    class out:
        @staticmethod
        def note(_: str) -> None: ...
