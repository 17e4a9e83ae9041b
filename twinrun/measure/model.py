"""What an arm that was not measured would do: from a straight line through the runs that were.

A run, or a micro-batch, takes a fixed time, a time per event and one per row that it writes. From that follows how long
the period is in which events gather, and from that how long they wait: an event comes at any moment of a period alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from twinrun.measure.arms import MODES, OVER_BRONZE, Arm, Mode, stays_up
from twinrun.measure.results import Measurement, Result

FAR = 2.0
"""A number of events per run within so many times of the measured ones is not called extrapolated."""
ONE_SIZE = 1.5
"""Runs whose numbers of events lie within this factor tell what one takes, and not what part of it is fixed."""


@dataclass(frozen=True)
class Line:
    """``fixed + per_event * events + per_row * rows``, none of them negative, fitted to measured runs.

    ``spread``: the standard deviation of what the line leaves over; None where nothing is left to judge it by.
    """

    fixed: float
    per_event: float
    per_row: float
    rows_per_event: float
    least: float
    most: float
    spread: float | None
    number: int

    def at(self, events: float) -> float:
        """The value for so many events, with as many rows per event as were measured."""
        return self.fixed + (self.per_event + self.per_row * self.rows_per_event) * events

    @property
    def slope(self) -> float:
        """What one more event adds."""
        return self.per_event + self.per_row * self.rows_per_event

    def half(self, events: float) -> float | None:
        """How far a 95 % interval reaches to both sides for so many events; wider away from what was measured."""
        if self.spread is None:
            return None
        middle, width = (self.least + self.most) / 2, max((self.most - self.least) / 2, 1.0)
        away = ((events - middle) / width) ** 2
        return float(2 * self.spread * (1 + 1 / self.number + away / self.number) ** 0.5)

    @property
    def one_size(self) -> bool:
        """Whether all runs were of about one size: what more events take cannot be told then."""
        return self.most < self.least * ONE_SIZE

    def far(self, events: float) -> bool:
        """Whether so many events lie outside of what was measured."""
        return events < self.least / FAR or events > self.most * FAR


def fit(points: Iterable[tuple[float, float, float]]) -> Line | None:
    """The line with the least squares through (events, rows, value), without negative parts; None without points."""
    found = [point for point in points if point[2] >= 0]
    if not found:
        return None
    events, rows, values = (np.array(column, dtype=float) for column in zip(*found, strict=True))
    columns = [np.ones_like(events), events, rows]
    best: tuple[float, list[float]] | None = None
    # So few columns that each choice of them can be tried: the best one without a negative part is the answer.
    for size in range(1, 4):
        for chosen in combinations(range(3), size):
            if size > len(found):
                continue
            matrix = np.column_stack([columns[place] for place in chosen])
            parts, *_ = np.linalg.lstsq(matrix, values, rcond=None)
            if (parts < 0).any():
                continue
            left = float(((matrix @ parts - values) ** 2).sum())
            if best is None or left < best[0] * (1 - 1e-6) - 1e-12:
                whole = [0.0, 0.0, 0.0]
                for place, part in zip(chosen, parts, strict=True):
                    whole[place] = float(part)
                best = left, whole
    if best is None:
        return None
    left, parts_ = best
    free = len(found) - sum(part > 0 for part in parts_)
    total = float(events.sum())
    return Line(
        fixed=parts_[0],
        per_event=parts_[1],
        per_row=parts_[2],
        rows_per_event=float(rows.sum()) / total if total else 0.0,
        least=float(events.min()),
        most=float(events.max()),
        spread=(left / free) ** 0.5 if free > 0 else None,
        number=len(found),
    )


@dataclass(frozen=True)
class Costs:
    """What a run of a mode takes: ``seconds`` and CPU seconds (JVM and Python); and the arms that it is known from.

    ``shown``: after which share of a run its rows can be read. A micro-batch that has committed its rows writes down
    its state and its offsets.
    """

    mode: Mode
    seconds: Line
    cpu: Line
    arms: tuple[str, ...]
    shown: float = 1.0


@dataclass(frozen=True)
class Predicted:
    """What an arm would do at a rate.

    Attributes
    ----------
    p50_s, p95_s, p99_s, max_s : float
        The trigger's wait and the run's own, seconds; the watermark's wait is not in it.
    half_s : float or None
        95 % interval of the run's own time, to both sides.
    period_s, run_s : float
        From one run to the next, and how long one takes.
    cpu_per_s : float
        CPU seconds per second: cores that are busy.
    sustained : bool
        False where a run never catches up with what comes while it runs.
    far : bool
        Events per run lie outside of what was measured.
    arms : tuple of str
        Where the figures come from.
    """

    arm: Arm
    p50_s: float
    p95_s: float
    p99_s: float
    max_s: float
    half_s: float | None
    period_s: float
    run_s: float
    cpu_per_s: float
    sustained: bool
    far: bool
    arms: tuple[str, ...]


def costs_of(measured: Measurement, mode: Mode, leave_out: Sequence[Arm] = ()) -> Costs | None:
    """The costs of a mode from its agreed arms; None where there are none."""
    known = [r for r in measured.results if r.agreed and r.arm.mode == mode and r.arm not in leave_out]
    if not known:
        return None
    names = tuple(sorted({result.arm.name for result in known}))
    if stays_up(mode):
        seconds = _stream_seconds(known)
        # One point per arm: CPU is known of all its micro-batches together.
        per = [(r.sent / _number(r), 0.0, (r.cpu_s["jvm"] + r.cpu_s["python"]) / _number(r)) for r in known]
        cpu = fit(per)
    else:
        units = [unit for result in known for unit in result.units if unit.events]
        seconds = fit((unit.events, unit.rows, unit.seconds) for unit in units)
        cpu = fit((unit.events, unit.rows, unit.cpu_s) for unit in units)
    shown = _shown(known) if stays_up(mode) else 1.0
    return None if seconds is None or cpu is None else Costs(mode, seconds, cpu, names, shown)


def predict(measured: Measurement, arm: Arm, rate: float, costs: Costs, started_s: float = 0.0) -> Predicted:
    """What an arm would do at so many events per second.

    Parameters
    ----------
    started_s : float
        What each run takes besides, such as the start of a machine's session.
    """
    fixed, slope = costs.seconds.fixed + started_s, costs.seconds.slope
    every_s = arm.every_ms / 1000
    # The run over what came in one interval fits into it, or the interval grows until it does.
    fits = fixed + slope * rate * every_s <= every_s
    sustained = fits or slope * rate < 1
    period_s = every_s if fits else fixed / (1 - slope * rate) if sustained else float("inf")
    events = rate * period_s
    run_s = fixed + slope * events
    # A window comes out with the micro-batch after the one that read what moved the watermark; a run that ends
    # makes both. What an ingest lands, triggered at the same moments, the next micro-batch over bronze reads.
    later = (arm.stays_up and measured.windowed_stream) + (arm.mode == OVER_BRONZE)
    more_s = period_s * later if later else 0.0
    cpu = costs.cpu.at(events)
    last_s = more_s + run_s * costs.shown
    return Predicted(
        arm=arm,
        p50_s=0.50 * period_s + last_s,
        p95_s=0.95 * period_s + last_s,
        p99_s=0.99 * period_s + last_s,
        max_s=period_s + last_s,
        half_s=costs.seconds.half(events) if sustained else None,
        period_s=period_s,
        run_s=run_s,
        cpu_per_s=cpu / period_s if sustained and period_s else float("inf"),
        sustained=sustained,
        far=costs.seconds.far(events),
        arms=costs.arms,
    )


@dataclass(frozen=True)
class Held:
    """One figure of an arm that was left out of the fit: what was predicted, and what was measured."""

    arm: str
    figure: str
    predicted: float
    measured: float
    half: float | None = None

    @property
    def error(self) -> float:
        """How far off, as a share of what was measured."""
        return abs(self.predicted / self.measured - 1) if self.measured else float("inf")


def held_out(measured: Measurement, every: int = 3) -> list[Held]:
    """Leave each third arm of a mode out in turn, fit the others, and predict it: the honesty of the model as a table.

    A mode with fewer than three agreed arms is left alone: two points make a line that is never wrong.
    """
    found: list[Held] = []
    for mode in MODES:
        arms = [arm for arm in measured.arms() if arm.mode == mode and any(r.agreed for r in measured.of(arm))]
        if len(arms) < 3:
            continue
        # From the middle: what lies outside of the others is extrapolated, and said to be so.
        for arm in arms[1::every]:
            costs = costs_of(measured, mode, [arm])
            agreed = [r for r in measured.of(arm) if r.agreed and r.freshness and r.freshness.machinery]
            if costs is None or not agreed:
                continue
            rate, sent = _mean([r.rate_per_s for r in agreed]), _mean([float(r.sent) for r in agreed])
            told = predict(measured, arm, rate, costs)
            told_s, cpu_s = told.p50_s, told.cpu_per_s * sent / rate
            if not arm.stays_up:
                told_s, cpu_s = under_load(arm, costs, rate, sent)
            p50 = _mean([r.freshness.machinery.p50 for r in agreed if r.freshness and r.freshness.machinery])
            used = _mean([r.cpu_s_per_million for r in agreed])
            found.append(Held(arm.name, "p50 of trigger and run, s", told_s, p50, told.half_s))
            found.append(Held(arm.name, "CPU s per million events", cpu_s / sent * 1e6, used))
    return found


def under_load(arm: Arm, costs: Costs, rate: float, events: float) -> tuple[float, float]:
    """Median wait and CPU seconds of runs that end, under a load that ends: the last run has what is left.

    `predict` tells what goes on for ever. A load of two runs and a half has three, and is no measure of that.
    """
    every_s, over_s = arm.every_ms / 1000, events / rate
    covered = ended = cpu_s = 0.0
    number = 0
    runs: list[tuple[float, float, float, float]] = []
    while not runs or runs[-1][0] < over_s:
        # On time, or at once where the run before was not over: starts that it has missed are left out.
        at = max((number + 1) * every_s, ended)
        number = max(number + 1, int(at / every_s))
        reached = min(at, over_s)
        new = (reached - covered) * rate
        cpu_s, ended = cpu_s + costs.cpu.at(new), at + costs.seconds.at(new)
        runs.append((at, ended - reached, ended - covered, new))
        covered = reached
    # The events of a run came evenly, so that their waits lie evenly between that of the last and of the first.
    waits = np.concatenate([np.linspace(low, high, max(round(new), 1)) for _, low, high, new in runs])
    return float(np.median(waits)), cpu_s


def _stream_seconds(known: Sequence[Result]) -> Line | None:
    """One line through the mean micro-batch of each arm and, where there is one arm alone, its own line."""
    lines = [r.micro_batches for r in known if r.micro_batches and r.micro_batches.number]
    if not lines:
        return None
    means = [
        (r.sent / _number(r), 0.0, r.micro_batches.fixed_s + r.micro_batches.per_event_s * r.sent / _number(r))
        for r in known
        if r.micro_batches and r.micro_batches.number
    ]
    if len({point[0] for point in means}) > 1:
        return fit(means)
    only, events = lines[0], means[0][0]
    return Line(only.fixed_s, only.per_event_s, 0.0, 0.0, events, events, None, 1)


def _shown(known: Sequence[Result]) -> float:
    """The mean share of a mean micro-batch that a mean event waits for its commit; 1 where it is not known."""
    shares = [
        r.freshness.run.mean / whole_s
        for r in known
        if r.freshness and r.freshness.run and r.micro_batches and r.micro_batches.number
        if (whole_s := r.micro_batches.fixed_s + r.micro_batches.per_event_s * r.sent / _number(r))
    ]
    return min(_mean(shares), 1.0) if shares else 1.0


def _number(result: Result) -> int:
    return max(result.micro_batches.number if result.micro_batches else 1, 1)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
