"""Delete rows of one table, counted, in one commit."""

from __future__ import annotations

from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.maintain.result import Removal
from twinrun.tables.delta import delta_table, one_change, read_table, table_exists


def delete_marked(spark: SparkSession, table: str, ref: str, marked: DataFrame, same: str, apply: bool) -> Removal:
    """Rows that match a row of ``marked``: counted, and with ``apply`` deleted. About four Spark jobs.

    Parameters
    ----------
    same : str
        Condition in SQL over ``target`` and ``source``.
    """
    if not table_exists(spark, ref):
        return Removal(table, ref, 0)
    rows = read_table(spark, ref).alias("target").join(marked.alias("source"), F.expr(same), "left_semi").count()
    if apply and rows:
        with one_change(spark):
            delta_table(spark, ref).alias("target").merge(marked.alias("source"), same).whenMatchedDelete().execute()
    return Removal(table, ref, rows)


def delete_rows(
    spark: SparkSession,
    table: str,
    ref: str,
    where: Column,
    apply: bool,
    metadata: dict[str, Any] | None = None,
) -> Removal:
    """Rows for which a condition holds: counted, and with ``apply`` deleted. One Spark job, or about three.

    Parameters
    ----------
    metadata : dict, optional
        Kept in the commit.
    """
    if not table_exists(spark, ref):
        return Removal(table, ref, 0)
    rows = read_table(spark, ref).filter(where).count()
    if apply and rows:
        with one_change(spark, metadata):
            delta_table(spark, ref).delete(where)
    return Removal(table, ref, rows)
