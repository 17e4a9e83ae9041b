"""Command lines through the program's own main function, on a session that is there already."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass

import pytest
from pyspark.sql import SparkSession

import twinrun.session.spark
from twinrun.cli.app import main


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


def run(*arguments: str) -> Ran:
    """One command line, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(arguments)
    return Ran(code, out.getvalue(), err.getvalue())


@contextmanager
def on_session(spark: SparkSession) -> Iterator[SparkSession]:
    """Commands use this session for a block: a JVM for each would cost more than what they do in it."""
    with sessions_by(lambda *_, **__: spark):
        yield spark


@contextmanager
def sessions_by(build: Callable[..., SparkSession]) -> Iterator[None]:
    """Commands get their session from here for a block, called as `build_session` is, and leave it as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(twinrun.session.spark, "build_session", build)
        patch.setattr(twinrun.session.spark, "stop_session", lambda _: None)
        patch.setattr(twinrun.session.spark, "watch_jvm", lambda *_: None)
        yield
