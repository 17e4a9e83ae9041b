"""Run jobs by cron expressions, one run at a time; a cluster's own scheduler calls ``twinrun batch`` instead.

What happens where runs and clock do not agree:

* **Overlap**: one run at a time, of whatever job. One that comes due meanwhile waits for its turn. What a job's own run
  outlasts is left out, not queued.
* **Misfire**: for firings that were missed (the machine slept, another job ran for long), one run is made. Those from
  before the schedule was started are not made up for.
* **Retry**: a run that fails is tried again after a pause, some times at most, and not beyond the job's next firing,
  which is the next attempt by itself.

None of them loses anything: a batch takes all that has been landed since the batch before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from twinrun.config.cron import Cron

_LOOK_S = 1.0
"""A machine that slept is noticed so soon: a clock that waits for an interval stands still meanwhile."""


class Clock:
    """The time of this machine; tests have one of their own."""

    def now(self) -> datetime:
        """This instant, in UTC."""
        return datetime.now(UTC)

    def wait(self, until: datetime, stop: threading.Event) -> None:
        """Return at an instant, or as soon as ``stop`` is set."""
        while (left_s := (until - self.now()).total_seconds()) > 0 and not stop.wait(min(left_s, _LOOK_S)):
            continue


@dataclass(frozen=True)
class Planned:
    """What is run by which expression.

    ``run`` raises where it fails, and returns False where it was stopped before it had done anything.
    """

    name: str
    cron: Cron
    run: Callable[[], object]


@dataclass(frozen=True)
class Happening:
    """Something that a schedule did not do as it was written down.

    Attributes
    ----------
    kind : {"overlap", "missed", "failed"}
        ``overlap``: firings that came due while the same job ran, left out. ``missed``: firings that had passed, run as
        one. ``failed``: a run that raised ``error``.
    name : str
        The job.
    at : datetime
        When it was due, or of ``missed`` the first of them.
    next_at : datetime or None
        When the job is run next; of a retry its time. Of ``missed`` that is now. None: the schedule has ended.
    count : int
        How many firings.
    attempt : int
        Of ``failed``: which of its attempts, from 1.
    retried : bool
        Of ``failed``: whether ``next_at`` is another attempt at the same.
    error : Exception or None
        Of ``failed``.
    """

    kind: Literal["overlap", "missed", "failed"]
    name: str
    at: datetime
    next_at: datetime | None
    count: int = 1
    attempt: int = 1
    retried: bool = False
    error: Exception | None = None


@dataclass(frozen=True)
class ScheduleSummary:
    """Runs of a schedule, those of them that failed, and firings: left out as an overlap, or run as one with others."""

    fired: int
    failed: int
    refused: int
    missed: int


@dataclass
class _Turn:
    """When a job is run next, which attempt that is, and for which firing."""

    planned: Planned
    at: datetime
    due: datetime
    attempt: int = 1


def run_schedule(
    planned: Sequence[Planned],
    *,
    stop: threading.Event,
    retries: int = 0,
    retry_wait_s: float = 60.0,
    tell: Callable[[Happening], None] = lambda _: None,
    clock: Clock | None = None,
    max_runs: int | None = None,
) -> ScheduleSummary:
    """Run jobs by their expressions until ``stop`` is set; returns when the run of that moment has ended.

    Parameters
    ----------
    planned : sequence of Planned
        At least one. Of two that are due at once the first is run first.
    retries : int
        How often a failed run is tried again.
    retry_wait_s : float
        Seconds from a failure to the next attempt.
    tell : function of Happening, optional
        Called, from this thread, for whatever does not go by the expressions.
    max_runs : int, optional
        End after so many runs.
    """
    clock = clock or Clock()
    started = clock.now()
    firsts = [each.cron.next_after(started) for each in planned]
    turns = [_Turn(each, at, at) for each, at in zip(planned, firsts, strict=True)]
    fired = failed = refused = missed = 0
    while not stop.is_set() and (max_runs is None or fired < max_runs):
        turn = min(turns, key=lambda each: each.at)
        clock.wait(turn.at, stop)
        if stop.is_set():
            break
        began = clock.now()
        missed += _gathered(turn, began, tell)
        begun, error = _outcome(turn.planned)
        fired, failed = fired + begun, failed + (error is not None)
        if stop.is_set():
            # Nothing follows: of what was left out while the last run ended nobody need be told.
            if error is not None:
                tell(Happening("failed", turn.planned.name, turn.due, None, 1, turn.attempt, error=error))
            break
        refused += _after(turn, began, clock.now(), error, retries, timedelta(seconds=retry_wait_s), tell)
    return ScheduleSummary(fired, failed, refused, missed)


def _gathered(turn: _Turn, now: datetime, tell: Callable[[Happening], None]) -> int:
    """Take the firings that have passed together with the one that is run now; how many there were besides it."""
    cron = turn.planned.cron
    others = cron.between(turn.at, now)
    if not others:
        return 0
    first = turn.due if turn.attempt == 1 else cron.next_after(turn.at)
    # An attempt that was slept over is that of the firing that has passed meanwhile.
    count = others + 1 if turn.attempt == 1 else others
    turn.due, turn.attempt = first, 1
    if count > 1:
        tell(Happening("missed", turn.planned.name, first, now, count))
    return count - 1


def _outcome(planned: Planned) -> tuple[bool, Exception | None]:
    """Whether anything was done, and what it failed with."""
    try:
        return planned.run() is not False, None
    except Exception as error:
        return True, error


def _after(
    turn: _Turn,
    began: datetime,
    ended: datetime,
    error: Exception | None,
    retries: int,
    pause: timedelta,
    tell: Callable[[Happening], None],
) -> int:
    """Say what happened and when the job is run next; how many firings were left out."""
    planned = turn.planned
    following = planned.cron.next_after(ended)
    left_out = planned.cron.between(began, ended)
    again = error is not None and turn.attempt <= retries and ended + pause < following
    next_at = ended + pause if again else following
    if left_out:
        tell(Happening("overlap", planned.name, planned.cron.next_after(began), next_at, left_out))
    if error is not None:
        tell(Happening("failed", planned.name, turn.due, next_at, 1, turn.attempt, again, error))
    turn.attempt = turn.attempt + 1 if again else 1
    turn.at = next_at
    if not again:
        turn.due = following
    return left_out
