"""Pairs of folders that are not equal, and were called equal or ended in Java: from files to the sentence."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from tests.unit.tables.parquet_files import of, put
from twinrun.cli.comparison import comparison_lines, comparison_payload
from twinrun.comparator.references import Asked, compare_tables
from twinrun.comparator.result import Comparison
from twinrun.errors import TableError

Found = tuple[Comparison, list[str]]
Pair = Callable[..., Found]


@pytest.fixture
def pair(spark_session: SparkSession, tmp_path: Path) -> Pair:
    """Compare two folders below the test's own, by ``k`` unless said otherwise."""

    def compared(batch: str, stream: str, **asked: Any) -> Found:
        given = {"keys": ("k",), "window": None, "ready_until": None, "tolerances": {}, "ignore": (), "full": False}
        refs = (str(tmp_path / batch), str(tmp_path / stream))
        found, read = compare_tables(spark_session, None, refs, Asked(**{**given, **asked}))
        comparison_payload(found, refs, read)
        return found, comparison_lines(found, refs, read)

    return compared


def test_folders_named_02134_and_2134_are_two_zips_until_declared_one(pair: Pair, tmp_path: Path) -> None:
    put(tmp_path, "a/zip=02134/x.parquet", k=[1])
    put(tmp_path, "b/zip=2134/x.parquet", k=[1])

    found, lines = pair("a", "b")
    assert (found.verdict, found.columns[0].name) == ("different", "zip")
    assert "  batch:   partition values are text: zip" in lines
    assert pair("a", "a")[0].verdict == "equal"
    declared, lines = pair("a", "b", types={"zip": "int"})
    assert declared.verdict == "equal"
    assert "  compared as  zip int" in lines


def test_a_column_that_only_the_second_file_has_is_compared_and_told(pair: Pair, tmp_path: Path) -> None:
    for side, discount in (("a", 5), ("b", 500)):
        put(tmp_path, f"{side}/1.parquet", k=[1])
        put(tmp_path, f"{side}/2.parquet", k=[2], discount=[discount])

    found, lines = pair("a", "b")
    assert (found.verdict, found.columns[0].name) == ("different", "discount")
    assert "  stream:  column discount is in 1 of 2 files (2.parquet), and null elsewhere" in lines


def test_a_bracket_in_a_path_is_a_letter(pair: Pair, tmp_path: Path) -> None:
    put(tmp_path, "run[1]/x.parquet", k=[1], v=[20])
    put(tmp_path, "run1/x.parquet", k=[1], v=[99])

    found, _ = pair("run[1]", "run1")
    assert found.counts["changed"] == 1
    assert pair("run[1]", "run[1]")[0].verdict == "equal"


def test_a_column_that_another_writer_added_to_sparks_file_is_compared(
    pair: Pair, spark_session: SparkSession, tmp_path: Path
) -> None:
    """Spark trusts the schema in a file's metadata, which other writers copy; the column was invisible."""
    for side, discount in (("a", 5), ("b", 500)):
        spark_session.range(1).toDF("k").coalesce(1).write.parquet(str(tmp_path / "spark" / side))
        written = next((tmp_path / "spark" / side).glob("*.parquet"))
        table = pq.read_table(written).append_column("discount", of(pa.int64(), discount))
        (tmp_path / side).mkdir()
        pq.write_table(table, tmp_path / side / "x.parquet")
    assert "discount" not in spark_session.read.parquet(str(tmp_path / "a")).columns

    found, _ = pair("a", "b")
    assert (found.verdict, found.columns[0].name) == ("different", "discount")


