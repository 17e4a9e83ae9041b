"""The watermarks of a recording against Spark's rule: what one start gives, and what no start can give."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twinrun.explain.prove import _telling
from twinrun.explain.replay import Reached, Recorded, first_impossible, first_that_differs


def job_of(**lateness_ms: int | None) -> Any:
    return SimpleNamespace(sources=[SimpleNamespace(name=k, lateness_ms=v) for k, v in lateness_ms.items()])


BOTH = job_of(clicks=10, orders=10)
# Clicks are the slower in micro-batch 0, orders alone move in 1, and clicks alone from 2 on.
REACHED: Reached = {0: {"clicks": 70, "orders": 140}, 1: {"orders": 150}, 2: {"clicks": 120}, 3: {"clicks": 160}}
ONE_RUN = [0, 70, 70, 120, 150]
STARTED_BEFORE_2 = [0, 70, 70, 70, 70]


def recording(*watermarks_ms: int) -> list[Recorded]:
    return [Recorded(number, at_ms, True, {}) for number, at_ms in enumerate(watermarks_ms)]


def test_the_slower_source_leads_and_a_start_forgets_it() -> None:
    assert first_that_differs(BOTH, recording(*ONE_RUN), REACHED, [0]) is None
    assert first_that_differs(BOTH, recording(*ONE_RUN), REACHED, [0, 2]) == 3
    assert first_that_differs(BOTH, recording(*STARTED_BEFORE_2), REACHED, [0, 2]) is None
    assert first_that_differs(BOTH, recording(*STARTED_BEFORE_2), REACHED, [0]) == 3


def test_either_is_possible_and_a_mixture_that_needs_both_is_not() -> None:
    assert first_impossible(BOTH, recording(*ONE_RUN), REACHED) is None
    assert first_impossible(BOTH, recording(*STARTED_BEFORE_2), REACHED) is None
    # Started before 2, clicks alone cannot move it in 3 either.
    assert first_impossible(BOTH, recording(0, 70, 70, 70, 150), REACHED) == 4
    # One run up to 3, then a start: it stays where it was.
    assert first_impossible(BOTH, recording(0, 70, 70, 120, 120), REACHED) is None


def test_a_watermark_beside_the_rule_is_found_where_it_begins() -> None:
    for number in range(1, 5):
        for wrong in (-1, 1):
            marks = list(ONE_RUN)
            marks[number] += wrong
            assert first_impossible(BOTH, recording(*marks), REACHED) == number, (number, wrong)
    assert first_impossible(BOTH, recording(5, 70), REACHED) == 0


def test_one_source_has_no_choice_whatever_the_restarts() -> None:
    job = job_of(clicks=10)
    reached: Reached = {0: {"clicks": 70}, 2: {"clicks": 60}, 3: {"clicks": 90}}
    assert first_impossible(job, recording(0, 70, 70, 70, 90), reached) is None
    assert first_impossible(job, recording(0, 70, 70, 60, 90), reached) == 3
    assert first_that_differs(job, recording(0, 70, 70, 70, 90), reached, range(5)) is None


def test_a_source_without_watermark_does_not_hold_the_others() -> None:
    job = job_of(clicks=10, orders=None)
    assert first_impossible(job, recording(0, 70, 70), {0: {"clicks": 70}}) is None
    assert first_impossible(job_of(clicks=None), recording(0, 0, 0), {}) is None


def test_times_before_1970_leave_the_watermark_where_it_began() -> None:
    assert first_impossible(job_of(clicks=10), recording(0, 0, 40), {0: {"clicks": -500}, 1: {"clicks": 40}}) is None


def test_a_replay_says_which_micro_batch_of_how_many_it_runs_and_when_it_only_lets_out_what_waits() -> None:
    said: list[str] = []
    tell = _telling(said.append, "as recorded", 2)
    for number in range(4):
        tell(number)
    assert said == [
        "replaying as recorded: micro-batch 1 of 2",
        "replaying as recorded: micro-batch 2 of 2",
        "replaying as recorded: what still waits",
        "replaying as recorded: what still waits",
    ]
