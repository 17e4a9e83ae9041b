"""A verdict as Markdown, for pull requests, tickets and chats."""

from __future__ import annotations

import re

from twinrun.report.page import Page, build_page
from twinrun.report.sections import Cell, Grid, Section, Story
from twinrun.results.verdict import Verdict

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "{": "&#123;", "}": "&#125;"}
_SPECIAL = re.compile(r"([\\`*_\[\]|~#!$])")
_BLOCK_START = re.compile(r"^(\s*)([-+=:]|\d+[.)])")
_SCHEME = re.compile(r":(?=//)")
_HOST = re.compile(r"(?i)(?<=www)\.")
_MENTION = re.compile(r"@(?=\w)")


def render_markdown(verdict: Verdict) -> str:
    r"""Render a verdict as GitHub-flavoured Markdown, with the sections of the HTML page but without its charts.

    Text from the verdict shows as text: Markdown and HTML are escaped, links and mentions are not made, and
    control characters appear as escapes such as ``\x1b``. All instants are UTC. Ends in a line feed.
    """
    page = build_page(verdict)
    lines = [*_head(page), *_figures(page), *_grid(page.modes)]
    for section in page.sections:
        lines += _section(section)
    lines += [f"_Written by twinrun; verify took {page.took}. All times are UTC._"]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it stands, inside a paragraph, a heading, a list item or a table cell."""
    text = _SPECIAL.sub(r"\\\1", text)
    for char, entity in _ENTITIES.items():
        # an ampersand comes first, so that no entity is escaped twice; the ones made by hashes are ours
        text = text.replace(char, entity)
    text = _HOST.sub("&#46;", _SCHEME.sub("&#58;", text))
    # an entity would not do: a mention or mail address is looked for in the finished text
    text = _MENTION.sub("@<!-- -->", text)
    return _BLOCK_START.sub(_escaped_start, text)


def _escaped_start(found: re.Match[str]) -> str:
    mark = found.group(2)
    return f"{found.group(1)}{mark[:-1]}\\{mark[-1]}"


def _head(page: Page) -> list[str]:
    passes = "passes" if page.verdict.exit_code == 0 else "does not pass"
    lines = [
        f"# {escape(page.headline.label)}: {escape(page.verdict.job)}",
        "",
        f"**{escape(page.headline.title)}** Exit code {page.verdict.exit_code} ({passes}).",
        "",
    ]
    if page.headline.lead:
        lines += [escape(page.headline.lead), ""]
    if page.next_steps:
        lines += [f"Next: {escape('; '.join(page.next_steps))}", ""]
    if page.problems:
        lines += ["Why it does not pass:", "", *(f"- {escape(problem)}" for problem in page.problems), ""]
    return [*lines, escape(page.story), "", f"Taken {page.taken_at} UTC.", ""]


def _figures(page: Page) -> list[str]:
    names = " | ".join(figure.name for figure in page.figures)
    counts = " | ".join(figure.count for figure in page.figures)
    rule = " | ".join("---:" for _ in page.figures)
    return [f"| {names} |", f"| {rule} |", f"| {counts} |", ""]


def _section(section: Section) -> list[str]:
    lines = [f"## {section.title}", ""]
    if section.empty:
        return [*lines, section.empty, ""]
    if section.intro:
        lines += [escape(section.intro), ""]
    lines += [f"- {escape(item)}" for item in section.items]
    if section.items:
        lines.append("")
    for story in section.stories:
        lines += _story(story)
    for grid in (*section.grids, *section.folded):
        lines += _grid(grid)
    for note in section.notes:
        lines += [escape(note), ""]
    return lines


def _story(story: Story) -> list[str]:
    lines = [f"### {escape(story.title)} ({escape(story.tag)})", "", escape(story.lead), ""]
    for grid in story.grids:
        lines += _grid(grid)
    for part in story.told:
        commands = "".join(f" ({escape(command)})" for command in part.commands)
        lines.append(f"- **{escape(part.heading)}.** {escape(part.text)}{commands}")
    return [*lines, ""]


def _grid(grid: Grid) -> list[str]:
    caption = f"**{escape(grid.caption)}**" + (f" ({escape(grid.tag)})" if grid.tag else "")
    head = " | ".join(escape(name) for name in grid.head)
    rule = " | ".join("---:" if place in grid.numeric else "---" for place in range(len(grid.head)))
    rows = [f"| {' | '.join(_cell(cell) for cell in line)} |" for line in grid.rows]
    return [caption, "", f"| {head} |", f"| {rule} |", *rows, ""]


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    return f"**{text}**" if cell.tone in ("mark", "bad") and text else text