def test_a_copy_of_what_a_stream_wrote_is_not_read_as_the_original(
    pair: Pair, spark_session: SparkSession, tmp_path: Path
) -> None:
    """The file sink's log holds absolute paths: Spark reads the original's files when it is given the copy."""
    put(tmp_path, "in/x.parquet", k=[1, 2])
    writer = spark_session.readStream.schema("k BIGINT").parquet(str(tmp_path / "in")).writeStream.format("parquet")
    options = {"path": str(tmp_path / "sink"), "checkpointLocation": str(tmp_path / "checkpoint")}
    query = writer.options(**options).trigger(availableNow=True).start()
    query.awaitTermination()
    put(tmp_path, "sink/orphan.parquet", k=[3])
    shutil.copytree(tmp_path / "sink", tmp_path / "copy")

    with pytest.raises(TableError, match="was copied or moved"):
        pair("sink", "copy")
    found, lines = pair("sink", "in")
    assert (found.verdict, found.rows_batch) == ("equal", 2)
    assert any("orphan.parquet: not read, as the log" in line for line in lines)
    next((tmp_path / "sink").glob("part-*.parquet")).unlink()
    with pytest.raises(TableError, match="lacks 1 of 1 file that the log of the stream lists"):
        pair("sink", "in")


def test_columns_that_differ_by_case_are_two(pair: Pair, tmp_path: Path) -> None:
    put(tmp_path, "a/x.parquet", Id=[1], id=[2], ID=["x"])
    put(tmp_path, "b/x.parquet", ID=["x"], id=[3], Id=[1])

    found, _ = pair("a", "b", keys=("Id",))
    assert (found.counts["changed"], [each.name for each in found.columns]) == (1, ["id"])
    assert pair("a", "a", keys=("Id", "id"))[0].verdict == "equal"


def test_what_would_not_be_read_is_named_and_never_called_equal(pair: Pair, tmp_path: Path) -> None:
    cases = {
        "nested": ("2024/y.parquet", "in folders of different kinds: 2024/y.parquet, x.parquet"),
        "names/a=1": ("../b=1/x.parquet", ""),
        "hidden": ("_orders_of_monday.parquet", "hidden Parquet file, which Spark does not read: _orders_of_monday.p"),
        "dotted": (".x.parquet", "does not read: .x.parquet"),
        "unfinished": ("_temporary/0/y.parquet", "does not read: _temporary/0/y.parquet"),
        "text": ("README.md", "README.md is not a Parquet file"),
        "empty": ("y.parquet", "y.parquet is empty"),
        "dangling": ("y.parquet", "it is a link to a file that is not there"),
        "loop/a": ("../b", ""),
    }
    for folder, (name, _) in cases.items():
        put(tmp_path, f"{folder}/x.parquet", k=[1])
        other = tmp_path / folder / name
        if folder == "loop/a":
            other.symlink_to(tmp_path / folder)
        elif folder == "dangling":
            other.symlink_to(tmp_path / "nowhere")
        elif folder in ("text", "empty"):
            other.write_text("twelve letters and more" if folder == "text" else "")
        else:
            put(tmp_path, f"{folder}/{name}", k=[2])
    put(tmp_path, "twice/country=DE/x.parquet", k=[1], country=["FR"])
    put(tmp_path, "escape/a=50%/x.parquet", k=[1])
    put(tmp_path, "latin/a=%E9/x.parquet", k=[1])
    (tmp_path / "marker").mkdir()
    (tmp_path / "marker/_SUCCESS").touch()
    pq.write_table(pa.table([[1], [2]], names=["k", "k"]), put(tmp_path, "double/x.parquet", k=[1]))

    sentences = {folder: sentence for folder, (_, sentence) in cases.items() if sentence} | {
        "names": "in folders of different kinds: a=1/x.parquet, b=1/x.parquet",
        "loop": "is a link to a folder that is read already",
        "hidden/_orders_of_monday.parquet": "has a hidden name",
        "twice": "has the column 'country' twice",
        "escape": "the folder a=50% of .* has an escape that cannot be read",
        "latin": "the folder a=%E9 of .* has an escape that cannot be read",
        "marker": "there is no Parquet file in",
        "nowhere": "there is no table at",
        "double": "more than one column named 'k'",
    }
    for name, sentence in sentences.items():
        with pytest.raises(TableError, match=sentence):
            pair(name, name)


