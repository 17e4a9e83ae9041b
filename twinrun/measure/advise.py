"""Which mode and which trigger or cadence to run, by what was measured; pure, without Spark."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from twinrun.durations import human, parse_ms
from twinrun.errors import InputError
from twinrun.measure.arms import OVER_BRONZE, REAL_TIME, Arm, Mode, stays_up
from twinrun.measure.model import Costs, costs_of, held_out, predict
from twinrun.measure.results import Measurement
from twinrun.wording import plural

BUSY = 0.8
"""An arm may keep so much of the machine's cores busy; the rest is for what comes unevenly."""
WITHIN = 0.2
"""Where an arm that was left out is predicted further off than this share, the advice says so."""
_DAY_S = 86_400
_TRIGGERS_MS = (0, 1_000, 10_000, 60_000)
_CADENCES_MS = tuple(s * 1000 for s in (10, 30, 60, 120, 240, 300, 600, 900, 1800, 3600, 7200, 21_600, 43_200, _DAY_S))
_ORDER: dict[Mode, int] = {"batch": 0, "available-now": 1, "stream": 2, OVER_BRONZE: 3}
"""What can be advised, the one with the fewest moving parts first."""


@dataclass(frozen=True)
class Slo:
    """What is asked for; None: does not matter. ``rate_per_s`` and ``growth`` None: as measured."""

    freshness_s: float | None = None
    completeness: float | None = None
    budget_per_day: float | None = None
    rate_per_s: float | None = None
    growth: float = 1.0


@dataclass(frozen=True)
class Candidate:
    """One way to run the job, with what it would do.

    Attributes
    ----------
    stays_up : bool
        The machine stays up; else it is started per run, whose session start is in freshness and cost.
    p99_s : float
        Freshness, the watermark's wait at the pace of the events' own times included.
    watermark_s : float
        That wait's part of it.
    half_s : float or None
        95 % interval to both sides; None: not known.
    core_hours : float
        Per day, of all the machine's cores.
    completeness : float or None
        At least.
    arms : tuple of str
        The measured arms that the figures come from.
    misses : tuple of str
        What of the SLO it does not meet, in words; ``worst`` is by what factor.
    """

    arm: Arm
    stays_up: bool
    p50_s: float
    p99_s: float
    watermark_s: float
    half_s: float | None
    core_hours: float
    cost: float | None
    busy_cores: float
    completeness: float | None
    extrapolated: bool
    arms: tuple[str, ...]
    misses: tuple[str, ...]
    worst: float

    @property
    def name(self) -> str:
        """``batch every 5 min, machine started per run``."""
        how = "up all day" if self.stays_up else "started per run"
        if self.arm.stays_up:
            over = " over bronze" if self.arm.mode == OVER_BRONZE else ""
            return f"stream{over} with trigger {human(self.arm.every_ms)}"
        return f"{self.arm.mode} every {human(self.arm.every_ms)}, machine {how}"


@dataclass(frozen=True)
class Advice:
    """The answer: the best candidate that meets all (None: none does), the nearest, the runner-up, and why."""

    job: str
    slo: Slo
    rate_per_s: float
    best: Candidate | None
    nearest: Candidate | None
    runner_up: Candidate | None
    why_lost: str
    sentence: str
    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)


def parse_slo(
    freshness: str | None, completeness: str | None, budget: str | None, rate: str | None, growth: str | None
) -> Slo:
    """Read the options of ``twinrun advise``.

    Raises
    ------
    InputError
        One of them cannot be read: which, and how it is written.
    """
    fresh_s = None if freshness is None else freshness_seconds(freshness)
    if fresh_s == 0:
        raise InputError(f"--freshness {freshness!r} asks for no delay at all.", expected="more than 0")
    return Slo(
        freshness_s=fresh_s,
        completeness=None if completeness is None else _share(completeness),
        budget_per_day=None if budget is None else _number(budget, "--budget", "/day", "20/day"),
        rate_per_s=None if rate is None else _number(rate, "--rate", "/s", "2000/s"),
        growth=1.0 if growth is None else _number(growth, "--growth", "x", "10x"),
    )


def freshness_seconds(text: str) -> float:
    """A freshness such as ``5m``.

    Raises
    ------
    InputError
        It cannot be read.
    """
    try:
        return parse_ms(text) / 1000
    except ValueError as error:
        raise InputError(f"--freshness: {error}.", expected="a duration such as 5m or 30s") from None


