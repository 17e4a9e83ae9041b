"""The ledger keeps a window once per change, and gives back every window at every verify."""

from __future__ import annotations

import random
from typing import Any

import pytest
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from twinrun.results.ledger import LASTS, LEDGER_COLUMNS, VERIFIED, WINDOW, entries, laid_out, removable

FACTS = (
    "verify_id STRING, job STRING, query_id STRING, micro_batch BIGINT, watermark_ms BIGINT, stream_version BIGINT, "
    "batch_version BIGINT, verified_at_ms BIGINT"
)
OF_WINDOW = (
    "window_start TIMESTAMP, verdict STRING, rows BIGINT, rows_equal BIGINT, rows_explained BIGINT, "
    "rows_unexplained BIGINT, causes MAP<STRING, BIGINT>"
)
LEDGER = f"{FACTS}, offsets STRING, {OF_WINDOW}, lasts BOOLEAN"
STATES: tuple[tuple[Any, ...], ...] = (
    ("equal", 3, 3, 0, 0, {}),
    ("explained", 3, 2, 1, 0, {"late_dropped": 1, "pending": 2}),
    ("explained", 3, 2, 1, 0, {"late_dropped": 2}),
    ("unexplained", 3, 2, 0, 1, {}),
)
OPEN = ("pending", 2, 0, 0, 0, {})
Seen = dict[tuple[int | None, bool], tuple[Any, ...]]
"""What a verify saw, by start of the window in minutes and whether it is about pending rows."""


def verifies(seed: int, count: int) -> list[Seen]:
    """Windows come, stay as they are, change, lose their pending rows, and go."""
    dice, seen, found = random.Random(seed), Seen(), []
    for number in range(count):
        seen = dict(seen)
        for minute in (None, 0, 1, 2, 3):
            if dice.random() < 0.4:
                seen[minute, False] = dice.choice(STATES)
            if dice.random() < 0.2:
                seen[minute, True] = OPEN
            for pending in (False, True):
                if dice.random() < 0.15:
                    seen.pop((minute, pending), None)
        found.append(seen if number != 2 else dict(found[1]))  # nothing changed
    return found


def windows(spark: SparkSession, seen: Seen) -> DataFrame:
    rows = [(None if m is None else m * 60, *state) for (m, _), state in seen.items()]
    raw = spark.createDataFrame(rows, OF_WINDOW.replace("window_start TIMESTAMP", "start_s BIGINT"))
    frame = raw.withColumn("window_start", F.timestamp_seconds("start_s")).select(*WINDOW)
    return frame.withColumn("n_batch", F.lit(1))  # a verify's own columns are not for the ledger


def add(spark: SparkSession, rows: list[Row], seen: Seen, number: int, job: str = "j") -> list[Row]:
    values = (f"v{number}", job, "q", number, None, number, number, 1000 + number, "{}")
    kinds = [field.split() for field in f"{FACTS}, offsets STRING".split(", ")]
    facts = [F.lit(value).cast(kind).alias(name) for value, (name, kind) in zip(values, kinds, strict=True)]
    known = spark.createDataFrame(rows, LEDGER) if rows else None
    return entries(windows(spark, seen), known, facts).collect()


def given(spark: SparkSession, rows: list[Row]) -> dict[str, set[Any]]:
    """By verify: its windows, as the reader gives them."""
    frame = laid_out(spark.createDataFrame(rows, LEDGER))
    assert frame.columns == list(LEDGER_COLUMNS)
    found: dict[str, set[Any]] = {}
    for row in frame.withColumn("window_start", F.unix_seconds("window_start")).collect():
        assert (row["query_id"], row["batch_version"]) == ("q", int(row["verify_id"][1:]))
        state = tuple(row[name] for name in WINDOW[1:-1])
        entry = (row["window_start"], *state, tuple(sorted(row["causes"].items())))
        assert entry not in found.setdefault(row["verify_id"], set())
        found[row["verify_id"]].add(entry)
    return found


def wanted(seen: Seen) -> set[Any]:
    return {(None if m is None else m * 60, *s[:-1], tuple(sorted(s[-1].items()))) for (m, _), s in seen.items()}


@pytest.mark.parametrize("seed", [1, 2])
def test_every_window_is_given_back_at_every_verify(spark_session: SparkSession, seed: int) -> None:
    plan, rows, sizes = verifies(seed, 7), list[Row](), []
    for number, seen in enumerate(plan):
        new = add(spark_session, rows, seen, number)
        rows, sizes = rows + new, [*sizes, len(new)]
    assert given(spark_session, rows) == {f"v{n}": wanted(seen) for n, seen in enumerate(plan) if seen}
    # The verify that saw what the one before had seen wrote its own row alone.
    assert sizes[2] == 1
    assert [row["verdict"] for row in rows if row["verify_id"] == "v2"] == [VERIFIED]
    assert sum(sizes) < sum(len(seen) + 1 for seen in plan)

    # Retention: what stays is as it was, also where it needs rows of verifies that went.
    ledger = spark_session.createDataFrame(rows, LEDGER)
    went = ("v0", "v1", "v3")
    old = spark_session.createDataFrame([(name,) for name in went], "verify_id STRING")
    gone = {tuple(row) for row in removable(ledger, old).collect()}
    left = [row for row in rows if (row["job"], row["verify_id"], row["window_start"], row["verdict"]) not in gone]
    assert len(left) < len(rows)
    assert not [row for row in left if row["verify_id"] in went and row["verdict"] == VERIFIED]
    assert given(spark_session, left) == {
        f"v{n}": wanted(seen) for n, seen in enumerate(plan) if seen and f"v{n}" not in went
    }


def test_a_ledger_of_an_older_twinrun_is_read_as_it_is_and_goes_on(spark_session: SparkSession) -> None:
    plan, rows = verifies(3, 4), list[Row]()
    for number, seen in enumerate(plan[:2]):
        written = [row for row in add(spark_session, [], seen, number) if row["verdict"] != VERIFIED]
        rows += [Row(**{**row.asDict(), LASTS: None}) for row in written]
    for number, seen in enumerate(plan[2:], 2):
        rows += add(spark_session, rows, seen, number)
    assert given(spark_session, rows) == {f"v{n}": wanted(seen) for n, seen in enumerate(plan) if seen}
