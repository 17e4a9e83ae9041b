"""Kill -9 at each point of a micro-batch, in ingest and in both kinds of stream, then one verify over all of it.

The tests of this file go on where the one before stopped: each start after a kill is also a restart.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import write_deltalake

from tests.faults.disk import Facts
from tests.faults.kill import Point, kill_at
from tests.faults.site import (
    Site,
    require_clean,
    require_closed_minutes,
    require_each_acked_offset_once,
    require_totals,
    wait_until,
)

pytestmark = pytest.mark.slow
STARTED = 1
WAYS = [("ingest", "per_minute"), ("stream", "per_minute"), ("stream", "page_totals")]


@pytest.fixture(scope="module")
def site(make_site: Any) -> Site:
    return make_site()


@pytest.mark.parametrize(("mode", "job"), WAYS)
def test_killed_at_each_point_it_goes_on_where_it_was(site: Site, mode: str, job: str) -> None:
    # The first kill hits a run that has state already, the second one the start that repeats its micro-batch.
    first = killed(site, mode, job, "before_the_sink_write", at_work=STARTED)
    second = killed(site, mode, job, "after_the_version", at_work=0)
    assert STARTED < first.planned <= second.planned
    site.drain(mode, job)
    after = site.sink(mode, job).facts()
    assert after.planned == after.in_table == after.committed > second.planned


def killed(site: Site, mode: str, job: str, point: Point, at_work: int) -> Facts:
    """Start, wait for a committed micro-batch, and kill at the point."""
    sink = site.sink(mode, job)
    with ExitStack() as stack:
        command = stack.enter_context(site.start(mode, job, keep=True))
        if mode == "ingest":
            # An ingest takes all that there is as one micro-batch: only what is sent meanwhile makes another.
            wait_until(lambda: sink.query_id() is not None, command)
            stack.enter_context(site.sending())
        wait_until(lambda: sink.committed() >= at_work, command)
        return kill_at(point, command, sink)


def test_the_commit_file_removed_by_hand_is_the_same_state(site: Site) -> None:
    sink = site.sink("stream", "per_minute")
    before = sink.facts()
    for file in (
        sink.checkpoint / "commits" / str(before.committed),
        sink.checkpoint / "commits" / f".{before.committed}.crc",
    ):
        file.unlink()
    assert sink.facts().after_the_version
    site.run("stream", "per_minute")
    after = sink.facts()
    assert after.committed >= before.committed
    assert after.planned == after.in_table == after.committed


def test_each_acked_offset_is_in_bronze_once(site: Site, tmp_path: Path) -> None:
    require_each_acked_offset_once(site, site.bronze)
    # The controls: one row twice, and one row gone.
    rows = pl.read_delta(str(site.bronze)).select("partition", "offset")
    for name, planted in {"twice": pl.concat([rows, rows.head(1)]), "gone": rows.tail(-1)}.items():
        write_deltalake(str(tmp_path / name), planted)
        with pytest.raises(AssertionError):
            require_each_acked_offset_once(site, tmp_path / name)


def test_the_streams_have_what_the_clicks_give(site: Site) -> None:
    require_closed_minutes(site)
    require_totals(site)


@pytest.mark.parametrize("job", ["per_minute", "page_totals"])
def test_verify_is_clean(site: Site, job: str) -> None:
    site.run("batch", job)
    require_clean(site.verify(job, code=0))


def test_what_a_kill_could_have_doubled_is_found(site: Site) -> None:
    """One result row and one record of bronze planted a second time: the checks of this folder and verify see both."""
    for table in (site.results("page_totals"), site.results("per_minute"), site.bronze):
        write_deltalake(str(table), pl.read_delta(str(table)).head(1).to_arrow(), mode="append")
    with pytest.raises(AssertionError):
        require_closed_minutes(site)
    with pytest.raises(AssertionError):
        require_totals(site)
    verdict = site.verify("page_totals", code=1)
    assert (verdict["outcome"], verdict["rows_unexplained"]) == ("differ", 0)
    assert [(cause["cause"], cause["rows"]) for cause in verdict["causes"]] == [("sink_duplicate", 1)]
    assert [(audit["ok"], audit["repeated_offsets"]) for audit in verdict["audits"]] == [(False, 1)]
