"""What a day of an arm takes at the rate that was measured: of a machine that stays up, and of one started per run."""

from __future__ import annotations

from dataclasses import dataclass

from twinrun.measure.arms import Arm
from twinrun.measure.results import Measurement, Result

_DAY_H = 24.0


@dataclass(frozen=True)
class Day:
    """Core hours of all the machine's cores.

    Attributes
    ----------
    busy_cores : float
        Of them, on average, Java and Python keep so many busy.
    up : float
        Where the machine stays up.
    per_run : float or None
        Where it is started for each run and ends with it, the start of a session included. None: the arm has no runs.
    """

    busy_cores: float
    up: float
    per_run: float | None


def day_of(measured: Measurement, arm: Arm) -> Day | None:
    """A day at the measured rate, on average over the repeats; None where no repeat has figures."""
    agreed = [result for result in measured.of(arm) if result.agreed]
    if not agreed:
        return None
    busy = sum(_busy(result) for result in agreed) / len(agreed)
    units = [unit for result in agreed for unit in result.units]
    per_run = None
    if units and not arm.stays_up:
        run_s = sum(unit.seconds for unit in units) / len(units) + measured.session_s
        # A run that takes longer than its interval is followed by the next one at once.
        per_run = _DAY_H * measured.cores * min(run_s / (arm.every_ms / 1000), 1.0)
    return Day(busy, _DAY_H * measured.cores, per_run)


def _busy(result: Result) -> float:
    return (result.cpu_s["jvm"] + result.cpu_s["python"]) / max(result.seconds, 1e-9)
