"""Every job of the gallery in both modes, on one log per topic that holds late, doubled and broken events.

Each topic has one partition and each micro-batch the same number of records, so that which events come too late follows
from the log alone: it is worked out here with whole numbers, and so is what batch and stream must hold.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.integration.conftest import World
from tests.integration.gallery_joined_oracles import JOINED
from tests.integration.gallery_oracles import ORACLES, Oracle, assert_same, in_whole_numbers, typed
from tests.integration.shapes import changed, result_of, verify_with
from twinrun.gallery.entries import ENTRIES, entry_of
from twinrun.gallery.log import COPIES, RULES, log_records
from twinrun.job.job import Job
from twinrun.job.loader import load_job
from twinrun.results.verdict import Verdict

SHIPPED = Path(__file__).parents[2] / "jobs"
SEED = 7
MANY = int(os.environ.get("TWINRUN_GALLERY_EVENTS", "0"))
"""Events of each job in the lane ``make gallery-large``; 0 elsewhere."""
EVENTS, PER_MICRO_BATCH = (MANY, -(-MANY // 10)) if MANY else (700, 110)
WITHOUT_LATE = ("receipts", "market_orders_daily", "customers_latest")
JOBS = [pytest.param(job, marks=pytest.mark.slow) for job in ORACLES]
"""Each takes a minute of CPU or more, and all of them belong together: they have a lane, pytest -m slow."""
TIMELESS = [each for each in JOBS if each.values[0] in WITHOUT_LATE]
WINDOWED = [each for each in JOBS if each.values[0] not in (*WITHOUT_LATE, "session_durations")]


class GalleryWorld(World):
    """A world whose jobs are the shipped ones; each runs when it is asked for, and once."""

    def job(self, name: str = "receipts") -> Job:
        return load_job(SHIPPED / f"{name}.py")

    @functools.cached_property
    def logs(self) -> dict[str, pl.DataFrame]:
        return {}

    def log(self, job: str) -> pl.DataFrame:
        """The log of a job's source by offset: sent, and landed in bronze, when it is first asked for."""
        [(source, make)] = entry_of(job).logs.items()
        if source not in self.logs:
            log = make(SEED, EVENTS)
            self.add_topic(source)
            self.produce(log_records(log), source)
            self.logs[source] = pl.from_pandas(log).with_row_index("offset")
            self.ingest(job)
        return self.logs[source]

    @functools.cached_property
    def verdicts(self) -> dict[str, Verdict]:
        return {}

    def judged(self, job: str) -> Verdict:
        if job not in self.verdicts:
            self.log(job)
            self.stream(job)
            self.batch(job)
            self.verdicts[job] = self.verify(job)
        return self.verdicts[job]


@pytest.fixture(scope="module")
def world(make_world: Any) -> GalleryWorld:
    settings = {"stream.max_offsets_per_trigger": PER_MICRO_BATCH, "verify.sample_rows": 5}
    return GalleryWorld(**vars(make_world(**settings)))


