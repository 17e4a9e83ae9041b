"""What a reference of a Cassandra table says, and what is refused before anything is opened."""

from __future__ import annotations

import pytest

from twinrun.errors import InputError, MachineError
from twinrun.tables.cassandra import CassandraTable, cassandra_of, is_cassandra, need_cassandra


def test_a_reference_names_host_port_keyspace_and_table() -> None:
    assert cassandra_of("cassandra://db.example:9043/shop#sales") == CassandraTable("db.example", 9043, "shop", "sales")
    assert cassandra_of("cassandra://db.example/Shop#OddName") == CassandraTable("db.example", 9042, "Shop", "OddName")
    assert is_cassandra("cassandra://db.example/shop#sales")
    assert not is_cassandra("jdbc:cassandra://db.example/shop#sales")


@pytest.mark.parametrize(
    "ref",
    [
        "cassandra://db.example/shop",
        "cassandra://db.example#sales",
        "cassandra:///shop#sales",
        "cassandra://db.example/shop#",
        "cassandra:shop#sales",
        "cassandra://db.example/shop?consistency=ONE#sales",
    ],
)
def test_what_names_no_table_is_refused(ref: str) -> None:
    with pytest.raises(InputError, match="names no table of Cassandra") as told:
        cassandra_of(ref)
    assert "cassandra://HOST[:PORT]/KEYSPACE#TABLE" in told.value.sentence()


def test_a_port_is_a_number() -> None:
    with pytest.raises(InputError, match="has the port 'x', which is none"):
        cassandra_of("cassandra://db.example:x/shop#sales")


@pytest.mark.parametrize(
    "ref",
    ["cassandra://reader:kept-5291@db.example/shop#sales", "cassandra://db.example/shop?password=kept-5291#sales"],
)
def test_a_secret_in_a_reference_is_refused_and_not_shown(ref: str) -> None:
    with pytest.raises(InputError, match="holds a user or a password") as told:
        cassandra_of(ref)
    assert "kept-5291" not in told.value.sentence()
    assert "TWINRUN_CASSANDRA_PASSWORD" in told.value.sentence()


def test_nobody_who_answers_is_told_before_spark_starts() -> None:
    with pytest.raises(MachineError, match=r"no database answers at 127\.0\.0\.1:1 "):
        need_cassandra("cassandra://127.0.0.1:1/shop#sales")
