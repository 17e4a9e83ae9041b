"""Tables of a real Cassandra against Parquet and Delta: equal where they are, and refused where Spark's connector, or
JSON, would make another value of what is stored."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from tests.stores.command import LOGIN, compared, in_session, parquet, twinrun
from tests.stores.servers import PASSWORD, USER, Server, cassandra
from twinrun.errors import MachineError
from twinrun.session.jars import fetch_jars, fetch_set, read_lock
from twinrun.session.java import find_java

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cass() -> Iterator[Server]:
    java = find_java()
    if not java.version.startswith("17."):
        pytest.skip(f"Cassandra 5.0 runs on Java 17, and this is {java.version}")
    if not (java.binary.resolve().parent / "javac").exists():
        pytest.skip(f"{java.home} has no javac: this needs a JDK, not only a JRE")
    try:
        jars = fetch_set(read_lock((ROOT / "engines/jars.lock").read_text(encoding="utf-8"))["cassandra"])
        driver = fetch_jars("cassandra")
    except MachineError as error:
        pytest.skip(f"Cassandra cannot be had: {error}")
    with cassandra(java.binary, jars, driver) as server:
        yield server


def test_results_that_spark_writes_to_cassandra_are_the_results_and_each_planted_fault_is_found(
    cass: Server, tmp_path: Path
) -> None:
    cass.run(
        """CREATE TABLE shop.sales (shop text, window_start timestamp, orders bigint, total decimal, mean double,
        PRIMARY KEY (shop, window_start))"""
    )
    script = f"""
from twinrun.session.jars import fetch_jars
from twinrun.session.spark import build_session, stop_session
fetch_jars("cassandra")
spark = build_session("write", {{}}, drivers=("cassandra",))
rows = spark.sql('''SELECT concat('k', id % 7) AS shop, timestamp_seconds(1704067200 + 60 * id) AS window_start,
    id AS orders, CAST(id * 1.25 AS decimal(12,2)) AS total, id / 7D AS mean FROM range(500)''')
rows.write.format("delta").save({str(tmp_path / "batch")!r})
login = {{"auth.username": {USER!r}, "auth.password": {PASSWORD!r}}}
place = {{"connection.host": "127.0.0.1", "connection.port": "{cass.port}"}}
options = {{f"spark.cassandra.{{name}}": value for name, value in (login | place).items()}}
table = rows.write.format("org.apache.spark.sql.cassandra").options(keyspace="shop", table="sales", **options)
table.mode("append").save()
stop_session(spark)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    batch, keys = str(tmp_path / "batch"), "shop,window_start"
    same = compared(batch, cass.table("sales"), keys=keys, run=twinrun)
    assert (same["code"], same["verdict"], same["rows"]) == (0, "equal", 500), same

    cass.run(
        """DELETE FROM shop.sales WHERE shop = 'k3' AND window_start = '2024-01-01T00:17:00Z';
        INSERT INTO shop.sales (shop, window_start, orders) VALUES ('k9', '2024-01-01T00:17:00Z', 17);
        UPDATE shop.sales SET total = 0.01 WHERE shop = 'k0' AND window_start = '2024-01-01T00:00:00Z';
        UPDATE shop.sales SET mean = null WHERE shop = 'k1' AND window_start = '2024-01-01T00:01:00Z'"""
    )
    other = compared(batch, cass.table("sales"), keys=keys)
    assert (other["code"], other["verdict"]) == (1, "different")
    counts = {kind: count for kind, count in other["rows_different"].items() if count}
    assert counts == {"changed": 2, "only_batch": 1, "only_stream": 1}