def events_of(world: GalleryWorld, job: str) -> pl.DataFrame:
    """The valid events of a log in the order of Kafka, with offset, micro-batch and the watermark that judges them."""
    log, oracle = world.log(job), ORACLES[job]
    valid = log.filter(~pl.col("planted").is_in(RULES))
    events = typed(oracle.source, valid)
    events = events.with_columns((pl.col("offset") // PER_MICRO_BATCH).alias("micro_batch"))
    if oracle.lateness_ms is None:
        return events.with_columns(pl.lit(0).alias("dropped_by"))
    newest = events.filter(oracle.moves).group_by("micro_batch").agg(pl.col("event_ms").max()).sort("micro_batch")
    marks = newest.select(
        pl.col("micro_batch") + 2, (pl.col("event_ms").cum_max() - oracle.lateness_ms).alias("dropped_by")
    )
    return events.join(marks, "micro_batch", "left").with_columns(pl.col("dropped_by").fill_null(0))


def last_watermark(events: pl.DataFrame, oracle: Oracle) -> int:
    newest = events.filter(oracle.moves)["event_ms"].max()
    assert isinstance(newest, int)
    assert oracle.lateness_ms is not None
    return newest - oracle.lateness_ms


def held(world: World, kind: str, job: str) -> pl.DataFrame:
    return in_whole_numbers(result_of(world, kind, job))


def both(world: GalleryWorld, job: str) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """What batch and stream must hold, and each late (event, window) pair."""
    oracle = ORACLES[job]
    events = events_of(world, job)
    placed = oracle.place(events)
    late = placed.filter(pl.col("window_end") <= pl.col("dropped_by"))
    stream = oracle.tally(placed.filter(pl.col("window_end") > pl.col("dropped_by")))
    if oracle.final:
        stream = stream.filter(pl.col("window_end") <= last_watermark(events, oracle))
    return oracle.tally(placed), stream, late


def test_every_job_of_the_gallery_has_an_oracle_and_a_binding(world: GalleryWorld) -> None:
    assert [entry.job for entry in ENTRIES] == [*ORACLES, *JOINED]
    for job, oracle in ORACLES.items():
        assert list(entry_of(job).logs) == [source.name for source in world.job(job).sources] == [oracle.source]
        assert world.job(job).job_name == job


@pytest.mark.parametrize("job", TIMELESS)
def test_a_job_that_drops_nothing_agrees_with_the_oracle_in_both_modes(world: GalleryWorld, job: str) -> None:
    verdict, oracle = world.judged(job), ORACLES[job]
    expected = oracle.tally(oracle.place(events_of(world, job)))
    for kind in ("batch", "stream"):
        assert_same(held(world, kind, job), expected, oracle.keys)
    assert (verdict.outcome, verdict.exit_code, verdict.causes) == ("agree", 0, ())
    assert verdict.rows_compared == verdict.rows_equal == expected.height > 0
    with pytest.raises(AssertionError):
        assert_same(held(world, "batch", job), expected[1:], oracle.keys)


@pytest.mark.parametrize("job", WINDOWED)
def test_a_windowed_job_differs_by_exactly_the_events_that_came_too_late(world: GalleryWorld, job: str) -> None:
    verdict, oracle = world.judged(job), ORACLES[job]
    batch, stream, late = both(world, job)
    assert_same(held(world, "batch", job), batch, oracle.keys)
    assert_same(held(world, "stream", job), stream, oracle.keys)

    keys = list(oracle.keys)
    compared = batch
    if oracle.final:
        watermark = last_watermark(events_of(world, job), oracle)
        compared = batch.filter(pl.col("window_end") <= watermark)
        assert verdict.windows_pending == batch.filter(pl.col("window_end") > watermark)["window_start"].n_unique()
    differing = compared.join(stream, on=compared.columns, how="anti", nulls_equal=True).select(keys)
    blamed = late.join(differing, on=keys, how="semi")
    assert [(c.cause, c.rows, c.windows, c.events) for c in verdict.causes] == [
        ("late_dropped", differing.height, differing["window_start"].n_unique(), blamed["offset"].n_unique())
    ]
    assert differing.height > 0
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("explained", 0, 0)
    assert (verdict.rows_compared, verdict.rows_explained) == (compared.height, differing.height)
    with pytest.raises(AssertionError):
        assert_same(held(world, "stream", job), compared, oracle.keys)


@pytest.mark.slow
def test_sessions_differ_by_late_events_and_those_that_came_after_their_session(world: GalleryWorld) -> None:
    job = "session_durations"
    verdict, oracle = world.judged(job), ORACLES[job]
    events = events_of(world, job)
    expected = oracle.tally(events)
    assert_same(held(world, "batch", job), expected, oracle.keys)
    late = events.filter(pl.col("event_ms") + 30 * 60_000 <= pl.col("dropped_by"))
    causes = {cause.cause: cause for cause in verdict.causes}
    assert set(causes) <= {"late_dropped", "late_split", "pending"}
    assert causes["late_dropped"].events == late.height > 0
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("explained", 0, 0)
    with pytest.raises(AssertionError):
        assert_same(held(world, "batch", job), oracle.tally(events[1:]), oracle.keys)


@pytest.mark.parametrize("job", JOBS)
def test_what_was_planted_is_counted_and_the_expectations_hold(world: GalleryWorld, job: str) -> None:
    verdict, log = world.judged(job), world.log(job)
    planted = dict(log["planted"].value_counts().iter_rows())
    broken = {rule: planted[rule] for rule in RULES if rule in planted}
    assert {each.rule: each.events for each in verdict.quarantine} == broken != {}
    audit = verdict.audits[0]
    assert audit.ok
    assert (audit.bronze_rows, audit.quarantined_rows) == (log.height, sum(broken.values()))
    twice = pl.read_delta(world.cfg().table("duplicate_events")).filter(pl.col("source") == ORACLES[job].source)
    assert twice.height == planted[COPIES]
    assert verdict.expectations
    assert all(each.success for each in verdict.expectations)
    assert verdict.stream_lag_events == 0


CONTROLS: dict[str, Callable[[Any], Any]] = {
    "page_load_times": changed("views", "page = '/product'"),
    "market_orders_daily": changed("orders", "market = 'kiritimati' AND local_date = '2025-04-01'"),
}


@pytest.mark.parametrize("job", [each for each in JOBS if each.values[0] in CONTROLS])
def test_a_row_that_was_changed_by_hand_is_found_and_not_called_late(world: GalleryWorld, job: str) -> None:
    honest = world.judged(job)
    verdict = verify_with(world, job, CONTROLS[job])
    rows = {cause.cause: cause.rows for cause in verdict.causes}
    assert (verdict.outcome, verdict.exit_code) == ("differ", 1)
    assert rows["sink_changed"] + verdict.rows_unexplained > 0
    assert verdict.rows_equal < honest.rows_equal
