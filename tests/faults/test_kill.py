"""Kill -9 of Java in the middle of a stream's micro-batch: after a restart nothing is lost and nothing stands twice."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import SparkSession

from tests.faults.kill import kill_at
from tests.faults.site import require_closed_minutes, require_each_acked_offset_once
from tests.integration.conftest import World


@pytest.mark.slow
def test_a_stream_killed_between_its_delta_version_and_its_commit_writes_nothing_twice(
    make_site: Any, spark_session: SparkSession
) -> None:
    site = make_site()
    site.send(48)
    with site.start("stream", "per_minute") as stream:
        killed = kill_at("after_the_version", stream, site.sink("stream", "per_minute"))
    site.run("stream", "per_minute")
    after = site.sink("stream", "per_minute").facts()
    assert after.planned == after.in_table == after.committed > killed.planned
    require_closed_minutes(site)
    # What was not killed runs in this process, which has its session already.
    world = World(spark_session, site.root, site.topic, site.servers, {}, 2)
    world.ingest()
    require_each_acked_offset_once(site, site.bronze)
    world.batch()
    verdict = world.verify()
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("agree", 0, 0)
    assert verdict.rows_compared > 0
