"""A verdict in a few lines of plain text that leave no problem and no cause out; the command line adds colour."""

from __future__ import annotations

from twinrun.report.cells import number, plural
from twinrun.report.figures import Figures, causes, figures
from twinrun.report.neutral import fit, neutral, visible
from twinrun.report.words import headline, kafka_silent, next_steps, other
from twinrun.results.verdict import CauseCount, Verdict

MAX_COLUMNS = 110
MAX_PROBLEM_COLUMNS = 400
MAX_PROBLEMS = 20
MAX_CAUSES = 20
_COMMA = ","
_NAME_WIDTH = 18


def render_summary(verdict: Verdict, *, path: str | None) -> list[str]:
    r"""Say what a verify found, without colour codes: about 12 lines, and one more per problem and cause.

    Text from the verdict cannot steer a terminal: control characters appear as escapes such as ``\x1b``, and
    lines are cut at 110 columns, problems at 400. Only the path, which one wants to copy, is never cut. Beyond 20
    problems or causes, the rest is counted.

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
        *_explained(clean, counts),
        _line("  unexplained", counts.unexplained, _in_rows(counts, counts.unexplained, clean.rows_unexplained)),
        *([_line("not judged", counts.behind, "the batch lacks events of them")] if counts.behind else []),
        _line("pending", counts.pending, _open(clean) if counts.pending else ""),
        *_refused(clean),
        f"  {'events seen':<{_NAME_WIDTH}} {_pair(counts.events_batch, counts.events_stream, other(clean))}",
        f"  {'rows seen':<{_NAME_WIDTH}} {_pair(clean.rows_batch, clean.rows_stream, other(clean))}",
    ]
    if clean.arrival is not None and clean.arrival.read_late:
        late = clean.arrival.arrived_late + clean.arrival.read_late + clean.arrival.not_told
        of = f"of {plural(late, 'late event', _COMMA)}, though they lay in Kafka in time (see the notes)"
        lines.insert(5, _line("    read late", clean.arrival.read_late, of))
    lines = [fit(line.rstrip(), MAX_COLUMNS) for line in lines]
    lines[2:2] = _problems(clean)
    steps = next_steps(clean)
    if steps:
        lines.append(f"  {'next':<{_NAME_WIDTH}} {'; '.join(steps)}")
    if path is not None:
        lines.append(f"  {'report':<{_NAME_WIDTH}} {visible(path)}")
    return lines


def _plain(sentence: str) -> str:
    """A sentence with the thin spaces of its numbers as commas, which every terminal can show."""
    return sentence.replace("\u202f", _COMMA).replace("\u00a0", " ")


def _problems(verdict: Verdict) -> list[str]:
    """All of them: the one that is left out may be the one that matters. What could not be asked comes first."""
    problems = verdict.problems
    silent = ["  ! Kafka did not answer: lag and staleness are unknown"] if kafka_silent(verdict) else []
    shown = [fit(f"  ! {problem}", MAX_PROBLEM_COLUMNS) for problem in problems[:MAX_PROBLEMS]]
    if len(problems) > MAX_PROBLEMS:
        shown.append(f"  ! {plural(len(problems) - MAX_PROBLEMS, 'more problem', _COMMA)}; see the report")
    return silent + shown


def _line(name: str, count: int, detail: str) -> str:
    return f"  {name:<{_NAME_WIDTH}} {number(count, _COMMA):>9}   {detail}"


def _in_rows(counts: Figures, count: int, rows: int) -> str:
    """How many rows that is, where a window holds several."""
    return "" if rows == count or counts.unit == "row" else plural(rows, "row", _COMMA)


def _explained(verdict: Verdict, counts: Figures) -> list[str]:
    """The explained windows or rows, with a line per cause where they do not fit into one."""
    found = causes(verdict)
    rows = _in_rows(counts, counts.explained, verdict.rows_explained)
    parts = [*([rows] if rows else []), *(_cause(cause, counts) for cause in found[:MAX_CAUSES])]
    if len(found) > MAX_CAUSES:
        parts.append(plural(len(found) - MAX_CAUSES, "more cause", _COMMA))
    whole = _line("  explained", counts.explained, "; ".join(parts))
    if len(whole) <= MAX_COLUMNS:
        return [whole]
    lines = [_line("  explained", counts.explained, parts[0])]
    return [*lines, *(f"{'':<{_NAME_WIDTH + 15}}{part}" for part in parts[1:])]


def _refused(verdict: Verdict) -> list[str]:
    """Records that neither mode could use, by rule; no line where there are none."""
    records = sum(each.events for each in verdict.quarantine)
    rules = "; ".join(f"{fit(each.rule, 30)} {number(each.events, _COMMA)}" for each in verdict.quarantine)
    noun = "record" if records == 1 else "records"
    return [_line("refused", records, f"{noun}, in no result: {rules}")] if records else []


def _cause(cause: CauseCount, counts: Figures) -> str:
    name = fit(cause.cause, 30)
    count = cause.windows if counts.unit == "window" else cause.rows
    text = f"{name} {plural(count, counts.unit, _COMMA)}"
    return text if cause.events is None else f"{text} ({plural(cause.events, 'event', _COMMA)})"


def _open(verdict: Verdict) -> str:
    return "declared to be open" if verdict.external is not None else "not closed by the stream yet"


def _pair(batch: int, stream: int | None, other: str) -> str:
    return f"batch {number(batch, _COMMA)}   {other} {'not recorded' if stream is None else number(stream, _COMMA)}"