EXACT = """CREATE TABLE shop.exact (id int PRIMARY KEY, a ascii, t text, b bigint, s smallint, y tinyint, ok boolean,
    f float, x double, d decimal, v varint, day date, at timestamp, bl blob);
INSERT INTO shop.exact (id, a, t, b, s, y, ok, f, x, d, v, day, at, bl) VALUES (1, 'x', 'a"b\\c ü😀', 9007199254740993,
    -32768, -128, true, 16777216, 4.9e-324, 0.00000000000000000001, 12345678901234567890123456789012345678,
    '1500-03-01', '1500-03-01T00:00:00.001Z', 0x00ff);
INSERT INTO shop.exact (id, t, ok, f, x, d, day, at, bl) VALUES (2, '', false, -0.0, NaN, -1E+3, '0001-01-01',
    '9999-12-31T23:59:59.999Z', 0x);
INSERT INTO shop.exact (id, f, x, d) VALUES (3, NaN, -Infinity, 2.50);
INSERT INTO shop.exact (id, t) VALUES (4, 'null')"""
EXACT_ROWS = {
    "id": [1, 2, 3, 4],
    "a": ["x", None, None, None],
    "t": ['a"b\\c ü😀', "", None, "null"],
    "b": [9_007_199_254_740_993, None, None, None],
    "s": [-32_768, None, None, None],
    "y": [-128, None, None, None],
    "ok": [True, False, None, None],
    "f": [16_777_216.0, -0.0, float("nan"), None],
    "x": [4.9e-324, float("nan"), float("-inf"), None],
    "d": [Decimal("0.00000000000000000001"), Decimal(-1000), Decimal("2.5"), None],
    "v": [Decimal(12_345_678_901_234_567_890_123_456_789_012_345_678), None, None, None],
    "day": [date(1500, 3, 1), date(1, 1, 1), None, None],
    "at": [datetime(1500, 3, 1, 0, 0, 0, 1000, UTC), datetime(9999, 12, 31, 23, 59, 59, 999_000, UTC), None, None],
    "bl": [b"\x00\xff", b"", None, None],
}
EXACT_TYPES = {
    "f": pl.Float32,
    "d": pl.Decimal(38, 20),
    "v": pl.Decimal(38, 0),
    "s": pl.Int16,
    "y": pl.Int8,
    "id": pl.Int32,
}


def test_each_value_of_a_type_with_a_like_is_that_value(cass: Server, tmp_path: Path) -> None:
    """The connector's data frames round the decimal, move the time before 1582, and lack the large integer."""
    cass.run(EXACT)
    same = compared(parquet(tmp_path, EXACT_ROWS, **EXACT_TYPES), cass.table("exact"))
    assert (same["code"], same["verdict"], same["rows"]) == (0, "equal", 4), same
    assert "read as text" not in json.dumps(same)

    cass.run("UPDATE shop.exact SET d = 0.00000000000000000002 WHERE id = 1")
    other = compared(str(tmp_path / "rows.parquet"), cass.table("exact"))
    assert (other["code"], other["others"]) == (1, 1)


def test_types_without_a_like_are_text_and_say_so(cass: Server, tmp_path: Path) -> None:
    cass.run(
        """CREATE TYPE shop.place (street text, zip int);
        CREATE TABLE shop.texts (id int PRIMARY KEY, ti time, u uuid, tu timeuuid, i inet, du duration, l list<int>,
            se set<text>, m map<text, bigint>, tp tuple<int, text>, pl frozen<place>, ve vector<float, 2>,
            fe frozen<list<decimal>>);
        INSERT INTO shop.texts (id, ti, u, tu, i, du, l, se, m, tp, pl, ve, fe) VALUES (1, '08:12:54.123456789',
            00010203-0405-0607-0809-0a0b0c0d0e0f, 50554d6e-29bb-11e5-b345-feff819cdc9f, '127.0.0.1', 1mo2d3ns,
            [3, 1, 2], {'b', 'a'}, {'k': 9007199254740993}, (1, null), {street: 'null', zip: null}, [1, 0.5],
            [0.00000000000000000001]);
        INSERT INTO shop.texts (id, l, fe) VALUES (2, [], [])"""
    )
    rows = {
        "id": [1, 2],
        "ti": ["08:12:54.123456789", None],
        "u": ["00010203-0405-0607-0809-0a0b0c0d0e0f", None],
        "tu": ["50554d6e-29bb-11e5-b345-feff819cdc9f", None],
        "i": ["127.0.0.1", None],
        "du": ["1mo2d3ns", None],
        "l": ["[3, 1, 2]", None],  # an empty list that is not frozen is none there
        "se": ['["a", "b"]', None],
        "m": ['{"k": 9007199254740993}', None],
        "tp": ["[1, null]", None],
        "pl": ['{"street": "null", "zip": null}', None],
        "ve": ["[1.0, 0.5]", None],
        "fe": ["[1E-20]", "[]"],
    }
    path = parquet(tmp_path, rows, id=pl.Int32)
    same = compared(path, cass.table("texts"))
    assert (same["code"], same["verdict"], same["rows"]) == (0, "equal", 2), same
    told = "read as text: du (duration), fe (list<decimal>), i (inet), l (list<int>), m (map<text, bigint>)"
    assert told in json.dumps(same)
    cass.run("UPDATE shop.texts SET m = m + {'k': 9007199254740992} WHERE id = 1")
    assert compared(path, cass.table("texts"))["others"] == 1


