"""A batch decodes each record once: what is refused is found again without decoding the good ones, and none is lost."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from test_batch_shared_source import CLICKS, cfg, click, decode, land

from twinrun.config.model import Config
from twinrun.errors import QueryError
from twinrun.tables.delta import latest_version, read_table

assert cfg  # a fixture
MANY, EACH = 600, 50
RULES = ("not_json", "missing_field", "null_event_time")
BROKEN = ("neither nor", '{"at": 1704067200000}', '{"id": "x"}')


def values(start: int, number: int, each: int) -> list[str]:
    """Clicks, one in so many of them broken, by each rule in turn."""
    return [
        BROKEN[n // each % len(BROKEN)] if n % each == each - 1 else click(f"c{n}")
        for n in range(start, start + number)
    ]


def expected(number: int, each: int) -> dict[int, str]:
    """By offset the rule of each broken one."""
    return {n: RULES[n // each % len(RULES)] for n in range(number) if n % each == each - 1}


def refused(spark: SparkSession, cfg: Config) -> dict[int, str]:
    rows = read_table(spark, cfg.table("quarantine", source="clicks")).select("_offset", "_rule").collect()
    found = {row["_offset"]: row["_rule"] for row in rows}
    assert len(found) == len(rows), "a record stands twice"
    return found


def events(spark: SparkSession, cfg: Config) -> list[int]:
    return sorted(row[0] for row in read_table(spark, cfg.table("events", source="clicks")).select("_offset").collect())


def test_the_refused_are_found_again_among_few_records(
    spark_session: SparkSession, cfg: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[DataFrame] = []
    own = decode.decode
    monkeypatch.setattr(decode, "decode", lambda records, source: decoded.append(records) or own(records, source))
    land(spark_session, cfg, 0, *values(0, MANY, EACH))
    decode.run(spark_session, cfg, CLICKS)
    bad = expected(MANY, EACH)
    assert refused(spark_session, cfg) == bad
    assert events(spark_session, cfg) == [n for n in range(MANY) if n not in bad]
    assert [frame.count() for frame in decoded] == [MANY, len(bad)], "two of 600 records seldom share a bit"

    version = latest_version(spark_session, cfg.table("quarantine", source="clicks"))
    land(spark_session, cfg, MANY, *(click(f"d{n}") for n in range(10)))
    decode.run(spark_session, cfg, CLICKS)
    assert latest_version(spark_session, cfg.table("quarantine", source="clicks")) == version, "nothing to write"
    land(spark_session, cfg, MANY + 10, "neither nor")
    decode.run(spark_session, cfg, CLICKS)
    assert refused(spark_session, cfg) == {**bad, MANY + 10: "not_json"}
    assert len(events(spark_session, cfg)) == MANY - len(bad) + 10


def test_where_too_many_are_refused_all_are_decoded_again(
    spark_session: SparkSession, cfg: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "_MOST_BITS", 3)
    land(spark_session, cfg, 0, *values(0, 60, 2))
    decode.run(spark_session, cfg, CLICKS)
    bad = expected(60, 2)
    assert refused(spark_session, cfg) == bad
    assert events(spark_session, cfg) == [n for n in range(60) if n not in bad]


@pytest.mark.parametrize("anew", [False, True])
def test_what_a_run_that_died_between_the_tables_had_refused_is_written_by_the_next(
    spark_session: SparkSession, cfg: Config, monkeypatch: pytest.MonkeyPatch, anew: bool
) -> None:
    land(spark_session, cfg, 0, *values(0, 40, 4))
    decode.run(spark_session, cfg, CLICKS)
    land(spark_session, cfg, 40, *values(40, 40, 4))
    name = "replace_rows" if anew else "append"
    own = getattr(decode, name)

    def dying(rows: DataFrame, ref: str, *more: Any) -> None:
        if "_rule" in rows.columns:
            raise QueryError("the machine went away")
        own(rows, ref, *more)

    with monkeypatch.context() as dead:
        dead.setattr(decode, name, dying)
        with pytest.raises(QueryError):
            decode.run(spark_session, cfg, CLICKS, "all" if anew else None)
    assert len(events(spark_session, cfg)) == 60
    decode.run(spark_session, cfg, CLICKS)
    bad = expected(80, 4)
    assert refused(spark_session, cfg) == bad
    assert events(spark_session, cfg) == [n for n in range(80) if n not in bad]


def test_the_map_of_bits_has_every_refused_record_and_few_others(spark_session: SparkSession) -> None:
    rows = spark_session.range(0, 20_000, 1, 4).select(
        (F.col("id") % 3).cast("int").alias("_partition"),
        F.col("id").alias("_offset"),
        F.when(F.col("id") % 400 == 7, "some_rule").alias("_rule"),
    )
    seen = decode._Seen()
    seen.watch(rows).write.format("noop").mode("overwrite").save()
    raw = rows.withColumnsRenamed({"_partition": "partition", "_offset": "offset"})
    kept = raw.filter(seen.may_be_refused())
    assert seen.any_refused()
    assert kept.filter(F.col("_rule").isNotNull()).count() == 50
    assert kept.count() < 150
