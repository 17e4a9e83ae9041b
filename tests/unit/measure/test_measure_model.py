"""What was not measured is predicted by a line through what was, and the line is held against an unseen arm."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.measure.measured import ARMS, RATE, measurement, result
from twinrun.measure.arms import Arm, in_order
from twinrun.measure.model import Costs, costs_of, fit, held_out, predict, under_load
from twinrun.measure.results import estimate, without_noisy


def test_a_line_finds_the_laws_that_made_its_points() -> None:
    line = fit([(events, rows, 2 + 0.001 * events + 0.05 * rows) for events, rows in ((100, 3), (500, 4), (2000, 30))])

    assert line is not None
    assert (line.fixed, line.per_event, line.per_row) == pytest.approx((2, 0.001, 0.05))
    assert (line.least, line.most, line.number) == (100, 2000, 3)


def test_no_part_of_a_line_is_negative() -> None:
    line = fit([(100, 1, 3.0), (200, 1, 2.0), (300, 1, 1.0)])

    assert line is not None
    assert min(line.fixed, line.per_event, line.per_row) >= 0
    assert line.spread is not None
    assert line.half(200) is not None


def test_one_point_makes_a_line_without_an_interval_and_none_makes_none() -> None:
    line = fit([(100, 1, 3.0)])

    assert line is not None
    assert line.half(100) is None
    assert fit([]) is None


def test_held_out_arms_of_a_lawful_machine_are_predicted_within_2_percent() -> None:
    found = held_out(measurement())

    assert {each.arm for each in found} == {"stream 1 s", "batch 10 s"}
    assert all(each.error < 0.02 for each in found), found


def test_an_arm_that_breaks_the_law_is_seen_in_the_table_of_held_out_arms() -> None:
    slow = result(Arm("batch", 10_000))
    slow = replace(slow, cpu_s={**slow.cpu_s, "jvm": slow.cpu_s["jvm"] * 2})
    others = [result(arm) for arm in ARMS if arm != slow.arm]

    found = {(each.arm, each.figure): each.error for each in held_out(measurement([*others, slow]))}

    assert found["batch 10 s", "CPU s per million events"] > 0.4
    assert found["batch 10 s", "p50 of trigger and run, s"] < 0.02


def test_an_arm_without_agreement_is_not_learned_from() -> None:
    lied = result(Arm("batch", 5_000), outcome="differ", exit_code=1)
    costs = costs_of(measurement([lied, result(Arm("batch", 10_000))]), "batch")

    assert costs is not None
    assert costs.arms == ("batch 10 s",)
    assert costs_of(measurement([lied]), "batch") is None


def test_a_run_that_is_longer_than_its_interval_makes_the_interval_longer_until_it_cannot_keep_up() -> None:
    costs = costs_of(measurement(), "batch")
    assert costs is not None

    slow = predict(measurement(), Arm("batch", 1_000), RATE, costs)
    never = predict(measurement(), Arm("batch", 1_000), 1_001, costs)

    assert slow.period_s == pytest.approx(2 / (1 - 0.1), rel=0.02)
    assert slow.sustained
    assert not never.sustained
    assert predict(measurement(), Arm("batch", 3_600_000), RATE, costs).far


def test_a_load_that_ends_has_whole_runs_and_the_last_takes_what_is_left() -> None:
    twelve_s = fit([(1_000.0, 0.0, 12.0)])
    assert twelve_s is not None
    costs = Costs("batch", twelve_s, twelve_s, ())

    # 20 s of load: a run at 10 s, which ends at 22 s, and one from then on to 34 s.
    wait_s, cpu_s = under_load(Arm("batch", 10_000), costs, 100.0, 2_000.0)

    assert cpu_s == 24
    assert wait_s == pytest.approx(18, abs=0.1), (
        "from 12 to 22 s for half of the events, from 14 to 24 s for the others"
    )
    assert under_load(Arm("batch", 60_000), costs, 100.0, 2_000.0) == (pytest.approx(62), 12)


def test_a_window_of_a_stream_comes_one_micro_batch_after_the_one_that_moved_the_watermark() -> None:
    plain, windowed = measurement(), measurement(windowed_stream=True)
    costs = costs_of(plain, "stream")
    assert costs is not None
    arm = Arm("stream", 10_000)

    more = predict(windowed, arm, RATE, costs).p50_s - predict(plain, arm, RATE, costs).p50_s

    assert more == pytest.approx(10.0)


def test_every_arm_runs_once_per_repeat_in_an_order_of_its_own() -> None:
    order = in_order(ARMS, 3, seed=5)

    assert [repeat for repeat, _ in order] == [0] * 7 + [1] * 7 + [2] * 7
    rounds = [[arm for repeat, arm in order if repeat == number] for number in range(3)]
    assert all(sorted(each) == sorted(ARMS) for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1
    assert in_order(ARMS, 3, seed=5) == order


def test_a_noisy_repeat_is_thrown_away_and_said_so_where_a_quiet_one_is_left() -> None:
    quiet, noisy = result(Arm("batch", 5_000)), result(Arm("batch", 5_000), repeat=1, others_share=0.6)
    alone = result(Arm("batch", 10_000), others_share=0.6)

    kept, thrown = without_noisy([quiet, noisy, alone], 0.2)

    assert kept == [quiet, alone]
    assert thrown == ["batch 5 s, repeat 2: other processes used 60% of the cores"]


def test_the_interval_of_repeats_is_students() -> None:
    found = estimate([1.0, 2.0, 3.0])

    assert found.mean == 2.0
    assert found.half == pytest.approx(4.30 / 3**0.5)
    assert estimate([1.0]).half is None
