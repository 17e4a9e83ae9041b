"""The whole report as headline, figures and sections: what HTML and Markdown both render."""

from __future__ import annotations

from dataclasses import dataclass

from twinrun.report import evidence, surroundings
from twinrun.report.cells import duration, instant, number, plural, worded
from twinrun.report.external import external_section
from twinrun.report.figures import Figures, figures
from twinrun.report.history import past
from twinrun.report.neutral import neutral
from twinrun.report.sections import Grid, Section, row
from twinrun.report.stories import stories
from twinrun.report.words import Headline, headline, next_steps, other, story
from twinrun.results.verdict import Verdict

MAX_PROBLEMS = 20


@dataclass(frozen=True)
class Figure:
    """One number of the top row. ``role`` is the verdict that it counts."""

    role: str
    name: str
    count: str
    detail: str


@dataclass(frozen=True)
class Page:
    """A report without a format. Every text in it is visible and bounded, none is escaped yet."""

    verdict: Verdict
    counts: Figures
    headline: Headline
    problems: tuple[str, ...]
    next_steps: tuple[str, ...]
    figures: tuple[Figure, ...]
    modes: Grid
    story: str
    sections: tuple[Section, ...]
    taken_at: str
    took: str


def build_page(verdict: Verdict) -> Page:
    """Lay a verdict out. The texts of the verdict are made harmless here, for every format."""
    clean = neutral(verdict)
    counts = figures(clean)
    problems = clean.problems[:MAX_PROBLEMS]
    if len(clean.problems) > MAX_PROBLEMS:
        more = worded(len(clean.problems) - MAX_PROBLEMS, "more is", "more are")
        problems = (*problems, f"{more} in the JSON report.")
    return Page(
        verdict=clean,
        counts=counts,
        headline=headline(clean, counts),
        problems=problems,
        next_steps=next_steps(clean),
        figures=_figures(clean, counts),
        modes=_modes(clean, counts),
        story=story(clean, counts),
        sections=(
            evidence.timeline(clean),
            evidence.causes_section(clean),
            stories(clean),
            evidence.dropped(clean),
            external_section(clean) if clean.external is not None else surroundings.progress(clean),
            *([surroundings.partitions(clean)] if clean.partitions else []),
            past(clean),
            surroundings.cut(clean),
            surroundings.quarantine(clean),
            surroundings.audit(clean),
            surroundings.expectations(clean),
            surroundings.schema(clean),
            surroundings.notes(clean),
        ),
        taken_at=instant(clean.cut.taken_at_ms // 1000 * 1000),
        took=duration(clean.duration_ms),
    )


def _figures(verdict: Verdict, counts: Figures) -> tuple[Figure, ...]:
    rows = (
        verdict.rows_compared,
        verdict.rows_equal,
        verdict.rows_explained,
        verdict.rows_unexplained,
        verdict.rows_pending,
        verdict.rows_behind,
    )
    closed = "closed by the stream" if verdict.external is None else "ready, as far as declared"
    names = (
        ("compared", f"{counts.unit}s compared", counts.compared, closed),
        ("equal", "equal", counts.equal, "the same in both"),
        ("explained", "explained", counts.explained, "differ, cause proven"),
        ("unexplained", "unexplained", counts.unexplained, "differ, no proven cause"),
        ("pending", "pending", counts.pending, "not closed yet, left out"),
        ("behind", "not judged", counts.behind, "the batch lacks events of them"),
    )
    result = []
    for (role, name, count, detail), in_rows in zip(names, rows, strict=True):
        if role == "behind" and not count:
            continue
        same = counts.unit == "row" or in_rows == count
        result.append(Figure(role, name, number(count), detail if same else f"{detail} ({plural(in_rows, 'row')})"))
    return tuple(result)


def _events_of_stream(counts: Figures) -> str:
    return "not recorded" if counts.events_stream is None else number(counts.events_stream)


def _modes(verdict: Verdict, counts: Figures) -> Grid:
    return Grid(
        "What each mode saw",
        ("Mode", "Events read", "Result rows"),
        (
            row("Batch", number(counts.events_batch), number(verdict.rows_batch)),
            row(other(verdict).capitalize(), _events_of_stream(counts), number(verdict.rows_stream)),
        ),
        numeric=(1, 2),
    )
