"""Groups travel to the driver and back into a filter without loss."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from twinrun.comparator.digest import DETAILED_GROUPS, encode_group, prepare, select_groups
from twinrun.comparator.schema import plan_schema

WINDOWS = {
    "bigint": ("-9223372036854775808", "9223372036854775807"),
    "string": ("''", "'it''s \\\\ n'"),
    "date": ("date'0001-01-01'", "date'2013-01-06'"),
    "timestamp": ("timestamp'1900-01-01T00:00:00Z'", "timestamp'2013-11-03T06:30:00.123456Z'"),
    "timestamp_ntz": ("timestamp_ntz'1900-01-01 00:00:00'", "timestamp_ntz'2013-03-10 02:30:00.000001'"),
    "decimal(38,18)": ("1e-18BD", "-99999999999999999999.999999999999999999BD"),
    "boolean": ("true", "false"),
}


@pytest.mark.parametrize("dtype", WINDOWS)
def test_the_chosen_groups_are_read_and_no_others(spark_session: SparkSession, dtype: str) -> None:
    first, second = WINDOWS[dtype]
    values = f"(1, cast({first} as {dtype})), (2, cast({second} as {dtype})), (3, cast(null as {dtype}))"
    table = spark_session.sql(f"select * from values {values} as t(k, w)")
    plan = plan_schema(table.schema, table.schema, ["k"], "w", {})
    frame = prepare(table, plan, "batch", None, 1)
    code = encode_group(F.col("grp"), plan)
    assert code is not None
    codes = {row["c0"]: row["code"] for row in frame.select("c0", code.alias("code")).collect()}
    conditions = [
        select_groups(plan, 3, len(chosen), [codes[key] for key in chosen], frame).condition
        for chosen in ((1,), (2,), (3,), (1, 3), ())
    ]
    row = frame.agg(*(F.collect_set(F.when(condition, F.col("c0"))) for condition in conditions)).collect()[0]
    assert [sorted(found) for found in row] == [[1], [2], [3], [1, 3], []]


@pytest.mark.parametrize("dtype", WINDOWS)
def test_groups_that_the_driver_was_told_are_joined_without_working_them_out_again(
    spark_session: SparkSession, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    monkeypatch.setattr("twinrun.comparator.digest.DETAILED_GROUPS", 1)
    first, second = WINDOWS[dtype]
    values = f"(1, cast({first} as {dtype})), (2, cast({second} as {dtype})), (3, cast(null as {dtype}))"
    table = spark_session.sql(f"select * from values {values} as t(k, w)")
    plan = plan_schema(table.schema, table.schema, ["k"], "w", {})
    frame = prepare(table, plan, "batch", None, 1)
    code = encode_group(F.col("grp"), plan)
    assert code is not None
    codes = {row["c0"]: row["code"] for row in frame.select("c0", code.alias("code")).collect()}
    for chosen in ((1, 2), (1, 3), (2, 3)):
        told = select_groups(plan, 10, 2, [codes[key] for key in chosen], frame.where("c0 > 9"))
        assert sorted(row["c0"] for row in told.rows(frame).collect()) == list(chosen)
        assert told.scope == "some"


def test_many_groups_are_joined_and_most_groups_are_all_read(
    spark_session: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = spark_session.range(3).selectExpr("id as k", "if(id = 0, null, id) as w")
    plan = plan_schema(table.schema, table.schema, ["k"], "w", {})
    frame = prepare(table, plan, "batch", None, 1)
    bad = frame.where("c0 < 2")
    many = DETAILED_GROUPS + 1
    joined = select_groups(plan, 10 * many, many, ["v1"], bad)
    assert sorted(row["c0"] for row in joined.rows(frame).collect()) == [0, 1]
    # More than the driver should hold are joined as any other table.
    for most_sent, hinted in ((many, True), (many - 1, False)):
        monkeypatch.setattr("twinrun.comparator.digest.MOST_SENT", most_sent)
        rows = joined.rows(frame)
        assert ("ResolvedHint" in str(rows._jdf.queryExecution().analyzed())) == hinted
        assert sorted(row["c0"] for row in rows.collect()) == [0, 1]
    most = select_groups(plan, many, many, ["v1"] * many, bad)
    assert most.groups is None
    assert most.rows(frame).count() == 3
