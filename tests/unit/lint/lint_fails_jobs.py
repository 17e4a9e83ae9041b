"""A function that breaks each rule of TR3.., and ones near it that cannot fail: the try form, a guard, a constant."""

from __future__ import annotations

from dataclasses import replace

from lint_base import HOURLY, RECORDS, Case, hour, hourly
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

RANGED = replace(RECORDS, sources=[replace(RECORDS.sources[0], ranges={"n": (1, 1000)})])


def quotient(events: DataFrame) -> DataFrame:
    return events.select(
        "id",
        (
            F.col("x") / F.col("n")  # here
        ).alias("q"),
    )


def tried(events: DataFrame) -> DataFrame:
    return events.select("id", F.try_divide("x", "n").alias("q"), F.try_mod("n", "n").alias("m"))


def by_constant(events: DataFrame) -> DataFrame:
    return events.select("id", (F.col("x") / 60).alias("q"), (F.col("n") % 7).alias("m"))


def nulled(events: DataFrame) -> DataFrame:
    return events.select("id", (F.col("x") / F.nullif(F.col("n"), F.lit(0))).alias("q"))


def guarded(events: DataFrame) -> DataFrame:
    return events.select(
        "id",
        F.when(F.col("n") != 0, F.col("x") / F.col("n")).alias("q"),
        F.when(F.col("n") == 0, 0.0).otherwise(F.col("x") / F.col("n")).alias("r"),
        F.when(F.col("n") < 1, None).when(F.col("x") > 5, F.col("x") / F.col("n")).alias("s"),
        F.when((F.col("x") > 1) & (F.lit(0) < F.col("n")), F.col("x") / F.col("n")).alias("t"),
    )


def filtered(events: DataFrame) -> DataFrame:
    return events.filter((F.col("n") > 0) & F.col("x").isNotNull()).select("id", (F.col("x") / F.col("n")).alias("q"))


def shares(events: DataFrame) -> DataFrame:
    per = events.groupBy("kind", hour()).agg(F.sum("n").alias("n"), F.count("*").alias("c"))
    return hourly(per, (F.col("c") / F.col("n")).alias("share"))  # here


def over_one(events: DataFrame) -> DataFrame:
    per = events.groupBy("kind", hour()).agg(F.sum("n").alias("n"), F.count("*").alias("c"))
    return hourly(per, (F.col("c") / F.greatest("n", F.lit(1))).alias("share"))


def parsed(events: DataFrame) -> DataFrame:
    return events.select("id", F.col("dest").cast("int").alias("d"))  # here


def compared(events: DataFrame) -> DataFrame:
    return events.filter(F.col("dest") == 5).select("id")  # here


def narrowed(events: DataFrame) -> DataFrame:
    return events.select("id", F.col("x").cast("decimal(10,2)").alias("d"))  # here


def widened(events: DataFrame) -> DataFrame:
    return events.select(
        "id",
        F.col("n").cast("bigint").alias("a"),
        F.col("n").cast("decimal(12,2)").alias("b"),
        F.col("n").cast("double").alias("c"),
        F.col("n").cast("string").alias("d"),
        F.col("dest").try_cast("int").alias("e"),
        F.lit("5").cast("int").alias("f"),
        F.col("ts").cast("date").alias("g"),
    )


def third_part(events: DataFrame) -> DataFrame:
    return events.select("id", F.element_at(F.split("dest", "-"), 3).alias("d"))  # here


def part_by_number(events: DataFrame) -> DataFrame:
    return events.select("id", F.split("dest", "-")[F.col("n")].alias("d"))  # here


def first_part(events: DataFrame) -> DataFrame:
    parts = F.split("dest", "-")
    pair = F.array("kind", "dest")
    return events.select(
        "id",
        parts[0].alias("a"),
        F.element_at(parts, -1).alias("b"),
        F.get(parts, 2).alias("c"),
        F.try_element_at(parts, F.lit(2)).alias("d"),
        pair[1].alias("e"),
        F.create_map("kind", "n")["x"].alias("f"),
    )


def day_of_text(events: DataFrame) -> DataFrame:
    return events.select("id", F.to_timestamp("dest", "yyyy-MM-dd").alias("day"))  # here


def day_of_numbers(events: DataFrame) -> DataFrame:
    return events.select("id", F.make_date(F.lit(2024), F.col("n"), F.lit(1)).alias("day"))  # here


def tried_day(events: DataFrame) -> DataFrame:
    return events.select(
        "id", F.try_to_timestamp("dest", F.lit("yyyy-MM-dd")).alias("day"), F.to_date("ts").alias("of_time")
    )


def product(events: DataFrame) -> DataFrame:
    return events.select("id", (F.col("n") * F.col("n")).alias("square"))  # here


def wide_product(events: DataFrame) -> DataFrame:
    per = events.groupBy("kind", hour()).agg(F.sum("n").alias("n"), F.count("*").alias("c"))
    return hourly(per, "n", F.try_multiply("n", "n").alias("m"), (F.col("c") + 1).alias("d"))


def refusing(events: DataFrame) -> DataFrame:
    negative = F.raise_error(F.lit("negative"))  # here
    return events.select("id", F.when(F.col("n") < 0, negative).otherwise(F.col("n")).alias("n"))


def kept(events: DataFrame) -> DataFrame:
    return events.filter(F.col("n") >= 0).select("id", "n")


FAILS_CASES = [
    Case("TR301", RECORDS, quotient, tried),
    Case("TR301", RECORDS, quotient, by_constant),
    Case("TR301", RECORDS, quotient, nulled),
    Case("TR301", RECORDS, quotient, guarded),
    Case("TR301", RECORDS, quotient, filtered),
    Case("TR301", RECORDS, quotient, quotient, RANGED),
    Case("TR301", HOURLY, shares, over_one),
    Case("TR302", RECORDS, parsed, widened),
    Case("TR302", RECORDS, compared, widened),
    Case("TR302", RECORDS, narrowed, widened),
    Case("TR303", RECORDS, third_part, first_part),
    Case("TR303", RECORDS, part_by_number, first_part),
    Case("TR304", RECORDS, day_of_text, tried_day),
    Case("TR304", RECORDS, day_of_numbers, tried_day),
    Case("TR305", RECORDS, product, wide_product, HOURLY),
    Case("TR305", RECORDS, product, product, RANGED),
    Case("TR306", RECORDS, refusing, kept),
]
