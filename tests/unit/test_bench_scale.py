"""The arithmetic of bench/scale.py: how a figure grows with the number of events."""

from __future__ import annotations

import json

import pytest

from bench.scale import MOST, RESULTS, ROOT, SIZES, doc_table, exponent, exponents

FEW = [100, 1_000, 10_000]


@pytest.mark.parametrize(
    ("values", "found"), [([3, 30, 300], 1.0), ([5, 5, 5], 0.0), ([1, 100, 10_000], 2.0), ([10, 31.6227766, 100], 0.5)]
)
def test_an_exponent_is_the_power_of_the_events_that_a_figure_grows_with(values: list[float], found: float) -> None:
    assert exponent(FEW, values) == pytest.approx(found, abs=1e-3)


def test_of_nothing_none_is_told() -> None:
    assert exponent(FEW, [0, 1, 2]) is None
    assert exponent([5], [1]) is None


def test_every_figure_of_the_runs_gets_one() -> None:
    runs = [{"events": size, "cpu_s": size * 2.0, "files": 7, "outcome": "agree"} for size in FEW]
    assert exponents(runs) == {"cpu_s": 1.0, "files": 0.0}


def test_the_table_of_the_page_is_that_of_a_run_to_its_end_in_which_nothing_grows_faster_than_the_events() -> None:
    result = json.loads(RESULTS.read_text(encoding="utf-8"))
    text = (ROOT / "docs/measure.md").read_text(encoding="utf-8")
    assert text.split("<!-- scale -->")[1].strip() == doc_table(result)
    assert [run["events"] for run in result["runs"]] == list(SIZES)
    assert {run["outcome"] for run in result["runs"]} == {"agree"}
    assert max(result["exponents"].values()) <= MOST
