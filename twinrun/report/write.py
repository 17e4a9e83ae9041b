"""A verdict's three reports as local files, each written whole or not at all."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from twinrun.errors import MachineError
from twinrun.report.html import render_history, render_html
from twinrun.report.json_ import render_json
from twinrun.report.markdown import render_markdown
from twinrun.results.ledger import History
from twinrun.results.verdict import Verdict


@dataclass(frozen=True)
class ReportFiles:
    """Where the reports of one verdict are."""

    html: Path
    json: Path
    markdown: Path


def write_report(verdict: Verdict, folder: Path) -> ReportFiles:
    """Write ``report.html``, ``report.json`` and ``report.md`` into a local folder, which is made if needed.

    Each file appears under its name only when it is complete; an older one is replaced in one step. Everything
    is rendered before the first file is touched. Costs about 2 s, no Spark job.

    Raises
    ------
    MachineError
        The folder cannot be made or written: no right, no space, or the name of a file.
    """
    texts = {
        "report.json": render_json(verdict),
        "report.md": render_markdown(verdict),
        "report.html": render_html(verdict),
    }
    write_files(folder, texts)
    return ReportFiles(folder / "report.html", folder / "report.json", folder / "report.md")


def write_history(found: History, window_ms: int | None, file: Path) -> None:
    """Write the page of a job's history into a local file; its folder is made if needed. No Spark job.

    Raises
    ------
    MachineError
        It cannot be written.
    """
    write_files(file.parent, {file.name: render_history(found, window_ms)})


def write_files(folder: Path, texts: dict[str, str]) -> None:
    """Write each text under its name into a local folder, whole or not at all; the folder is made if needed.

    Raises
    ------
    MachineError
        One cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            _replace(folder / name, text)
    except OSError as failure:
        reason = failure.strerror or type(failure).__name__
        raise MachineError(
            f"The report cannot be written to {folder}: {reason}.",
            fix="choose a folder that you may write to, on a disk with some free space",
        ) from failure


def _replace(target: Path, text: str) -> None:
    """Write beside the target and rename: a reader sees the old file or the new one, never half of it."""
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        with partial.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
