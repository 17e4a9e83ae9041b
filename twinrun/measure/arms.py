"""The arms of a measurement: a mode with its trigger or cadence, and the order in which they run."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from twinrun.durations import human, parse_ms
from twinrun.errors import InputError
from twinrun.job.job import Job

Mode = Literal["real-time", "stream", "stream-over-bronze", "available-now", "batch"]
MODES: tuple[Mode, ...] = ("real-time", "stream", "stream-over-bronze", "available-now", "batch")
OVER_BRONZE: Mode = "stream-over-bronze"
REAL_TIME: Mode = "real-time"
LEAST_REAL_TIME_MS = 5_000
"""Spark refuses real-time micro-batches that are shorter, by default (``minBatchDuration`` of its real-time mode)."""


@dataclass(frozen=True, order=True)
class Arm:
    """One way to run a job.

    Attributes
    ----------
    mode : {"real-time", "stream", "stream-over-bronze", "available-now", "batch"}
        ``stream``: a query that stays up. ``stream-over-bronze``: two of them with the same trigger, an ingest, and the
        job over the Delta table that it fills. ``available-now``: the query of ``stream``, started again and again,
        each time to the end of the topic. ``batch``: an ingest and a batch run, again and again. ``real-time``: a query
        that stays up and hands each record on to a topic as it comes, by Spark's real-time trigger.
    every_ms : int
        The trigger's interval, or from the start of one run to that of the next. 0, for a stream: at once. In real
        time how long a micro-batch lasts: so often Spark writes down how far it is.
    """

    mode: Mode
    every_ms: int

    @property
    def name(self) -> str:
        """``stream 0 s``, ``available-now 10 s``, ``batch 1 min``."""
        return f"{self.mode} {human(self.every_ms)}"

    @property
    def stays_up(self) -> bool:
        """Whether its queries run all the time."""
        return stays_up(self.mode)


def stays_up(mode: Mode) -> bool:
    """Whether the queries of a mode run all the time, by a trigger; else it is runs that end, by a cadence."""
    return mode in ("stream", OVER_BRONZE, REAL_TIME)


QUICK = (
    Arm("stream", 0),
    Arm("stream", 1_000),
    Arm("stream", 10_000),
    Arm("available-now", 10_000),
    Arm("batch", 5_000),
    Arm("batch", 10_000),
    Arm("batch", 15_000),
)
"""What ``--quick`` measures."""

FULL = (
    Arm("stream", 0),
    Arm("stream", 1_000),
    Arm("stream", 10_000),
    Arm("stream", 60_000),
    Arm(OVER_BRONZE, 1_000),
    Arm(OVER_BRONZE, 10_000),
    Arm(OVER_BRONZE, 30_000),
    Arm("available-now", 15_000),
    Arm("available-now", 30_000),
    Arm("available-now", 60_000),
    Arm("batch", 10_000),
    Arm("batch", 20_000),
    Arm("batch", 30_000),
    Arm("batch", 60_000),
)
"""What a measurement takes without ``--quick``: two kinds of a restarted run need three cadences each for a model."""

REAL_TIME_QUICK, REAL_TIME_FULL = Arm(REAL_TIME, 10_000), Arm(REAL_TIME, 60_000)
"""Taken besides where a job keeps no state and its results go to a topic."""


def parse_arm(text: str) -> Arm:
    """Read an arm such as ``batch 30s`` or ``stream 0s``.

    Raises
    ------
    InputError
        The mode is unknown, the duration cannot be read, or a run that ends would start again at once.
    """
    mode, _, every = text.strip().partition(" ")
    found = next((each for each in MODES if each == mode), None)
    if found is None:
        raise InputError(
            f"--arm {text!r} names no mode.",
            expected=f"one of {', '.join(MODES)}, then a duration",
            fix="such as --arm 'batch 30s'",
        )
    try:
        every_ms = parse_ms(every)
    except ValueError as error:
        raise InputError(f"--arm {text!r}: {error}.", fix="such as --arm 'batch 30s'") from None
    arm = Arm(found, every_ms)
    if not arm.stays_up and every_ms < 1_000:
        raise InputError(f"--arm {text!r} starts a run that ends again at once.", expected="1 second or more")
    if arm.mode == REAL_TIME and every_ms < LEAST_REAL_TIME_MS:
        raise InputError(
            f"--arm {text!r}: Spark's real-time trigger has no micro-batches as short as that.",
            expected=f"{human(LEAST_REAL_TIME_MS)} or more; records do not wait for them",
        )
    return arm


def keeps_state(job: Job) -> str:
    """Why Spark's real-time trigger is not for a job, as far as its declaration says; empty where it may be.

    What else its plan holds, Spark alone can tell: `twinrun.measure.real_time.why_not`.
    """
    if job.shape != "stateless":
        return f"{job.job_name} keeps state: {'windows' if job.windowed else 'the latest row of each key'}"
    distinct = [source.name for source in job.sources if source.distinct]
    if distinct:
        return f"{job.job_name} keeps state: the ids by which copies of {distinct[0]} are dropped"
    return ""


def in_order(arms: Sequence[Arm], repeats: int, seed: int) -> list[tuple[int, Arm]]:
    """Every arm once per repeat, in an order drawn anew for each repeat: no arm always follows the same one.

    Returns
    -------
    list of (int, Arm)
        The repeat, from 0, and the arm.
    """
    drawn = random.Random(seed)
    order: list[tuple[int, Arm]] = []
    for repeat in range(repeats):
        shuffled = list(arms)
        drawn.shuffle(shuffled)
        order += [(repeat, arm) for arm in shuffled]
    return order
