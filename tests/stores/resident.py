"""Command lines of one Spark session after another, read from standard input: a JVM for each would cost the most.

Each line in is a JSON object of ``arguments`` and ``env``, each line out one of ``code`` and ``said``: what the
program's own main function printed, and what Java wrote meanwhile. The first command decides how the session is set up,
with the drivers that are named on the command line. Run by `tests.stores.command.in_session`.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import twinrun.session.spark as session
from twinrun.cli.app import main


def keep_session(drivers: list[str]) -> None:
    """Commands use one session: the first one's, which has all drivers."""
    built, real = [], session.build_session

    def once(name: str, conf: Mapping[str, str], *, master: str | None, drivers: Any = (), every: Any = drivers) -> Any:
        if not built:
            built.append(real(name, conf, master=master, drivers=every))
        return built[0]

    session.build_session = once
    session.stop_session = lambda _: None
    session.watch_jvm = lambda *_: None


def ran(arguments: list[str], env: Mapping[str, str], log: Path) -> dict[str, Any]:
    """One command, under these variables for its time."""
    before, written = dict(os.environ), log.stat().st_size
    os.environ.update(env)
    printed = io.StringIO()
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            code = main(arguments)
    finally:
        os.environ.clear()
        os.environ.update(before)
    java = log.read_bytes()[written:].decode(errors="replace")
    return {"code": code, "said": printed.getvalue() + java}


def serve(log: Path, drivers: list[str]) -> None:
    """Until standard input ends. What Java writes goes to the log; answers alone go to standard output."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    keep_session(drivers)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(ran(asked["arguments"], asked["env"], log)), file=answers, flush=True)
    os._exit(0)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2:])
