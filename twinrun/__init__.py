"""Run one job definition as batch and as stream on Spark, and prove why every differing row differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twinrun.events.source import Avro, Protobuf, Source
from twinrun.job.job import Job, Table
from twinrun.tolerance import Tolerance, absolute, rel

if TYPE_CHECKING:
    from twinrun.api import compare, verify

__all__ = ["Avro", "Job", "Protobuf", "Source", "Table", "Tolerance", "absolute", "compare", "rel", "verify"]


def __getattr__(name: str) -> Any:
    """`verify` and `compare`, loaded where they are asked for: a job file needs neither."""
    if name in ("compare", "verify"):
        from twinrun import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
