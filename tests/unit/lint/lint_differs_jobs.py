"""A function that breaks each rule of TR2.. but those of order, and one near it that does not."""

from __future__ import annotations

import datetime
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from lint_base import HOURLY, MARKED, RECORDS, TOTALS, WITH_SHOPS, Case, hour, hourly, plain
from lint_joins_jobs import NEAR, all_events, outer_near_pairs
from lint_refused_jobs import counted, deduplicated, own_clock
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tests.unit.processor import Same


def marked_count(events: DataFrame) -> DataFrame:
    return hourly(events.groupBy("kind", hour()).agg(F.count("*").alias("c")), "c")  # here


def of_one_kind(events: DataFrame) -> DataFrame:
    busy = events.withColumn("m", F.col("n") + 1).filter("m > 3")  # here
    return own_clock(busy)


def of_late_hours(events: DataFrame) -> DataFrame:
    return own_clock(events.filter("ts > '2020-01-01'"))


def of_one_kind_after(events: DataFrame) -> DataFrame:
    return own_clock(events).filter("kind = 'a'")  # here


def of_full_hours(events: DataFrame) -> DataFrame:
    return own_clock(events).filter("c > 3")


def own_watermark(events: DataFrame) -> DataFrame:
    return events.withWatermark("_kafka_timestamp", "1 minute").select("id")  # here


def daily(events: DataFrame) -> DataFrame:
    per = events.groupBy("kind", F.window("ts", "1 day")).agg(F.count("*").alias("c"))  # here
    return hourly(per, "c")


def day_of(events: DataFrame) -> DataFrame:
    return events.select("id", F.date_trunc("day", "ts").alias("day"))  # here


def now(events: DataFrame) -> DataFrame:
    age = F.current_timestamp()  # here
    return events.select("id", (age - F.col("ts")).alias("age"))


def recent(events: DataFrame) -> DataFrame:
    return events.filter("ts > now() - INTERVAL 1 DAY").select("id")  # here


def known_after(events: DataFrame) -> DataFrame:
    return events.select("id", (F.col("_kafka_timestamp") - F.col("ts")).alias("age"))


def python_clock(events: DataFrame) -> DataFrame:
    today = datetime.date.today()  # noqa: DTZ011 # here
    return events.filter(F.col("ts") < F.lit(today)).select("id")


def python_random(events: DataFrame) -> DataFrame:
    return events.select("id", F.lit(random.random()).alias("r"))  # here


def fixed_day(events: DataFrame) -> DataFrame:
    return events.filter(F.col("ts") > F.lit(datetime.date(2020, 1, 1))).select("id")


def per_group(events: DataFrame) -> DataFrame:
    groups = events.select("id").groupBy("id")
    found = groups.applyInPandas(lambda rows: rows, "id STRING")  # here
    return found.filter("id IS NOT NULL")


def in_chunks(events: DataFrame) -> DataFrame:
    found = events.select("id").mapInPandas(lambda frames: frames, "id STRING")  # here
    return found.filter("id IS NOT NULL")


def by_iterator(events: DataFrame) -> DataFrame:
    import pandas as pd

    def same(chunks: Iterator[pd.Series]) -> Iterator[pd.Series]:
        yield from chunks

    same.__annotations__ = {"chunks": Iterator[pd.Series], "return": Iterator[pd.Series]}
    same_of: Any = F.pandas_udf(same, "string")
    return events.select("id", same_of("dest").alias("dest"))  # here


def row_udf(events: DataFrame) -> DataFrame:
    return events.select("id", F.udf(lambda text: text, "string")("dest").alias("dest"))


def with_processor(events: DataFrame) -> DataFrame:
    groups = events.select("id").groupBy("id")
    found = groups.transformWithState(Same(), "id STRING", "append", "none")  # here
    return found.filter("id IS NOT NULL")


def with_timers(events: DataFrame) -> DataFrame:
    groups = events.select("id", "ts").groupBy("id")
    found = groups.transformWithState(Same(), "id STRING", "append", "eventTime")  # here
    return found.filter("id IS NOT NULL")


def two_ways(events: DataFrame) -> DataFrame:
    if events.isStreaming:  # here
        return events.select("id").filter("id > 'a'")
    return events.select("id")


def drawn(events: DataFrame) -> DataFrame:
    return events.filter(F.rand(7) < 0.5).select("id")  # here


def named_anew(events: DataFrame) -> DataFrame:
    return events.select("id", F.uuid().alias("u"))  # here


def hashed(events: DataFrame) -> DataFrame:
    return events.select("id", F.xxhash64("id").alias("u"))


def placed(events: DataFrame) -> DataFrame:
    return events.select("id", F.spark_partition_id().alias("p"))  # here


def placed_by_kafka(events: DataFrame) -> DataFrame:
    return events.select("id", F.col("_partition").alias("p"))