def check_same(measured: Measurement, machine: dict[str, Any], versions: dict[str, str]) -> None:
    """Refuse a measurement of another machine, version or definition of the job.

    Raises
    ------
    InputError
        What differs.
    """
    fix = f"measure again: twinrun measure {measured.job}"
    if measured.machine != machine:
        raise InputError(
            f"the measurement of {measured.job} was made on another machine: {_told(measured.machine)}.",
            expected=f"this one: {_told(machine)}",
            fix=fix,
        )
    for name, now in versions.items():
        then = measured.versions.get(name, "none")
        if then != now and name == "job":
            raise InputError(f"the definition of {measured.job} has changed since it was measured.", fix=fix)
        if then != now:
            raise InputError(f"{measured.job} was measured with {name} {then}.", expected=f"{name} {now}", fix=fix)


def advise(measured: Measurement, slo: Slo, price: float | None = None) -> Advice:
    """Which candidate meets the SLO at the least cost; of equal ones the one with fewer parts that stay up.

    Parameters
    ----------
    price : float, optional
        Of one core for one hour; needed for a budget.

    Raises
    ------
    InputError
        A budget without a price, no arm of the measurement has figures, or none tells anything about the rate.
    """
    if slo.budget_per_day is not None and price is None:
        raise InputError("--budget needs to know what a core costs.", fix="add --price-per-core-hour 0.05")
    if not any(result.agreed for result in measured.results):
        raise InputError(
            f"no arm of the measurement of {measured.job} has figures: its results do not agree.",
            fix=f"find out why: twinrun verify {measured.job}; then measure again",
        )
    rate = (slo.rate_per_s or measured.rate_per_s) * slo.growth
    found = candidates(measured, slo, rate, price)
    if not found:
        arms = ", ".join(sorted({result.arm.name for result in measured.results if result.agreed}))
        raise InputError(
            f"what was measured of {measured.job} says nothing about {rate:,.0f} events/s: the arms with figures are "
            f"{arms}.",
            expected="arms of one mode with runs of several sizes, or the rate that was measured",
            fix=f"measure more arms, or at that rate: twinrun measure {measured.job} --rate {rate:g}",
        )
    meets = sorted((each for each in found if not each.misses), key=_rank)
    best = meets[0] if meets else None
    nearest = min(found, key=lambda each: (each.worst, *_rank(each)))
    others = [each for each in found if best and each.arm.mode != best.arm.mode]
    runner_up = min(others, key=lambda each: (bool(each.misses), each.worst, *_rank(each)), default=None)
    return Advice(
        job=measured.job,
        slo=slo,
        rate_per_s=rate,
        best=best,
        nearest=None if best else nearest,
        runner_up=runner_up,
        why_lost=_why_lost(best, runner_up),
        sentence=_sentence(best, nearest, found),
        candidates=tuple(sorted(found, key=lambda each: (bool(each.misses), *_rank(each)))),
        notes=_notes(measured, slo, best or nearest, rate),
    )


def candidates(measured: Measurement, slo: Slo, rate: float, price: float | None) -> list[Candidate]:
    """Every mode at its triggers or cadences, measured ones and those of a grid."""
    found: list[Candidate] = []
    for mode in _ORDER:
        costs = costs_of(measured, mode)
        if costs is None:
            continue
        grid = _TRIGGERS_MS if stays_up(mode) else _CADENCES_MS
        known = {arm.every_ms for arm in measured.arms() if arm.mode == mode}
        for every_ms in sorted({*grid, *known}):
            hostings = (True,) if stays_up(mode) else (True, False)
            arm = Arm(mode, every_ms)
            if costs.seconds.one_size and predict(measured, arm, rate, costs).far:
                continue  # all runs that are known were of another size, and alike
            found += [_candidate(measured, arm, up, costs, slo, rate, price) for up in hostings]
    return found


