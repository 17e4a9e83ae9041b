"""``twinrun init FOLDER``: a small project that runs, with a first job or with one of the gallery."""

from __future__ import annotations

import ast
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from jinja2 import Environment, StrictUndefined

import twinrun
from twinrun.cli.call import Call, command
from twinrun.cli.live import step
from twinrun.config.problems import listed
from twinrun.errors import EXIT_OK, InputError, MachineError
from twinrun.gallery.entries import Entry, absent, entry_of, static_file
from twinrun.job.check import check_definition
from twinrun.job.job import Job
from twinrun.job.loader import load_job

if TYPE_CHECKING:
    import pandas as pd

commands = typer.Typer()

FILES = {
    "conf/local.yaml": "local.yaml.j2",
    "jobs/first_job.py": "first_job.py.j2",
    "data/orders.jsonl": "orders.jsonl.j2",
    "README.md": "README.md.j2",
    "Makefile": "Makefile.j2",
    ".gitignore": "gitignore.j2",
}
"""Files of a new project, each with its template."""

EVENTS, SEED = 600, 1
"""How many made-up events a project from the gallery begins with, and what they are made from."""

_PER_MICRO_BATCH = 60
_OF_THE_FIRST_JOB = ("jobs/first_job.py", "data/orders.jsonl", "README.md")


@dataclass(frozen=True)
class Sending:
    """A file of events, and what ``twinrun produce`` must know to send it."""

    source: str
    key_field: str
    time_field: str

    @property
    def words(self) -> str:
        """The options of ``twinrun produce``."""
        fields = f"--key-field {shlex.quote(self.key_field)} --time-field {self.time_field}"
        return f"--file data/{self.source}.jsonl {fields} --topic {self.source} --create-topic"


@dataclass(frozen=True)
class Start:
    """What a new project begins with; by default a first job on orders.

    Attributes
    ----------
    job : str
        Its name, which is that of its file.
    question : str
        What it answers; empty for the first job.
    files : dict of str to str or bytes
        Files besides `FILES`, by their paths below the project.
    tables : tuple of str
        Its static tables; each has its folder in ``data/static/``.
    needs : str, optional
        A package that the job needs besides twinrun.
    """

    job: str = "first_job"
    question: str = ""
    sendings: tuple[Sending, ...] = (Sending("orders", "order_id", "known_at"),)
    per_micro_batch: int = 10
    files: dict[str, str | bytes] = field(default_factory=dict)
    tables: tuple[str, ...] = ()
    needs: str | None = None


@command(commands, "init", "twinrun init my_project")
def init(
    call: Call,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder that is absent or empty.")],
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="JOB", help="Begin with this job of twinrun gallery, in place of a first job."),
    ] = None,
) -> int:
    """Make a project that runs: one job, its configuration, a little data, a README and a Makefile."""
    _need_room(folder)
    begin = Start()
    if start is not None:
        with step(call.out, f"making events for {start}"):
            begin = start_from(_gallery_file(call, entry_of(start)), entry_of(start))
    made = write_project(folder, begin)
    lines = [f"made {folder}", *(f"  {path}" for path in made), f"next: cd {folder}, then: make run"]
    call.out.result({"folder": folder.absolute(), "job": begin.job, "files": made}, lines)
    return EXIT_OK


def write_project(folder: Path, start: Start | None = None) -> list[str]:
    """Write the files of a new project; returns their paths below the folder.

    Raises
    ------
    InputError
        The folder is not empty, or is a file.
    MachineError
        It cannot be written.
    """
    start = start or Start()
    _need_room(folder)
    render = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False).from_string
    templates = resources.files("twinrun.cli").joinpath("templates")
    chosen = {path: name for path, name in FILES.items() if not start.files or path not in _OF_THE_FIRST_JOB}
    if start.files:
        chosen["README.md"] = "README_gallery.md.j2"
    texts = {
        path: render(templates.joinpath(name).read_text(encoding="utf-8")).render(
            name=folder.absolute().name, start=start
        )
        for path, name in chosen.items()
    }
    made = {**texts, **start.files}
    try:
        for path, text in made.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    except OSError as error:
        raise MachineError(f"{folder} cannot be written ({error.strerror}).", fix="choose another folder") from None
    return list(made)


