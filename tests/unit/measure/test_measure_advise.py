"""Advice: the cheapest that meets what is asked for, why, and what it does not know."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.measure.measured import ARMS, measurement, result
from twinrun.errors import InputError
from twinrun.measure.advise import Slo, advise, check_same, parse_slo
from twinrun.measure.arms import Arm
from twinrun.measure.results import from_dict


def test_where_minutes_are_enough_a_batch_is_advised_and_no_stream() -> None:
    found = advise(measurement(), Slo(freshness_s=300))

    assert found.best is not None
    assert found.best.arm.mode == "batch"
    assert not found.best.stays_up
    assert found.sentence.startswith("Run batch every 4 min, machine started per run: you need no stream")
    assert found.best.p99_s <= 300
    assert found.best.arms == ("batch 10 s", "batch 20 s", "batch 5 s")
    assert found.best.extrapolated
    assert any(note.startswith("Extrapolated: ") for note in found.notes)


def test_where_seconds_are_asked_for_a_stream_is_advised_and_no_batch_does_it() -> None:
    found = advise(measurement(), Slo(freshness_s=2))

    assert found.best is not None
    assert found.best.arm.mode == "stream"
    assert found.sentence.endswith("no batch does it.")
    assert found.runner_up is not None
    assert "p99 freshness" in found.why_lost


def test_nothing_meets_this_comes_with_the_nearest_and_what_it_misses() -> None:
    found = advise(measurement(), Slo(freshness_s=0.1))

    assert found.best is None
    assert found.nearest is not None
    assert found.sentence.startswith(f"Nothing meets this. The nearest is {found.nearest.name}: p99 freshness")


def test_the_watermarks_wait_counts_at_the_pace_of_the_events_own_times() -> None:
    results = [result(arm, watermark_s=0.9, alone=60) for arm in ARMS]
    found = advise(measurement(results, speed=8_000, windowed_stream=True), Slo(freshness_s=600))

    assert found.best is not None
    assert found.best.arm.mode == "batch"
    streams = [each for each in found.candidates if each.arm.mode == "stream"]
    assert all(each.watermark_s == pytest.approx(7_200) for each in streams)
    assert all("the watermark's wait" in each.misses[0] for each in streams)
    assert any("In batch an event counts as soon as" in note for note in found.notes)


def test_a_stream_that_may_lose_too_much_at_its_own_pace_is_not_advised() -> None:
    results = [result(arm, alone=60) for arm in ARMS]  # 1 %

    strict = advise(measurement(results), Slo(freshness_s=2, completeness=0.995))
    easy = advise(measurement(results), Slo(freshness_s=2, completeness=0.98))

    assert strict.best is None
    assert easy.best is not None
    assert easy.best.completeness == pytest.approx(0.99)


def test_a_budget_rules_out_what_stays_up_all_day() -> None:
    found = advise(measurement(), Slo(budget_per_day=1.0), price=0.05)

    assert found.best is not None
    assert found.best.cost is not None
    assert found.best.cost <= 1.0
    assert not found.best.stays_up
    with pytest.raises(InputError, match="what a core costs"):
        advise(measurement(), Slo(budget_per_day=1.0))


def test_a_rate_beyond_the_cores_is_said_with_the_cores_that_it_needs() -> None:
    found = advise(measurement(), Slo(rate_per_s=100, growth=9, freshness_s=60))
    far = advise(measurement(), Slo(rate_per_s=100_000))

    assert found.rate_per_s == 900
    assert any(note == "For 9 times the rate: 900 events/s." for note in found.notes)
    assert far.best is None
    assert "does not keep up on 2 cores" in far.sentence


def test_advice_says_how_far_off_the_model_was_on_an_arm_that_it_had_not_seen() -> None:
    honest = advise(measurement(), Slo(freshness_s=300))
    slow = result(Arm("batch", 10_000))
    slow = replace(slow, cpu_s={**slow.cpu_s, "jvm": slow.cpu_s["jvm"] * 2})
    found = advise(measurement([*(result(arm) for arm in ARMS if arm != slow.arm), slow]), Slo(freshness_s=300))
    few = advise(measurement([result(Arm("batch", 5_000)), result(Arm("batch", 10_000))]), Slo(freshness_s=300))

    assert not any("Take this with care" in note for note in honest.notes)
    assert any(note.startswith("Take this with care: batch 10 s, left out and predicted") for note in found.notes)
    assert "How far predictions of batch arms are off could not be checked: three are needed." in few.notes


def test_advice_says_where_the_interval_reaches_beyond_what_is_asked_for() -> None:
    uneven = [result(arm) for arm in ARMS]
    uneven = [
        replace(r, units=tuple(replace(u, seconds=u.seconds * (0.7 + 0.6 * (n % 2))) for n, u in enumerate(r.units)))
        for r in uneven
    ]
    found = advise(measurement(uneven), Slo(freshness_s=143))

    assert found.best is not None
    assert found.best.half_s is not None
    assert found.best.p99_s + found.best.half_s > 143 >= found.best.p99_s
    assert "At the upper end of that interval it would miss the freshness that is asked for." in found.notes


def test_an_arm_without_agreement_gives_no_advice() -> None:
    lied = [result(arm, outcome="differ", exit_code=1) for arm in ARMS]
    with pytest.raises(InputError, match="no arm of the measurement of departures_per_hour has figures"):
        advise(measurement(lied), Slo())

    some = [result(arm, exit_code=int(arm.mode == "stream")) for arm in ARMS]
    found = advise(measurement(some), Slo(freshness_s=2))
    assert found.best is None
    assert all(each.arm.mode != "stream" for each in found.candidates)


def test_what_is_asked_for_is_read_with_its_units() -> None:
    found = parse_slo("5m", "99.9%", "20/day", "2000/s", "10x")

    assert found == Slo(300.0, pytest.approx(0.999), 20.0, 2_000.0, 10.0)
    assert parse_slo(None, "0.999", "1_000.5", "2,000", None) == Slo(None, 0.999, 1_000.5, 2_000.0, 1.0)
    assert parse_slo(None, None, None, None, None) == Slo()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("soon", None, None, None, None), "--freshness: 'soon' is not a duration"),
        (("0s", None, None, None, None), "--freshness '0s' asks for no delay at all"),
        ((None, "110%", None, None, None), "--completeness '110%' is no share"),
        ((None, "nan", None, None, None), "--completeness 'nan' is no share"),
        ((None, None, "20/week", None, None), "--budget '20/week' cannot be read"),
        ((None, None, None, "-3/s", None), "--rate '-3/s' cannot be read"),
        ((None, None, None, "0/s", None), "--rate '0/s' cannot be read"),
        ((None, None, None, None, "ten"), "--growth 'ten' cannot be read"),
    ],
)
def test_what_cannot_be_read_is_refused(asked: tuple[str | None, ...], said: str) -> None:
    with pytest.raises(InputError) as error:
        parse_slo(*asked)
    assert error.value.found.startswith(said)
    assert error.value.expected


@pytest.mark.parametrize(
    ("machine", "versions", "said"),
    [
        ({"cores": 8, "memory_gib": 16, "processor": "a processor"}, {}, "was made on another machine"),
        ({}, {"pyspark": "4.3.0"}, "was measured with pyspark 4.2.0"),
        ({}, {"job": "other"}, "the definition of departures_per_hour has changed"),
    ],
)
def test_a_measurement_of_something_else_is_refused(
    machine: dict[str, object], versions: dict[str, str], said: str
) -> None:
    found = measurement()
    check_same(found, found.machine, found.versions)

    with pytest.raises(InputError, match=said):
        check_same(found, machine or found.machine, {**found.versions, **versions})


def test_a_measurement_is_read_again_as_it_was_written() -> None:
    import json

    found = measurement()

    assert from_dict(json.loads(json.dumps(found.to_dict()))) == found
    with pytest.raises(InputError, match="schema version 9"):
        from_dict({**found.to_dict(), "schema_version": 9})
    broken = found.to_dict()
    del broken["results"][0]["arm"]
    with pytest.raises(InputError, match="cannot be read"):
        from_dict(broken)


def test_arms_are_parsed() -> None:
    from twinrun.measure.arms import parse_arm

    assert parse_arm("stream 0s") == Arm("stream", 0)
    assert parse_arm(" batch  1 min") == Arm("batch", 60_000)
    for text in ("flink 1s", "batch", "batch soon", "batch 0s"):
        with pytest.raises(InputError):
            parse_arm(text)
