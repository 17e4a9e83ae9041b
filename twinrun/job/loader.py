"""Load job files by path: any file name, any folder, always the file as it is now."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import ModuleType

from twinrun.config.model import Config
from twinrun.config.problems import listed, nearest
from twinrun.errors import JobError, TwinrunError
from twinrun.events.source import Source
from twinrun.job.code import run_file
from twinrun.job.job import Job, Table

_CONTRACT = {"Job": Job, "Source": Source, "Table": Table}
_UNKNOWN_FIELD = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")


@dataclass(frozen=True)
class JobFile:
    """A job that the configuration lists. ``job`` is None where ``error`` says why it cannot be used."""

    name: str
    path: Path
    job: Job | None
    error: str


def load_job(path: Path) -> Job:
    """Run a job file and return its ``JOB``.

    The module is known to Python under a name made from its path, so that equal file names in different folders
    do not meet, and it is pickled by value, so that its functions and classes reach the workers. So are the modules
    beside it that it imports; see `twinrun.job.code`.

    Parameters
    ----------
    path : Path
        A Python file; its name need not be an identifier.

    Raises
    ------
    JobError
        The file is absent or not valid Python, an import or statement in it fails, or it has no ``JOB`` of type
        Job. The message names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise JobError(f"there is no job file {path}", fix="give the path of a Python file that defines JOB")
    module = _run(path)
    if not hasattr(module, "JOB"):
        raise JobError(
            f"{path} defines no JOB", expected="a line such as JOB = Job(my_function, ...)", fix="add it to the file"
        )
    found = module.JOB
    if not isinstance(found, Job):
        raise JobError(
            f"JOB in {path} is of type {type(found).__name__}",
            expected="JOB = Job(my_function, ...)",
            fix="correct that line",
        )
    return found


def _run(path: Path, loading: dict[Path, ModuleType | None] | None = None) -> ModuleType:
    """Run a job file, or a module beside one that it imports; each once for one job, however many import it.

    ``loading``: what was run for this job, by path; None while it is being run.
    """
    known: dict[Path, ModuleType | None] = {} if loading is None else loading
    place = path.resolve()
    if place in known:
        found = known[place]
        if found is None:
            raise JobError(
                f"{path} is imported while it is still being run.",
                expected="modules beside a job that do not import one another in a circle",
                fix="put what both need into a module of its own",
            )
        return found
    known[place] = None
    try:
        module = run_file(path, lambda file: _run(file, known))
    except (Exception, SystemExit) as error:
        raise _job_error(path, str(place), error) from error
    known[place] = module
    return module


def _job_error(path: Path, file: str, error: BaseException) -> JobError:
    if isinstance(error, SyntaxError) and error.filename == file:
        return JobError(f"{path} line {error.lineno} is not valid Python: {error.msg}", fix="correct that line")
    if isinstance(error, ValueError) and _line(error, file) is None:
        return JobError(f"{path} is not a Python source file: {error}", fix="name another file")
    line = _line(error, file)
    where = f"{path} line {line}" if line else str(path)
    if isinstance(error, TwinrunError):
        return JobError(f"{where}: {error.found}", expected=error.expected, fix=error.fix)
    if isinstance(error, ImportError):
        fix = f"install it, or put a module of your own beside the job, into {path.parent}"
        return JobError(f"{where}: an import fails: {error}", fix=fix)
    unknown = _UNKNOWN_FIELD.search(str(error)) if isinstance(error, TypeError) else None
    if unknown and unknown[1] in _CONTRACT:
        allowed = [field.name for field in fields(_CONTRACT[unknown[1]])]
        match = nearest(unknown[2], allowed)
        return JobError(
            f"{where}: {unknown[1]} has no field {unknown[2]!r}",
            expected=f"one of {listed(allowed)}",
            fix=f"write {match}" if match else "remove it",
        )
    return JobError(f"{where} fails with {type(error).__name__}: {error}", fix="correct that line, or what it needs")


def _line(error: BaseException, file: str) -> int | None:
    """The innermost line of the file that the error passed through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return lines[-1] if lines else None


def list_jobs(cfg: Config) -> tuple[JobFile, ...]:
    """Every job of the configuration, in its order; a file that cannot be used does not hide the others.

    Loads, and so runs, each file.
    """
    return _marked_twice(_listed(name, binding.path) for name, binding in cfg.jobs.items())


def _listed(name: str, path: Path) -> JobFile:
    try:
        return JobFile(name, path, load_job(path), "")
    except JobError as error:
        return JobFile(name, path, None, error.sentence())


def _marked_twice(files: Iterable[JobFile]) -> tuple[JobFile, ...]:
    """Two files that define one job name would write the same tables."""
    first: dict[str, JobFile] = {}
    marked = []
    for file in files:
        other = first.setdefault(file.job.job_name, file) if file.job else file
        same = file.job is not None and other.path != file.path
        error = f"{other.path} defines the job {file.job.job_name!r} too" if file.job and same else file.error
        marked.append(replace(file, error=error))
    return tuple(marked)


def find_job(cfg: Config, name: str) -> Job:
    """Load a job by its name in the configuration, or by the path of its file.

    Raises
    ------
    JobError
        The configuration has no such name, or the file cannot be used.
    """
    if name in cfg.jobs:
        return load_job(cfg.jobs[name].path)
    if name.endswith(".py") or "/" in name:
        return load_job(Path(name))
    match = nearest(name, cfg.jobs)
    raise JobError(
        f"{cfg.file} lists no job {name!r}",
        expected=f"one of {listed(cfg.jobs)}, or the path of a job file",
        fix=f"write {match}" if match else "",
    )
