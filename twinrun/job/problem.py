"""A problem of a job, with what was found, what is allowed and what to change; and the checks that rules share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from twinrun.config.nearest import listed, nearest
from twinrun.durations import parse_ms
from twinrun.errors import JobError
from twinrun.job.job import Job
from twinrun.wording import plural


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: what was found, what is allowed, and what to change."""

    found: str
    allowed: str = ""
    change: str = ""

    def line(self) -> str:
        """The problem on one line."""
        parts = [self.found]
        parts += [f"allowed: {self.allowed}"] if self.allowed else []
        parts += [f"change: {self.change}"] if self.change else []
        return "; ".join(parts)


def job_error(job: Job, problems: list[Problem]) -> JobError:
    """One error that tells every problem of a job."""
    name = job.job_name or "the job"
    if len(problems) == 1:
        return JobError(f"{name}: {problems[0].found}", expected=problems[0].allowed, fix=problems[0].change)
    lines = "".join(f"\n  - {problem.line()}" for problem in problems)
    return JobError(f"{name} cannot run; its definition has {plural(len(problems), 'problem')}:{lines}")


def wrong_duration(what: str, text: str | None, least_ms: int = 0) -> Iterator[Problem]:
    """A problem where a text is no duration, or a shorter one than allowed. None is no duration and no problem."""
    if text is None:
        return
    try:
        duration_ms = parse_ms(text)
    except (TypeError, ValueError):
        units = "a whole number and a unit (ms, seconds, minutes, hours, days, weeks)"
        yield Problem(f"{what} is {text!r}, which is no duration", units, "write it as in '90 minutes'")
        return
    if duration_ms < least_ms:
        yield Problem(f"{what} is {text!r}", "more than 0")


def wrong_choice(what: str, value: object, allowed: tuple[str, ...]) -> Iterator[Problem]:
    """A problem where a value is none of those allowed."""
    if value not in allowed:
        match = nearest(str(value), allowed)
        yield Problem(f"{what} is {value!r}", f"one of {listed(allowed)}", f"write {match!r}" if match else "")
