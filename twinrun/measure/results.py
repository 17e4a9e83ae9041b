"""What a measurement found, as frozen values: in JSON, as rows of a table, and compared with earlier ones."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from twinrun.errors import InputError
from twinrun.measure.arms import Arm
from twinrun.measure.freshness import Freshness, Quantiles

SCHEMA_VERSION = 1
# Two-sided 95 % of Student's t by degrees of freedom; beyond these 2.
_T95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)


def proven(outcome: str, exit_code: int) -> bool:
    """Whether a verify found no difference, or proved each, within the job's limits: else nothing has a figure."""
    return outcome in ("agree", "explained") and exit_code == 0


@dataclass(frozen=True)
class Unit:
    """One run that began and ended: the events that were new to it, the rows it wrote, its seconds and CPU seconds."""

    events: int
    rows: int
    seconds: float
    cpu_s: float


@dataclass(frozen=True)
class MicroBatches:
    """The micro-batches of a stream that stays up; a straight line of their duration over their events, seconds."""

    number: int
    fixed_s: float
    per_event_s: float
    phases_ms: dict[str, float]
    phases_of: int


@dataclass(frozen=True)
class AtLateness:
    """Events that are lost at one lateness: in the micro-batches of the run, and at most at their own pace.

    The latter is None for jobs without windows.
    """

    lateness_ms: int
    lost: int
    lost_at_own_pace: int | None


@dataclass(frozen=True)
class Lateness:
    """What one arm's stream would have lost at other latenesses.

    ``events``: all that reach the result, those before the load included; ``due``: those of the load, of which some are
    lost at their own pace.
    """

    arm: Arm
    events: int
    due: int
    recorded_ms: int
    points: tuple[AtLateness, ...]

    def kept(self, point: AtLateness) -> tuple[float, float | None]:
        """The shares that are kept: in the micro-batches of the run, and at least at the events' own pace."""
        alone = point.lost_at_own_pace
        return 1 - point.lost / max(self.events, 1), None if alone is None else 1 - alone / max(self.due, 1)


@dataclass(frozen=True)
class Result:
    """One arm, run once.

    Attributes
    ----------
    outcome, exit_code, problems : str, int, tuple of str
        Of the verify that followed. Without agreement nothing below is a figure of this job.
    rate_per_s, sent, end_late_s : float, int, float
        What the producer did, and how late its last record was.
    kept_up : bool
        Whether all was read before the time was over.
    cpu_s : dict
        CPU seconds of ``jvm``, ``python``, ``broker`` and ``producer`` from the first record to the last commit.
    seconds : float
        The same span.
    others_share : float
        Share of the machine's cores that processes used which take no part.
    units : tuple of Unit
        The runs of a batch or an available-now arm; empty for a stream that stays up.
    overran : int
        Runs that began late since the one before was not over.
    sizes : dict
        Files and bytes of ``table`` and ``checkpoint``; ``state_rows`` and ``state_bytes``, the most that were seen.
    lateness : Lateness or None
        Of one repeat of one stream, where it drops late events.
    """

    arm: Arm
    repeat: int
    outcome: str
    exit_code: int
    problems: tuple[str, ...]
    rate_per_s: float
    sent: int
    end_late_s: float
    kept_up: bool
    freshness: Freshness | None
    cpu_s: dict[str, float]
    seconds: float
    peak_memory_bytes: int
    others_share: float
    units: tuple[Unit, ...] = ()
    micro_batches: MicroBatches | None = None
    overran: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    lateness: Lateness | None = None

    @property
    def agreed(self) -> bool:
        """Whether the verify found no difference, or proved each, and the load was what was asked for."""
        return proven(self.outcome, self.exit_code) and self.kept_up

    @property
    def why_not(self) -> str:
        """Why there are no figures; empty where there are."""
        if self.agreed:
            return ""
        if not self.kept_up:
            return "did not keep up with the load"
        return f"{self.outcome}: {'; '.join(self.problems) or 'the results do not agree'}"

    @property
    def cpu_s_per_million(self) -> float:
        """CPU seconds of JVM and Python per million events that were sent; broker and producer are told apart."""
        return (self.cpu_s["jvm"] + self.cpu_s["python"]) / max(self.sent, 1) * 1e6

    @property
    def completeness(self) -> float | None:
        """Share of the events that reach the result and were not dropped as late. None without figures."""
        found = self.freshness
        return None if found is None or not found.events else 1 - found.lost / found.events

    @property
    def own_pace_completeness(self) -> float | None:
        """At least so large where events come at the pace of their own times. 1 in batch, which drops none."""
        found = self.freshness
        if found is None or not found.events:
            return None
        return 1.0 if self.arm.mode == "batch" else 1 - (found.lost_at_own_pace or 0) / found.events


