"""The entry point that spark-submit starts: the same runs as the CLI, with the standard library's argument parser."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twinrun.config.load import load_config
from twinrun.errors import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_OK, InputError, TwinrunError
from twinrun.job.loader import load_job
from twinrun.results.records import RunSummary, counts_of
from twinrun.session.plain import plain_errors
from twinrun.session.spark import build_session, stop_session, watch_jvm

Run = Callable[..., RunSummary | list[RunSummary]]
_SCRIPTS = {"batch": "batch/runner.py", "stream": "streaming/runner.py", "ingest": "streaming/ingest.py"}


def submitted(mode: str, run: Run, argv: list[str]) -> int:
    """Run one job under spark-submit; returns the exit code.

    Arguments: ``JOB`` (a name in conf or a job file), ``--conf FILE``, ``--set key=value`` (repeatable),
    ``--fresh earliest|latest|TIME`` (a new checkpoint; for the batch: everything anew; an ingest has none).
    """
    parser = argparse.ArgumentParser(prog=_SCRIPTS[mode], description=f"Run a twinrun job as {mode}.")
    parser.add_argument("job", help="a job's name in the configuration, or the path of its file")
    parser.add_argument("--conf", required=True, type=Path, help="the YAML configuration")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one setting")
    if mode != "ingest":
        starts = "earliest, latest, an ISO time, or TOPIC:PARTITION:OFFSET,... for every partition"
        parser.add_argument("--fresh", default=None, help=f"start over: {starts}")
    arguments = parser.parse_args(argv)
    stop = stop_on_signal()
    spark = None
    try:
        cfg = load_config(arguments.conf, arguments.set)
        job = load_job(job_file(cfg, arguments.job))
        with plain_errors(f"{mode} {job.job_name}"):
            spark = build_session(f"twinrun {mode} {job.job_name}", cfg.spark.session_conf(), master=cfg.spark.master)
            watch_jvm(spark)
            done = run(spark, cfg, job, getattr(arguments, "fresh", None), stop)
        for each in done if isinstance(done, list) else [done]:
            print(f"{mode} {each.name}: {', '.join(counts_of(each))}, table {each.table} version {each.version}")
        return EXIT_OK
    except TwinrunError as error:
        print(f"error: {error.sentence()}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    finally:
        if spark is not None:
            stop_session(spark)


def job_file(cfg: Any, wanted: str) -> Path:
    """The file of a job given by its name in conf, or by a path.

    Raises
    ------
    InputError
        It is neither; the message lists the names that conf knows.
    """
    if wanted in cfg.jobs:
        return Path(cfg.jobs[wanted].path)
    if wanted.endswith(".py") or "/" in wanted:
        return Path(wanted)
    raise InputError(
        f"there is no job {wanted!r} in {cfg.file}.",
        expected="one of " + ", ".join(sorted(cfg.jobs)) + ", or the path of a job file",
    )


def stop_on_signal() -> threading.Event:
    """An event that SIGTERM sets, so that a query ends in order; outside the main thread it is never set."""
    stop = threading.Event()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
    return stop
