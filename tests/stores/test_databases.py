"""Tables of a real PostgreSQL and a real MariaDB against Parquet: equal where they are, and refused where Spark's own
reading would make another value of what is stored."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from tests.stores.command import LOGIN, compared, in_session, parquet, twinrun
from tests.stores.servers import PASSWORD, USER, Server

pytestmark = pytest.mark.slow
ORDERS = """
CREATE TABLE orders (id int PRIMARY KEY, shop varchar(20), cents bigint, price decimal(10,2), share double precision,
    day date, placed timestamp, blob_ {blob}, ok boolean);
INSERT INTO orders VALUES
    (1, 'münchen', 9007199254740993, 12.50, 0.1, '1500-03-01', '2024-03-31 02:30:00.123456', {data}, true),
    (2, NULL, -1, 0.05, 1e300, '2024-02-29', NULL, NULL, NULL),
    (3, 'it''s', 7, NULL, NULL, NULL, '1969-12-31 23:59:59.999999', {empty}, false);
"""
local = datetime.fromisoformat
ROWS = {
    "id": [1, 2, 3],
    "shop": ["münchen", None, "it's"],
    "cents": [9_007_199_254_740_993, -1, 7],
    "price": [Decimal("12.50"), Decimal("0.05"), None],
    "share": [0.1, 1e300, None],
    "day": [date(1500, 3, 1), date(2024, 2, 29), None],
    "placed": [local("2024-03-31T02:30:00.123456"), None, local("1969-12-31T23:59:59.999999")],
    "blob_": [b"\x00\xff", None, b""],
    "ok": [True, None, False],
}
SCHEMA = {"price": pl.Decimal(10, 2)}


@pytest.mark.parametrize(
    ("kind", "blob", "data", "empty"), [("pg", "bytea", r"'\x00ff'", r"'\x'"), ("maria", "blob", "X'00ff'", "''")]
)
def test_a_table_is_what_it_is_and_one_other_value_is_found(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, blob: str, data: str, empty: str
) -> None:
    server: Server = request.getfixturevalue(kind)
    text = ORDERS.format(blob=blob, data=data, empty=empty)
    server.run(text.replace(" placed timestamp", " placed datetime(6)") if kind == "maria" else text)
    rows = dict(ROWS)
    if kind == "maria":
        rows["ok"] = [1, None, 0]  # a boolean is a number there
    path = parquet(tmp_path, rows, **SCHEMA)
    same = compared(path, server.table("orders"))
    assert (same["code"], same["verdict"], same["rows"]) == (0, "equal", 3)

    server.run("UPDATE orders SET cents = cents - 1 WHERE id = 1")
    other = compared(path, server.table("orders"))
    assert (other["code"], other["verdict"], other["others"]) == (1, "different", 1)
    assert "9007199254740992" in json.dumps(other)


POSTGRES_ODD = {
    "an_infinite_time": ("timestamptz", "'-infinity'", "cannot be read as timestamp, such as -infinity"),
    "an_infinite_day": ("date", "'infinity'", "cannot be read as date, such as infinity"),
    "a_day_before_our_era": ("date", "'0044-03-15 BC'", "cannot be read as date, such as 0044-03-15 BC"),
    "a_number_that_is_none": ("numeric(10,2)", "'NaN'", "cannot be read as decimal(10,2), such as NaN"),
}


def test_what_no_column_here_can_hold_is_refused_by_name_and_can_be_compared_as_text(
    pg: Server, tmp_path: Path
) -> None:
    for name, (dtype, value, says) in POSTGRES_ODD.items():
        pg.run(f"CREATE TABLE {name} (id int, v {dtype}); INSERT INTO {name} VALUES (1, {value}), (2, NULL)")
        path = parquet(tmp_path, {"id": [1, 2], "v": [value.strip("'"), None]})
        code, said = in_session("compare", path, pg.table(name), "--keys", "id")
        assert code == 2, said
        assert f"1 value of v in {pg.table(name)}, stored as {dtype.replace('timestamptz', 'timestamp with')}" in said
        assert says in said
    same = compared(path, pg.table(name), "--as", "v=string")
    assert (same["verdict"], same["rows"]) == ("equal", 2)


def test_types_without_a_like_are_text_and_say_so(pg: Server, tmp_path: Path) -> None:
    """A numeric without limits keeps all its digits, and 24:00 is no other day's midnight."""
    pg.run(
        """CREATE TABLE odd (id int, n numeric, t time, u uuid, j jsonb, a int[], c char(5), z timestamptz);
        INSERT INTO odd VALUES (1, 0.12345678901234567890123, '24:00', '00010203-0405-0607-0809-0a0b0c0d0e0f',
        '{"b": 1}', '{1,2}', 'ab', '2024-01-01 00:00:00.000001+05:45')"""
    )
    rows = {
        "id": [1],
        "n": ["0.12345678901234567890123"],
        "t": ["24:00:00"],
        "u": ["00010203-0405-0607-0809-0a0b0c0d0e0f"],
        "j": ['{"b": 1}'],
        "a": ["{1,2}"],
        "c": ["ab"],
        "z": [datetime(2023, 12, 31, 18, 15, 0, 1, tzinfo=UTC)],
    }
    same = compared(parquet(tmp_path, rows), pg.table("odd"))
    assert (same["verdict"], same["code"]) == ("equal", 0), same
    assert "read as text: n (numeric), t (time without time zone), u (uuid), j (jsonb), a (_int4)" in json.dumps(same)
    exact = compared(
        parquet(tmp_path, {**rows, "n": [Decimal("0.12345678901234567890123")]}, n=pl.Decimal(38, 23)),
        pg.table("odd"),
        "--as",
        "n=decimal(38,23)",
    )
    assert exact["verdict"] == "equal"