def _candidate(
    measured: Measurement, arm: Arm, stays_up: bool, costs: Costs, slo: Slo, rate: float, price: float | None
) -> Candidate:
    told = predict(measured, arm, rate, costs, 0.0 if stays_up else measured.session_s)
    wait_s = _watermark_s(measured, arm)
    p99_s = told.p99_s + wait_s
    runs_s = told.run_s / told.period_s if told.sustained and told.period_s else 1.0
    core_hours = 24.0 * measured.cores * (1.0 if stays_up else min(runs_s, 1.0))
    cost = None if price is None else core_hours * price
    complete = _completeness(measured, arm.mode)
    misses, worst = _misses(slo, measured.cores, told.sustained, told.cpu_per_s, p99_s, wait_s, cost, complete)
    exact = any(r.arm == arm for r in measured.results if r.agreed) and stays_up
    exact = exact and abs(rate / measured.rate_per_s - 1) < 0.05
    return Candidate(
        arm=arm,
        stays_up=stays_up,
        p50_s=told.p50_s + _watermark_s(measured, arm, "p50"),
        p99_s=p99_s,
        watermark_s=wait_s,
        half_s=told.half_s,
        core_hours=core_hours,
        cost=cost,
        busy_cores=told.cpu_per_s,
        completeness=complete,
        extrapolated=told.far and not exact,
        arms=told.arms,
        misses=tuple(misses),
        worst=worst,
    )


def _misses(
    slo: Slo,
    cores: int,
    sustained: bool,
    busy: float,
    p99_s: float,
    wait_s: float,
    cost: float | None,
    complete: float | None,
) -> tuple[list[str], float]:
    """What is not met, in words, and the worst factor by which it is missed."""
    misses: list[str] = []
    worst = 1.0
    if not sustained or busy > BUSY * cores:
        needs = "more cores than can be told" if not math.isfinite(busy) else plural(math.ceil(busy / BUSY), "core")
        misses.append(f"does not keep up on {plural(cores, 'core')}: it needs {needs}")
        worst = max(worst, busy / (BUSY * cores) if math.isfinite(busy) else math.inf)
    if slo.freshness_s is not None and slo.freshness_s < p99_s < math.inf:
        of_it = f", {seconds(wait_s)} of them the watermark's wait" if wait_s > slo.freshness_s / 10 else ""
        misses.append(f"p99 freshness {seconds(p99_s)} instead of {seconds(slo.freshness_s)}{of_it}")
        worst = max(worst, p99_s / slo.freshness_s)
    if slo.budget_per_day is not None and cost is not None and cost > slo.budget_per_day:
        misses.append(f"costs {cost:,.2f} a day instead of {slo.budget_per_day:,.2f}")
        worst = max(worst, cost / slo.budget_per_day if slo.budget_per_day else math.inf)
    if slo.completeness is not None:
        if complete is None:
            misses.append("its completeness is not known")
            worst = math.inf
        elif complete < slo.completeness:
            misses.append(f"completeness may be as low as {complete:.2%} instead of {slo.completeness * 100:.10g}%")
            worst = max(worst, (1 - complete) / max(1 - slo.completeness, 1e-9))
    return misses, worst


def _watermark_s(measured: Measurement, arm: Arm, at: str = "p99") -> float:
    """The watermark's wait where events come at the pace of their own times: as measured, times the speed."""
    if arm.mode == "batch":
        return 0.0
    waits = [getattr(r.freshness.watermark, at) for r in _streams(measured) if r.freshness and r.freshness.watermark]
    return max(waits, default=0.0) * (measured.speed or 1.0)


def _completeness(measured: Measurement, mode: Mode) -> float | None:
    if mode == "batch":
        return 1.0
    known = [r.own_pace_completeness for r in _streams(measured)]
    return min((each for each in known if each is not None), default=None)


def _streams(measured: Measurement) -> list[Any]:
    return [r for r in measured.results if r.agreed and r.arm.mode != "batch"]


def _rank(each: Candidate) -> tuple[int, int, float]:
    """Cheapest first; within 5 % of equal cost the one with fewer moving parts, then the one that is fresher."""
    return (round(math.log(max(each.core_hours, 1e-3)) * 20), _ORDER[each.arm.mode], each.p99_s)


def _why_lost(best: Candidate | None, other: Candidate | None) -> str:
    if best is None or other is None:
        return ""
    if other.misses:
        return "; ".join(other.misses)
    if other.core_hours > best.core_hours * 1.01:
        return f"it takes {other.core_hours:.1f} core hours a day instead of {best.core_hours:.1f}"
    return "it costs as much, and has more moving parts"