def _need_room(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not an empty folder.", expected="a folder that is absent or empty")


def _gallery_file(call: Call, entry: Entry) -> Path:
    """The file of a job of the gallery: as the configuration here has it, else that of the checkout of twinrun."""
    cfg = call.config_if_any()
    if cfg is not None and entry.job in cfg.jobs:
        return cfg.jobs[entry.job].path
    file = Path(twinrun.__file__).parents[1] / "jobs" / f"{entry.job}.py"
    if not file.exists():
        raise InputError(
            f"the file of {entry.job} is in the checkout of twinrun only, and this is none.",
            expected="the folder that holds conf/ and jobs/",
            fix=f"change to it and write: twinrun init FOLDER --from {entry.job}",
        )
    return file


def start_from(file: Path, entry: Entry) -> Start:
    """A project that begins with a job of the gallery: its file, the modules beside it, and a small log. No Spark.

    Raises
    ------
    JobError
        The file cannot be used.
    InputError
        It reads what the gallery cannot make.
    """
    job = load_job(file)
    check_definition(job)
    lacking = [source.name for source in job.sources if source.name not in entry.logs]
    lacking += [table.name for table in job.tables if table.name not in entry.tables]
    if lacking:
        raise InputError(
            f"{entry.job} reads {listed(lacking)}, of which the gallery has no log and no table.",
            expected=f"a job over {listed([*entry.logs, *entry.tables])}",
            fix="choose another job: twinrun gallery",
        )
    files: dict[str, str | bytes] = {
        f"jobs/{each.name}": each.read_text(encoding="utf-8") for each in _with_neighbours(file)
    }
    return _with_logs(job, entry, files)


def _with_logs(job: Job, entry: Entry, files: dict[str, str | bytes]) -> Start:
    if absent(entry.made_with):
        raise InputError(
            f"the log of {entry.job} is made with the package {entry.made_with}, and it is not installed.",
            fix="install it: pip install 'twinrun[gallery]'; in the checkout make setup does",
        )
    sendings = []
    for source in job.sources:
        sending, text = _sendable(source.name, entry.logs[source.name](SEED, EVENTS))
        sendings.append(sending)
        files[f"data/{source.name}.jsonl"] = text
    for name, table in entry.tables.items():
        files[f"data/static/{name}/rows.parquet"] = static_file(table, SEED, EVENTS)
    tables = tuple(entry.tables)
    return Start(entry.job, entry.question, tuple(sendings), _PER_MICRO_BATCH, files, tables, entry.needs)


def _with_neighbours(file: Path) -> Iterator[Path]:
    """A job file, and the modules of its folder that it imports, and so on; each once."""
    found, waiting = {file}, [file]
    while waiting:
        each = waiting.pop()
        yield each
        for node in ast.walk(ast.parse(each.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and node.level == 0 else []
            beside = {file.parent / f"{name.split('.')[0]}.py" for name in names}
            new = sorted(path for path in beside - found if path.exists())
            found.update(new)
            waiting += new


def _sendable(source: str, log: pd.DataFrame) -> tuple[Sending, str]:
    """A log of the gallery as JSON lines that say, too, when each became known: what Kafka has beside the record.

    A line that is no JSON is left as it is; ``twinrun produce`` gives it the time of the line before.
    """
    values = log["value"]
    whole = values.str.endswith("}") & (log["planted"] != "not_json")
    known = next(name for name in ("known_at", "known_at_ms") if not values.str.contains(f'"{name}":').any())
    said = f',"{known}":' + log["known_ms"].astype(str)
    key_field = _key_field(log[log["planted"] == "normal"])
    if not key_field:
        key_field = "record_key"
        said += f',"{key_field}":' + log["key"].map(json.dumps)
    lines = values.where(~whole, values.str[:-1] + said + "}")
    return Sending(source, key_field, known), "\n".join([*lines, ""])


def _key_field(log: pd.DataFrame) -> str:
    """The field of the events that has the records' keys; empty where none has."""
    events = [json.loads(value) for value in log["value"].head(200)]
    keys = log["key"].head(200).tolist()
    for name in events[0]:
        cells = [event.get(name) for event in events]
        if [cell if isinstance(cell, str) else json.dumps(cell) for cell in cells] == keys:
            return str(name)
    return ""