REFUSED = {
    "a_day_no_column_holds": ("date", "'-5877641-06-23'", "cannot be read as date, such as -185542587187200000"),
    "a_time_no_column_holds": ("timestamp", "253402300800000", "cannot be read as timestamp, such as 253402300800000"),
    "an_integer_of_40_digits": ("varint", f"{10**39}", "cannot be read as decimal(38,0), such as 1000"),
    "a_decimal_of_101_digits": ("decimal", "1E+100", "need 101 digits before the point and 0 behind it"),
    "a_list_with_nan": ("list<float>", "[1, NaN]", "has a null inside"),
}


def test_what_no_column_here_can_hold_is_refused_by_name_and_can_be_compared_as_text(
    cass: Server, tmp_path: Path
) -> None:
    path = parquet(tmp_path, {"id": [1, 2], "v": ["1E+100", None]}, id=pl.Int32)
    for name, (kind, value, _) in REFUSED.items():
        made = f"CREATE TABLE shop.{name} (id int PRIMARY KEY, v {kind})"
        cass.run(
            f"{made};\nINSERT INTO shop.{name} (id, v) VALUES (1, {value});\nINSERT INTO shop.{name} (id) VALUES (2)"
        )
    for name, (kind, _, says) in REFUSED.items():
        code, said = in_session("compare", path, cass.table(name), "--keys", "id")
        assert code == 2, said
        assert f"v in {cass.table(name)}, stored as {kind}" in said, said
        assert says in said, said
    same = compared(path, cass.table("a_decimal_of_101_digits"), "--as", "v=string")
    assert (same["verdict"], same["rows"]) == ("equal", 2)


def test_counters_static_columns_names_of_any_kind_and_rows_that_expire(cass: Server, tmp_path: Path) -> None:
    """A static column alone makes a row whose clustering column is null."""
    cass.run(
        """CREATE TABLE shop.hits (id int PRIMARY KEY, c counter);
        UPDATE shop.hits SET c = c + 9007199254740993 WHERE id = 1;
        CREATE TABLE shop."OddName" ("Id" int, "a.b" int, "Order" text static, PRIMARY KEY ("Id", "a.b"));
        INSERT INTO shop."OddName" ("Id", "a.b", "Order") VALUES (1, 2, 'x');
        INSERT INTO shop."OddName" ("Id", "Order") VALUES (2, 'alone');
        INSERT INTO shop."OddName" ("Id", "a.b", "Order") VALUES (3, 2, 'gone') USING TTL 1;
        CREATE TABLE shop.only (id int PRIMARY KEY);
        INSERT INTO shop.only (id) VALUES (7)"""
    )
    hits = compared(parquet(tmp_path, {"id": [1], "c": [9_007_199_254_740_993]}, id=pl.Int32), cass.table("hits"))
    assert hits["verdict"] == "equal"
    only = compared(parquet(tmp_path, {"id": [7]}, id=pl.Int32), cass.table("only"))
    assert only["verdict"] == "equal"
    path = parquet(
        tmp_path, {"Id": [1, 2], "a.b": [2, None], "Order": ["x", "alone"]}, **{"Id": pl.Int32, "a.b": pl.Int32}
    )
    odd = compared(path, cass.table("OddName"), keys="Id,a.b")
    assert (odd["verdict"], odd["rows"]) == ("equal", 2), odd


def test_a_server_that_is_down_refuses_or_lacks_the_table_is_told_in_a_sentence(cass: Server, tmp_path: Path) -> None:
    path = parquet(tmp_path, {"id": [1]})
    wrong = {**LOGIN, "TWINRUN_CASSANDRA_PASSWORD": "wrong-5291"}
    nobody = {name: "" for name in LOGIN if "JDBC" in name}
    for ref, env, says in (
        (cass.table("sales").replace(str(cass.port), "1"), LOGIN, "no database answers at 127.0.0.1:1"),
        (cass.table("sales"), wrong, "Cassandra refuses the user or the password"),
        (cass.table("sales"), nobody, "Cassandra refuses the user or the password, or wants them"),
        (cass.table("nowhere"), LOGIN, "there is no table nowhere in the keyspace shop at 127.0.0.1"),
        (cass.table("sales").replace("127", f"{USER}:{PASSWORD}@127"), LOGIN, "holds a user or a password"),
    ):
        code, said = in_session("compare", path, ref, "--keys", "id", env=env)
        assert code == 2, said
        assert says in said, said
        assert "wrong-5291" not in said
