"""What a day of an arm takes at the rate that was measured: of a machine that stays up, and of one started per run."""

from __future__ import annotations

from dataclasses import dataclass

from twinrun.measure.arms import Arm
from twinrun.measure.results import Measurement

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
    every_s, cores = arm.every_ms / 1000, measured.cores
    # A run without events is one that came after the load.
    units = [unit for result in agreed for unit in result.units if unit.events]
    if arm.stays_up or not units:
        per_million = sum(result.cpu_s_per_million for result in agreed) / len(agreed)
        return Day(per_million / 1e6 * measured.rate_per_s, _DAY_H * cores, None)
    # A run that takes longer than its interval is followed by the next one at once.
    busy = sum(unit.cpu_s for unit in units) / sum(max(every_s, unit.seconds) for unit in units)
    run_s = sum(unit.seconds for unit in units) / len(units) + measured.session_s
    return Day(busy, _DAY_H * cores, _DAY_H * cores * min(run_s / every_s, 1.0))
