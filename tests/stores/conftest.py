"""The server that several of the stores' tests stand on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stores.servers import Server, mariadb, postgres, program


@pytest.fixture(scope="module")
def pg() -> Iterator[Server]:
    if not all(program(name) for name in ("initdb", "postgres", "psql")):
        pytest.skip("PostgreSQL is not on this machine: apt-get install postgresql, or as your system has it")
    with postgres() as server:
        yield server


@pytest.fixture(scope="module")
def maria() -> Iterator[Server]:
    if not all(program(*names) for names in (("mariadbd", "mysqld"), ("mariadb-install-db",), ("mariadb",))):
        pytest.skip("MariaDB is not on this machine: apt-get install mariadb-server, or as your system has it")
    with mariadb() as server:
        yield server