def test_what_holds_no_rows_of_the_table_does_no_harm(pair: Pair, tmp_path: Path) -> None:
    put(tmp_path, "t/x.parquet", k=[1])
    for harmless in ("_SUCCESS", "_metadata", ".y.parquet.crc", ".DS_Store", "_committed_123"):
        (tmp_path / "t" / harmless).write_bytes(os.urandom(40))
    put(tmp_path, "t/.part-0-0.inprogress.1f", k=[2])
    put(tmp_path, "t/z.parquet._COPYING_", k=[2])
    found, lines = pair("t", "t")
    assert (found.verdict, found.rows_batch) == ("equal", 1)
    running = ".part-0-0.inprogress.1f, z.parquet._COPYING_: not read, as the write that it belongs to has not"
    assert sum(running in line for line in lines) == 2
    # One kind of folder that is no partition: no engine reads a part of it.
    put(tmp_path, "dated/2023/x.parquet", k=[1])
    put(tmp_path, "dated/2024/x.parquet", k=[2])
    found, lines = pair("dated", "dated")
    assert (found.verdict, found.rows_batch) == ("equal", 2)
    assert any("the files of 2 folders below it are read as one table: 2023/, 2024/" in line for line in lines)


def test_a_table_whose_log_says_which_files_count_is_not_read_without_it(pair: Pair, tmp_path: Path) -> None:
    put(tmp_path, "ice/data/x.parquet", k=[1])
    (tmp_path / "ice/metadata").mkdir()
    (tmp_path / "ice/metadata/v1.metadata.json").write_text("{}")
    put(tmp_path, "hudi/x.parquet", k=[1])
    (tmp_path / "hudi/.hoodie").mkdir()
    put(tmp_path, "sink/a=1/x.parquet", k=[1])
    (tmp_path / "sink/_spark_metadata").mkdir()
    for name, sentence in {
        "ice": "is an Iceberg table",
        "ice/data": "lies inside the Iceberg table",
        "ice/data/x.parquet": "lies inside the Iceberg table",
        "hudi": "is a Hudi table",
        "sink/a=1": "the log of the stream that wrote the files says which",
    }.items():
        with pytest.raises(TableError, match=sentence):
            pair(name, name)


def test_a_folder_of_a_delta_table_is_refused_with_the_tables_name(
    pair: Pair, spark_session: SparkSession, tmp_path: Path
) -> None:
    rows = spark_session.range(4).selectExpr("id AS k", "id % 2 AS p")
    rows.write.format("delta").partitionBy("p").save(str(tmp_path / "table"))
    for inside in ("table/p=0", f"table/p=0/{next((tmp_path / 'table/p=0').glob('*.parquet')).name}"):
        with pytest.raises(TableError, match=f"lies inside the Delta table {tmp_path}/table") as error:
            pair(inside, "table")
        assert error.value.fix == f"name the table: {tmp_path}/table"
    put(tmp_path, "plain/p=0/x.parquet", k=[0, 2])
    put(tmp_path, "plain/p=1/x.parquet", k=[1, 3])
    found, lines = pair("table", "plain")
    assert found.verdict == "different"
    assert "  p: bigint in batch, string in stream (--as p=TYPE compares both as one type)" in lines
    assert pair("table", "plain", types={"p": "bigint"})[0].verdict == "equal"