def test_what_redshift_is_asked_is_understood_by_postgresql_and_nothing_is_cut_off(pg: Server, tmp_path: Path) -> None:
    """Redshift itself is not here: it speaks PostgreSQL's protocol, and its own statements are valid there, too."""
    pg.run(
        """CREATE TABLE shifted (id int, long_ varchar(2000), c char(5), n numeric(38,10), day date, at timestamp,
            z timestamptz, share double precision, ok boolean, u uuid);
        INSERT INTO shifted VALUES (1, repeat('é', 1999), 'ab', 1234567890123456789012345678.0123456789, '2024-02-29',
            '1969-12-31 23:59:59.999999', '2024-01-01 00:00:00.000001+05:45', 1e-300, true,
            '00010203-0405-0607-0809-0a0b0c0d0e0f')"""
    )
    rows = {
        "id": [1],
        "long_": ["é" * 1999],
        "c": ["ab"],
        "n": [Decimal("1234567890123456789012345678.0123456789")],
        "day": [date(2024, 2, 29)],
        "at": [local("1969-12-31T23:59:59.999999")],
        "z": [datetime(2023, 12, 31, 18, 15, 0, 1, tzinfo=UTC)],
        "share": [1e-300],
        "ok": [True],
        "u": ["anything"],
    }
    path = parquet(tmp_path, rows, n=pl.Decimal(38, 10))
    ref = pg.table("shifted").replace("jdbc:postgresql:", "jdbc:redshift:")
    code, said = twinrun("compare", path, ref, "--keys", "id")
    assert code == 2
    assert "u in public.shifted is stored as uuid, which is not read from redshift" in said
    for more in ((), ("--as", "long_=string")):
        same = compared(path, ref, "--ignore", "u", *more)
        assert (same["verdict"], same["code"]) == ("equal", 0), same
    pg.run("UPDATE shifted SET long_ = repeat('é', 1998) || 'e'")
    assert compared(path, ref, "--ignore", "u")["code"] == 1


def test_numbers_bits_and_times_of_mariadb_keep_their_values(maria: Server, tmp_path: Path) -> None:
    """Spark's own reading makes text of bits, a boolean of a TINYINT(1) and a decimal of 3 digits of DECIMAL(65,30)."""
    maria.run(
        """CREATE TABLE odd (id int, b bit(10), t tinyint(1), u bigint unsigned, d decimal(65,30), f float,
            at timestamp(6) NULL, h time, e enum('x','y'));
        SET time_zone = '-08:00';
        INSERT INTO odd VALUES (1, b'1000000001', 2, 18446744073709551615, 1.000000000000000000000000000001, 0.1,
            '2024-01-01 00:00:00.000001', '838:59:59', 'y')"""
    )
    rows = {
        "id": [1],
        "b": [Decimal(513)],
        "t": [2],
        "u": [Decimal(18_446_744_073_709_551_615)],
        "d": ["1.000000000000000000000000000001"],
        "f": [0.1],
        "at": [datetime(2024, 1, 1, 8, 0, 0, 1, tzinfo=UTC)],
        "h": ["838:59:59"],
        "e": ["y"],
    }
    wide = {"b": pl.Decimal(20, 0), "u": pl.Decimal(20, 0), "f": pl.Float32}
    same = compared(parquet(tmp_path, rows, **wide), maria.table("odd"))
    assert (same["verdict"], same["code"]) == ("equal", 0), same
    assert "read as text: d (decimal(65,30)), h (time)" in json.dumps(same)

    maria.run("SET sql_mode=''; CREATE TABLE zero (id int, day date); INSERT INTO zero VALUES (1, '0000-00-00')")
    path = parquet(tmp_path, {"id": [1], "day": [date(2024, 1, 1)]})
    code, said = twinrun("compare", path, maria.table("zero"), "--keys", "id")
    assert code == 2
    assert "stored as date, cannot be read as date, such as 0000-00-00" in said


