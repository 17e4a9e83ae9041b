"""The sections that say what differs and why: timeline, causes, dropped events, rows side by side."""

from __future__ import annotations

from collections.abc import Sequence

from twinrun.report.binning import WindowBins, bin_windows
from twinrun.report.cause_text_external import declared_rule
from twinrun.report.cells import NONE, duration, instant, joined, number, plural, span, worded
from twinrun.report.figures import causes
from twinrun.report.neutral import shorten
from twinrun.report.sections import Cell, Grid, Section, row
from twinrun.report.words import arrivals, cause_sentence, cause_title, clock, other
from twinrun.results.verdict import CauseCount, LateEvent, Verdict

MAX_BINS = 200
MAX_LATE_EVENTS = 200
OPEN_ROWS = 15
_TABLE_BINS = 24
_HOW = {"arrived_late": "arrived late", "read_late": "read late"}


def timeline(verdict: Verdict) -> Section:
    """Result rows by verdict over event time, as a chart and, coarser, as a table."""
    binned = bin_windows(verdict.timeline, MAX_BINS)
    if not binned.bins:
        return Section("timeline", "When it differs", empty="No windows to draw: the comparison has none.")
    notes = []
    if binned.left_out:
        notes.append(f"{plural(binned.left_out, 'window')} outside the years 1 to 9999 could not be drawn.")
    return Section(
        "timeline",
        "When it differs",
        intro="Result rows by the start of their window, over event time (UTC).",
        chart="timeline",
        legend=(("behind", "not judged yet"),) if verdict.rows_behind else (),
        folded=(_timeline_table(verdict),),
        folded_title="The same as a table",
        notes=tuple(notes),
    )


def bin_sentence(binned: WindowBins) -> str:
    """What one bar stands for."""
    width = duration(binned.width_ms)
    if binned.aggregated:
        windows, bars = plural(binned.windows, "window start"), plural(len(binned.bins), "bar")
        return f"{windows} are added up into {bars}; each bar covers {width}."
    if binned.windows == 1:
        return "There is one window start."
    return f"Each bar is one window start ({width} wide)."


def timeline_text(verdict: Verdict) -> str:
    """What the timeline shows, for who cannot see it."""
    binned = bin_windows(verdict.timeline, MAX_BINS)
    if not binned.bins:
        return ""
    differing = sum(1 for point in binned.bins if point.explained or point.unexplained)
    first, last = binned.bins[0].window_start_ms, binned.bins[-1].window_start_ms
    return (
        f"Stacked bars of result rows from {instant(first)} to {instant(last)} UTC: "
        f"{differing} of {len(binned.bins)} bars hold rows that differ. The table below has the numbers."
    )


def _timeline_table(verdict: Verdict) -> Grid:
    binned = bin_windows(verdict.timeline, _TABLE_BINS)
    rows = tuple(
        row(
            instant(point.window_start_ms),
            number(point.equal),
            number(point.explained),
            number(point.unexplained),
            number(point.pending),
            *([number(point.behind)] if verdict.rows_behind else []),
        )
        for point in binned.bins
    )
    more = ("Not judged",) if verdict.rows_behind else ()
    head = ("From (UTC)", "Equal", "Explained", "Unexplained", "Pending", *more)
    return Grid(f"Result rows per {duration(binned.width_ms)}", head, rows, numeric=(1, 2, 3, 4, 5))


def causes_section(verdict: Verdict) -> Section:
    """Each cause with its counts, what it means and the sentence that proves it."""
    found = causes(verdict)
    if not found and not verdict.rows_unexplained:
        if verdict.rows_behind:
            wait = worded(verdict.rows_behind, "differing row is", "differing rows are")
            empty = f"{wait} not judged: the batch lacks events of them. No cause is claimed before it has them."
            return Section("causes", "Why it differs", empty=empty)
        compared = "Nothing differs" if verdict.rows_compared else "Nothing was compared"
        return Section("causes", "Why it differs", empty=f"{compared}, so there is nothing to explain.")
    rows = [
        row(
            Cell(cause.cause, "code"),
            number(cause.windows),
            number(cause.rows),
            number(cause.events),
            f"{cause_title(cause.cause, other(verdict))}. {_said(verdict, cause)}",
            cause.proof,
        )
        for cause in found
    ]
    if verdict.rows_unexplained:
        told = "No cause could be proven for these rows. Look at the rows below; this is what to investigate."
        rows.append(row(Cell("unexplained", "bad"), "–", number(verdict.rows_unexplained), "–", told, "none"))
    head = ("Cause", "Windows", "Rows", "Events", "What happened", "How it is proven")
    intro = "Every row that differs is counted under the cause that was proven for it, or as unexplained."
    grid = Grid("Causes of the differing rows", head, tuple(rows), numeric=(1, 2, 3), narrow="stack")
    return Section("causes", "Why it differs", intro=intro, grids=(grid,))


