"""Spark's failures in one plain sentence: the innermost cause, never a Java trace."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pyspark.errors import PySparkException

from twinrun.errors import QueryError, TwinrunError

_CAUSED = re.compile(r"(?:Caused by: |^)(?:[\w$]+\.)+([\w$]+(?:Exception|Error)[\w$]*): ?(.*)$", re.MULTILINE)
_NOISE = re.compile(
    r"\s*SQLSTATE: \w+|\s*=== Streaming Query ===.*"
    # Spark's advice would turn what fails into a null in silence, everywhere.
    r"|\s*If necessary set \S+ to \"false\" to bypass this error\.",
    re.DOTALL,
)
_DATA = re.compile(
    r"\[([A-Z][A-Z0-9_.]+)\] ((?:(?!\[[A-Z][A-Z0-9_.]+\] ).)*?)\s*SQLSTATE: (?:22\w{3}|P0001)", re.DOTALL
)
_ADVICE = re.compile(r"\.? (?:Use `try_|Correct the value as per).*")
_RAISED = r"\n((?:\w+\.)*\w+(?:Error|Exception): .*?)(?:\n|$)"
_PYTHON = re.compile(rf"api\.python\.PythonException: (?:Traceback|\[\w+\]).*?{_RAISED}", re.DOTALL)
_KNOWN = (
    (
        r"No space left on device",
        "the disk is full",
        "free disk space, then run the same command again: nothing is lost",
    ),
    (
        r"UnknownTopicOrPartitionException|UNKNOWN_TOPIC|does not host this topic",
        "the Kafka topic does not exist",
        "check the topic's name in conf/, or create it",
    ),
    (
        r"KAFKA_DATA_LOSS|Some data may have been lost|OffsetOutOfRange|PartitionOffsetChanged",
        "Kafka no longer has offsets that were not read yet (the topic was truncated, deleted or expired)",
        "restore the topic, or start anew with --new-checkpoint: verify then names what lies before the start",
    ),
    (
        r"driver\.api\.core\.auth\.AuthenticationException",
        "Cassandra refuses the user or the password, or wants them",
        "set the environment variables TWINRUN_CASSANDRA_USER and TWINRUN_CASSANDRA_PASSWORD",
    ),
    (
        r"TimeoutException.*(?:metadata|topic|node)|Failed to construct kafka|No resolvable bootstrap|Timed out",
        "Kafka cannot be reached",
        "check kafka.bootstrap_servers in conf/ and that the broker runs (twinrun broker status)",
    ),
)
_LONGEST = 400


def plain_cause(error: BaseException) -> str:
    """The innermost cause of a Spark error as one line without class paths, traces and error codes."""
    text = _text_of(error)
    causes = _CAUSED.findall(text)
    message = causes[-1][1] or causes[-1][0] if causes else text
    first = next((line.strip() for line in _NOISE.sub("", message).splitlines() if line.strip()), type(error).__name__)
    return first[:_LONGEST]


def query_error(doing: str, error: BaseException) -> QueryError:
    """A `QueryError` that says what was being done, the plain cause, and what to do."""
    text = _text_of(error)
    for pattern, found, fix in _KNOWN:
        if re.search(pattern, text, re.DOTALL):
            return QueryError(f"{doing} failed: {found}.", fix=fix)
    return QueryError(f"{doing} failed: {plain_cause(error)}")


@contextmanager
def plain_errors(doing: str) -> Iterator[None]:
    """Turn any Spark or Java failure inside the block into one `QueryError`."""
    try:
        yield
    except TwinrunError:
        raise
    except PySparkException as error:
        raise query_error(doing, error) from error
    except Exception as error:
        if type(error).__module__.startswith("py4j"):
            raise query_error(doing, error) from error
        raise


@dataclass(frozen=True)
class DataFailure:
    """Why a function failed on values that it was given: Spark's condition, such as DIVIDE_BY_ZERO, in plain words."""

    condition: str
    sentence: str


def data_failure(error: BaseException) -> DataFailure | None:
    """What values made a function fail, by Spark's own error class; None where something else failed.

    Spark gives errors of values the SQLSTATE class 22 of the SQL standard (data exception), and ``raise_error`` and
    ``assert_true`` the state P0001. What a Python function raises counts too.
    """
    text = "\n".join(_text_of(each) for each in _chain(error))
    if any(re.search(pattern, text, re.DOTALL) for pattern, _, _ in _KNOWN):
        return None
    found = [each for each in _DATA.findall(text) if not each[0].startswith("KAFKA")]
    if found:
        condition, sentence = found[-1]
        words = _ADVICE.sub("", " ".join(_NOISE.sub("", sentence).split())).rstrip(".;")
        return DataFailure(condition, words[:_LONGEST])
    raised = _PYTHON.findall(text)
    return DataFailure("PYTHON", raised[-1].strip()[:_LONGEST]) if raised else None


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and len(found) < 10:
        found.append(current)
        current = current.__cause__
    return found


def _text_of(error: BaseException) -> str:
    # A query's exception keeps what Java threw apart, with all of its causes.
    java = getattr(error, "java_exception", None) or getattr(getattr(error, "_cause", None), "_origin", None)
    if java is not None:
        try:
            return f"{error}\n{_java_causes(java)}"
        except Exception:  # the JVM is gone: what Python already has must do
            return str(error)
    return f"{error}\n{getattr(error, '_cause', '') or ''}\n{getattr(error, '_stackTrace', '') or ''}"


def _java_causes(java: object) -> str:
    lines = []
    current = java
    for _ in range(30):
        if current is None:
            break
        lines.append(f"Caused by: {current.toString()}")  # type: ignore[attr-defined]
        current = current.getCause()  # type: ignore[attr-defined]
    return "\n".join(lines)