def test_a_table_with_a_log_below_the_folder_or_behind_a_link_is_not_read_without_it(
    pair: Pair, spark_session: SparkSession, tmp_path: Path
) -> None:
    """Its files hold rows that the table no longer has: with them two tables could be equal that are not."""
    for start in (0, 2):
        rows = spark_session.range(start, start + 2).toDF("k").coalesce(1)
        rows.write.format("delta").mode("overwrite").save(str(tmp_path / "lake/orders"))
    put(tmp_path, "plain/x.parquet", k=[0, 1, 2, 3])
    for name, log in (("hudi", ".hoodie"), ("sink", "_spark_metadata"), ("ice", "metadata")):
        put(tmp_path, f"{name}/t/x.parquet", k=[1])
        (tmp_path / name / "t" / log).mkdir()
    (tmp_path / "ice/t/metadata/v1.metadata.json").write_text("{}")
    file = next((tmp_path / "lake/orders").glob("*.parquet"))
    (tmp_path / "links").mkdir()
    (tmp_path / "links/x.parquet").symlink_to(file)
    (tmp_path / "folders").mkdir()
    (tmp_path / "folders/a").symlink_to(tmp_path / "lake/orders")
    (tmp_path / "one.parquet").symlink_to(file)
    (tmp_path / "orders").symlink_to(tmp_path / "lake/orders")
    for name, sentence in {
        "lake": f"lake holds a table of Delta: {tmp_path}/lake/orders. Only the log says which",
        "hudi": "hudi holds a table of Hudi",
        "sink": r"sink holds what a stream wrote, with its log \(_spark_metadata\)",
        "ice": "ice holds a table of Iceberg",
        "links": f"links/x.parquet, a link to {file}, lies inside the Delta table {tmp_path}/lake/orders",
        "folders": "folders/a, a link to .*/orders, lies inside the Delta table",
        "one.parquet": "one.parquet lies inside the Delta table",
    }.items():
        with pytest.raises(TableError, match=sentence):
            pair(name, "plain")
    assert pair("orders", "lake/orders")[0].verdict == "equal"
    # A link to what is no part of a table is as good as a file.
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/x.parquet").symlink_to(tmp_path / "plain/x.parquet")
    assert pair("linked", "plain")[0].verdict == "equal"


def test_hidden_files_that_are_not_parquet_and_folders_above_partitions_are_told(pair: Pair, tmp_path: Path) -> None:
    put(tmp_path, "t/a/year=2024/x.parquet", k=[1])
    put(tmp_path, "t/b/year=2024/x.parquet", k=[2])
    (tmp_path / "t/_orders.csv").write_text("k,v\n3,1\n")

    found, lines = pair("t", "t")
    assert found.verdict == "equal"
    assert "  batch:   _orders.csv: not read: hidden, and not Parquet" in lines
    assert "  batch:   the files of 2 folders below it are read as one table: a/, b/" in lines


def test_what_is_told_of_a_column_is_what_was_done(pair: Pair, tmp_path: Path) -> None:
    fine = of(pa.timestamp("ns"), 1_700_000_000_123_456_789)
    offsets = pa.array(["?"]).buffers()[1]
    for side, byte in (("a", b"\xff"), ("b", b"\xfe")):
        text = pa.StringArray.from_buffers(1, offsets, pa.py_buffer(byte))
        put(tmp_path, f"{side}/x.parquet", k=[1], t=fine, v=text)
    put(tmp_path, "colon/a:b.parquet", k=[1])

    _, lines = pair("a", "b", types={"t": "bigint"})
    assert "  batch:   column t is INT64 (TIMESTAMP(NANOS,false)): read as bigint, the nanoseconds" in lines
    assert re.split(r" {2,}", lines[-1])[-3:] == ["not UTF-8: FF", "not UTF-8: FE", "from character 13"]
    with pytest.raises(TableError, match=r"a:b\.parquet cannot be read: Hadoop takes the colon"):
        pair("colon", "a")


def test_a_unit_that_only_arrow_knows_and_the_order_of_a_repeated_name_count(pair: Pair, tmp_path: Path) -> None:
    """Parquet stores durations as bare numbers; of a name that stands twice in a map the last one counts."""
    for unit in ("s", "us", "ns"):
        put(tmp_path, f"{unit}/x.parquet", k=[1], v=of(pa.duration(unit), 5))
    put(tmp_path, "long/x.parquet", k=[1], v=of(pa.duration("ns"), 5_000_000_000))
    put(tmp_path, "bare/x.parquet", k=[1], v=[5])
    numbers = pa.map_(pa.string(), pa.int64())
    for name, entries in {"m12": [("a", 1), ("b", 0), ("a", 2)], "m21": [("a", 2), ("a", 1), ("b", 0)]}.items():
        put(tmp_path, f"{name}/x.parquet", k=[1], v=of(numbers, entries))
    put(tmp_path, "m12b/x.parquet", k=[1], v=of(numbers, [("b", 0), ("a", 1), ("a", 2)]))

    for one, other in (("s", "us"), ("us", "ns"), ("s", "bare"), ("m12", "m21")):
        assert pair(one, other)[0].verdict == "different", (one, other)
    for one, other in (("s", "long"), ("us", "us"), ("m12", "m12b")):
        assert pair(one, other)[0].verdict == "equal", (one, other)
    told = "  batch:   column v is INT64, a duration in s by Arrow's note: read as decimal(29,0)"
    assert told in pair("s", "s")[1]


