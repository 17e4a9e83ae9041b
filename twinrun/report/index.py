"""One page for the verdicts of many jobs: a card each, with what differs, why, and a link to its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from twinrun.report.figures import Figures, causes, figures
from twinrun.report.html import csp_hash, environment, style
from twinrun.report.neutral import neutral
from twinrun.report.words import cause_sentence, cause_title, headline
from twinrun.results.verdict import Verdict
from twinrun.wording import plural

_MOST_CAUSES = 3


@dataclass(frozen=True)
class Entry:
    """One job of the page.

    Attributes
    ----------
    verdict : Verdict or None
        None where the job did not get so far; ``failure`` then says why in one sentence.
    grain : str
        Shape, window and emit mode in words.
    link : str
        Where its report is, from the page.
    """

    job: str
    question: str
    grain: str
    link: str
    verdict: Verdict | None = None
    failure: str = ""


@dataclass(frozen=True)
class Card:
    """One job as it is shown."""

    job: str
    question: str
    grain: str
    link: str
    tone: str
    label: str
    counts: Figures | None
    facts: str
    causes: tuple[tuple[str, str], ...]


def render_index(entries: Sequence[Entry], title: str, lead: str) -> str:
    """Render the page: self-contained, everything from data escaped, its policy as strict as a report's. No Spark job.

    Parameters
    ----------
    entries : sequence of Entry
        In the order of the page.
    lead : str
        What was run, on what.
    """
    css = style()
    cards = [card(entry) for entry in entries]
    return (
        environment()
        .get_template("index.html.j2")
        .render(title=title, lead=lead, told=told(cards), cards=cards, css=Markup(css), css_hash=csp_hash(css))
    )


def told(cards: Sequence[Card]) -> str:
    """How many jobs had which verdict, in one line: ``12 explained, 2 agree``."""
    labels = [each.label for each in cards]
    counts = sorted({label: labels.count(label) for label in labels}.items(), key=lambda each: -each[1])
    return ", ".join(f"{count} {label.lower()}" for label, count in counts)


def card(entry: Entry) -> Card:
    """What a card says of one job. Pure."""
    shown = (entry.job, entry.question, entry.grain, entry.link)
    if entry.verdict is None:
        return Card(*shown, "bad", "FAILED", None, "", (("It did not get so far", entry.failure),))
    verdict = neutral(entry.verdict)
    counts = figures(verdict)
    head = headline(verdict, counts)
    said = tuple(
        (f"{cause_title(each.cause)}: {plural(each.rows, 'row')}", cause_sentence(each))
        for each in causes(verdict)[:_MOST_CAUSES]
    )
    return Card(*shown, head.tone, head.label, counts, _facts(verdict), said)


def _facts(verdict: Verdict) -> str:
    counts = figures(verdict)
    refused = sum(each.events for each in verdict.quarantine)
    parts = [
        plural(counts.events_batch, "event"),
        f"{refused:,} quarantined" if refused else "",
        f"{counts.equal:,} of {plural(counts.compared, counts.unit)} equal",
        f"{counts.explained:,} explained" if counts.explained else "",
        f"{counts.unexplained:,} unexplained" if counts.unexplained else "",
        f"{counts.pending:,} pending" if counts.pending else "",
    ]
    return ", ".join(part for part in parts if part)