def _said(verdict: Verdict, cause: CauseCount) -> str:
    """What the cause did; of late events also how they came to be late."""
    told = cause_sentence(cause, other(verdict))
    return " ".join(filter(None, (told, arrivals(verdict)))) if cause.cause == "late_dropped" else told


def events_of(late: Sequence[LateEvent]) -> int:
    """An event that is late for several windows is listed once for each, and counts once."""
    return len({(event.topic, event.partition, event.offset) for event in late})


def dropped(verdict: Verdict) -> Section:
    """The events that the stream dropped, named; says how many more there are and where."""
    title = f"The events that the {other(verdict)} dropped"
    total = sum(cause.events or 0 for cause in verdict.causes if cause.cause == "late_dropped")
    total = max(total, events_of(verdict.late_events))
    if not total:
        return Section("dropped", title, empty="No dropped event is known.")
    shown = verdict.late_events[:MAX_LATE_EVENTS]
    windows = verdict.shape in ("tumbling", "sliding") and all(event.window_start_ms is not None for event in shown)
    whose = "its window" if windows else "what it belongs to (a window, a session, or its own event time)"
    if verdict.external is None:
        intro = f"When each was read, the stream's watermark ({clock(verdict)}) had passed the end of {whose}, "
    else:
        rule, lateness = declared_rule(verdict), duration(verdict.lateness_ms or 0)
        intro = f"The lateness is {lateness}. When each came, {rule.whose}, had reached {rule.edge}, "
    of_row = " of that window's row" if windows else ""
    intro += f"so the {other(verdict)} left it out{of_row}. All times are UTC."
    listed = events_of(shown)
    notes = [f"{plural(total, 'event')} in all; {worded(listed, 'is', 'are')} listed here."] if total > listed else []
    if verdict.external is None:
        notes.append("Every one, with its coordinates in Kafka, is a row of the late_events table.")
    if shown:
        worst = max(shown, key=lambda event: event.late_ms)
        notes.insert(0, f"The latest one listed is {_event_name(worst).text}: {duration(worst.late_ms)} late.")
    if arrivals(verdict):
        notes.insert(0, arrivals(verdict))
    if not verdict.events_told:
        notes.append("Which of them the job would have used its plan does not say: there are at most so many.")
    grids = (_late_grid(shown),) if shown else ()
    return Section("dropped", title, intro=intro, grids=grids, notes=tuple(notes))


def _late_grid(events: tuple[LateEvent, ...]) -> Grid:
    names = list(dict.fromkeys(name for event in events for name in event.id))
    how = any(event.arrival in _HOW for event in events)
    head = (
        " · ".join(names) or "Event",
        "How late",
        *(["Arrived or read late"] if how else []),
        "Window it belongs to",
        "Event time",
        "Known when",
        "Watermark then",
        "Micro-batch",
        "Where in Kafka",
    )
    rows = tuple(
        row(
            _event_name(event),
            Cell(duration(event.late_ms), "time"),
            *([_HOW.get(event.arrival or "", NONE)] if how else []),
            Cell(span(event.window_start_ms, event.window_end_ms), "time"),
            Cell(instant(event.event_time_ms), "time"),
            Cell(instant(event.known_at_ms), "time"),
            Cell(instant(event.watermark_ms), "time"),
            str(event.micro_batch) if event.micro_batch >= 0 else NONE,
            Cell(f"{event.topic}-{event.partition} at {event.offset}", "spot"),
        )
        for event in events
    )
    return Grid("Dropped events, all times UTC", head, rows, numeric=(7 if how else 6,), open_rows=OPEN_ROWS)


def _event_name(event: LateEvent) -> Cell:
    text = shorten(joined(event.id), 80)
    return Cell(text, "time" if len(text) <= 32 else "")
