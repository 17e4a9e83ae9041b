"""docs/decoding.md is what the decoder does: each cell of its tables is decoded and compared, in one Spark job each.

``TWINRUN_REGEN_SNAPSHOTS=1`` writes the cells anew; read the diff.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.events.decode import decode
from twinrun.events.rules import RULES
from twinrun.events.source import Source

PAGE = Path(__file__).parents[3] / "docs" / "decoding.md"
KAFKA_MS = 1_709_208_000_000  # 2024-02-29T12:00:00Z
RAW = "value BINARY, topic STRING, partition INT, offset BIGINT, timestamp TIMESTAMP"
LONG = {"1 and 400 zeros": "1" + "0" * 400, "1 and 1,000 zeros": "1" + "0" * 1000}
"""What the page has in words, since it is too long to be shown."""


def section(name: str) -> list[list[str]]:
    """The cells of the one table below a heading; the first row is the header."""
    text = PAGE.read_text(encoding="utf-8").split(f"## {name}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|---")]
    cells = [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in lines]
    assert all(len(row) == len(cells[0]) for row in cells), f"a table of {name} is ragged"
    return cells


def rewritten(name: str, rows: list[list[str]]) -> None:
    """Put other rows below a heading, the page's first two lines of the table left as they are."""
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(f"## {name}\n", 1)
    body, *rest = after.split("\n## ", 1)
    lines = body.splitlines()
    table = [n for n, line in enumerate(lines) if line.startswith("|")]
    new = ["| " + " | ".join(row) + " |" for row in rows]
    lines[table[2] : table[-1] + 1] = new
    body = "\n".join(lines) + ("\n" if body.endswith("\n") else "")
    PAGE.write_text(before + f"## {name}\n" + "\n## ".join([body, *rest]), encoding="utf-8")


def bare(cell: str) -> str:
    """What a cell in backticks holds; words stand for what is too long."""
    return LONG.get(cell, cell.strip("`").replace("\\|", "|"))


def decoded(spark: SparkSession, values: list[str], source: Source) -> DataFrame:
    instant = datetime.fromtimestamp(KAFKA_MS / 1000, UTC)
    rows = [(bytearray(value.encode()), "t", 0, offset, instant) for offset, value in enumerate(values)]
    return decode(spark.createDataFrame(rows, RAW), source)


def held(page: list[list[str]], found: list[list[str]], name: str) -> None:
    if os.environ.get("TWINRUN_REGEN_SNAPSHOTS") == "1":
        rewritten(name, found)
    assert page == found


def check_types(spark: SparkSession, name: str) -> None:
    header, *page = section(name)
    types = [bare(cell) for cell in header[1:]]
    fields = ", ".join(f"c{n} {kind}" for n, kind in enumerate(types))
    source = Source("x", schema=f"ts BIGINT NOT NULL, {fields}", event_time="ts")
    values = [f'{{"ts":{KAFKA_MS},"c{n}":{bare(row[0])}}}' for row in page for n in range(len(types))]
    frame = decoded(spark, values, source)
    shown = [
        F.to_json(f"c{n}") if "<" in kind else F.hex(f"c{n}") if kind == "BINARY" else F.col(f"c{n}").cast("string")
        for n, kind in enumerate(types)
    ]
    outcome = F.coalesce("_rule", *[F.concat(F.lit("`"), text, F.lit("`")) for text in shown], F.lit("null"))
    cells = [row[0] for row in frame.select(outcome, "_offset").orderBy("_offset").collect()]
    width = len(types)
    found = [[row[0], *cells[n * width : (n + 1) * width]] for n, row in enumerate(page)]
    held(page, [[re.sub(r"^``$", "`` (no characters)", cell) for cell in row] for row in found], name)


def test_every_form_of_json_becomes_what_the_page_says_in_types_of_numbers(spark_session: SparkSession) -> None:
    check_types(spark_session, "Numbers and truth values")


def test_every_form_of_json_becomes_what_the_page_says_in_texts_and_times(spark_session: SparkSession) -> None:
    check_types(spark_session, "Texts, bytes and times")


def test_every_form_of_json_becomes_what_the_page_says_in_nested_types(spark_session: SparkSession) -> None:
    check_types(spark_session, "Arrays, maps and structs")


def test_every_time_on_the_page_is_read_or_refused_as_it_says(spark_session: SparkSession) -> None:
    _, *page = section("The grammar of times")
    source = Source("x", schema="at STRING", event_time="at", event_time_format="iso8601", max_ahead=None)
    frame = decoded(spark_session, [f'{{"at":"{bare(row[0])}"}}' for row in page], source)
    said = F.regexp_extract("_reason", r"\(([^()]*)\)\z", 1)
    instant = F.date_format("at", "yyyy-MM-dd'T'HH:mm:ss.SSSSSS'Z'")
    outcome = F.when(F.col("_rule") == "wrong_type", F.concat(F.lit("wrong_type: "), said)).otherwise(
        F.coalesce("_rule", F.concat(F.lit("`"), F.regexp_replace(instant, r"\.?0+Z$", "Z"), F.lit("`")))
    )
    cells = [row[0] for row in frame.select(outcome, "_offset").orderBy("_offset").collect()]
    held(page, [[row[0], cell, row[2]] for row, cell in zip(page, cells, strict=True)], "The grammar of times")


def test_the_page_names_every_rule(spark_session: SparkSession) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [rule for rule in RULES if f"`{rule}`" not in text] == []
