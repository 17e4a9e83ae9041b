"""The upsert of an updates job: a micro-batch that comes again, or after a later one, changes nothing."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.tables.delta import append, read_table

merge_updates = importlib.import_module("twinrun.streaming.sink").merge_updates


def test_a_micro_batch_of_a_process_that_was_taken_over_is_not_put_over_a_newer_one(
    spark_session: SparkSession, tmp_path: Path
) -> None:
    job = cast(Any, SimpleNamespace(keys=["id"], delete_when=None))
    first, second = (
        cast(Any, SimpleNamespace(checkpoint=f"/checkpoints/v{n}", table=str(tmp_path / f"t{n}"))) for n in (1, 2)
    )

    def rows(total: int) -> DataFrame:
        return spark_session.range(1).withColumn("total", F.lit(total))

    for state in (first, second):
        append(rows(0).withColumn("_micro_batch", F.lit(0).cast("bigint")).limit(0), state.table)
        merge_updates(rows(10), 1, job, state)
    merge_updates(rows(20), 2, job, first)
    merge_updates(rows(10), 1, job, first)  # woke up after the next process had gone on
    merge_updates(rows(30), 2, job, first)  # the same number again, whatever it holds
    # The negative control: another checkpoint's numbers are its own.
    merge_updates(rows(40), 2, job, second)

    def found(state: Any) -> list[tuple[int, int]]:
        return [(row["total"], row["_micro_batch"]) for row in read_table(spark_session, state.table).collect()]

    assert (found(first), found(second)) == ([(20, 2)], [(40, 2)])
