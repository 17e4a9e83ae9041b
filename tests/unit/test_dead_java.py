"""A failure behind which Java died is told as that, whoever notices first; any other failure stays what it is."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from twinrun.errors import InputError, QueryError
from twinrun.session.spark import _not_of_py4j, death_behind


@pytest.fixture
def java() -> Iterator[subprocess.Popen[bytes]]:
    """A process in the place of Java: only its death matters here."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def session(process: subprocess.Popen[bytes]) -> Any:
    return SimpleNamespace(_sc=SimpleNamespace(_gateway=SimpleNamespace(proc=process)))


def test_a_refused_connection_after_the_death_is_told_as_the_death(java: subprocess.Popen[bytes]) -> None:
    assert death_behind(ConnectionRefusedError(), session(java)) is None
    java.kill()
    death = death_behind(ConnectionRefusedError(), session(java))
    assert death is not None
    assert death.found.startswith(f"Spark's Java process {java.pid} ended while the job ran")
    assert death.exit_code == 2


def test_a_query_error_with_a_cause_may_be_the_death_and_a_refusal_is_not(java: subprocess.Popen[bytes]) -> None:
    java.kill()
    failed = QueryError("the stream failed: Answer from Java side is empty")
    failed.__cause__ = ConnectionResetError()
    assert death_behind(failed, session(java)) is not None
    assert death_behind(InputError("no such job"), session(java)) is None


def test_a_session_without_a_java_of_its_own_has_no_death() -> None:
    assert death_behind(ConnectionRefusedError(), SimpleNamespace()) is None  # type: ignore[arg-type]


def test_traces_of_py4j_on_the_root_logger_are_left_out_and_others_are_not() -> None:
    def record(path: str) -> logging.LogRecord:
        return logging.LogRecord("root", logging.ERROR, path, 1, "Exception while sending command.", None, None)

    assert not _not_of_py4j(record("py4j/java_gateway.py"))
    assert _not_of_py4j(record("mine.py"))
