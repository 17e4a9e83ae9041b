"""A real broker, and sites on it: topics with tables on which real commands run and are killed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.site import PARTITIONS, Site
from twinrun.broker.process import BrokerInfo, start_broker, stop_broker
from twinrun.broker.topics import create_topic


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerInfo]:
    """A development broker of this test session, on free ports."""
    data_dir = tmp_path_factory.mktemp("broker")
    yield start_broker(data_dir)
    stop_broker(data_dir)


@pytest.fixture(scope="module")
def make_site(broker: BrokerInfo, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Make sites that share nothing but the broker."""

    def make() -> Site:
        topic = f"clicks-{uuid.uuid4().hex[:8]}"
        create_topic(broker.bootstrap_servers, topic, PARTITIONS)
        return Site(tmp_path_factory.mktemp("site"), broker.bootstrap_servers, topic)

    return make
