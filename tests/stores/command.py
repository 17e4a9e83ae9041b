"""The command line as a user has it, and a project in which one job of tests/stores/jobs reads one topic."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl

from tests.stores.servers import PASSWORD, USER
from twinrun.broker.process import BrokerInfo

_WHO = {"USER": USER, "PASSWORD": PASSWORD}
LOGIN = {f"TWINRUN_{kind}_{name}": value for kind in ("JDBC", "CASSANDRA") for name, value in _WHO.items()}
_TWINRUN = Path(sys.executable).parent / "twinrun"
_JOBS = Path(__file__).parent / "jobs"


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


def parquet(folder: Path, rows: dict[str, Any], **schema: Any) -> str:
    path = folder / "rows.parquet"
    pl.DataFrame(rows, schema_overrides=schema).write_parquet(path)
    return str(path)


def compared(left: str, right: str, *more: str, keys: str = "id") -> dict[str, Any]:
    code, said = twinrun("compare", left, right, "--keys", keys, "--json", *more)
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
