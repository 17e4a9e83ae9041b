"""Run one job definition as batch and as stream on Spark, and prove why every differing row differs."""

from __future__ import annotations

from twinrun.api import compare, verify
from twinrun.events.source import Avro, Protobuf, Source
from twinrun.job.job import Job, Table
from twinrun.tolerance import Tolerance, absolute, rel

__all__ = ["Avro", "Job", "Protobuf", "Source", "Table", "Tolerance", "absolute", "compare", "rel", "verify"]
