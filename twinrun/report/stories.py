"""The section on single rows: each differing row as a story that can be read alone."""

from __future__ import annotations

from typing import Any

from twinrun.report import cause_text_external
from twinrun.report.cause_text import tell
from twinrun.report.cells import (
    MAX_CELL,
    NONE,
    apart,
    difference,
    duration,
    instant,
    number,
    plural,
    span,
    value,
    worded,
)
from twinrun.report.figures import figures
from twinrun.report.names import name_of
from twinrun.report.neutral import shorten
from twinrun.report.sections import Cell, Grid, Paragraph, Section, Story, row
from twinrun.report.words import other
from twinrun.results.causes import EXPECTED_CAUSES, CauseText
from twinrun.results.verdict import BlamedEvent, RowSample, Verdict

MAX_STORIES = 20
OPEN_STORIES = 4
MAX_COLUMNS = 40
_DIGITS = 6
_WAITS = 3
_WAITING = ("row that waits", "rows that wait")
_TRIED = (
    "As far as the job and its configuration allow: the job's own function over exactly the events that the stream "
    "used; the recorded micro-batches, run again as recorded and in order of event time; exact decimals; the batch, "
    "run twice more. Nothing gave both rows."
)
_LOOK = (
    "Look first at what wrote the two tables besides twinrun (DESCRIBE HISTORY of both), then at what the function "
    "reads besides its arguments. The row and its key are in the table differences."
)


def stories(verdict: Verdict) -> Section:
    """Differing rows, batch beside stream, each with its events, its cause, the proof and the way out."""
    title = "Row by row"
    if not verdict.samples:
        return Section("rows", title, empty="No differing rows to show.")
    shown = sorted(verdict.samples, key=_urgency)[:MAX_STORIES]
    waiting = sum(1 for sample in shown if _urgency(sample) == _WAITS)
    first = min(OPEN_STORIES, len(shown) - waiting)
    more = len(shown) - waiting - first
    folded = [worded(more, "more row", "more rows")] if more else []
    waits = ("row that is not judged", "rows that are not judged") if _never(verdict) else _WAITING
    folded += [worded(waiting, *waits)] if waiting else []
    return Section(
        "rows",
        title,
        intro="Each part stands alone. Columns that differ carry a \u2260; the change is "
        f"{other(verdict)} minus batch. All times are UTC.",
        stories=tuple(_story(verdict, sample) for sample in shown),
        open_stories=first,
        more_stories=" and ".join(folded),
        notes=tuple(_left_out(verdict, shown)),
    )


def proven_story(verdict: Verdict) -> Story | None:
    """The first row whose difference is proven and that does not merely wait, as a story; None where there is none."""
    proven = [each for each in sorted(verdict.samples, key=_urgency) if each.verdict == "explained"]
    told = [each for each in proven if _urgency(each) != _WAITS]
    return _story(verdict, told[0]) if told else None


def _never(verdict: Verdict) -> bool:
    """Whether rows are not judged for a record that the job leaves out, and wait for nothing."""
    return bool(verdict.rows_behind) and verdict.outcome != "input_behind"


def _urgency(sample: RowSample) -> int:
    """What needs a look comes first, what is proven and expected then, and what only waits last."""
    if sample.verdict == "input_behind" or (sample.verdict == "explained" and set(sample.causes) == {"pending"}):
        return _WAITS
    if sample.verdict != "explained":
        return 0
    return 2 if set(sample.causes) <= set(EXPECTED_CAUSES) else 1


