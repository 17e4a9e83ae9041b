"""A verdict as one self-contained HTML file: no script, no network, everything from data escaped."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from twinrun.report import evidence, surroundings
from twinrun.report.binning import bin_progress, bin_windows
from twinrun.report.charts import Picture, Words, partitions_picture, progress_picture, timeline_picture
from twinrun.report.history import history_section, history_text
from twinrun.report.neutral import neutral
from twinrun.report.page import Page, build_page
from twinrun.report.past_chart import past_picture
from twinrun.report.words import glossary
from twinrun.results.ledger import History
from twinrun.results.verdict import Verdict

_NARROW_BINS = 60
_TEMPLATES = ("report.html.j2", "history.html.j2", "index.html.j2", "parts.html.j2", "report.css")


def render_html(verdict: Verdict) -> str:
    """Render a verdict as one HTML page of at most about 450 kB that needs no other file and no network.

    Text from the verdict is shown as text, whatever it holds: control characters appear as escapes such as
    ``\\x1b``, markup is escaped, and the page's own policy forbids scripts, fonts, frames and requests.
    All instants are UTC. Costs about 1 to 2 s, most of it for the charts; no Spark job.
    """
    return page_html(environment(), build_page(verdict))


def page_html(templates: Environment, page: Page) -> str:
    """Fill the templates with a page that is laid out."""
    css = style()
    return templates.get_template("report.html.j2").render(
        page=page,
        pictures=_pictures(page.verdict),
        glossary=glossary(page.verdict),
        css=Markup(css),  # our own file, no data in it; escaping would break its selectors
        css_hash=csp_hash(css),
    )


def render_history(found: History, window_ms: int | None) -> str:
    """Render what the ledger has about a job as one HTML page, as self-contained as that of a verdict.

    Parameters
    ----------
    window_ms : int, optional
        The job's window length; None for jobs without windows.
    """
    clean = neutral(found)
    css = style()
    return (
        environment()
        .get_template("history.html.j2")
        .render(
            job=clean.job,
            part=history_section(clean, window_ms),
            pictures=_past_picture(clean),
            css=Markup(css),  # see page_html
            css_hash=csp_hash(css),
        )
    )


@cache
def environment() -> Environment:
    """The template environment: escaping is always on, an unknown name is an error."""
    return Environment(
        loader=DictLoader({name: _template(name) for name in _TEMPLATES}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _pictures(verdict: Verdict) -> dict[str, Picture]:
    pictures: dict[str, Picture] = {}
    windows = bin_windows(verdict.timeline, evidence.MAX_BINS)
    if windows.bins:
        narrow = bin_windows(verdict.timeline, _NARROW_BINS)
        notes = (evidence.bin_sentence(windows), evidence.bin_sentence(narrow))
        words = Words(evidence.timeline_text(verdict), *notes)
        pictures["timeline"] = timeline_picture(windows, narrow, words)
    steps = bin_progress(verdict.micro_batches, surroundings.MAX_GROUPS)
    if steps:
        late = verdict.late_events[: evidence.MAX_LATE_EVENTS]
        few = bin_progress(verdict.micro_batches, _NARROW_BINS)
        notes = (surroundings.group_sentence(steps), surroundings.group_sentence(few))
        words = Words(surroundings.progress_text(verdict), *notes)
        pictures["progress"] = progress_picture(steps, few, late, words)
    if verdict.partitions:
        words = Words(surroundings.partitions_text(verdict), "", "")
        pictures["partitions"] = partitions_picture(verdict.partitions, verdict.micro_batches, words)
    return {**pictures, **_past_picture(verdict.history)}


def _past_picture(past: History | None) -> dict[str, Picture]:
    if past is None or len(past.verifies) < 2:
        return {}
    return {"history": past_picture(past, Words(history_text(past), "", ""))}


def style() -> str:
    """The style sheet of every page."""
    return _template("report.css").strip()


@cache
def _template(name: str) -> str:
    # read as a resource, so that it also works from inside a zip
    return files("twinrun.report").joinpath("templates", name).read_text(encoding="utf-8")


def csp_hash(text: str) -> str:
    """What a page's policy says of its own style sheet."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