def _sentence(best: Candidate | None, nearest: Candidate, found: Sequence[Candidate]) -> str:
    if best is None:
        return f"Nothing meets this. The nearest is {nearest.name}: {'; '.join(nearest.misses)}."
    streams = [each for each in found if each.arm.stays_up]
    if best.arm.mode == "batch" and streams:
        return f"Run {best.name}: you need no stream."
    batches = [each for each in found if each.arm.mode == "batch"]
    if best.arm.stays_up and batches and all(each.misses for each in batches):
        return f"Run a {best.name}: no batch does it."
    return f"Run {'a ' if best.arm.stays_up else ''}{best.name}."


def _notes(measured: Measurement, slo: Slo, chosen: Candidate, rate: float) -> tuple[str, ...]:
    notes = []
    if chosen.extrapolated:
        told = "of unknown width" if chosen.half_s is None else f"± {seconds(chosen.half_s)}"
        notes.append(
            f"Extrapolated: {rate:,.0f} events/s in this arm means runs of another size than any that was measured; "
            f"a run's time has a 95 % interval {told}."
        )
    if slo.freshness_s and chosen.half_s and chosen.p99_s <= slo.freshness_s < chosen.p99_s + chosen.half_s:
        notes.append("At the upper end of that interval it would miss the freshness that is asked for.")
    off = [each for each in held_out(measured) if each.arm.startswith(f"{chosen.arm.mode} ")]
    worst = max(off, key=lambda each: each.error, default=None)
    if worst is None:
        notes.append(f"How far predictions of {chosen.arm.mode} arms are off could not be checked: three are needed.")
    elif worst.error > WITHIN:
        notes.append(
            f"Take this with care: {worst.arm}, left out and predicted from the other arms, was off by "
            f"{worst.error:.0%} ({worst.figure}). More --events and --repeats make it better."
        )
    if chosen.arm.mode == "batch" and measured.windowed_stream:
        notes.append(
            "In batch an event counts as soon as its window's row holds it, though the window may go on; "
            "a stream writes the window once, when the watermark has passed its end."
        )
    notes += _beside(measured)
    if slo.growth != 1:
        notes.append(f"For {slo.growth:g} times the rate: {rate:,.0f} events/s.")
    noisy = [r.arm.name for r in measured.results if r.agreed and r.others_share > measured.settings["noise_share"]]
    if noisy:
        listed = ", ".join(sorted(set(noisy)))
        notes.append(f"The machine was busy with something else while these were measured: {listed}.")
    return tuple(notes)


def _beside(measured: Measurement) -> list[str]:
    """What real time was measured to do; it is no candidate, since ``twinrun stream`` does not run by that trigger."""
    known = [r for r in measured.results if r.agreed and r.arm.mode == REAL_TIME and r.freshness and r.freshness.total]
    if not known:
        return []
    p99_s = max(r.freshness.total.p99 for r in known if r.freshness and r.freshness.total)
    cpu_s = sum(r.cpu_s_per_million for r in known) / len(known)
    return [
        f"Spark's real-time trigger had p99 {seconds(p99_s)} at {cpu_s:,.0f} CPU s per million events, into a topic "
        "alone. It is no candidate: twinrun stream writes a table, and does not run by that trigger."
    ]


def seconds(value: float) -> str:
    """``0.042 s``, ``0.42 s``, ``3.1 s``, ``2 h 5 min``."""
    if not math.isfinite(value):
        return "without end"
    if value >= 60:
        return human(round(value) * 1000)
    return f"{value:.1f} s" if value >= 1 else f"{value:.2f} s" if value >= 0.1 else f"{value:.3f} s"


def _share(text: str) -> float:
    percent = text.strip().endswith("%")
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = math.nan
    value = value / 100 if percent else value
    if not 0 < value <= 1:
        raise InputError(f"--completeness {text!r} is no share.", expected="such as 99.9% or 0.999")
    return value


def _number(text: str, option: str, unit: str, example: str) -> float:
    found = re.fullmatch(rf"\s*(\d[\d_,]*(?:\.\d+)?)\s*(?:{re.escape(unit)})?\s*", text)
    value = float(re.sub("[_,]", "", found[1])) if found else 0.0
    if not value:
        raise InputError(
            f"{option} {text!r} cannot be read.", expected=f"a number over 0 and its unit, such as {example}"
        )
    return value


def _told(machine: dict[str, Any]) -> str:
    cores = plural(int(machine.get("cores", 0)), "core")
    return f"{cores}, {machine.get('memory_gib')} GiB, {machine.get('processor')}"