def _left_out(verdict: Verdict, shown: list[RowSample]) -> list[str]:
    """How many rows of each kind are not among those that are told; pending rows are no difference of the headline."""
    counts = figures(verdict)
    if len(shown) >= verdict.rows_explained + verdict.rows_unexplained + verdict.rows_behind:
        return []
    by_row = verdict.window_ms is None or verdict.external is not None
    waits = sum(cause.rows for cause in verdict.causes if cause.cause == "pending" and by_row)
    total = {"differ": verdict.rows_explained + verdict.rows_unexplained - waits, "wait": waits + verdict.rows_behind}
    told = {"wait": sum(1 for sample in shown if _urgency(sample) == _WAITS)}
    told["differ"] = len(shown) - told["wait"]
    notes = []
    if total["differ"] > told["differ"]:
        said = worded(total["differ"], "row differs", "rows differ")
        notes.append(f"{said}; {worded(told['differ'], 'is', 'are')} told here.")
    if total["wait"] > told["wait"]:
        what = "for the batch" if counts.behind else f"in the {other(verdict)}"
        said = f"{worded(total['wait'], 'row only waits', 'rows only wait')} {what}"
        if _never(verdict):
            said = worded(total["wait"], "row is not judged", "rows are not judged")
        notes.append(f"{said}; {worded(told['wait'], 'is', 'are')} told here.")
    return notes


def _story(verdict: Verdict, sample: RowSample) -> Story:
    causes = sorted(sample.causes)
    proven = sample.verdict == "explained"
    told = _told(verdict, sample, causes)
    events = sample.events
    return Story(
        title=_title(verdict, sample),
        tag=f"{sample.verdict}: {', '.join(causes)}" if causes else sample.verdict,
        tag_tone="fair" if proven or sample.verdict == "input_behind" else "bad",
        lead=_lead(sample, other(verdict)),
        grids=(_cells(sample, other(verdict)), *([_events(sample, events)] if events else [])),
        told=told,
    )


def _title(verdict: Verdict, sample: RowSample) -> str:
    key = [f"{name} {value(cell)}" for name, cell in sample.key.items() if not _is_start(cell, sample)]
    if sample.window_start_ms is not None:
        end_ms = None if verdict.window_ms is None else sample.window_start_ms + verdict.window_ms
        key.append(f"{span(sample.window_start_ms, end_ms)} UTC")
    return shorten(" \u00b7 ".join(key), 120)


def _is_start(cell: Any, sample: RowSample) -> bool:
    """The window start among the key columns: a sample has it as an instant already."""
    if sample.window_start_ms is None or not isinstance(cell, str):
        return False
    return cell.replace("T", " ").startswith(instant(sample.window_start_ms)[:16])


def _lead(sample: RowSample, stream: str) -> str:
    if sample.kind.startswith("duplicate"):
        return "One of the tables holds this key more than once; this is a row too many."
    if sample.stream is None:
        return f"The batch has this row, the {stream} has none."
    if sample.batch is None:
        return f"The {stream} has this row, the batch has none."
    said = [
        f"{name} is {left} in the batch and {right} in the {stream}"
        for name in sample.columns[:2]
        for left, right in [_pair_of(sample, name)]
    ]
    more = len(sample.columns) - len(said)
    return "; ".join(said) + (
        f"; {plural(more, 'more column')} {'differs' if more == 1 else 'differ'}." if more else "."
    )


def _cells(sample: RowSample, stream: str) -> Grid:
    names = list(dict.fromkeys([*sample.columns, *(sample.batch or {}), *(sample.stream or {})]))
    names = [name for name in names if name not in sample.key or name in sample.columns]
    rows = [_pair(name, sample) for name in names[:MAX_COLUMNS]]
    if len(names) > MAX_COLUMNS:
        rows.append(row(f"\u2026 {plural(len(names) - MAX_COLUMNS, 'more column')}", "", "", ""))
    return Grid(
        f"Batch beside {stream}", ("Column", "Batch", stream.capitalize(), "Change"), tuple(rows), numeric=(1, 2, 3)
    )


def _pair(name: str, sample: RowSample) -> tuple[Cell, ...]:
    left, right = _pair_of(sample, name)
    if name not in sample.columns and sample.batch is not None and sample.stream is not None:
        return row(name, Cell(left, "quiet"), Cell(right, "quiet"), "")
    delta = difference((sample.batch or {}).get(name), (sample.stream or {}).get(name))
    return row(f"\u2260 {name}", Cell(left, "mark"), Cell(right, "mark"), delta)