def test_a_char_column_is_the_text_without_its_padding(pair: Pair, spark_session: SparkSession, tmp_path: Path) -> None:
    spark_session.sql(f"CREATE TABLE cli_char (k BIGINT, c CHAR(5)) USING delta LOCATION '{tmp_path}/char'")
    try:
        spark_session.sql("INSERT INTO cli_char VALUES (1, 'ab')")
    finally:
        spark_session.sql("DROP TABLE cli_char")
    put(tmp_path, "same/x.parquet", k=[1], c=["ab"])
    put(tmp_path, "other/x.parquet", k=[1], c=["ab "])

    found, lines = pair("char", "same")
    assert found.verdict == "equal"
    assert "  batch:  column c is char(5): read without its padding" in lines
    found, lines = pair("char", "other")
    assert found.verdict == "different"
    assert lines[-1].split() == ["1", "changed", "c", "ab", r"ab\x20", "from", "character", "3"]


def test_what_is_left_out_is_told(pair: Pair, tmp_path: Path) -> None:
    put(tmp_path, "a/x.parquet", k=[1], _run_id=["r1"])
    found, lines = pair("a", "a", ignore=("_run_id", "no_such_column"))
    assert found.verdict == "equal"
    assert [line for line in lines if "not compared" in line] == [
        "  batch:   column _run_id is not compared",
        "  stream:  column _run_id is not compared",
    ]


TABLES = {
    "plain": ("k BIGINT", "parquet", ""),
    "parted": ("k BIGINT, p STRING", "parquet", "PARTITIONED BY (p)"),
    "cased": ("k BIGINT, id BIGINT", "parquet", ""),
    "int96": ("k BIGINT, v TIMESTAMP", "parquet", ""),
    "narrow": ("k BIGINT, v TINYINT", "parquet", ""),
    "zone": ("k BIGINT, v TIMESTAMP_NTZ", "parquet", ""),
    "fields": ("k BIGINT, v STRUCT<a: BIGINT>", "parquet", ""),
    "wide": ("k BIGINT, v BIGINT, w STRING", "parquet", ""),
    "hidden": ("k BIGINT", "parquet", ""),
    "csv": ("k BIGINT, v DECIMAL(5,1)", "csv", "OPTIONS (mode 'FAILFAST')"),
    "json": ("k BIGINT, v TINYINT", "json", "OPTIONS (mode 'FAILFAST')"),
    "orc": ("k BIGINT, v INT", "orc", ""),
    "same": ("k BIGINT, v INT", "orc", ""),
}
VIEWS = {
    "view_csv": "SELECT * FROM cli_csv",
    "view_hidden": "SELECT k FROM cli_hidden WHERE k IN (SELECT k FROM cli_plain)",
    "view_inside": "SELECT k FROM cli_plain WHERE k IN (SELECT k FROM cli_hidden)",
    "view": "SELECT k FROM cli_plain",
}
REFUSED = {
    "parted": r"1 file below the folder of .*cli_parted would not be",
    "cased": r"'ID' is in 1 file of .*cli_cased \(x.parquet\), and the catalog calls it 'id': all null",
    "int96": "the column 'v' of .*int96, INT96, holds 1 value with a part below a microsecond",
    "narrow": r"'v' is int in 1 file of .*cli_narrow \(x.parquet\), and tinyint in the catalog",
    "zone": "'v' is timestamp in 1 file of .*, and timestamp_ntz in the catalog",
    "fields": "'v' is struct<a:bigint,b:bigint> in 1 file of .*, and struct<a:bigint> in the catalog",
    "hidden": "holds a hidden Parquet file, which Spark does not read: _y.parquet",
    "csv": "cli_csv is a table of CSV files, whose reader makes null of a value that does not fit",
    "json": "cli_json is a table of JSON files",
    "orc": "the column 'v' of .*cli_orc is string in its ORC files, and int in the catalog",
    "view_csv": "cli_csv is a table of CSV files",
    "view_hidden": "holds a hidden Parquet file",
    "view_inside": "holds a hidden Parquet file",
}
"""By the end of a table's name: the sentence that refuses it."""


