"""The arithmetic of bench/stream.py: delays count from a schedule, and what never came or falls behind is told."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from bench.engine_log import T0_MS
from bench.stream import RESULTS, ROOT, Arm, Figures, Site, arms, doc_table
from bench.stream_delays import (
    SPEED,
    Load,
    closing_s,
    delays,
    is_sustained,
    last_due_s,
    quantile_ms,
    read_delta,
    row_delays,
)
from bench.stream_load import SHOPS, order

LOAD = Load(rate=1000.0, seconds=24.0, warm_s=8.0, start_s=5_000.0)
MINUTE_MS = 60_000
WINDOWS = range(4, 11)
"""Those that close after the warm-up and half a second before the end."""


def rows_read(after_s: float) -> dict[tuple[str, int], float]:
    starts = [T0_MS + number * MINUTE_MS for number in range(12)]
    return {
        (f"shop-{shop}", start): LOAD.start_s + closing_s(start) + after_s for start in starts for shop in range(SHOPS)
    }


def test_the_table_of_the_page_is_that_of_the_run() -> None:
    result = json.loads(RESULTS.read_text(encoding="utf-8"))
    text = (ROOT / "docs/measure.md").read_text(encoding="utf-8")
    assert text.split("<!-- stream -->")[1].strip() == doc_table(result)
    assert {each["missing"] for each in result["figures"]} == {0}


def test_a_row_is_late_from_when_its_window_could_close_and_a_missing_one_is_told() -> None:
    rows = rows_read(1.25)
    found, missing = delays(rows, LOAD)
    assert missing == 0
    assert len(found) == len(WINDOWS) * SHOPS
    assert {round(delay, 6) for _, delay in found} == {1.25}
    assert (quantile_ms([delay for _, delay in found], 0.5), is_sustained(found, missing)) == (1250.0, True)

    del rows["shop-7", T0_MS + WINDOWS[2] * MINUTE_MS]
    found, missing = delays(rows, LOAD)
    assert (len(found), missing, is_sustained(found, missing)) == (len(WINDOWS) * SHOPS - 1, 1, False)


def test_a_backlog_that_grows_is_not_sustained() -> None:
    growing = [(float(second), 1.0 + second / 4) for second in range(60)]
    assert not is_sustained(growing, 0)
    assert is_sustained([(at, 1.0) for at, _ in growing], 0)
    assert not is_sustained([], 0)


def test_quantiles_of_nothing_are_none_and_of_one_value_that_value() -> None:
    assert quantile_ms([], 0.5) is None
    assert [quantile_ms([0.25], share) for share in (0.0, 0.5, 1.0)] == [250.0] * 3


@pytest.mark.parametrize("rate", [777.0, 1000.0])
def test_the_count_of_a_row_says_which_order_was_the_last_one_in_it(rate: float) -> None:
    due: dict[tuple[int, int], list[float]] = defaultdict(list)
    for number in range(int(rate * 10)):
        event = json.loads(order(number, number / rate, SPEED))
        start_ms = event["at"] - event["at"] % MINUTE_MS
        due[int(event["shop"].split("-")[1]), start_ms].append(number / rate)
    assert len(due) > 4 * SHOPS
    for (shop, start_ms), times in due.items():
        for orders, due_s in enumerate(times, start=1):
            assert last_due_s(shop, start_ms, orders, rate) == pytest.approx(due_s)


def test_an_order_that_is_a_row_counts_from_when_it_was_due_and_only_once() -> None:
    load = Load(rate=10.0, seconds=4.0, warm_s=2.0, start_s=5_000.0)
    rows = [(load.start_s + number / 10 + 0.3, {"id": f"o{number}"}) for number in range(40) if number != 33]
    rows += [(load.start_s + 9, {"id": "o25"}), (load.start_s, {"id": "p0"})]
    found, missing = row_delays(rows, load)
    assert missing == 1
    assert len(found) == 19
    assert {round(delay, 6) for _, delay in found} == {0.3}


def test_a_row_of_a_delta_table_can_be_read_when_its_first_commit_is_there(tmp_path: Path) -> None:
    starts = [datetime(2024, 1, 1, 0, minute, tzinfo=UTC) for minute in (0, 1)]
    for number, start in enumerate(starts):
        rows = pa.table({"shop": ["shop-1"], "window_start": pa.array([start], pa.timestamp("us", "UTC"))})
        write_deltalake(str(tmp_path), rows, mode="append")
        log = tmp_path / "_delta_log" / f"{number:020d}.json"
        assert read_delta(tmp_path)["shop-1", int(start.timestamp() * 1000)] == log.stat().st_mtime
    assert len(read_delta(tmp_path)) == 2


@pytest.mark.parametrize("arm", [each for each in arms() if each.engine is not None], ids=lambda arm: arm.name)
def test_an_engine_that_keeps_no_checkpoint_of_sparks_is_judged_by_its_rows(
    arm: Arm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.stream.read_closed", lambda *_: rows_read(0.3))
    site = object.__new__(Site)
    site.servers = "nowhere"
    figures = Figures(arm.name, arm.out, LOAD.rate, producer={"end_late_s": 0.0})
    site._judge(figures, arm, "out", Path(), LOAD)
    assert (figures.missing, figures.p50_ms, figures.sustained, figures.micro_batch_ms) == (0, 300.0, True, None)