def _pair_of(sample: RowSample, name: str) -> tuple[str, str]:
    """Both cells as text: floats with six digits, unless two different ones would look the same."""
    sides = (sample.batch, sample.stream)
    cells = [(side or {}).get(name) for side in sides]
    if all(isinstance(cell, str | dict | list | tuple) for cell in cells) and cells[0] != cells[1]:
        left, right, _ = apart(cells[0], cells[1], MAX_CELL)
        return left, right
    texts = ["no row" if side is None else value(side[name]) if name in side else "no column" for side in sides]
    short = [
        f"{side[name]:.{_DIGITS}g}" if side is not None and isinstance(side.get(name), float) else text
        for side, text in zip(sides, texts, strict=True)
    ]
    chosen = short if (short[0] == short[1]) == (texts[0] == texts[1]) else texts
    return chosen[0], chosen[1]


def _events(sample: RowSample, events: tuple[BlamedEvent, ...]) -> Grid:
    total = sum(max(sample.causes.get(cause, 0), 0) for cause in {event.cause for event in events})
    of = {"row": "this row", "window": "this window (the function works out the row of each)"}
    caption = f"The events of {of.get(sample.events_of, 'the whole result')} that make the difference, times UTC"
    if total > len(events):
        caption += f" ({number(len(events))} of {number(total)})"
    causes = len(sample.causes) > 1
    facts = ("Event time", "Known at", "Micro-batch", "Judged by watermark", "Too late by", "Where in Kafka")
    rows = tuple(
        row(
            Cell(name_of(event), "time" if len(name_of(event)) <= 32 else ""),
            *([Cell(event.cause, "code")] if causes else []),
            Cell(instant(event.event_time_ms), "time"),
            Cell(instant(event.known_at_ms), "time"),
            NONE if event.micro_batch is None else str(event.micro_batch),
            Cell(NONE if event.late_ms is None else instant(event.watermark_ms), "time"),
            Cell(duration(event.late_ms), "time"),
            Cell(f"{event.topic}-{event.partition} at {event.offset}", "spot"),
        )
        for event in events
    )
    return Grid(
        caption, ("Event", *(["Cause"] if causes else []), *facts), rows, numeric=(4 if causes else 3,), narrow="stack"
    )


def _told(verdict: Verdict, sample: RowSample, causes: list[str]) -> tuple[Paragraph, ...]:
    if sample.verdict == "unexplained":
        return _untold(verdict)
    if sample.verdict in ("evidence_expired", "input_behind"):
        causes = [sample.verdict]
    found = [tell(verdict, sample, cause) for cause in causes]
    commands = tuple(dict.fromkeys(command for each in found for command in each.commands))
    return tuple(
        paragraph
        for paragraph in (
            Paragraph("What happened", _joined(found, "happened")),
            Paragraph("How it is proven", _joined(found, "proof")),
            Paragraph("What it means", _joined(found, "means")),
            Paragraph("How to prevent or repair it", _joined(found, "prevent"), commands),
        )
        if paragraph.text
    )


def _joined(found: list[CauseText], part: str) -> str:
    return " ".join(dict.fromkeys(text for each in found if (text := getattr(each, part))))


def _untold(verdict: Verdict) -> tuple[Paragraph, ...]:
    """No cause: what was tried, and where to look."""
    outside = verdict.external is not None
    tried, look = (cause_text_external.UNEXPLAINED, cause_text_external.LOOK_NEXT) if outside else (_TRIED, _LOOK)
    again = f"twinrun verify {verdict.job} {'--external' if outside else '--full'}"
    commands = (again,) if outside else (f"twinrun lint {verdict.job}", again)
    why = [note for note in verdict.notes if "by replay" in note][:2]
    return (
        Paragraph("What happened", "It is not known: no cause could be proven, so none is claimed."),
        Paragraph("What was tried", " ".join([tried, *why])),
        Paragraph("What it means", "One of the two results may be wrong. This is what makes the verify fail."),
        Paragraph("What to look at next", look, commands),
    )
