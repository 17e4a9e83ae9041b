"""``twinrun init FOLDER``: a small project that runs."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer
from jinja2 import Environment, StrictUndefined

from twinrun.cli.call import Call, command
from twinrun.errors import EXIT_OK, InputError, MachineError

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


@command(commands, "init", "twinrun init my_project")
def init(
    call: Call,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder that is absent or empty.")],
) -> int:
    """Make a project that runs: one job, its configuration, a little data, a README and a Makefile."""
    made = write_project(folder)
    lines = [f"made {folder}", *(f"  {path}" for path in made), f"next: cd {folder}, then: make run"]
    call.out.result({"folder": folder.absolute(), "files": made}, lines)
    return EXIT_OK


def write_project(folder: Path) -> list[str]:
    """Write the files of a new project; returns their paths below the folder.

    Raises
    ------
    InputError
        The folder is not empty, or is a file.
    MachineError
        It cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not an empty folder.", expected="a folder that is absent or empty")
    render = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False).from_string
    templates = resources.files("twinrun.cli").joinpath("templates")
    try:
        for path, template in FILES.items():
            text = render(templates.joinpath(template).read_text(encoding="utf-8")).render(name=folder.absolute().name)
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MachineError(f"{folder} cannot be written ({error.strerror}).", fix="choose another folder") from None
    return list(FILES)
