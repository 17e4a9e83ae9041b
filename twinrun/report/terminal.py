"""A verdict in at most 15 lines of plain text; the command line adds colour."""

from __future__ import annotations

from twinrun.report.cells import number, plural
from twinrun.report.figures import Figures, causes, figures
from twinrun.report.neutral import fit, neutral, visible
from twinrun.report.words import headline
from twinrun.results.verdict import CauseCount, Verdict

MAX_LINES = 15
MAX_COLUMNS = 110
MAX_PROBLEM_COLUMNS = 200
_MAX_CAUSES = 3
_MAX_PROBLEMS = 3
_COMMA = ","
_NAME_WIDTH = 18


def render_summary(verdict: Verdict, *, path: str | None) -> list[str]:
    r"""Say in at most 15 lines what a verify found, without colour codes.

    Text from the verdict cannot steer a terminal: control characters appear as escapes such as ``\x1b``, and
    lines are cut at 110 columns, problems at 200. Only the path, which one wants to copy, is never cut.

    Parameters
    ----------
    verdict : Verdict
        What verify found.
    path : str or None
        Where the HTML report is; None where none was written.

    Returns
    -------
    list of str
        Lines without line feeds. The first is the job and the outcome.
    """
    clean = neutral(verdict)
    counts = figures(clean)
    said = headline(clean, counts)
    lines = [
        f"{fit(clean.job, 60)}: {said.label} (exit code {clean.exit_code})",
        f"  {_plain(said.title)}",
        _line(f"{counts.unit}s compared", counts.compared, _in_rows(counts, counts.compared, clean.rows_compared)),
        _line("  equal", counts.equal, _in_rows(counts, counts.equal, clean.rows_equal)),
        _line("  explained", counts.explained, _why(clean, counts)),
        _line("  unexplained", counts.unexplained, _in_rows(counts, counts.unexplained, clean.rows_unexplained)),
        _line("pending", counts.pending, _open(clean) if counts.pending else ""),
        f"  {'events seen':<{_NAME_WIDTH}} {_pair(counts.events_batch, counts.events_stream)}",
        f"  {'rows seen':<{_NAME_WIDTH}} {_pair(clean.rows_batch, clean.rows_stream)}",
    ]
    if clean.arrival is not None and clean.arrival.read_late:
        late = clean.arrival.arrived_late + clean.arrival.read_late + clean.arrival.not_told
        of = f"of {plural(late, 'late event', _COMMA)}, though they lay in Kafka in time (see the notes)"
        lines.insert(5, _line("    read late", clean.arrival.read_late, of))
    lines = [fit(line.rstrip(), MAX_COLUMNS) for line in lines]
    lines[2:2] = _problems(clean.problems)
    if path is not None:
        lines.append(f"  {'report':<{_NAME_WIDTH}} {visible(path)}")
    return lines[:MAX_LINES]


def _plain(sentence: str) -> str:
    """A sentence with the thin spaces of its numbers as commas, which every terminal can show."""
    return sentence.replace("\u202f", _COMMA).replace("\u00a0", " ")


def _problems(problems: tuple[str, ...]) -> list[str]:
    shown = [fit(f"  ! {problem}", MAX_PROBLEM_COLUMNS) for problem in problems[:_MAX_PROBLEMS]]
    if len(problems) > _MAX_PROBLEMS:
        shown[-1:] = [f"  ! {len(problems) - _MAX_PROBLEMS + 1} more problems; see the report"]
    return shown


def _line(name: str, count: int, detail: str) -> str:
    return f"  {name:<{_NAME_WIDTH}} {number(count, _COMMA):>9}   {detail}"


def _in_rows(counts: Figures, count: int, rows: int) -> str:
    """How many rows that is, where a window holds several."""
    return "" if rows == count or counts.unit == "row" else plural(rows, "row", _COMMA)


def _why(verdict: Verdict, counts: Figures) -> str:
    found = causes(verdict)
    parts = [_cause(cause, counts) for cause in found[:_MAX_CAUSES]]
    if len(found) > _MAX_CAUSES:
        parts.append(f"{len(found) - _MAX_CAUSES} more causes")
    return "; ".join(parts)


def _cause(cause: CauseCount, counts: Figures) -> str:
    name = fit(cause.cause, 30)
    count = cause.windows if counts.unit == "window" else cause.rows
    text = f"{name} {number(count, _COMMA)}"
    return text if cause.events is None else f"{text} ({plural(cause.events, 'event', _COMMA)})"


def _open(verdict: Verdict) -> str:
    return "declared to be open" if verdict.external is not None else "not closed by the stream yet"


def _pair(batch: int, stream: int | None) -> str:
    return f"batch {number(batch, _COMMA)}   stream {'not recorded' if stream is None else number(stream, _COMMA)}"
