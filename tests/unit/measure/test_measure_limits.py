"""The highest rate and the time after a kill: what counts as kept up and as fresh again, on courses made by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from tests.unit.measure.measured import measurement
from twinrun.cli.measured import lines
from twinrun.measure.arms import Arm
from twinrun.measure.freshness import FreshAgain, _after_a_kill
from twinrun.measure.page import render_html, render_markdown
from twinrun.measure.results import Probe, Recovery, Sustained, from_dict
from twinrun.measure.sustained import CLOSE, GROWTH, growth, next_rate

ARM = Arm("stream", 1_000)
RATE, SECONDS = 1_000.0, 20.0


def saw(reads_per_s: float, micro_batch_s: float = 2.0) -> list[tuple[float, float]]:
    """The lag of a stream that reads at each end of a micro-batch what had come at its start, if it can."""
    read = done = start = 0.0
    samples = []
    for tick in range(int(SECONDS * 2)):
        at = tick / 2
        if at >= start + micro_batch_s:
            read, done, start = min(done, read + reads_per_s * micro_batch_s), RATE * at, at
        samples.append((at, RATE * at - read))
    return samples


def test_a_lag_that_goes_up_and_down_is_no_growing_lag() -> None:
    assert abs(growth(saw(reads_per_s=2_000), SECONDS, RATE)) <= GROWTH


@pytest.mark.parametrize("reads_per_s", [900, 500, 100])
def test_a_stream_that_reads_less_than_comes_is_seen_by_that_share(reads_per_s: float) -> None:
    found = growth(saw(reads_per_s), SECONDS, RATE)
    assert found > GROWTH
    assert found == pytest.approx(1 - reads_per_s / RATE, abs=0.06)


def test_a_stream_that_was_hardly_sampled_holds_nothing() -> None:
    assert math.isinf(growth([(1.0, 5.0), (6.0, 5.0)], SECONDS, RATE))
    assert math.isinf(growth([], SECONDS, RATE))


@pytest.mark.parametrize("limit", [37.0, 900.0, 1_000.0, 7_300.0, 1e9])
def test_the_search_ends_close_below_the_limit_and_never_tries_more_than_can_be_sent(limit: float) -> None:
    held: float | None = None
    failed: float | None = None
    tried, most = [], 20_000.0
    while (rate := next_rate(held, failed, most)) is not None:
        tried.append(rate)
        assert rate <= most
        held, failed = (rate, failed) if rate <= limit else (held, rate)
    assert len(tried) <= 12
    assert held is not None
    assert held <= limit
    if limit > most:
        assert (held, failed) == (most, None)
    else:
        assert failed is not None
        assert failed / held <= CLOSE


def test_a_stream_that_holds_nothing_ends_the_search() -> None:
    failed: float | None = None
    while (rate := next_rate(None, failed, 20_000.0)) is not None:
        failed = rate
    assert failed is not None
    assert failed < 20


# Of each commit its time (ms), the longest wait (s), and when the newest event was due (ms).
BEFORE = [(1_000, 9.0, 500), (4_000, 2.0, 3_000), (6_000, 2.5, 5_000)]


@pytest.mark.parametrize(
    ("after", "found"),
    [
        ([(18_000, 11.0, 17_000), (20_000, 5.0, 19_000), (22_000, 2.4, 21_000)], FreshAgain(11.0, 13.0, 2.5)),
        ([(9_000, 2.9, 8_000), (11_000, 2.0, 10_000)], FreshAgain(2.0, 0.0, 2.5)),
        ([(18_000, 11.0, 17_000), (20_000, 5.0, 19_000)], FreshAgain(11.0, None, 2.5)),
        ([], FreshAgain(None, None, 2.5)),
    ],
)
def test_fresh_again_is_the_last_commit_that_was_slower_than_before(
    after: list[tuple[int, float, int]], found: FreshAgain
) -> None:
    # The first of those before was the warming up, and does not count.
    assert _after_a_kill([*BEFORE, *after], since_ms=2_000, killed_ms=7_000) == found


def test_without_a_commit_before_the_kill_there_is_nothing_to_compare_with() -> None:
    assert _after_a_kill([(9_000, 1.0, 8_000)], since_ms=2_000, killed_ms=7_000) == FreshAgain(2.0, None, None)


PROBES = (Probe(1_000.0, 20.0, 0.01, True), Probe(2_000.0, 20.0, 0.3, False))
HELD = Sustained(ARM, "agree", 0, 1_000.0, 2_000.0, "", PROBES)
KILLED = Recovery(ARM, "explained", 0, (), 10.0, 8.2, 13.5, 2.5, 1_234)


def test_both_stand_on_the_page_in_the_terminal_and_in_json() -> None:
    found = measurement(recoveries=(KILLED,), sustained=(HELD,))
    assert from_dict(json.loads(json.dumps(found.to_dict()))) == found
    for text in (render_html(found), render_markdown(found).replace("\\", "")):
        assert "2,000/s" in text
        assert "13.5 s" in text
        assert "1,234" in text
    told = "\n".join(lines(found))
    assert "stream 1 s: 1,000 events/s holds; 2,000/s does not (agree)" in told
    assert "fresh again 13.5 s, the first commit 8.2 s after it; 1,234 events worked twice at most (explained)" in told


def test_without_agreement_neither_has_a_figure() -> None:
    lost = Recovery(ARM, "differ", 1, ("3 rows are unexplained",), 10.0)
    held = replace(HELD, outcome="differ", exit_code=1, rate_per_s=None)
    found = measurement(recoveries=(lost,), sustained=(held,))
    told = "\n".join(lines(found))
    assert "stream 1 s: 3 rows are unexplained" in told
    assert "stream 1 s: differ" in told
    assert "holds" not in told
    assert not lost.agreed
    assert not held.agreed


def test_a_measurement_that_looked_for_neither_says_nothing_of_them() -> None:
    found = measurement()
    assert "kill -9" not in "\n".join(lines(found)) + render_markdown(found)
    older = {name: value for name, value in found.to_dict().items() if name not in ("recoveries", "sustained")}
    assert from_dict(json.loads(json.dumps(older))) == found
