"""The section on the ledger: what earlier verifies found, and how it goes on."""

from __future__ import annotations

from twinrun.report.cells import NONE, THIN, instant, number, span, worded
from twinrun.report.chart_style import by_role
from twinrun.report.neutral import shorten, visible
from twinrun.report.sections import Cell, Grid, Section, row
from twinrun.results.ledger import MOST_VERIFIES, CauseHistory, History, VerifyPoint, WindowHistory
from twinrun.results.verdict import Verdict

TITLE = "History"
MAX_ROWS = 50
_OPEN = 5
_MAX_NAME = 60


def past(verdict: Verdict) -> Section:
    """The history that a verdict carries; one line where there is none, or only one verify."""
    found = verdict.history
    if found is None:
        return Section("history", TITLE, empty="The ledger holds no verify of this job that covered its cut.")
    if len(found.verifies) < 2:
        at = when(found.newest.at_ms)
        return Section("history", TITLE, empty=f"The ledger holds one verify of this job, of {at} UTC: no trend yet.")
    return history_section(found, verdict.window_ms)


def history_section(found: History, window_ms: int | None) -> Section:
    """Since when the results differ, how often, for which cause, with which trend; no Spark job.

    Parameters
    ----------
    window_ms : int, optional
        The job's window length; None for jobs without windows, which have no table of windows.
    """
    grids = [_causes(found)] if found.causes else []
    if found.windows and window_ms is not None:
        grids.append(_windows(found, window_ms))
    return Section(
        "history",
        TITLE,
        intro=_intro(found),
        chart="history" if len(found.verifies) > 1 else "",
        legend=_legend(found),
        grids=(_verifies(found), *grids),
        notes=_notes(found, window_ms),
    )


def history_text(found: History) -> str:
    """What the chart shows, for who cannot see it."""
    return (
        f"Share of equal rows, differing rows by verdict and rows by cause over {len(found.verifies)} verifies from "
        f"{when(found.verifies[0].at_ms)} to {when(found.newest.at_ms)} UTC. The tables below have the numbers."
    )


def when(at_ms: int) -> str:
    """When a verify was made, to the second: more digits tell a reader nothing."""
    return instant(at_ms // 1000 * 1000)


def _legend(found: History) -> tuple[tuple[str, str], ...]:
    fixed = [("equal", "rows equal"), ("explained", "explained"), ("unexplained", "unexplained")]
    if found.min_completeness is not None:
        fixed.insert(1, ("least", f"least share asked for, {percent(found.min_completeness)}"))
    causes = [(role, _name(", ".join(each.cause for each in causes))) for role, causes in by_role(found.causes)]
    return (*fixed, *causes)


def _intro(found: History) -> str:
    count = found.verifies_total
    all_known = count < MOST_VERIFIES
    kept = f"The ledger holds {number(count)} {'verify' if count == 1 else 'verifies'} of this job."
    if not all_known:
        kept = f"These are the last {number(len(found.verifies))} verifies of this job in the ledger."
    share = percent(found.newest.completeness)
    newest = f"In the newest, {share} of the compared rows are equal"
    if found.min_completeness is not None:
        enough = (found.newest.completeness or 0.0) >= found.min_completeness
        newest += f" ({'at least' if enough else 'less than'} the {percent(found.min_completeness)} asked for)"
    if found.differs_since_ms is None:
        return f"{kept} {newest}; it found no difference."
    least = "" if all_known or found.differs_since_ms > found.verifies[0].at_ms else "at least "
    return f"{kept} {newest}; the results differ since {least}the verify of {when(found.differs_since_ms)} UTC."


def _notes(found: History, window_ms: int | None) -> tuple[str, ...]:
    notes = ["A row with two causes counts under both. Verifies that came before the batch covered them are not kept."]
    if len(found.verifies) > MAX_ROWS:
        notes.append(f"The table has the last {MAX_ROWS} verifies, the chart {len(found.verifies)}.")
    if window_ms is not None and found.windows_total > min(len(found.windows), MAX_ROWS):
        notes.append(
            f"{worded(found.windows_total, 'window has', 'windows have')} differed at least once; the most urgent are "
            "shown."
        )
    return tuple(notes)


def _verifies(found: History) -> Grid:
    head = ("Verified (UTC)", "Micro-batch", "Compared", "Equal", "Explained", "Unexplained", "Pending", "Complete")
    rows = tuple(_verify(point) for point in list(reversed(found.verifies))[:MAX_ROWS])
    return Grid("Rows by verify, newest first", head, rows, numeric=(1, 2, 3, 4, 5, 6, 7), open_rows=_OPEN)


def _verify(point: VerifyPoint) -> tuple[Cell, ...]:
    return row(
        Cell(when(point.at_ms), "time"),
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
        Cell(when(cause.first_seen_ms), "time"),
        Cell(when(cause.last_seen_ms), "time"),
        f"{trend.direction}{means}",
    )


def _windows(found: History, window_ms: int) -> Grid:
    head = ("Window (UTC)", "Differs since (UTC)", "Verifies", "Rows", "Verdict", "Causes")
    rows = tuple(_window(window, found.verifies_total, window_ms) for window in found.windows[:MAX_ROWS])
    return Grid("Windows that differ or differed", head, rows, numeric=(3,), open_rows=_OPEN, narrow="stack")


def _window(window: WindowHistory, verifies: int, window_ms: int) -> tuple[Cell, ...]:
    start_ms = window.window_start_ms
    verdict = window.verdict if window.still else f"{window.verdict} until {when(window.last_seen_ms)}"
    return row(
        Cell(NONE if start_ms is None else span(start_ms, start_ms + window_ms), "time"),
        Cell(when(window.first_seen_ms), "time"),
        f"{number(window.verifies)} of {number(verifies)}",
        number(window.rows),
        Cell(_name(verdict), "bad" if window.still and window.verdict != "explained" else ""),
        ", ".join(_name(cause) for cause in sorted(window.causes)) or NONE,
    )


def _name(text: str) -> str:
    return shorten(visible(text[: 4 * _MAX_NAME]), _MAX_NAME)
