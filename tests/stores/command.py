"""The command line as a user has it, and a project in which one job of tests/stores/jobs reads one topic."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from tests.stores.servers import PASSWORD, USER
from twinrun.broker.process import BrokerInfo

_WHO = {"USER": USER, "PASSWORD": PASSWORD}
LOGIN = {f"TWINRUN_{kind}_{name}": value for kind in ("JDBC", "CASSANDRA") for name, value in _WHO.items()}
_TWINRUN = Path(sys.executable).parent / "twinrun"
_ROOT = Path(__file__).resolve().parents[2]
_JOBS = Path(__file__).parent / "jobs"
Run = Callable[..., tuple[int, str]]


def twinrun(*arguments: str, folder: Path = Path("/"), env: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit code, and all that was printed; no password and no Java trace is ever in it."""
    done = subprocess.run(
        [str(_TWINRUN), *arguments],
        env={**os.environ, **(LOGIN if env is None else env)},
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=400,
    )
    said = done.stdout + done.stderr
    assert PASSWORD not in said
    assert "\tat " not in said, said
    return done.returncode, said


_resident: dict[str, subprocess.Popen[str]] = {}


def in_session(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """The same of a command that compares, in a process and a session that stay for the next ones."""
    kind = "cassandra" if any(each.startswith("cassandra:") for each in arguments) else "jdbc"
    if kind not in _resident:
        _resident[kind] = _started(("cassandra",) if kind == "cassandra" else ("postgresql", "mariadb"))
    process = _resident[kind]
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps({"arguments": arguments, "env": LOGIN if env is None else env}) + "\n")
    process.stdin.flush()
    answer = json.loads(process.stdout.readline())
    said = str(answer["said"])
    assert PASSWORD not in said
    assert "\tat " not in said, said
    return answer["code"], said


def _started(drivers: tuple[str, ...]) -> subprocess.Popen[str]:
    log = Path(tempfile.mkdtemp(prefix="twinrun-stores-")) / "java.log"
    command = [sys.executable, "-m", "tests.stores.resident", str(log), *drivers]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
    atexit.register(process.kill)
    return process


def parquet(folder: Path, rows: dict[str, Any], **schema: Any) -> str:
    path = folder / "rows.parquet"
    pl.DataFrame(rows, schema_overrides=schema).write_parquet(path)
    return str(path)


def compared(left: str, right: str, *more: str, keys: str = "id", run: Run = in_session) -> dict[str, Any]:
    code, said = run("compare", left, right, "--keys", keys, "--json", *more)
    assert code in (0, 1), said
    found: dict[str, Any] = json.loads(said[said.index("{") :])
    return {"code": code, "rows": found["batch"]["rows"], "others": sum(found["rows_different"].values()), **found}


def make_project(folder: Path, broker: BrokerInfo, job: str, source: str, topic: str) -> None:
    """conf/local.yaml and the job's file."""
    conf = folder / "conf/local.yaml"
    conf.parent.mkdir()
    conf.write_text(
        f"kafka: {{bootstrap_servers: '{broker.bootstrap_servers}'}}\nwarehouse: ./wh\nreport: {{folder: ./reports}}\n"
        "spark: {master: 'local[2]'}\n"
        f"sources: {{{source}: {{topic: {topic}}}}}\njobs: {{{job}: {{path: job.py}}}}\n",
        encoding="utf-8",
    )
    (folder / "job.py").write_text((_JOBS / f"{job}.py").read_text(encoding="utf-8"), encoding="utf-8")
