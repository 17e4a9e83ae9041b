"""What a machine and a configuration need before anything can run, checked one by one and without Spark."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from twinrun.broker.files import LOOPBACK, free_ports, port_is_free
from twinrun.broker.process import broker_status
from twinrun.broker.topics import cluster_id, describe_topic
from twinrun.cli.broker import data_dir
from twinrun.config.model import Config
from twinrun.errors import TwinrunError
from twinrun.job.loader import list_jobs
from twinrun.session.jars import SET_NAMES, verify_jars
from twinrun.session.java import find_java
from twinrun.session.settings import cache_dir
from twinrun.tables.files import local_path
from twinrun.wording import plural

LEAST_FREE_GB = 2.0
NEWEST_PYTHON = (3, 13)
_GB = 1e9


@dataclass(frozen=True)
class Finding:
    """One line of the doctor: what was looked at, whether it is in order, what was seen, and what to do if not."""

    name: str
    ok: bool
    found: str
    fix: str = ""


def machine_findings() -> Iterator[Finding]:
    """Python, its packages, Java, the jars, ports and disk: what does not depend on a configuration."""
    yield _python()
    yield _packages()
    yield _checked("Java", _java)
    for name in SET_NAMES:
        yield _checked(f"{name} jars", partial(_jars, name))
    yield _checked("ports", lambda: f"free on {LOOPBACK}, such as {free_ports(1)[0]}")
    yield _checked("cache", lambda: str(cache_dir()))


def config_findings(cfg: Config) -> Iterator[Finding]:
    """Jobs, tables, disk and broker: what a configuration leads to."""
    yield _jobs(cfg)
    yield _warehouse(cfg)
    yield _disk(cfg)
    broker = _broker(cfg)
    yield broker
    if broker.ok:
        for source in sorted(cfg.sources):
            yield _checked(f"topic of {source}", partial(_topic, cfg, source))


def _checked(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, look())
    except TwinrunError as error:
        expected = f" (expected: {error.expected})" if error.expected else ""
        return Finding(name, False, f"{error.found}{expected}", error.fix)
    except OSError as error:
        return Finding(name, False, f"{error.strerror or error}", "free or permit what is named")


def _python() -> Finding:
    found = sys.version_info[:3]
    text = ".".join(map(str, found))
    if found[:2] <= NEWEST_PYTHON:
        return Finding("Python", True, f"{text} ({sys.executable})")
    newest = ".".join(map(str, NEWEST_PYTHON))
    return Finding("Python", False, f"{text} is newer than Spark's workers know", f"use Python 3.11 to {newest}")


def _packages() -> Finding:
    fix = "run: make setup, or: python -m pip install --require-hashes -r requirements/runtime.txt"
    try:
        needed = [Requirement(text) for text in requires("twinrun") or ()]
    except PackageNotFoundError:
        return Finding("packages", False, "twinrun itself is not installed", fix)
    wanted = [each for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    wrong = [problem for each in wanted if (problem := _package_problem(each))]
    if wrong:
        return Finding("packages", False, "; ".join(wrong), fix)
    return Finding("packages", True, f"{len(wanted)} in the versions that twinrun needs")


def _package_problem(needed: Requirement) -> str:
    try:
        found = version(needed.name)
    except PackageNotFoundError:
        return f"{needed.name} is missing"
    return (
        ""
        if needed.specifier.contains(found, prereleases=True)
        else f"{needed.name} is {found}, not {needed.specifier}"
    )


def _java() -> str:
    java = find_java()
    return f"{java.version} from {java.source} ({java.home})"


def _jars(set_name: str) -> str:
    return f"{len(verify_jars(set_name))} jars, SHA-256 verified"


def _jobs(cfg: Config) -> Finding:
    files = list_jobs(cfg)
    broken = [f"{file.name}: {file.error}" for file in files if file.error]
    if broken:
        return Finding("jobs", False, "; ".join(broken), "correct the job files; twinrun jobs lists them")
    return Finding("jobs", True, ", ".join(file.name for file in files) or "none yet")


def _warehouse(cfg: Config) -> Finding:
    folder = local_path(cfg, cfg.warehouse)
    if folder is None:
        return Finding("warehouse", True, f"{cfg.warehouse} (not on this machine: not checked)")
    place = _existing(folder)
    try:
        # Asking for rights is not enough: a disk can be full or mounted read-only.
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"x")
    except OSError as error:
        what = f"{folder} cannot be written ({error.strerror})"
        return Finding("warehouse", False, what, "give rights to it, or set warehouse to another place")
    return Finding("warehouse", True, f"{folder} can be written")


def _disk(cfg: Config) -> Finding:
    place = _existing(local_path(cfg, cfg.warehouse) or Path.cwd())
    free_gb = shutil.disk_usage(place).free / _GB
    text = f"{free_gb:.1f} GB free at {place}"
    if free_gb < LEAST_FREE_GB:
        return Finding("disk", False, text, f"free some: {LEAST_FREE_GB:.0f} GB is the least for the demo")
    return Finding("disk", True, text)


def _broker(cfg: Config) -> Finding:
    servers = cfg.kafka.bootstrap_servers
    found = _checked(
        "broker", lambda: f"{servers} answers (cluster {cluster_id(servers, cfg.kafka.confluent_options())})"
    )
    if found.ok:
        return found
    host, _, port = servers.rpartition(":")
    own = broker_status(data_dir(cfg))
    if own is not None:
        setting = f"--set kafka.bootstrap_servers={own.bootstrap_servers}"
        return Finding("broker", False, found.found, f"the development broker runs elsewhere: add {setting}")
    if host in (LOOPBACK, "localhost") and port_is_free(int(port)):
        return Finding("broker", False, found.found, "start the development broker: twinrun broker start")
    return found


def _topic(cfg: Config, source: str) -> str:
    topic = cfg.source(source).topic
    info = describe_topic(cfg.kafka.bootstrap_servers, topic, cfg.kafka.confluent_options())
    kind = info.config.get("message.timestamp.type", "")
    # With LogAppendTime a record's timestamp is not when the event became known.
    remark = ", its timestamps are the broker's own (LogAppendTime)" if kind == "LogAppendTime" else ""
    return f"{topic}, {plural(info.partitions, 'partition')}{remark}"


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    here = folder.absolute()
    while not here.exists() and here != here.parent:
        here = here.parent
    return here if os.path.isdir(here) else here.parent