@dataclass(frozen=True)
class Recovery:
    """One kill under load, and what came of it.

    Attributes
    ----------
    outcome, exit_code, problems : str, int, tuple of str
        Of the verify that followed. Without agreement the figures are None.
    killed_after_s : float
        From the start of the load.
    running_s : float or None
        From the kill until the first commit of the restarted stream.
    fresh_again_s : float or None
        From the kill until the commit from which on no event waited longer for the trigger and its run than those of
        the quarter of the load before the kill. None where that was not reached within the load.
    before_s : float or None
        The longest such wait before the kill.
    worked_twice : int or None
        Records of the micro-batch that was planned and not committed: at most so many were worked twice.
    """

    arm: Arm
    outcome: str
    exit_code: int
    problems: tuple[str, ...]
    killed_after_s: float
    running_s: float | None = None
    fresh_again_s: float | None = None
    before_s: float | None = None
    worked_twice: int | None = None

    @property
    def agreed(self) -> bool:
        """Whether the verify found no difference, or proved each."""
        return proven(self.outcome, self.exit_code)


@dataclass(frozen=True)
class Probe:
    """A load at one rate. ``growth``: by how many records per second the lag grew, as a share of the rate."""

    rate_per_s: float
    seconds: float
    growth: float
    held: bool


@dataclass(frozen=True)
class Sustained:
    """The highest rate that was tried and held, and the lowest that was not.

    Attributes
    ----------
    outcome : str
        Of the verify of the load that held; without agreement the rates are no figures of this job.
    rate_per_s : float or None
        None where no rate held, or the verify did not agree.
    failed_per_s : float or None
        None where every rate held that could be tried; ``why`` says what ended the search.
    """

    arm: Arm
    outcome: str
    exit_code: int
    rate_per_s: float | None
    failed_per_s: float | None
    why: str
    probes: tuple[Probe, ...]

    @property
    def agreed(self) -> bool:
        """Whether the verify found no difference, or proved each."""
        return proven(self.outcome, self.exit_code)


@dataclass(frozen=True)
class Measurement:
    """All arms of a job, measured one after another on one machine.

    Attributes
    ----------
    speed : float
        Seconds of record time per second of the run; 0 where the records' times do not move.
    windowed_stream : bool
        The stream writes windows when they close, so that its freshness holds the watermark's wait.
    session_s : float
        What it took to start the Spark session: a machine that is started per run pays it each time.
    thrown_away : tuple of str
        Repeats that are not in ``results`` since the machine was busy with something else; which, and why.
    recoveries, sustained : tuple
        What a kill under load and the search of the highest rate found, where they were asked for.
    """

    measurement: str
    job: str
    at_ms: int
    rate_per_s: float
    speed: float
    events_from: str
    windowed_stream: bool
    session_s: float
    cores: int
    machine: dict[str, Any]
    versions: dict[str, str]
    settings: dict[str, Any]
    commit: str
    results: tuple[Result, ...]
    thrown_away: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    recoveries: tuple[Recovery, ...] = ()
    sustained: tuple[Sustained, ...] = ()

    def arms(self) -> list[Arm]:
        """The arms, each once, by mode and interval."""
        return sorted({result.arm for result in self.results})

    def of(self, arm: Arm) -> list[Result]:
        """The repeats of an arm."""
        return [result for result in self.results if result.arm == arm]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, with its schema version first."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}


