"""The same job over the topic of one partition."""

from __future__ import annotations

from dataclasses import replace

from pyspark.sql import DataFrame
from sales import ORDERS, sales

from twinrun import Job


def sales_one(orders_one: DataFrame) -> DataFrame:
    """Orders and cents per shop and minute of the order."""
    return sales(orders_one)


JOB = Job(sales_one, sources=[replace(ORDERS, name="orders_one")], keys=["shop", "window_start"], window="1 minute")