@pytest.mark.parametrize("kind", ["pg", "maria"])
def test_who_may_not_read_all_columns_is_refused_and_does_not_compare_the_others(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    server: Server = request.getfixturevalue(kind)
    who = "few" if kind == "pg" else "few@'127.0.0.1'"
    made = (
        "CREATE ROLE few LOGIN PASSWORD 'few-4711'" if kind == "pg" else f"CREATE USER {who} IDENTIFIED BY 'few-4711'"
    )
    server.run(f"""CREATE TABLE salaries (id int PRIMARY KEY, cents int); INSERT INTO salaries VALUES (1, 5); {made};
        GRANT SELECT (id) ON salaries TO {who}""")
    path = parquet(tmp_path, {"id": [1]})
    login = {"TWINRUN_JDBC_USER": "few", "TWINRUN_JDBC_PASSWORD": "few-4711"}
    code, said = in_session("compare", path, server.table("salaries"), "--keys", "id", env={**LOGIN, **login})
    assert code == 2, said
    assert "denied" in said
    assert "few-4711" not in said


def test_as_text_no_digit_and_no_byte_is_lost(maria: Server, tmp_path: Path) -> None:
    """Its own cast rounds a FLOAT to six digits, and makes a question mark of what is no text."""
    for name, number, raw in (("one", "1.2345678", "00ff01"), ("two", "1.2345699", "00ff01"), ("three", "7", "00fe01")):
        maria.run(f"CREATE TABLE {name} (id int, f float, b blob); INSERT INTO {name} VALUES (1, {number}, x'{raw}')")
    more = ("--as", "f=string", "--as", "b=string")
    found = compared(maria.table("one"), maria.table("two"), *more)
    assert (found["code"], found["verdict"]) == (1, "different")
    path = parquet(tmp_path, {"id": [1], "f": ["7"], "b": ["00FE01"]})
    same = compared(path, maria.table("three"), *more)
    assert (same["verdict"], same["code"]) == ("equal", 0), same
    assert compared(maria.table("one"), maria.table("three"), "--ignore", "f", "--as", "b=string")["code"] == 1


def test_results_that_spark_writes_to_a_database_are_the_results(pg: Server, maria: Server, tmp_path: Path) -> None:
    """The same rows to both, by Spark's JDBC sink; and the two databases against one another."""
    script = f"""
import os
from twinrun.session.jars import fetch_jars
from twinrun.session.spark import build_session, stop_session
for name in ("postgresql", "mariadb"):
    fetch_jars(name)
spark = build_session("write", {{}}, drivers=("postgresql", "mariadb"))
rows = spark.sql('''SELECT concat('k', id % 7) AS shop, timestamp_seconds(1704067200 + 60 * id) AS window_start,
    id AS orders, CAST(id * 1.25 AS decimal(12,2)) AS total FROM range(500)''')
rows.write.format("delta").save({str(tmp_path / "batch")!r})
login = {{"user": {USER!r}, "password": {PASSWORD!r}}}
driver = {{"driver": "org.postgresql.Driver"}}
rows.write.jdbc("jdbc:postgresql://127.0.0.1:{pg.port}/shop", "sales", properties=login | driver)
# Spark puts names in double quotes, which are a text's there.
mode = {{"sessionVariables": "sql_mode=ANSI_QUOTES", "driver": "org.mariadb.jdbc.Driver"}}
rows.write.jdbc("jdbc:mariadb://127.0.0.1:{maria.port}/shop", "sales", properties=login | mode)
stop_session(spark)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    batch = str(tmp_path / "batch")
    same = compared(batch, pg.table("sales"), "--naive-time-zone", "UTC", keys="shop,window_start", run=twinrun)
    assert (same["verdict"], same["rows"]) == ("equal", 500)
    pg.run("DELETE FROM sales WHERE orders = 17")
    gone = compared(batch, pg.table("public.sales"), "--naive-time-zone", "UTC", keys="shop,window_start")
    assert (gone["code"], gone["verdict"], gone["rows_different"]["only_batch"]) == (1, "different", 1)


def test_a_server_that_is_down_refuses_or_lacks_the_table_is_told_in_a_sentence(pg: Server, tmp_path: Path) -> None:
    path = parquet(tmp_path, {"id": [1]})
    down = pg.table("orders").replace(str(pg.port), "1")
    for ref, env, says in (
        (down, LOGIN, "no database answers at 127.0.0.1:1"),
        (pg.table("orders"), {**LOGIN, "TWINRUN_JDBC_PASSWORD": "wrong"}, "password authentication failed"),
        (pg.table("nowhere"), LOGIN, "there is no table public.nowhere in shop at 127.0.0.1"),
        (f"{pg.table('orders')}".replace("127", f"{USER}:{PASSWORD}@127"), LOGIN, "holds a user or a password"),
        ("jdbc:oracle://h/d#t", LOGIN, "tables of oracle are not read"),
        ("jdbc:postgresql://h/d", LOGIN, "names no table of a database"),
    ):
        code, said = in_session("compare", path, ref, "--keys", "id", env=env)
        assert code == 2, said
        assert says in said, said
