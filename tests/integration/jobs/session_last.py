"""The amount of the last click of a session, in the order in which rows come."""

from __future__ import annotations

from dataclasses import replace

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from sessions_by_amount import JOB as BY_AMOUNT
from sessions_by_amount import per_session


def session_last(clicks: DataFrame) -> DataFrame:
    """The amount of the last click of a session, in the order in which rows come."""
    return per_session(clicks, F.last("amount"))


JOB = replace(BY_AMOUNT, logic=session_last)
