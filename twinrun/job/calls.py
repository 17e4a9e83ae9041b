"""Call a job's function, and tell what goes wrong in one plain sentence with the line of the job file."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Mapping
from pathlib import Path

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame

from twinrun.config.nearest import nearest
from twinrun.job.job import Job
from twinrun.job.problem import Problem

_CONDITION = re.compile(r"^\s*\[[A-Z0-9_.]+\]\s*")
_STATE = re.compile(r"\s*SQLSTATE: \w+.*$", re.DOTALL)
_IS_ACTION = ("writeStream.start", "can not be called on streaming")
_LONGEST = 400


def call_logic(
    job: Job, frames: Mapping[str, DataFrame], *, streaming: bool = False
) -> tuple[DataFrame | None, list[Problem]]:
    """Call the function over frames and analyse the result. No Spark job of ours; an action in it would run one.

    Returns
    -------
    DataFrame or None
        The result; None where there is none.
    list of Problem
        At most one: Spark and Python stop at the first error.
    """
    try:
        result = job.apply(dict(frames))
        if not isinstance(result, DataFrame):
            kind = type(result).__name__
            change = "end the function in return ...select(...)"
            return None, [Problem(f"the function returns {kind}", "a DataFrame", change)]
        # Spark Connect analyses a plan only when its schema is asked for.
        _ = result.schema
    except AnalysisException as error:
        return None, [spark_problem(error, _where(job, error), streaming=streaming)]
    except Exception as error:
        return None, [Problem(f"{_where(job, error)}: {type(error).__name__}: {plain_sentence(error)}")]
    return result, []


def spark_problem(error: AnalysisException, where: str, *, streaming: bool = False) -> Problem:
    """Spark's refusal as a problem; an unknown column comes with the columns that there are."""
    sentence = plain_sentence(error)
    if streaming and any(words in sentence for words in _IS_ACTION):
        found = f"{where}: the function runs an action or a write, which a stream cannot do"
        return Problem(found, "lazy operations only", "leave count, collect, cache, toPandas and write out of the job")
    condition = error.getCondition() or ""
    if condition.startswith("UNRESOLVED_COLUMN.WITH_SUGGESTION"):
        parameters = error.getMessageParameters() or {}
        name, known = _bare(parameters.get("objectName", "")), _bare(parameters.get("proposal", ""))
        match = nearest(name, known.split(", "))
        return Problem(
            f"{where}: there is no column {name!r}",
            f"among others {known}",
            f"write {match!r}" if match else "name one that is there",
        )
    return Problem(f"{where}: {sentence}")


def plain_sentence(error: BaseException) -> str:
    """The first sentence or two of an error, without error class, SQL state, plan and Java trace."""
    text = _CONDITION.sub("", str(error).strip())
    text = _STATE.sub("", text.split("\n", 1)[0]).strip().rstrip(";").strip()
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def _bare(text: str) -> str:
    return text.replace("`", "")


def _where(job: Job, error: BaseException) -> str:
    """The innermost line of the job file that the error passed through."""
    try:
        file = inspect.unwrap(job.logic).__code__.co_filename
    except AttributeError:
        return job.job_name
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{Path(file).name} line {lines[-1]}" if lines else Path(file).name
