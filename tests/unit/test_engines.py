"""What is said of the other engines is what was run: the table, the page, the lock, and the oracle by hand."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from bench.engine_judge import OTHER_CLOCK
from bench.engine_log import GRACE_MS, T0_MS, WINDOW_MS, Event, Log, expected, planned, sums_of
from bench.engine_runs import ENGINES, HERE
from bench.engines import RESULTS
from bench.engines_page import doc_table, pace_table, page
from twinrun.external.rules import RULES
from twinrun.session.jars import read_lock

ROOT = HERE.parent


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return json.loads((RESULTS / "engines.json").read_text(encoding="utf-8"))


def test_the_table_of_the_page_on_engines_is_that_of_the_run(result: dict[str, Any]) -> None:
    text = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    assert text.split("<!-- engines -->")[1].strip() == doc_table(result)


def test_at_a_pace_only_the_clock_on_the_wall_leaves_rows_unexplained_and_nothing_is_wrong() -> None:
    result = json.loads((RESULTS / "engines_at_a_pace.json").read_text(encoding="utf-8"))
    text = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    assert text.split("<!-- pace -->")[1].strip() == pace_table(result)
    assert set(result["engines"]) == {engine.name for engine in ENGINES}
    assert result["per_s"] > 0
    assert result["problems"] == []
    for engine in ENGINES:
        told = result["engines"][engine.name]
        assert told["wrong"] == 0
        if engine.rule != "none" and engine.at_a_pace:
            assert told["unexplained"] == 0


def test_no_engine_has_a_wrong_cause_and_none_with_a_rule_an_unexplained_row(result: dict[str, Any]) -> None:
    assert set(result["engines"]) == {engine.name for engine in ENGINES}
    assert result["problems"] == []
    assert {name: each["wrong"] for name, each in result["engines"].items()} == dict.fromkeys(result["engines"], 0)
    by_rule = [each for each in result["engines"].values() if each["late_rule"] != "none"]
    assert [each["unexplained"] for each in by_rule] == [0] * len(by_rule)
    errors = sum(5 if each["late_rule"] == "kafka-streams" else 3 for each in by_rule)
    assert result["controls"] == result["controls_seen"] == errors > 0
    planted = [(engine, result["engines"][engine.name]["planted"]) for engine in ENGINES]
    assert all(each["lost"] == each["changed"] == "unexplained" for _, each in planted)
    # A row that is written again replaces itself where rows are written as they change.
    assert all((each["doubled"] == "equal") == engine.so_far for engine, each in planted)


def test_the_page_escapes_what_it_shows_and_loads_nothing(result: dict[str, Any]) -> None:
    shown = page({**result, "problems": ["<script>alert(1)</script>"]})
    assert "<script" not in shown
    assert "default-src 'none'" in shown
    assert re.search(r"https?:|src=|@import|url\(", shown) is None


def test_every_program_is_there_pinned_and_hashed() -> None:
    sets = read_lock((HERE / "jars.lock").read_text(encoding="utf-8"))
    for engine in ENGINES:
        assert (HERE / ("python" if engine.program.endswith(".py") else "java")).is_dir()
        assert engine.rule == "none" or (engine.rule in RULES and engine.rule in OTHER_CLOCK)
        if engine.needs not in sets:
            text = (ROOT / "requirements" / f"engine-{engine.needs}.txt").read_text(encoding="utf-8")
            pins = re.findall(r"^[\w.-]+(?:\[\w+\])?==", text, re.MULTILINE)
            assert pins
            assert text.count("--hash=sha256:") >= len(pins)


def log_of(*seconds: float, half: int = 1_000) -> Log:
    events = (Event(f"o{n}", "shop-00", T0_MS + round(second * 1000), 1, 0, n) for n, second in enumerate(seconds))
    return Log(tuple(events), half)


@pytest.mark.parametrize(
    ("rule", "newest_s", "late"),
    [
        ("kafka-streams", 70, True), ("kafka-streams", 69.999, False),
        ("flink-datastream", 70, True), ("flink-datastream", 69.999, False),
        ("flink-sql", 69.999, True), ("flink-sql", 69.998, False),
        ("quix-key", 70, True), ("quix-key", 69.999, False),
        ("bytewax", 40.001, True), ("bytewax", 40, False),
    ],
)  # fmt: skip
def test_the_oracle_drops_on_the_edge_of_each_rule_and_not_a_millisecond_before(
    rule: str, newest_s: float, late: bool
) -> None:
    # The window of second 30 ends at 60; with the grace that is 70.
    assert expected(log_of(30, newest_s, 30), rule).dropped == ({"o2"} if late else set())


def test_the_oracle_writes_a_window_again_after_a_restart_with_what_the_store_still_has() -> None:
    kept = expected(log_of(5, 75, 6, 200, half=2), "kafka-streams")
    assert kept.written[("shop-00", T0_MS)] == [(1, 1), (2, 2)]
    gone = expected(log_of(5, 190, 6, 200, half=2), "kafka-streams")
    assert gone.written[("shop-00", T0_MS)] == [(1, 1), (1, 1)]


def test_the_plan_is_the_same_every_time_and_has_events_around_every_edge() -> None:
    log = planned()
    assert log == planned()
    assert len(log.events) == 20_000
    assert sum(orders for orders, _ in sums_of(log.events).values()) == 20_000
    assert (GRACE_MS, WINDOW_MS) == (10_000, 60_000)
    for rule in OTHER_CLOCK:
        right = expected(log, rule, one_partition=rule.startswith("flink")).dropped
        for grace_ms in (GRACE_MS - 1, GRACE_MS + 1):
            other = expected(log, rule, grace_ms, one_partition=rule.startswith("flink")).dropped
            assert len(right ^ other) > 10
