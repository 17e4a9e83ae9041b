"""The gallery's jobs that are left to the slow lane, over made-up logs at rest, against their oracles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tests.integration.gallery_joined_oracles import JOINED
from tests.integration.gallery_oracles import ORACLES, assert_same, in_whole_numbers, typed
from twinrun.events.decode import declared_fields
from twinrun.events.source import Source
from twinrun.gallery.entries import entry_of
from twinrun.gallery.log import RULES

SEED, EVENTS = 11, 300
ALONE = ("review_sentiment", "customers_latest")


def events_of(source: Source, log: pl.DataFrame) -> pl.DataFrame:
    valid = log.with_row_index("offset").filter(~pl.col("planted").is_in(RULES))
    return typed(source.name, valid).with_columns(pl.lit(source.name).alias("source"))


def at_rest(spark: SparkSession, source: Source, events: pl.DataFrame, folder: Path) -> DataFrame:
    """The declared fields with the event time as a timestamp, and coordinates; the first of copies to be dropped."""
    if source.distinct:
        events = events.sort("offset").unique(source.distinct, keep="first")
    events.write_parquet(folder / f"{source.name}.parquet")
    rows = spark.read.parquet(str(folder / f"{source.name}.parquet"))
    fields = [F.col(field.name).cast(field.dataType).alias(field.name) for field in declared_fields(source)]
    places = (F.lit(source.name).alias("_topic"), F.lit(0).alias("_partition"), F.col("offset").alias("_offset"))
    return rows.select(*fields, *places).withColumn(source.event_time, F.timestamp_millis(source.event_time))


@pytest.mark.parametrize("name", [*ALONE, *JOINED])
def test_a_job_at_rest_gives_what_its_oracle_gives(
    name: str, load: Any, spark_session: SparkSession, tmp_path: Path
) -> None:
    job, entry = load(name), entry_of(name)
    logs = {source.name: pl.from_pandas(entry.logs[source.name](SEED, EVENTS)) for source in job.sources}
    events = {source.name: events_of(source, logs[source.name]) for source in job.sources}
    frames = {source.name: at_rest(spark_session, source, events[source.name], tmp_path) for source in job.sources}
    made = {table: static.make(SEED, EVENTS) for table, static in entry.tables.items()}
    statics = {table: spark_session.createDataFrame(rows, entry.tables[table].schema) for table, rows in made.items()}
    result = job.apply({**frames, **statics})
    if job.delete_when:
        result = result.filter(f"NOT ({job.delete_when})")
    result.write.parquet(str(tmp_path / "result"))

    found = in_whole_numbers(pl.read_parquet(tmp_path / "result" / "*.parquet"))
    together = pl.concat(events.values(), how="diagonal_relaxed")
    if name in ALONE:
        expected = ORACLES[name].tally(ORACLES[name].place(together.drop("source")))
    else:
        tables = {table: pl.from_pandas(rows) for table, rows in made.items()}
        expected = JOINED[name].tally(JOINED[name].place(together), tables)
    assert expected.height > 10
    assert_same(found, expected, job.keys)
    with pytest.raises(AssertionError):
        assert_same(found[1:], expected, job.keys)
