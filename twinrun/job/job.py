"""A job: one business definition that runs in both modes, its static tables, and what a problem of it says."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from pyspark.sql import DataFrame

from twinrun.config.problems import listed, nearest
from twinrun.durations import parse_ms
from twinrun.errors import JobError
from twinrun.events.source import Source
from twinrun.tolerance import Tolerance
from twinrun.wording import plural

# A problem of a job, with what was found, what is allowed and what to change; and the checks that rules share.


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


# A static table that a job joins its events to.


@dataclass(frozen=True)
class Table:
    """A static table, pinned to one version when a run starts.

    Parameters
    ----------
    name : str
        Name of the table; the job function has a parameter of the same name. ``conf/`` binds it to a path.
    refresh : str, optional
        How long a pinned version may be used before the stream restarts on a newer one. None: until restarted.
    """

    name: str
    refresh: str | None = None

    @property
    def refresh_ms(self) -> int | None:
        """Refresh interval in milliseconds, or None."""
        return None if self.refresh is None else parse_ms(self.refresh)


Emit = Literal["final", "updates"]
Shape = Literal["stateless", "tumbling", "sliding", "session", "latest"]
Logic = Callable[..., DataFrame]


@dataclass(frozen=True)
class Job:
    """One pure function from events to results, and what the result promises.

    Parameters
    ----------
    logic : function of DataFrames
        Pure and lazy: no session, no action, no I/O. Its parameters name the sources and static tables.
        It ends in an explicit ``select``: that is the schema which is compared.
    sources : list of Source
        Where events come from, each with its event time and lateness.
    keys : list of str
        Columns that name a result row; never null, unique in a correct result.
    tables : list of Table
        Static tables, pinned to one version per run.
    window : str, optional
        Length of the tumbling or sliding window, e.g. ``"1 hour"``. None: stateless or latest state.
    slide : str, optional
        Step of a sliding window.
    gap : str, optional
        Gap of a session window.
    window_column : str
        Result column that holds the window's start, as a timestamp.
    emit : {"final", "updates"}
        ``final``: a row appears once, when its window closes. ``updates``: the latest row per key.
    delete_when : str, optional
        With ``updates``: a boolean SQL expression over the result; rows for which it is true are removed.
    tolerances : dict of str to float or Tolerance
        Columns that may differ by an amount (a number is absolute, ``rel(x)`` relative). Absent: exact.
    expect : list, or function without arguments that returns one
        Great Expectations expectations on the result, checked on both modes' tables. Importing that library
        takes about 3 s, so a job file declares a function and imports it inside.
    max_late_share, max_quarantined_share : float
        Largest share of events that may be lost to lateness or quarantine before verify fails, 0 to 1.
    name : str
        Name of the job; by default the function's name.
    """

    logic: Logic
    sources: list[Source]
    keys: list[str]
    tables: list[Table] = field(default_factory=list)
    window: str | None = None
    slide: str | None = None
    gap: str | None = None
    window_column: str = "window_start"
    emit: Emit = "final"
    delete_when: str | None = None
    tolerances: dict[str, float | Tolerance] = field(default_factory=dict)
    expect: list[Any] | Callable[[], list[Any]] = field(default_factory=list)
    max_late_share: float = 1.0
    max_quarantined_share: float = 1.0
    name: str = ""

    @property
    def job_name(self) -> str:
        """The job's name: declared, or that of its function."""
        return self.name or getattr(self.logic, "__name__", "")

    @property
    def window_ms(self) -> int | None:
        """Window length in milliseconds, or None."""
        return None if self.window is None else parse_ms(self.window)

    @property
    def slide_ms(self) -> int | None:
        """Step between window starts in milliseconds; the window length for tumbling windows."""
        return self.window_ms if self.slide is None else parse_ms(self.slide)

    @property
    def shape(self) -> Shape:
        """Which rules of comparison and proof apply."""
        if self.gap is not None:
            return "session"
        if self.window is not None:
            return "tumbling" if self.slide_ms == self.window_ms else "sliding"
        return "latest" if self.emit == "updates" else "stateless"

    @property
    def windowed(self) -> bool:
        """Whether result rows belong to windows of a fixed length."""
        return self.shape in ("tumbling", "sliding")

    def parameters(self) -> list[str]:
        """Names of the function's parameters, in order."""
        return list(inspect.signature(self.logic).parameters)

    def apply(self, frames: dict[str, DataFrame]) -> DataFrame:
        """Call the function with frames by parameter name. Lazy: no Spark job."""
        return self.logic(**{name: frames[name] for name in self.parameters()})