@dataclass(frozen=True)
class Estimate:
    """A mean over repeats, and how far its 95 % interval reaches to both sides; None for one repeat alone."""

    mean: float
    half: float | None


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and 95 % interval of repeats, by Student's t."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Estimate(mean, None)
    factor = _T95[len(values) - 2] if len(values) - 2 < len(_T95) else 2.0
    return Estimate(mean, factor * statistics.stdev(values) / len(values) ** 0.5)


def without_noisy(results: Sequence[Result], limit: float) -> tuple[list[Result], list[str]]:
    """Leave out repeats on a busy machine, where a quiet one of the same arm is left; and say which.

    Returns
    -------
    (list of Result, list of str)
        What stays, and a sentence for each that does not.
    """
    kept: list[Result] = []
    thrown: list[str] = []
    for result in results:
        quiet = [each for each in results if each.arm == result.arm and each.others_share <= limit]
        if result.others_share > limit and quiet:
            share = f"{result.others_share:.0%}"
            thrown.append(f"{result.arm.name}, repeat {result.repeat + 1}: other processes used {share} of the cores")
        else:
            kept.append(result)
    return kept, thrown


def from_dict(document: Mapping[str, Any]) -> Measurement:
    """Read the JSON form again.

    Raises
    ------
    InputError
        It has another schema version, or lacks something.
    """
    found = document.get("schema_version")
    if found != SCHEMA_VERSION:
        raise InputError(
            f"the measurement has the schema version {found}.",
            expected=f"{SCHEMA_VERSION}, as this version of twinrun writes it",
            fix="measure again: twinrun measure JOB",
        )
    try:
        values = {name: value for name, value in document.items() if name != "schema_version"}
        values["results"] = tuple(_result(each) for each in values["results"])
        for name in ("thrown_away", "notes"):
            values[name] = tuple(values[name])
        values["recoveries"] = tuple(
            Recovery(**{**each, "arm": Arm(**each["arm"]), "problems": tuple(each["problems"])})
            for each in values.get("recoveries", ())
        )
        values["sustained"] = tuple(
            Sustained(
                **{**each, "arm": Arm(**each["arm"]), "probes": tuple(Probe(**probe) for probe in each["probes"])}
            )
            for each in values.get("sustained", ())
        )
        return Measurement(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"the measurement cannot be read: {error}.", fix="measure again: twinrun measure JOB"
        ) from None


def read_measurement(file: Path, job: str) -> Measurement:
    """The last measurement of a job.

    Raises
    ------
    InputError
        There is none, or it cannot be read.
    """
    if not file.exists():
        raise InputError(
            f"{job} was never measured: there is no {file}.",
            expected="a measurement of this job on this machine",
            fix=f"make one: twinrun measure {job} --quick",
        )
    try:
        return from_dict(json.loads(file.read_text(encoding="utf-8")))
    except ValueError:
        raise InputError(f"{file} is not JSON.", fix=f"measure again: twinrun measure {job}") from None


def _result(values: Mapping[str, Any]) -> Result:
    found = dict(values)
    found["arm"] = Arm(**found["arm"])
    found["problems"] = tuple(found["problems"])
    found["units"] = tuple(Unit(**each) for each in found["units"])
    if found["micro_batches"] is not None:
        found["micro_batches"] = MicroBatches(**found["micro_batches"])
    if found["freshness"] is not None:
        fresh = dict(found["freshness"])
        for name in ("total", "watermark", "trigger", "run", "machinery"):
            fresh[name] = None if fresh[name] is None else Quantiles(**fresh[name])
        fresh["over_time"] = tuple(tuple(point) for point in fresh["over_time"])
        found["freshness"] = Freshness(**fresh)
    if found.get("lateness") is not None:
        curve = dict(found["lateness"])
        curve["arm"] = Arm(**curve["arm"])
        curve["points"] = tuple(AtLateness(**point) for point in curve["points"])
        found["lateness"] = Lateness(**curve)
    return Result(**found)
