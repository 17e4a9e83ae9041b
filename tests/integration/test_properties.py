"""Properties over random small logs: no order, copy or split of events leaves anything unexplained, and a batch that
recomputes only what new events touch equals one that recomputes everything.
"""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.integration.conftest import World, click
from tests.integration.shapes import result_of
from twinrun.produce.records import Record

# Each example runs both modes on a broker, which takes as long as hundreds of usual ones: few, the same every time,
# and no search for a smaller one, which would take an hour.
FEW = settings(
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
PROVEN = ("folded_minutes", "sliding_clicks", "minutes_so_far")
INCREMENTAL = ("sliding_clicks", "cents_of_a", "page_totals", "folded_totals")

events = st.builds(
    lambda tick, page, cents: (tick / 2, page, cents),
    st.integers(0, 600),  # half seconds: five minutes, so that window ends and watermarks often meet exactly
    st.sampled_from("aAb"),
    st.integers(0, 500),
)
logs = st.lists(events, min_size=8, max_size=24)


@st.composite
def sent_logs(draw: st.DrawFn) -> list[Record]:
    """A log in any order, where some events come again, each copy on whatever partition its key gives it.

    One event lies after all others: wherever it is sent, it closes windows in the end, so that there is something to
    compare.
    """
    drawn = [*draw(logs), (400.0, "b", 100)]
    records = [record(f"e{number}", *event) for number, event in enumerate(drawn)]
    copies = draw(st.lists(st.sampled_from(records), max_size=4))
    moved = [copy._replace(key=f"copy-{number}".encode()) for number, copy in enumerate(copies)]
    return draw(st.permutations([*records, *moved]))


def record(name: str, second: float, page: str, cents: int) -> Record:
    """Known an hour after minute 0, so that no event lies in the future of its record."""
    return click(second, page, name=name, known=3600, amount=cents / 100)


def plain_counts(records: list[Record]) -> dict[str, int]:
    """Events by page, upper and lower case as one, by counting JSON."""
    pages = [json.loads(each.value or b"")["page"].lower() for each in records]
    return {page: pages.count(page) for page in set(pages)}


def check_nothing_unexplained(make_world: Any, records: list[Record], sizes: list[int], job: str) -> None:
    world: World = make_world(partitions=3)
    world.produce(records)
    world.ingest()
    world.batch(job)
    for size in sizes:
        # The same topic and batch again, split into other micro-batches by a new checkpoint.
        world.stream(job, fresh="earliest", **{"stream.max_offsets_per_trigger": size})
        verdict = world.verify(job, full=True)
        assert (verdict.exit_code, verdict.rows_unexplained, verdict.stream_lag_events) == (0, 0, 0)
        assert verdict.outcome in ("agree", "explained"), verdict.problems
        assert {cause.cause for cause in verdict.causes} <= {"late_dropped"}


def check_incremental_equals_full(make_world: Any, landings: list[list[Record]], job: str) -> None:
    world: World = make_world(partitions=3)
    for landing in landings:
        world.produce(landing)
        world.ingest()
        world.batch(job)
    in_parts = result_of(world, "batch", job)
    world.batch(job, fresh="earliest")
    whole = result_of(world, "batch", job)
    assert in_parts.sort(pl.all()).equals(whole.sort(pl.all()))
    if job == "folded_totals":
        assert dict(whole.select("page", "clicks").iter_rows()) == plain_counts([r for each in landings for r in each])


@settings(FEW, max_examples=1)
@given(sent_logs(), st.integers(2, 9), st.sampled_from(PROVEN))
@pytest.mark.slow
def test_nothing_is_unexplained(make_world: Any, records: list[Record], size: int, job: str) -> None:
    check_nothing_unexplained(make_world, records, [size], job)


@pytest.mark.slow
@settings(FEW, max_examples=1)
@given(st.lists(sent_logs(), min_size=2, max_size=3), st.sampled_from(INCREMENTAL))
def test_an_incremental_batch_equals_a_full_one(make_world: Any, landings: list[list[Record]], job: str) -> None:
    check_incremental_equals_full(make_world, landings, job)


@pytest.mark.slow
@pytest.mark.parametrize("job", PROVEN)
@settings(FEW, max_examples=5)
@given(sent_logs(), st.lists(st.integers(1, 20), min_size=2, max_size=2, unique=True))
def test_nothing_is_unexplained_in_many_logs(
    make_world: Any, job: str, records: list[Record], sizes: list[int]
) -> None:
    check_nothing_unexplained(make_world, records, sizes, job)


@pytest.mark.slow
@pytest.mark.parametrize("job", INCREMENTAL)
@settings(FEW, max_examples=4)
@given(st.lists(sent_logs(), min_size=2, max_size=4))
def test_an_incremental_batch_equals_a_full_one_after_many_landings(
    make_world: Any, job: str, landings: list[list[Record]]
) -> None:
    check_incremental_equals_full(make_world, landings, job)
