"""The section on the ledger: what earlier verifies found, and how it goes on."""

from __future__ import annotations

from twinrun.report.cells import NONE, THIN, instant, number, span
from twinrun.report.grid import Cell, Grid, Section, row
from twinrun.report.neutral import shorten, visible
from twinrun.results.past import CauseHistory, History, VerifyPoint, WindowHistory

MAX_ROWS = 50
_OPEN = 10
_MAX_NAME = 60


def history_section(found: History, window_ms: int | None) -> Section:
    """Since when the results differ, how often, for which cause, with which trend; no Spark job.

    Parameters
    ----------
    window_ms : int, optional
        The job's window length; None for jobs without windows, which have no table of windows.
    """
    grids = [_verifies(found)]
    if found.causes:
        grids.append(_causes(found))
    if found.windows and window_ms is not None:
        grids.append(_windows(found, window_ms))
    return Section("history", "History", intro=_intro(found), grids=tuple(grids), notes=_notes(found, window_ms))


def _intro(found: History) -> str:
    count = found.verifies_total
    kept = f"The ledger holds {number(count)} {'verify' if count == 1 else 'verifies'} of this job."
    if found.differs_since_ms is None:
        return f"{kept} The last one found no difference."
    return f"{kept} The results differ since the verify of {instant(found.differs_since_ms)} UTC."


def _notes(found: History, window_ms: int | None) -> tuple[str, ...]:
    notes = []
    if found.verifies_total > min(len(found.verifies), MAX_ROWS):
        notes.append(f"Shown are the last {min(len(found.verifies), MAX_ROWS)} verifies.")
    if window_ms is not None and found.windows_total > min(len(found.windows), MAX_ROWS):
        notes.append(f"{number(found.windows_total)} windows have differed at least once; the most urgent are shown.")
    return tuple(notes)


def _verifies(found: History) -> Grid:
    head = ("Verified (UTC)", "Micro-batch", "Compared", "Equal", "Explained", "Unexplained", "Pending", "Complete")
    rows = tuple(_verify(point) for point in list(reversed(found.verifies))[:MAX_ROWS])
    return Grid("Rows by verify, newest first", head, rows, numeric=(1, 2, 3, 4, 5, 6, 7), open_rows=_OPEN)


def _verify(point: VerifyPoint) -> tuple[Cell, ...]:
    return row(
        Cell(instant(point.at_ms), "time"),
        str(point.micro_batch),
        number(point.rows_compared),
        number(point.rows_equal),
        number(point.rows_explained),
        Cell(number(point.rows_unexplained), "bad" if point.rows_unexplained else ""),
        number(point.rows_pending),
        percent(point.completeness),
    )


def percent(share: float | None) -> str:
    """A share as a percentage that is never rounded up to 100; a dash for None."""
    if share is None:
        return NONE
    return f"100{THIN}%" if share == 1 else f"{min(share, 0.99999) * 100:.3f}{THIN}%"


def _causes(found: History) -> Grid:
    head = ("Cause", "Rows now", "Verifies", "First seen (UTC)", "Last seen (UTC)", "Trend")
    rows = tuple(_cause(cause, found.verifies_total) for cause in found.causes[:MAX_ROWS])
    return Grid("Proven causes over all verifies", head, rows, numeric=(1,), narrow="stack")


def _cause(cause: CauseHistory, verifies: int) -> tuple[Cell, ...]:
    trend = cause.trend
    means = "" if trend.before_mean is None else f" ({trend.before_mean:g} → {trend.recent_mean:g} rows per verify)"
    return row(
        Cell(_name(cause.cause), "code"),
        number(cause.rows_now),
        f"{number(cause.verifies)} of {number(verifies)}",
        Cell(instant(cause.first_seen_ms), "time"),
        Cell(instant(cause.last_seen_ms), "time"),
        f"{trend.direction}{means}",
    )


def _windows(found: History, window_ms: int) -> Grid:
    head = ("Window (UTC)", "Differs since (UTC)", "Verifies", "Rows", "Verdict", "Causes")
    rows = tuple(_window(window, found.verifies_total, window_ms) for window in found.windows[:MAX_ROWS])
    return Grid("Windows that differ or differed", head, rows, numeric=(3,), open_rows=_OPEN, narrow="stack")


def _window(window: WindowHistory, verifies: int, window_ms: int) -> tuple[Cell, ...]:
    start_ms = window.window_start_ms
    verdict = window.verdict if window.still else f"{window.verdict} until {instant(window.last_seen_ms)}"
    return row(
        Cell(NONE if start_ms is None else span(start_ms, start_ms + window_ms), "time"),
        Cell(instant(window.first_seen_ms), "time"),
        f"{number(window.verifies)} of {number(verifies)}",
        number(window.rows),
        Cell(_name(verdict), "bad" if window.still and window.verdict != "explained" else ""),
        ", ".join(_name(cause) for cause in sorted(window.causes)) or NONE,
    )


def _name(text: str) -> str:
    return shorten(visible(text[: 4 * _MAX_NAME]), _MAX_NAME)
