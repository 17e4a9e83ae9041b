"""What a measurement is asked for: its options, checked, and the arms that a job can have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from twinrun.config.model import Config
from twinrun.errors import InputError
from twinrun.job.job import Job

if TYPE_CHECKING:
    from twinrun.measure.arms import Arm
    from twinrun.measure.bench import Bench

QUICK_RATE, QUICK_EVENTS = 100.0, 1_600
FULL_RATE, FULL_EVENTS = 500.0, 90_000


@dataclass(frozen=True)
class Asked:
    """What a measurement was asked for, checked."""

    arms: tuple[Arm, ...]
    rate: float
    events: int
    repeats: int
    seed: int
    quick: bool
    name: str = ""
    """Of the job, as the command line has it."""
    limit: bool = False
    recovery: bool = False
    named: bool = False
    """Whether the arms were named on the command line."""
    instead: tuple[Arm, ...] = ()
    """Arms whose place the one in real time takes, where Spark takes the job."""

    @property
    def quickest(self) -> Arm | None:
        """The stream with the shortest trigger: whose highest rate is looked for, and which is killed."""
        streams = sorted(arm for arm in self.arms if arm.mode == "stream")
        return streams[0] if streams else None

    @property
    def real_time(self) -> list[Arm]:
        """The arms by Spark's real-time trigger."""
        return [arm for arm in self.arms if arm.mode == "real-time"]


def asked_for(
    quick: bool, events: int | None, rate: float | None, arms: list[str] | None, repeats: int | None, seed: int
) -> Asked:
    """The options of a measurement, with what is usual where nothing was said.

    Raises
    ------
    InputError
        An arm cannot be read, or is longer than the load.
    """
    from twinrun.measure.arms import FULL, QUICK, parse_arm

    rate = rate or (QUICK_RATE if quick else FULL_RATE)
    chosen = tuple(dict.fromkeys(parse_arm(text) for text in arms or ())) or (QUICK if quick else FULL)
    events = events or (QUICK_EVENTS if quick else FULL_EVENTS)
    long = [each.name for each in chosen if each.every_ms / 1000 > events / rate]
    if long:
        raise InputError(
            f"the load lasts {events / rate:.0f} s, less than one interval of {', '.join(long)}.",
            fix="give more --events, or a lower --rate",
        )
    return Asked(chosen, rate, events, repeats or (1 if quick else 5), seed, quick, named=bool(arms))


def with_real_time(asked: Asked, cfg: Config, job: Job) -> Asked:
    """Add the arm by Spark's real-time trigger, where the job may be one for it and its results go to a topic.

    With ``--quick`` it takes the place of the one that is started again and again.

    Raises
    ------
    InputError
        The arm was named, and the job keeps state.
    """
    from twinrun.measure.arms import REAL_TIME_FULL, REAL_TIME_QUICK, keeps_state

    why = keeps_state(job)
    if asked.real_time and why:
        raise InputError(
            f"--arm {asked.real_time[0].name!r}: {why}.",
            expected="a job of single events for Spark's real-time trigger",
            fix="leave that arm out",
        )
    if asked.named or why or job.job_name not in cfg.sinks:
        return asked
    more = REAL_TIME_QUICK if asked.quick else REAL_TIME_FULL
    if more.every_ms / 1000 > asked.events / asked.rate:
        return asked
    # Ten minutes are enough for seven arms.
    instead = tuple(arm for arm in asked.arms if asked.quick and arm.mode == "available-now")
    others = tuple(arm for arm in asked.arms if arm not in instead)
    return replace(asked, arms=(*others, more), instead=instead)


def possible(bench: Bench, asked: Asked, say: Callable[[str], None]) -> tuple[list[Arm], list[str]]:
    """The arms less one in real time that Spark does not take, and why; that is refused where it was asked for by name.

    Raises
    ------
    InputError
        An arm was asked for by name that cannot be measured.
    """
    from twinrun.measure.real_time import why_not

    real_time = asked.real_time
    if not real_time:
        return list(asked.arms), []
    say("asking Spark for the real-time trigger")
    why = why_not(bench)
    if not why:
        return list(asked.arms), []
    if asked.named:
        raise InputError(f"--arm {real_time[0].name!r}: {why}.", fix="leave that arm out")
    others = [*(arm for arm in asked.arms if arm not in real_time), *asked.instead]
    return others, [f"Not measured: {real_time[0].name}. {why}."]


def regression_share(text: str) -> float:
    """A share such as ``10%`` or ``0.1``.

    Raises
    ------
    InputError
        It cannot be read.
    """
    number = text.strip()
    try:
        value = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise InputError(f"--max-regression {text!r} is no share.", expected="such as 10% or 0.1")
    return value
