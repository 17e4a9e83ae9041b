"""Command lines of one Spark session after another, read from standard input: a JVM for each would cost the most.

Each line in is a JSON object of ``arguments`` and ``env``, each line out one of ``code`` and ``said``: what the
program's own main function printed, and what Java wrote meanwhile. The first command decides how the session is set up,
with the drivers that are named on the command line. Run by `tests.stores.command.in_session`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from tests.integration.commands import run, sessions_by
from twinrun.session.spark import build_session


def built_once(drivers: list[str]) -> Callable[..., SparkSession]:
    """The first command's session, with all drivers, for each of them."""
    built: list[SparkSession] = []

    def build(name: str, conf: Mapping[str, str], **given: Any) -> SparkSession:
        if not built:
            built.append(build_session(name, conf, **{**given, "drivers": drivers}))
        return built[0]

    return build


def ran(arguments: list[str], env: Mapping[str, str], log: Path) -> dict[str, Any]:
    """One command, under these variables for its time."""
    written = log.stat().st_size
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        done = run(*arguments)
    java = log.read_bytes()[written:].decode(errors="replace")
    return {"code": done.code, "said": done.out + done.err + java}


def serve(log: Path, drivers: list[str]) -> None:
    """Until standard input ends. What Java writes goes to the log; answers alone go to standard output."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    with sessions_by(built_once(drivers)):
        for line in sys.stdin:
            asked = json.loads(line)
            print(json.dumps(ran(asked["arguments"], asked["env"], log)), file=answers, flush=True)
    os._exit(0)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2:])