def random_udf(events: DataFrame) -> DataFrame:
    draw = F.udf(lambda text: text, "string").asNondeterministic()
    return events.select("id", draw("dest").alias("dest"))  # here


def with_shops(events: DataFrame, shops: DataFrame) -> DataFrame:  # here
    return all_events(events, shops)


def reads_itself(events: DataFrame) -> DataFrame:
    shops = events.sparkSession.table("lint_shops")
    return events.join(shops, "kind", "left_semi").select("id")  # here


def limited(events: DataFrame) -> DataFrame:
    return events.select("id").limit(3)  # here


def chosen(events: DataFrame) -> DataFrame:
    kept = events.dropDuplicates(["id", "ts"])  # here
    return kept.filter("n > 1").select("id")


def again_an_hour_later(events: DataFrame) -> DataFrame:
    later = events.withColumn("ts", F.expr("ts + INTERVAL 1 HOUR"))
    per = events.unionByName(later).groupBy("kind", hour()).agg(F.count("*").alias("c"))  # here
    return hourly(per, "c")


def twice(events: DataFrame) -> DataFrame:
    return own_clock(events.unionByName(events))


def deduplicated_here(events: DataFrame) -> DataFrame:
    return events.dropDuplicates(["id", "ts"]).select("id")  # here


def outer_of_some(events: DataFrame) -> DataFrame:
    some = F.expr(f"{NEAR} AND a.n > 5")
    return events.alias("a").join(events.alias("b"), some, "left").select("a.id")  # here


def remembered(events: DataFrame) -> DataFrame:
    return events.dropDuplicates(["id"]).select("id")  # here


def paired(events: DataFrame) -> DataFrame:
    pair = F.expr("a.id = b.id AND b.ts BETWEEN a.ts AND a.ts + INTERVAL 1 HOUR")
    return events.alias("a").join(events.alias("b"), pair).select("a.id")  # here


def few(events: DataFrame) -> DataFrame:
    return counted(events).filter("c < 3")  # here


def many(events: DataFrame) -> DataFrame:
    return counted(events).filter("c >= 3 AND kind < 'b'")


def of_kind(events: DataFrame) -> DataFrame:
    return counted(events).filter("kind = 'a'")


def stateless_filter(events: DataFrame) -> DataFrame:
    return events.filter("n > 3").select("id")


ABROAD = (("spark.sql.session.timeZone", "America/New_York"),)
UPDATED_HOURS = replace(HOURLY, emit="updates")
UNMARKED_HOURS = replace(UPDATED_HOURS, sources=RECORDS.sources)
AT_ONCE = replace(MARKED, sources=[replace(MARKED.sources[0], lateness="0 seconds")])
DIFFERS_CASES = [
    Case("TR201", HOURLY, marked_count, marked_count, UNMARKED_HOURS),
    Case("TR202", HOURLY, marked_count, marked_count, UPDATED_HOURS),
    Case("TR203", HOURLY, of_one_kind, of_late_hours),
    Case("TR203", HOURLY, of_one_kind_after, of_full_hours),
    Case("TR204", RECORDS, own_watermark, plain, MARKED),
    Case("TR205", replace(HOURLY, window="1 day"), daily, own_clock, HOURLY),
    Case("TR206", RECORDS, day_of, plain, None, ABROAD),
    Case("TR210", RECORDS, now, known_after),
    Case("TR210", RECORDS, recent, known_after),
    Case("TR211", RECORDS, python_clock, fixed_day),
    Case("TR211", RECORDS, python_random, fixed_day),
    Case("TR220", RECORDS, per_group, row_udf),
    Case("TR221", RECORDS, in_chunks, row_udf),
    Case("TR221", RECORDS, by_iterator, row_udf),
    Case("TR222", RECORDS, two_ways, plain),
    Case("TR223", RECORDS, with_processor, row_udf),
    Case("TR224", MARKED, with_timers, with_processor),
    Case("TR240", RECORDS, drawn, hashed),
    Case("TR240", RECORDS, named_anew, hashed),
    Case("TR241", RECORDS, placed, placed_by_kafka),
    Case("TR242", RECORDS, random_udf, row_udf),
    Case("TR250", WITH_SHOPS, with_shops, plain, RECORDS),
    Case("TR251", RECORDS, reads_itself, all_events, WITH_SHOPS),
    Case("TR260", RECORDS, limited, plain),
    Case("TR261", MARKED, chosen, deduplicated),
    Case("TR207", HOURLY, again_an_hour_later, twice),
    Case("TR208", AT_ONCE, deduplicated_here, deduplicated, MARKED),
    Case("TR209", MARKED, remembered, deduplicated),
    Case("TR262", MARKED, remembered, deduplicated),
    Case("TR265", MARKED, outer_of_some, outer_near_pairs),
    Case("TR263", MARKED, paired, all_events, WITH_SHOPS),
    Case("TR264", TOTALS, few, of_kind),
    Case("TR264", TOTALS, few, many),
]