def test_a_table_of_the_catalog_is_held_against_its_files(spark_session: SparkSession, tmp_path: Path) -> None:
    """By the catalog's schema Spark reads null, or another number, where the files hold something else."""

    def compared(*names: str) -> Found:
        asked = Asked(keys=("k",), window=None, ready_until=None, tolerances={}, ignore=(), full=False)
        refs = (f"spark_catalog.default.cli_{names[0]}", f"spark_catalog.default.cli_{names[1]}")
        found, read = compare_tables(spark_session, None, refs, asked)
        return found, comparison_lines(found, refs, read)

    fine = of(pa.timestamp("ns", "UTC"), 1_700_000_000_123_456_789)
    both = pa.array([{"a": 1, "b": 2}], pa.struct([("a", pa.int64()), ("b", pa.int64())]))
    put(tmp_path, "plain/x.parquet", k=[1])
    put(tmp_path, "parted/p=1/x.parquet", k=[1])
    put(tmp_path, "cased/x.parquet", k=[1], ID=[1])
    put(tmp_path, "int96/x.parquet", int96=True, k=[1], v=fine)
    put(tmp_path, "narrow/x.parquet", k=[1], v=of(pa.int32(), 300))
    put(tmp_path, "zone/x.parquet", k=[1], v=of(pa.timestamp("us", "UTC"), 1))
    put(tmp_path, "fields/x.parquet", k=[1], v=both)
    put(tmp_path, "wide/x.parquet", k=[1], v=of(pa.int32(), 300))
    put(tmp_path, "hidden/x.parquet", k=[1])
    put(tmp_path, "hidden/_y.parquet", k=[2])
    for name in ("csv", "json"):
        (tmp_path / name).mkdir()
    (tmp_path / "csv/x.csv").write_text("1,1.24\n")
    (tmp_path / "json/x.json").write_text('{"k":1,"v":200}\n')
    spark_session.sql("SELECT 1L AS k, 'a' AS v").coalesce(1).write.orc(str(tmp_path / "orc"))
    spark_session.sql("SELECT 1L AS k, 7 AS v").coalesce(1).write.orc(str(tmp_path / "same"))
    try:
        for name, (columns, kind, more) in TABLES.items():
            spark_session.sql(f"CREATE TABLE cli_{name} ({columns}) USING {kind} {more} LOCATION '{tmp_path}/{name}'")
        for name, query in VIEWS.items():
            spark_session.sql(f"CREATE VIEW cli_{name} AS {query}")
        for name in ("plain", "same", "view"):
            assert compared(name, name)[0].verdict == "equal", name
        found, lines = compared("wide", "wide")
        assert found.verdict == "equal"
        assert "  batch:   column w is in no file, and null" in lines
        for name, sentence in REFUSED.items():
            with pytest.raises(TableError, match=sentence):
                compared("plain", name)
        put(tmp_path, "plain/y.parquet", k=[2], discount=[5])
        spark_session.catalog.refreshTable("cli_plain")
        with pytest.raises(TableError, match=r"'discount' is in 1 file of .*cli_plain \(y.parquet\), and the catalog"):
            compared("plain", "plain")
    finally:
        for name in VIEWS:
            spark_session.sql(f"DROP VIEW IF EXISTS cli_{name}")
        for name in TABLES:
            spark_session.sql(f"DROP TABLE IF EXISTS cli_{name}")
