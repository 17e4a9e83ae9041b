"""A measurement shows no figure without agreement, holds what it is compared with, and its page runs nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.unit.measure.measured import ARMS, measurement, result
from twinrun.config.load import load_config
from twinrun.measure.arms import Arm
from twinrun.measure.charts import pareto
from twinrun.measure.day import Day, day_of
from twinrun.measure.page import render_html, render_markdown, table_of, write_page
from twinrun.measure.past import Past, changes, read_past, regressions, rows_of, write_rows
from twinrun.measure.results import AtLateness, Lateness, Unit, from_dict, read_measurement

BATCH = Arm("batch", 10_000)
HOSTILE = '<script>alert("x")</script> | `a` \x1b[31m'


def plain(text: str) -> str:
    """Without the marks that Markdown escapes by."""
    return text.replace("\\", "")


def past(at_ms: int, p99_s: float | None, cpu: float | None, **changed: str) -> Past:
    found = Past("m", at_ms, "batch 10 s", "explained", p99_s, cpu, '{"cores": 2}', "{}", "abc")
    return replace(found, **changed)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"outcome": "differ", "exit_code": 1, "problems": ("3 rows are unexplained",)},
            "differ: 3 rows are unexplained",
        ),
        ({"outcome": "explained", "exit_code": 1, "problems": ("too many late",)}, "explained: too many late"),
        ({"outcome": "stale", "exit_code": 1}, "stale: the results do not agree"),
        ({"kept_up": False}, "did not keep up with the load"),
    ],
)
def test_an_arm_without_agreement_shows_why_in_place_of_figures(changed: dict[str, object], said: str) -> None:
    found = measurement([result(BATCH, **changed), result(Arm("stream", 0))])

    head, batch, stream = sorted(table_of(found), key=lambda line: line[0])

    assert head[0] == "arm"
    assert batch == ("batch 10 s", *["–"] * 7, said)
    assert "–" not in stream
    (row,) = [row for row in rows_of(found) if row[3] == "batch 10 s"]
    assert row[8] is False
    assert row[10:17] == (None,) * 7
    assert re.search(r"batch 10 s \| – \| – \|", render_markdown(found))


def test_the_row_of_an_agreed_arm_has_its_figures() -> None:
    (row,) = rows_of(measurement([result(BATCH)]))

    assert row[8] is True
    assert row[10:15] == pytest.approx((8.0, 12.5, 12.9, 13.0, 12.9))
    assert row[15:17] == pytest.approx((3 * 6 / 6_000 * 1e6, 1.0))


def test_measurements_are_rows_of_a_table_and_are_read_again_by_arm(
    spark_session: SparkSession, tmp_path: Path
) -> None:
    conf = {"kafka": {"bootstrap_servers": "127.0.0.1:1"}, "warehouse": str(tmp_path / "w"), "report": {"folder": "r"}}
    (tmp_path / "test.yaml").write_text(json.dumps(conf), encoding="utf-8")
    cfg = load_config(tmp_path / "test.yaml", env={})
    assert read_past(spark_session, cfg, "departures_per_hour") == ()
    slower = result(BATCH, repeat=1, cpu_s={"jvm": 36.0, "python": 0.0, "broker": 0.0, "producer": 0.0})
    write_rows(spark_session, cfg, measurement([result(BATCH), result(BATCH, repeat=1)]))
    later = measurement([result(BATCH), slower], at_ms=1_700_000_100_000, measurement="def")
    write_rows(spark_session, cfg, later)

    found = read_past(spark_session, cfg, "departures_per_hour")

    assert [each.measurement for each in found] == ["def", "abc"]
    (p99, cpu), notes = changes(found)
    assert (p99.share, cpu.share, notes) == (pytest.approx(0), pytest.approx(0.5), [])
    assert read_past(spark_session, cfg, "another") == ()


def test_what_grew_by_more_than_asked_for_is_a_regression() -> None:
    found, notes = changes([past(1, 9.0, 90.0), past(2, 10.0, 100.0), past(3, 11.5, 100.0)])

    assert notes == []
    assert [(each.figure, each.before, each.now) for each in found] == [("p99", 10.0, 11.5), ("cpu", 100.0, 100.0)]
    assert [each.figure for each in regressions(found, 0.10)] == ["p99"]
    assert regressions(found, 0.20) == []


def test_what_cannot_be_compared_is_named_and_never_called_the_same() -> None:
    other = [past(1, 1.0, 1.0, machine='{"cores": 8}'), past(2, 10.0, 100.0)]
    assert changes(other) == ([], ["there is no earlier measurement on this machine with these settings"])
    lied = [past(1, 10.0, 100.0), past(2, None, None, outcome="differ")]
    assert changes(lied) == ([], ["batch 10 s: no figures to compare (then explained, now differ)"])
    new = [past(1, 10.0, 100.0, arm="stream 0 s"), past(2, 10.0, 100.0)]
    found, notes = changes(new)
    assert found == []
    assert notes == ["batch 10 s: was not measured before", "stream 0 s: is not measured any more"]


def test_the_pareto_front_holds_what_nothing_beats_in_both() -> None:
    assert pareto([(3, 1), (1, 5), (2, 5), (2, 3), (4, 1), (1, 5)]) == [(1, 5), (2, 3), (3, 1)]
    assert pareto([]) == []


def test_the_page_runs_nothing_loads_nothing_and_shows_text_from_data_as_text() -> None:
    found = measurement([result(BATCH), result(Arm("stream", 0), outcome="differ", exit_code=1, problems=(HOSTILE,))])
    found = replace(found, job=HOSTILE, events_from=HOSTILE, notes=(HOSTILE,))

    page = render_html(found, slo_s=5.0)

    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; style-src 'sha256-")
    css = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert css is not None
    assert base64.b64encode(hashlib.sha256(css[1].encode()).digest()).decode() in policy[1]
    assert "<script" not in page
    assert "\x1b" not in page
    assert "&lt;script&gt;" in page
    assert re.findall(r'(?:src|srcset|href)="(?!data:image/svg)', page) == []
    assert page.count("<img ") == 4
    markdown = render_markdown(found)
    assert "<script" not in markdown
    assert "\x1b" not in markdown


def test_the_page_says_how_far_predictions_are_off_and_where_nothing_could_be_checked() -> None:
    assert "batch 10 s" in render_html(measurement()).split('id="honesty"')[1]
    alone = render_markdown(measurement([result(BATCH)]))
    assert "No mode has three arms with figures" in alone


def test_a_page_without_any_figure_can_be_written_and_read_again(tmp_path: Path) -> None:
    found = measurement([result(arm, outcome="differ", exit_code=1, freshness=None) for arm in ARMS])

    paths = write_page(found, tmp_path / "m")

    assert "<img" not in Path(paths["html"]).read_text(encoding="utf-8")
    assert read_measurement(Path(paths["json"]), "departures_per_hour") == found


def test_completeness_by_lateness_is_shown_of_the_stream_that_was_asked() -> None:
    points = AtLateness(0, 600, 1_200), AtLateness(60_000, 6, 60), AtLateness(3_600_000, 0, 0)
    curve = Lateness(ARMS[0], 6_000, 4_800, 60_000, points)
    found = measurement([result(ARMS[0], lateness=curve), *(result(arm) for arm in ARMS[1:])])

    text = plain(render_markdown(found))

    assert "## Completeness against lateness" in text
    assert "| 0 s | 600 | 90.00% | 1,200 | 75.00% |" in text
    assert "| 1 min (as it is) | 6 | 99.90% | 60 | 98.75% |" in text
    assert render_html(found).count("<picture") > render_html(measurement()).count("<picture")
    assert "Completeness against lateness" not in render_markdown(measurement())
    assert from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_a_stream_of_a_job_without_windows_has_no_line_for_its_own_pace() -> None:
    curve = Lateness(ARMS[0], 6_000, 0, 0, (AtLateness(0, 600, None), AtLateness(60_000, 6, None)))
    found = measurement([result(ARMS[0], lateness=curve), *(result(arm) for arm in ARMS[1:])])
    assert "| 0 s (as it is) | 600 | 90.00% | – | – |" in plain(render_markdown(found))


def test_a_day_of_an_arm_is_told_up_all_day_and_started_per_run_with_its_price() -> None:
    text = plain(render_markdown(measurement(), 0.05))

    # A batch of 10 s takes 3 s, and its session 12 s: it would never be done before the next one.
    assert "| batch 10 s | 0.30 | 48.0 | 48.0 | 2.40 | 2.40 |" in text
    assert "| stream 0 s |" in text
    minute = Arm("batch", 60_000)
    assert day_of(measurement([result(minute)]), minute) == Day(
        pytest.approx(13 / 60, abs=0.01), 48.0, pytest.approx(48 * (8 + 12) / 60, abs=0.5)
    )
    assert "cost, up all day" not in render_markdown(measurement())


def test_a_run_after_the_load_that_had_no_event_is_no_part_of_a_day() -> None:
    arm, run = Arm("batch", 15_000), Unit(1_500, 10, 12.0, 9.0)
    alone = measurement([result(arm, units=(run,), seconds=16.0)], session_s=1.5)
    behind = measurement([result(arm, units=(run, Unit(0, 0, 6.0, 3.0)), seconds=37.0)], session_s=1.5)
    assert day_of(behind, arm) == day_of(alone, arm) == Day(0.6, 48.0, pytest.approx(48 * 13.5 / 15))


def test_a_stream_that_was_idle_for_long_after_the_load_is_as_busy_as_under_it() -> None:
    arm = Arm("stream", 10_000)
    cpu_s = {"jvm": 9.0, "python": 3.0, "broker": 1.0, "producer": 1.0}
    found = [measurement([result(arm, cpu_s=cpu_s, seconds=at)]) for at in (60.0, 120.0)]
    # 6,000 events at 100 a second.
    assert [day_of(each, arm) for each in found] == [Day(pytest.approx(0.2), 48.0, None)] * 2
