"""The files of other schedulers, written from the jobs' cron expressions: crontab, systemd, Airflow, Kubernetes."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

import twinrun
from twinrun.config.cron import Cron
from twinrun.config.model import Config
from twinrun.errors import InputError, MachineError
from twinrun.job.job import Job
from twinrun.session.jars import jar_folder

MARK = "Made by: twinrun schedule --emit"
_SCHEDULE = re.compile(r"\s*jobs\.[^.=]+\.schedule\s*=")
_LONGEST_NAME = 52
"""Of a CronJob, so that the names of its jobs are not too long."""


class Kind(StrEnum):
    """Schedulers whose files can be written."""

    cron = "cron"
    systemd = "systemd"
    airflow = "airflow"
    k8s = "k8s"


@dataclass(frozen=True)
class Plan:
    """A job with the name and the cron expression that the configuration gives it."""

    name: str
    cron: Cron
    job: Job


@dataclass(frozen=True)
class Made:
    """Names of the files that were written and of those of an earlier time that no job needs now; what to do next."""

    files: tuple[str, ...]
    old: tuple[str, ...]
    next_steps: tuple[str, ...]


@dataclass(frozen=True)
class _Wanted:
    """All that the files are made from."""

    cfg: Config
    plans: Sequence[Plan]
    folder: Path
    retries: int
    wait_s: int
    image: str | None
    sets: Sequence[str]
    mark: str

    @property
    def lands(self) -> bool:
        """Whether a run begins with an ingest; one that keeps running is no part of a schedule."""
        return self.cfg.stream.trigger == "available-now"

    def commands(self, name: str, program: str, conf: str) -> dict[str, list[str]]:
        """What one run is: the words of each command, by its mode."""
        modes = ["ingest", "batch"] if self.lands else ["batch"]
        return {mode: [program, mode, name, "--conf", conf, *self.set_words] for mode in modes}

    @property
    def set_words(self) -> list[str]:
        """The overrides that a run needs: when it comes due is said in the files."""
        return [word for text in self.sets if not _SCHEDULE.match(text) for word in ("--set", text)]


def write_files(
    cfg: Config,
    plans: Sequence[Plan],
    kind: Kind,
    folder: Path,
    *,
    retries: int,
    wait_s: int,
    image: str | None = None,
    sets: Sequence[str] = (),
) -> Made:
    """Write the files of a scheduler that runs what ``twinrun schedule`` would. No Spark, nothing is installed.

    Parameters
    ----------
    folder : Path
        Is made. Files that this command wrote before are replaced, others never.
    retries, wait_s : int
        How often a failed run is tried again, and after how many seconds; Kubernetes has pauses of its own.
    image : str, optional
        For Kubernetes only, and must be given there: holds twinrun, and the project as its working directory.
    sets : sequence of str
        Texts of ``--set`` that each command gets.

    Raises
    ------
    InputError
        No image, or one that is not wanted; a name that the scheduler cannot have; a file in the folder that is
        somebody else's.
    MachineError
        The folder cannot be written.
    """
    if (kind == Kind.k8s) != (image is not None):
        if kind == Kind.k8s:
            raise InputError("--emit k8s needs --image.", expected="an image with twinrun and the project in it")
        raise InputError(f"--image says nothing to {kind}.", fix="leave it out")
    folder = folder.absolute()
    wanted = _Wanted(cfg, plans, folder, retries, wait_s, image, sets, f"{MARK} {kind}, from {cfg.file.name}")
    texts, next_steps = _MAKERS[kind](wanted)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = {file.name: _is_ours(file) for file in folder.iterdir() if file.is_file()}
        foreign = [name for name in texts if found.get(name) is False]
        if foreign:
            raise InputError(
                f"{folder / foreign[0]} was not written by this command.", fix="choose another folder, or move it away"
            )
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise MachineError(f"{folder} cannot be written ({error.strerror}).", fix="choose another folder") from None
    old = tuple(sorted(name for name, ours in found.items() if ours and name not in texts))
    return Made(tuple(texts), old, next_steps)


def _is_ours(file: Path) -> bool:
    with file.open("rb") as lines:
        return MARK.encode() in lines.read(300)


def _scripts(wanted: _Wanted) -> dict[str, str]:
    program, conf = str(Path(sys.executable).with_name("twinrun")), str(wanted.cfg.file.absolute())
    return {
        f"twinrun-{plan.name}.sh": _rendered(
            "schedule.sh.j2",
            mark=wanted.mark,
            job=plan.name,
            root=str(wanted.cfg.root),
            commands=[shlex.join(words) for words in wanted.commands(plan.name, program, conf).values()],
            retries=wanted.retries,
            wait_s=wanted.wait_s,
        )
        for plan in wanted.plans
    }


def _cron(wanted: _Wanted) -> tuple[dict[str, str], tuple[str, ...]]:
    file = str(wanted.folder / "crontab")
    runs = [
        {"cron": plan.cron.plain, "script": str(wanted.folder / f"twinrun-{plan.name}.sh")} for plan in wanted.plans
    ]
    made = {"crontab": _rendered("schedule.crontab.j2", mark=wanted.mark, file=file, runs=runs), **_scripts(wanted)}
    return made, (f"next: crontab {shlex.quote(file)} (it replaces yours), and leave the folder where it is",)


def _systemd(wanted: _Wanted) -> tuple[dict[str, str], tuple[str, ...]]:
    made = _scripts(wanted)
    for plan in wanted.plans:
        script = str(wanted.folder / f"twinrun-{plan.name}.sh")
        words = {"mark": wanted.mark, "job": plan.name}
        made[f"twinrun-{plan.name}.service"] = _rendered("schedule.service.j2", script=script, **words)
        made[f"twinrun-{plan.name}.timer"] = _rendered("schedule.timer.j2", calendar=plan.cron.calendar, **words)
    units = " ".join(shlex.quote(str(wanted.folder / name)) for name in made if not name.endswith(".sh"))
    timers = " ".join(f"twinrun-{plan.name}.timer" for plan in wanted.plans)
    return made, (
        f"next: systemctl --user link {units}",
        f"      systemctl --user enable --now {timers}, and leave the folder where it is",
    )


def _airflow(wanted: _Wanted) -> tuple[dict[str, str], tuple[str, ...]]:
    scripts = {"ingest": "twinrun.streaming.ingest", "batch": "twinrun.batch.runner"}
    # Under spark-submit the connection says which master.
    master = ["--set", "spark.master=null"] if wanted.cfg.spark.master is not None else []
    arguments = ["--conf", str(wanted.cfg.file.absolute()), *wanted.set_words]
    checkout = Path(twinrun.__file__).parents[1]
    dist = checkout if (checkout / "pyproject.toml").exists() else wanted.cfg.root
    text = _rendered(
        "schedule_dag.py.j2",
        mark=wanted.mark,
        scripts={mode: _file_of(name) for mode, name in scripts.items()},
        arguments=[*arguments, *master],
        zip=str(dist / "dist/twinrun.zip"),
        jars=f"{jar_folder('spark')}/*.jar",
        runs=[{"job": plan.name, "cron": plan.cron.plain} for plan in wanted.plans],
        retries=wanted.retries,
        wait_s=wanted.wait_s,
        lands=wanted.lands,
    )
    return {"twinrun_dag.py": text}, (
        "next: put twinrun_dag.py into Airflow's folder of DAGs; paths in it are this machine's",
    )


def _k8s(wanted: _Wanted) -> tuple[dict[str, str], tuple[str, ...]]:
    made: dict[str, str] = {}
    owners: dict[str, str] = {}
    for plan in wanted.plans:
        name = _k8s_name(plan.name, owners)
        about: dict[str, Any] = {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": name, "labels": {"app.kubernetes.io/name": "twinrun"}},
            "spec": {
                "schedule": plan.cron.plain,
                "timeZone": "Etc/UTC",
                "concurrencyPolicy": "Forbid",
                "startingDeadlineSeconds": 3600,
                "jobTemplate": {"spec": {"backoffLimit": wanted.retries, "template": {"spec": _pod(wanted, plan)}}},
            },
        }
        made[f"{name}.yaml"] = f"# {wanted.mark}\n{_K8S_WORDS}{yaml.safe_dump(about, sort_keys=False, width=1000)}"
    return made, (f"next: kubectl apply -f {shlex.quote(str(wanted.folder))}",)


_K8S_WORDS = """\
# The image's working directory is the project. Variables that its configuration reads may stand in a Secret "twinrun".
# Overlap: Forbid. Misfire: a firing is made up for within an hour, once. Retry: backoffLimit, by Kubernetes' pauses.
"""


def _pod(wanted: _Wanted, plan: Plan) -> dict[str, Any]:
    """Ingest, then batch; each is the first process of its container, so that a signal reaches it."""
    file, root = wanted.cfg.file.absolute(), wanted.cfg.root
    conf = str(file.relative_to(root)) if file.is_relative_to(root) else str(file)
    *before, last = (
        {
            "name": mode,
            "image": wanted.image,
            "command": words,
            "envFrom": [{"secretRef": {"name": "twinrun", "optional": True}}],
        }
        for mode, words in wanted.commands(plan.name, "twinrun", conf).items()
    )
    first = {"initContainers": before} if before else {}
    return {"restartPolicy": "Never", "terminationGracePeriodSeconds": 45, **first, "containers": [last]}


def _k8s_name(job: str, owners: dict[str, str]) -> str:
    """The job's name as Kubernetes takes names: small letters, digits and dashes."""
    name = f"twinrun-{re.sub(r'[^a-z0-9]+', '-', job.lower()).strip('-')}"
    if len(name) > _LONGEST_NAME:
        raise InputError(
            f"the job {job} is {name} in Kubernetes, {len(name)} characters.", expected=f"at most {_LONGEST_NAME}"
        )
    if owners.setdefault(name, job) != job:
        raise InputError(f"the jobs {owners[name]} and {job} are both {name} in Kubernetes.", fix="rename one of them")
    return name


def _file_of(module: str) -> str:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise MachineError(f"{module} is not installed as a file.", fix="install twinrun with pip")
    return spec.origin


def _unit_word(text: str) -> str:
    """A word of a unit file: quoted, and nothing in it expanded."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$") + '"'


def _rendered(template: str, **values: Any) -> str:
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    environment.filters |= {"sh": shlex.quote, "unit": _unit_word, "py": repr}
    text = resources.files("twinrun.cli").joinpath("templates").joinpath(template).read_text(encoding="utf-8")
    return environment.from_string(text).render(**values)


_MAKERS = {Kind.cron: _cron, Kind.systemd: _systemd, Kind.airflow: _airflow, Kind.k8s: _k8s}
