"""Run one job by a cron expression, one run at a time; a cluster's own scheduler calls ``twinrun batch`` instead."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC

from apscheduler.events import EVENT_JOB_MAX_INSTANCES
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from croniter import CroniterError, croniter

from twinrun.errors import InputError

_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = ("second", "minute", "hour", "day", "month", "day_of_week")
_LOOK_S = 0.1
_log = logging.getLogger("apscheduler")
# It writes a trace for a firing that fails and a warning for a refused one; the caller reports both in words.
_log.addHandler(logging.NullHandler())
_log.propagate = False


@dataclass(frozen=True)
class ScheduleSummary:
    """Firings of a schedule: those that ran, those of them that failed, and those refused as an overlap."""

    fired: int
    failed: int
    refused: int


def run_schedule(
    cron: str,
    firing: Callable[[], None],
    *,
    stop: threading.Event,
    max_firings: int | None = None,
    on_refused: Callable[[], None] | None = None,
) -> ScheduleSummary:
    """Call ``firing`` by a cron expression until ``stop`` is set; returns when the last call has ended.

    Parameters
    ----------
    cron : str
        See `cron_trigger`.
    firing : function
        Called in another thread, never twice at once. One that raises counts as failed; the schedule goes on, so
        it reports its own errors.
    stop : Event
        Set by somebody else to end the schedule.
    max_firings : int, optional
        End after so many calls.
    on_refused : function, optional
        Called each time a firing is due while the one before still runs; that firing is dropped, not queued.

    Raises
    ------
    InputError
        The expression cannot be used.
    """
    trigger = cron_trigger(cron)
    outcomes: list[bool] = []
    refused: list[object] = []
    enough = threading.Event()

    def fire() -> None:
        # A firing may have been handed to its thread just before the end.
        if enough.is_set() or stop.is_set():
            return
        worked = False
        try:
            firing()
            worked = True
        finally:
            outcomes.append(worked)
            if max_firings is not None and len(outcomes) >= max_firings:
                enough.set()

    def refuse(event: object) -> None:
        refused.append(event)
        if on_refused is not None:
            on_refused()

    scheduler = BackgroundScheduler(timezone=UTC)
    # A busy machine wakes up late: such a firing is run once, not dropped.
    scheduler.add_job(fire, trigger, max_instances=1, coalesce=True, misfire_grace_time=None)
    scheduler.add_listener(refuse, EVENT_JOB_MAX_INSTANCES)
    scheduler.start()
    try:
        while not stop.wait(_LOOK_S) and not enough.is_set():
            continue
    finally:
        scheduler.shutdown(wait=True)
    return ScheduleSummary(len(outcomes), outcomes.count(False), len(refused))


def cron_trigger(cron: str) -> CronTrigger:
    """Read a cron expression, in UTC.

    Five fields (minute, hour, day of month, month, day of week), or six with seconds first. Days of the week are
    counted as in crontab: 0 and 7 are Sunday.

    Raises
    ------
    InputError
        It cannot be read, or gives both a day of month and a day of week, which crontab joins by "or".
    """
    fields = cron.split()
    if len(fields) not in (5, 6):
        raise _refused(cron, f"it has {len(fields)} fields")
    values = dict(zip(_FIELDS, fields if len(fields) == 6 else ["0", *fields], strict=True))
    if values["day"] not in ("*", "?") and values["day_of_week"] not in ("*", "?"):
        raise _refused(cron, "it gives a day of month and a day of week, which cron joins by 'or'")
    try:
        values["day_of_week"] = _weekdays(values["day_of_week"])
        return CronTrigger(timezone=UTC, **values)
    except (CroniterError, ValueError, KeyError) as error:
        raise _refused(cron, str(error)) from None


def _weekdays(field: str) -> str:
    """Names in place of numbers: APScheduler counts from Monday, crontab from Sunday."""
    days = croniter.expand(f"0 0 * * {field}")[0][4]
    return "*" if days == ["*"] else ",".join(_WEEKDAYS[day] for day in days)


def _refused(cron: str, reason: str) -> InputError:
    return InputError(
        f"the schedule {cron!r} cannot be used: {reason}.",
        expected="minute, hour, day of month, month, day of week, such as '5 * * * *' (UTC)",
        fix="correct the expression",
    )
