"""What values made fail is told from what the machine, the broker or the storage did, by Spark's own texts."""

from __future__ import annotations

import pytest

from twinrun.errors import QueryError
from twinrun.session.plain import data_failure, plain_cause

DIVISION = (
    "[DIVIDE_BY_ZERO] Division by zero. Use `try_divide` to tolerate divisor being 0 and return NULL instead. If "
    'necessary set "spark.sql.ansi.enabled" to "false" to bypass this error. SQLSTATE: 22012'
)
CAST = (
    '[CAST_INVALID_INPUT] The value \'a. b\' of the type "STRING" cannot be cast to "INT" because it is malformed. '
    "Correct the value as per the syntax, or change its target type. Use `try_cast` to tolerate malformed input. "
    "SQLSTATE: 22018"
)
WRITE = "[TASK_WRITE_FAILED] Task failed while writing rows to file:/x. SQLSTATE: 58030"
PYTHON = (
    "Caused by: org.apache.spark.api.python.PythonException: Traceback (most recent call last):\n"
    '  File "job.py", line 3, in <lambda>\nZeroDivisionError: integer division or modulo by zero\n'
)


@pytest.mark.parametrize(
    ("text", "condition", "sentence"),
    [
        (DIVISION, "DIVIDE_BY_ZERO", "Division by zero"),
        (f"{WRITE}\nCaused by: org.apache.spark.SparkArithmeticException: {DIVISION}", "DIVIDE_BY_ZERO", "Division"),
        (CAST, "CAST_INVALID_INPUT", 'The value \'a. b\' of the type "STRING" cannot be cast to "INT"'),
        ("[USER_RAISED_EXCEPTION] no total SQLSTATE: P0001", "USER_RAISED_EXCEPTION", "no total"),
        (PYTHON, "PYTHON", "ZeroDivisionError: integer division or modulo by zero"),
    ],
)
def test_a_failure_of_values_is_told_in_one_sentence(text: str, condition: str, sentence: str) -> None:
    try:
        raise QueryError("the stream failed") from RuntimeError(text)
    except QueryError as error:
        found = data_failure(error)
    assert found is not None
    assert found.condition == condition
    assert found.sentence.startswith(sentence)
    assert "ansi" not in found.sentence
    assert "try_" not in found.sentence


@pytest.mark.parametrize(
    "text",
    [
        WRITE,
        f"No space left on device\n{DIVISION}",
        "[KAFKA_DATA_LOSS.COULD_NOT_READ_OFFSET_RANGE] lost. SQLSTATE: 22000",
        "[UNRESOLVED_COLUMN] no column. SQLSTATE: 42703",
        "java.lang.OutOfMemoryError: Java heap space",
    ],
)
def test_what_is_no_failure_of_values_is_none(text: str) -> None:
    assert data_failure(RuntimeError(text)) is None


def test_nobody_is_advised_to_turn_strictness_off() -> None:
    assert "ansi" not in plain_cause(RuntimeError(DIVISION))
