"""One proof after another: each looks only at what those before it left unexplained."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def with_verdict(rows: DataFrame, verdict: str) -> DataFrame:
    """The rows with one ``verdict`` for all, and no ``causes``; lazy."""
    return rows.withColumns({"verdict": F.lit(verdict), "causes": F.create_map().cast("map<string,bigint>")})


def still_open(judged: DataFrame) -> bool:
    """Whether a row is still unexplained. One Spark job."""
    return judged.filter(F.col("verdict") == "unexplained").limit(1).count() > 0


def rest_of(judged: DataFrame) -> DataFrame:
    """The rows that are still unexplained, without verdict and causes; lazy."""
    return judged.filter(F.col("verdict") == "unexplained").drop("verdict", "causes")


def with_more(judged: DataFrame, later: DataFrame | None) -> DataFrame:
    """What is proven so far, with what a later proof says about the rest. One Spark job, or none without one."""
    if later is None:
        return judged
    done = judged.filter(F.col("verdict") != "unexplained")
    return done.unionByName(later, allowMissingColumns=True).localCheckpoint()
