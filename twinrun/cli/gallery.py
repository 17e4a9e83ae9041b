"""``twinrun gallery``: the jobs that show a use case each, by the question that they answer; and their page."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from textwrap import wrap
from typing import Any

import typer

from twinrun.cli.call import Call, command
from twinrun.config.load import load_config
from twinrun.errors import EXIT_OK
from twinrun.events.source import Source
from twinrun.gallery.entries import ENTRIES, Entry
from twinrun.job.job import Job
from twinrun.job.loader import load_job

commands = typer.Typer()
PAGE = "docs/gallery.md"
RESULTS, RUN = "docs/gallery_results.md", "bench/results/gallery.json"
README, _BEGIN, _END = "README.md", "<!-- gallery: made by make gallery -->\n", "<!-- end of gallery -->\n"
_INTRODUCTION = """
Look for the question that is nearest to yours, run its job, and start from its file. Each job is one function
that runs in both modes; what the stream loses against the batch is counted and proven. The logs are made from
a seed and have four chapters, quarters of their time: events as they should be; some that come far too late;
some that are sent twice; some that are broken. Each job has been run on such logs, and both results held
against an oracle in polars: `tests/integration/test_gallery.py`, and `test_gallery_joined.py` for jobs of
several logs or with a static table. `make gallery-large` does the same with 1,000,000 events for each job.
"""

_EXAMPLES = """
The first row whose difference was proven, of each job that has one, as its report tells it: what the two modes
say, what happened, and how it is proven. All times are UTC.
"""


@command(commands, "gallery", "twinrun gallery")
def gallery(call: Call) -> int:
    """List the jobs that show a use case each, by the question that they answer."""
    cfg = call.config_if_any()
    bound = {} if cfg is None else {e.job: load_job(cfg.jobs[e.job].path) for e in ENTRIES if e.job in cfg.jobs}
    lines = []
    for entry in ENTRIES:
        job = bound.get(entry.job)
        lines += [entry.question, f"    {entry.job}" + (f" ({grain(job)}): twinrun demo {entry.job}" if job else "")]
    if len(bound) < len(ENTRIES):
        lines.append("Those without a command are not in this configuration; the checkout of twinrun has them all.")
    call.out.result({"gallery": [_payload(entry, bound.get(entry.job)) for entry in ENTRIES]}, lines)
    call.out.note("a project of your own begins with any of them: twinrun init FOLDER --from JOB")
    return EXIT_OK


def grain(job: Job) -> str:
    """Shape, window and emit mode of a job in words."""
    lengths = [f"{part} {value}" for part in ("window", "slide", "gap") if (value := getattr(job, part))]
    return ", ".join([job.shape, *lengths, job.emit])


def _payload(entry: Entry, job: Job | None) -> dict[str, Any]:
    about = {} if job is None else {"shape": job.shape, "window": job.window, "slide": job.slide, "gap": job.gap}
    tables = {"tables": list(entry.tables)}
    more = {} if job is None else {"emit": job.emit, "keys": job.keys}
    return {"job": entry.job, "question": entry.question, "sources": list(entry.logs), **tables, **about, **more}


def gallery_page(root: Path) -> str:
    """The text of `PAGE`, made from the jobs of a checkout. No Spark."""
    cfg = load_config(root / "conf/local.yaml", env={})
    lines = [
        "# The gallery: a job for each use case",
        "",
        "<!-- Made from the jobs by: python -m twinrun.cli.gallery. Change the jobs, not this page. -->",
        "",
        *wrap(_INTRODUCTION.strip(), 120),
        "",
        "```bash",
        "twinrun gallery",
        f"twinrun demo {ENTRIES[1].job} --events 5000 --seed 2",
        "twinrun demo --all",
        f"twinrun init my_project --from {ENTRIES[1].job}",
        "```",
    ]
    for entry in ENTRIES:
        job = load_job(cfg.jobs[entry.job].path)
        lines += ["", f"## {entry.job}", "", f"> {entry.question}", "", *_told(root, cfg.jobs[entry.job].path, job)]
    return "\n".join([*lines, ""])


def results_page(run: dict[str, Any]) -> str:
    """The text of `RESULTS`: the verdicts of the last run of all jobs."""
    lines = [
        "# The gallery: the last run of all jobs",
        "",
        f"<!-- Made by make gallery from {RUN}. -->",
        "",
        f"Every job of [the gallery](gallery.md) in both modes, on {run['events']:,} events per log, made from seed",
        f"{run['seed']}. `make gallery` does it again and writes this page; `twinrun demo --all` alone writes a",
        "page with a card for each job.",
        "",
        "| job | verdict | events | quarantined | rows compared | equal | differences by cause | unexplained |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in run["jobs"]:
        counts = [f"{each.get(name, 0):,}" for name in ("events", "quarantined", "rows_compared", "rows_equal")]
        name = f"[{each['job']}](gallery.md#{each['job']})"
        cells = [name, each["outcome"], *counts, _by_cause(each), str(each.get("rows_unexplained", ""))]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## One row of each, explained", "", *wrap(_EXAMPLES.strip(), 120)]
    for each in run["jobs"]:
        if each.get("example"):
            lines += ["", *_example(each["job"], each["example"])]
    return "\n".join([*lines, ""])


def readme_with(text: str, run: dict[str, Any]) -> str:
    """The README with the table of a run between its marks."""
    lines = ["| job | verdict | events | rows that differ, by cause |", "|---|---|---|---|"]
    for each in run["jobs"]:
        name = f"[{each['job']}](docs/gallery.md#{each['job']})"
        lines.append(f"| {name} | {each['outcome']} | {each.get('events', 0):,} | {_by_cause(each)} |")
    before, rest = text.split(_BEGIN)
    return before + _BEGIN + "\n".join(lines) + "\n" + _END + rest.split(_END)[1]


def _by_cause(told: dict[str, Any]) -> str:
    found = [f"`{cause}` {rows:,}" for cause, rows in told.get("causes", {}).items()]
    if told.get("rows_unexplained"):
        found.append(f"unexplained {told['rows_unexplained']:,}")
    return ", ".join(found) or "none"


def _example(job: str, told: dict[str, str]) -> list[str]:
    """A row that differed in the run, as text."""
    from twinrun.report.markdown import escape

    parts = [told["differs"], told["happened"], told["proven"]]
    return [
        f"### {job}: `{told['cause']}`",
        "",
        *wrap(f"**{escape(told['row'])}**: {escape(' '.join(part for part in parts if part))}", 120),
    ]


def _told(root: Path, path: Path, job: Job) -> list[str]:
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    sources = "; ".join(f"`{source.name}`, by `{source.event_time}`, {_lateness(source)}" for source in job.sources)
    tables = "".join(f"; static table `{table.name}`" for table in job.tables)
    keys = ", ".join(f"`{key}`" for key in job.keys)
    return [
        *said.strip().replace("``", "`").splitlines(),
        "",
        f"* `{path.relative_to(root)}`: {grain(job)}; a row per {keys}; run it: `twinrun demo {job.job_name}`",
        f"* reads {sources}{tables}",
    ]


def _lateness(source: Source) -> str:
    told = f"lateness {source.lateness}" if source.lateness else "no watermark"
    return f"{told}, copies of `{', '.join(source.distinct)}` dropped" if source.distinct else told


def main(run: list[str] | None = None) -> int:
    """Write the page anew into the checkout that this file is of; with the JSON of a run, that first."""
    root = Path(__file__).resolve().parents[2]
    for found in sys.argv[1:] if run is None else run:
        told = json.loads(Path(found).read_text(encoding="utf-8"))
        kept = {name: told[name] for name in ("events", "seed", "jobs")}
        (root / RUN).write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    (root / PAGE).write_text(gallery_page(root), encoding="utf-8")
    if (root / RUN).exists():
        told, readme = json.loads((root / RUN).read_text(encoding="utf-8")), root / README
        (root / RESULTS).write_text(results_page(told), encoding="utf-8")
        readme.write_text(readme_with(readme.read_text(encoding="utf-8"), told), encoding="utf-8")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
