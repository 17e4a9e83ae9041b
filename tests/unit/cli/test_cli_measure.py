"""``measure`` and ``advise``: what cannot be used is refused before Spark starts, and advice is told with its arms."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import twinrun.measure.past
from tests.unit.measure.measured import measurement
from twinrun.cli.inputs import job_named
from twinrun.cli.measure import versions_of
from twinrun.cli.measure_asked import asked_for, regression_share
from twinrun.config.load import load_config
from twinrun.errors import InputError
from twinrun.measure.page import write_page
from twinrun.measure.past import Past
from twinrun.measure.usage import machine


@pytest.fixture
def measured(project: Path) -> Path:
    """A measurement of the project's job, as if it had been made here."""
    cfg = load_config(project / "conf" / "local.yaml")
    name = next(iter(cfg.jobs))
    job = job_named(cfg, name)
    found = measurement(job=job.job_name, machine=machine(), versions=versions_of(job))
    write_page(found, Path(cfg.report.folder) / f"{job.job_name}.measure")
    return Path(cfg.report.folder) / f"{job.job_name}.measure" / "measure.json"


def name_of(project: Path) -> str:
    return next(iter(load_config(project / "conf" / "local.yaml").jobs))


def test_advice_is_told_with_the_arms_that_it_comes_from_and_the_runner_up(
    run: Any, project: Path, measured: Path, spark: Any
) -> None:
    done = run("advise", name_of(project), "--freshness", "5m")

    assert done.code == 0
    assert "Run batch every 4 min, machine started per run: you need no stream." in done.out
    assert "known from     batch 10 s, batch 20 s, batch 5 s" in done.out
    assert "runner-up" in done.out
    assert spark.started == []


def test_advice_in_json_has_the_candidates_and_the_held_out_errors(run: Any, project: Path, measured: Path) -> None:
    done = run("advise", name_of(project), "--freshness", "100ms", "--json")

    found = json.loads(done.out)
    assert done.code == 1
    assert found["best"] is None
    assert found["nearest"]["misses"]
    assert {each["arm"] for each in found["held_out"]} == {"stream 1 s", "batch 10 s"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--freshness", "soon"], "'soon' is not a duration"),
        (["--completeness", "all"], "'all' is no share"),
        (["--budget", "20/day"], "needs to know what a core costs"),
        (["--rate", "fast"], "--rate 'fast' cannot be read"),
    ],
)
def test_an_slo_that_cannot_be_read_is_refused(
    run: Any, project: Path, measured: Path, options: list[str], said: str, spark: Any
) -> None:
    done = run("advise", name_of(project), *options)

    assert done.code == 2
    assert said in done.err
    assert spark.started == []


def test_a_job_that_was_never_measured_is_refused(run: Any, project: Path) -> None:
    done = run("advise", name_of(project))

    assert done.code == 2
    assert "was never measured" in done.err
    assert "twinrun measure" in done.err


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("machine", {"cores": 999, "memory_gib": 1, "processor": "x"}, "was made on another machine: 999 cores"),
        ("versions", {"pyspark": "3.0"}, "was measured with"),
        ("schema_version", 99, "has the schema version 99"),
    ],
)
def test_a_measurement_of_another_machine_or_version_is_refused(
    run: Any, project: Path, measured: Path, part: str, value: Any, said: str
) -> None:
    document = json.loads(measured.read_text(encoding="utf-8"))
    measured.write_text(json.dumps({**document, part: value}), encoding="utf-8")

    done = run("advise", name_of(project))

    assert done.code == 2
    assert said in done.err


def test_a_measurement_of_a_changed_job_is_refused(run: Any, project: Path, measured: Path) -> None:
    cfg = load_config(project / "conf" / "local.yaml")
    file = next(iter(cfg.jobs.values())).path
    file.write_text(file.read_text(encoding="utf-8") + "\n# changed\n", encoding="utf-8")

    done = run("advise", name_of(project))

    assert done.code == 2
    assert "has changed since it was measured" in done.err


def test_a_history_that_is_not_there_is_refused_before_spark_starts(run: Any, project: Path, spark: Any) -> None:
    done = run("measure", name_of(project), "--history", "--max-regression", "10%")

    assert done.code == 2
    assert "there is no table at" in done.err
    assert spark.started == []


@pytest.mark.parametrize(("most", "code"), [("10%", 1), ("20%", 0)])
def test_a_history_in_which_something_became_slower_than_allowed_exits_with_1(
    run: Any, project: Path, spark: Any, monkeypatch: pytest.MonkeyPatch, most: str, code: int
) -> None:
    (project / ".data" / "warehouse" / "twinrun" / "measurements").mkdir(parents=True)
    old = Past("m", 1, "batch 10 s", "explained", 10.0, 100.0, "{}", "{}", "abc")
    monkeypatch.setattr(twinrun.measure.past, "read_past", lambda *_: (replace(old, at_ms=2, p99_s=11.5), old))

    done = run("measure", name_of(project), "--history", "--max-regression", most)

    assert done.code == code
    assert re.search(r"batch 10 s\s+p99\s+10.00 s\s+11.50\s+\+15.0%", done.out)
    assert ("SLOWER" in done.out) is bool(code)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-regression", "much"], "--max-regression 'much' is no share"),
        (["--arm", "flink 1s"], "names no mode"),
        (["--quick", "--arm", "batch 1h"], "the load lasts 16 s, less than one interval of batch 1 h"),
        (["--freshness", "soon"], "--freshness: 'soon' is not a duration"),
        (["--events", "5"], "200"),
    ],
)
def test_a_measurement_that_cannot_be_made_is_refused_before_spark_starts(
    run: Any, project: Path, options: list[str], said: str, spark: Any
) -> None:
    done = run("measure", name_of(project), *options)

    assert done.code == 2
    assert said in done.err
    assert spark.started == []
    assert not (project / ".data" / "measure").exists()


def test_a_job_without_events_is_refused_before_spark_starts(run: Any, project: Path, spark: Any) -> None:
    done = run("measure", name_of(project), "--quick", "--set", "kafka.bootstrap_servers=127.0.0.1:1")

    assert done.code == 2
    assert "there are too few events to measure" in done.err
    assert spark.started == []


def test_a_quick_measurement_has_three_cadences_to_hold_one_out() -> None:
    asked = asked_for(True, None, None, None, None, 1)

    assert (asked.rate, asked.events, asked.repeats) == (100.0, 1_600, 1)
    assert [sum(arm.mode == mode for arm in asked.arms) for mode in ("stream", "available-now", "batch")] == [3, 1, 3]
    assert asked_for(False, None, None, None, None, 1).repeats == 5
    assert regression_share("10%") == regression_share("0.1") == pytest.approx(0.1)
    with pytest.raises(InputError):
        regression_share("-5%")
