"""Run one job definition as batch and as stream on Spark, and prove why every differing row differs."""

from __future__ import annotations

from twinrun.compare.tolerance import Tolerance, absolute, rel
from twinrun.events.source import Source
from twinrun.job.job import Job
from twinrun.job.table import Table

__all__ = ["Job", "Source", "Table", "Tolerance", "absolute", "rel"]
