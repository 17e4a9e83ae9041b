"""A stream that died between its table's commit and Spark's: the micro-batch is done again, and stands once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import World, click
from tests.integration.shapes import result_of

LOG = [click(second, page, name=f"{page}{second}") for second in range(5, 100, 15) for page in "ab"]
MORE = [click(second, "a", name=f"more{second}") for second in (200, 230)]


def die_before_spark_knows(world: World, job: str) -> None:
    """What a kill -9 between the two commits leaves: the table has the last micro-batch, the checkpoint has not."""
    commits = Path(world.root / "cp" / "stream" / job / "v1" / "commits")
    last = max(int(file.name) for file in commits.iterdir() if file.name.isdigit())
    for file in (commits / str(last), commits / f".{last}.crc"):
        file.unlink(missing_ok=True)


@pytest.mark.parametrize("job", ["page_totals", "per_minute"])
def test_it_goes_on_from_there_and_nothing_is_counted_twice(make_world: Any, job: str) -> None:
    world = make_world()
    world.produce(LOG)
    world.stream(job)
    before = result_of(world, "stream", job)
    die_before_spark_knows(world, job)
    world.stream(job)
    keys = world.job(job).keys
    columns = [*keys, "clicks"]
    assert result_of(world, "stream", job).select(columns).sort(keys).equals(before.select(columns).sort(keys))

    world.produce(MORE)
    world.stream(job)
    world.ingest(job)
    world.batch(job)
    verdict = world.verify(job)
    assert (verdict.outcome, verdict.rows_unexplained) == ("agree", 0)
    assert verdict.rows_compared == verdict.rows_equal > 0
