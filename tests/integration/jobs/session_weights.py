"""The sum of weights per session, which depends on the order of adding."""

from __future__ import annotations

from dataclasses import replace

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from sessions_by_amount import JOB as BY_AMOUNT
from sessions_by_amount import per_session


def session_weights(clicks: DataFrame) -> DataFrame:
    """The sum of weights per session, which depends on the order of adding."""
    return per_session(clicks, F.sum("weight"))


JOB = replace(BY_AMOUNT, logic=session_weights)
