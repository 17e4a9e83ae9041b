"""A job's fingerprint: what must not change under a checkpoint or an incremental table."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from twinrun.events.decode import DECODER_VERSION, declaration_fingerprint, event_schema
from twinrun.events.source import Source
from twinrun.job.code import file_code, row_code
from twinrun.job.job import Job
from twinrun.job.jvmplan import explained
from twinrun.session.settings import with_settings

_EXPRESSION_ID = re.compile(r"#\d+L?")
# Spark shortens what it shows of a plan, and what it leaves out could be what was changed.
_WHOLE = {"spark.sql.maxPlanStringLength": str(2**31 - 64), "spark.sql.debug.maxToStringFields": str(2**31 - 1)}
DECODER = "how this version of twinrun decodes records (docs/decoding.md)"
"""The words of `changed_parts` for what twinrun changed, and not the job."""
_WORDS = {
    "plan": "the logic (its analysed plan)",
    "code": "the Python code of a job that has UDFs",
    "schema": "the result's schema",
    "keys": "keys",
    "grain": "window, slide or gap",
    "emit": "emit or delete_when",
    "decoder": DECODER,
    "sources": "a source's declaration (schema, event time, lateness, rules)",
    "tables": "the static tables",
}


def fingerprint(spark: SparkSession, job: Job, tables: dict[str, StructType]) -> dict[str, Any]:
    """What identifies the job's meaning, part by part, each a short text. No Spark job.

    Two definitions with equal fingerprints give equal results on equal events. Comments, names of variables and
    tolerances do not count; Python code counts only where the job runs Python functions on rows, and then with the
    modules of the project that its file uses.
    """
    result = job.apply(empty_inputs(spark, job, tables))
    return {
        "plan": _short(_EXPRESSION_ID.sub("#", _analysed_plan(spark, result))),
        "code": _short(row_code(job)),
        "schema": result.schema.simpleString(),
        "keys": json.dumps(job.keys),
        "grain": json.dumps([job.window_ms, job.slide_ms, job.gap, job.window_column]),
        "emit": json.dumps([job.emit, job.delete_when]),
        "decoder": DECODER_VERSION,
        "sources": json.dumps({s.name: _meaning(s) for s in job.sources}, sort_keys=True),
        "tables": json.dumps([asdict(t) for t in job.tables]),
        # Not compared themselves: they tell a change of Spark from a change of the job.
        "spark": spark.version,
        "file": _short(file_code(job)),
    }


def _meaning(source: Source) -> list[Any]:
    """What of a source's declaration changes results; what came later stands there only where it is used."""
    return [declaration_fingerprint(source), source.lateness, *([source.distinct] if source.distinct else [])]


def changed_parts(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Which parts differ, in words for people; empty when the two mean the same."""
    made_by = other_spark(old, new)
    if made_by:
        return [
            f"how Spark reads the logic (the fingerprint was made by Spark {made_by}, this is {new['spark']}: the "
            "logic of your file did not change)"
        ]
    return [words for part, words in _WORDS.items() if old.get(part) != new.get(part)]


def other_spark(old: dict[str, Any], new: dict[str, Any]) -> str:
    """The Spark version that made ``old``, where nothing but Spark's plan of the same code differs; else empty."""
    differing = [part for part in _WORDS if old.get(part) != new.get(part)]
    same_file = bool(old.get("file")) and old.get("file") == new.get("file")
    other = bool(old.get("spark")) and old.get("spark") != new.get("spark")
    return str(old["spark"]) if differing == ["plan"] and same_file and other else ""


def accepted(old: dict[str, Any], new: dict[str, Any], plans_of: str | None) -> bool:
    """Whether the two differ by a Spark version alone that the user has accepted."""
    return bool(plans_of) and other_spark(old, new) == plans_of


def empty_inputs(spark: SparkSession, job: Job, tables: dict[str, StructType]) -> dict[str, DataFrame]:
    """Empty batch frames with the schemas that the job's function sees."""
    frames = {source.name: spark.createDataFrame([], event_schema(source)) for source in job.sources}
    return frames | {name: spark.createDataFrame([], schema) for name, schema in tables.items()}


def _analysed_plan(spark: SparkSession, frame: DataFrame) -> str:
    with with_settings(spark, _WHOLE):
        shown = explained(frame)
    after = shown.split("== Analyzed Logical Plan ==", 1)[1]
    return after.split("== Optimized Logical Plan ==", 1)[0]


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""
