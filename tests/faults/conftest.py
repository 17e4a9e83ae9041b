"""A real broker, and sites on it: topics with tables on which real commands run and are killed."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.faults.site import PARTITIONS, Site
from twinrun.broker.process import BrokerInfo
from twinrun.broker.topics import create_topic


@pytest.fixture(scope="module")
def make_site(broker: BrokerInfo, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Make sites that share nothing but the broker."""

    def make() -> Site:
        topic = f"clicks-{uuid.uuid4().hex[:8]}"
        create_topic(broker.bootstrap_servers, topic, PARTITIONS)
        return Site(tmp_path_factory.mktemp("site"), broker.bootstrap_servers, topic)

    return make
