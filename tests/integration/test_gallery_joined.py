"""The gallery's jobs of several logs or with a static table, in both modes, on logs with all four chapters.

What a micro-batch holds of which topic is read from the recorded micro-batches. Their watermarks are worked out here
from the events and held against the recorded ones, and from both what batch and stream must hold.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.integration.conftest import World
from tests.integration.gallery_joined_oracles import JOINED, Joined, Tables, journeys_of
from tests.integration.gallery_oracles import assert_same, typed
from tests.integration.shapes import changed, verify_with
from tests.integration.test_gallery import MANY, SEED, held
from twinrun.gallery.entries import entry_of, write_static
from twinrun.gallery.log import COPIES, RULES, log_records
from twinrun.job.job import Job
from twinrun.job.loader import load_job
from twinrun.results.verdict import Verdict

SHIPPED = Path(__file__).parents[2] / "jobs"
PER_MICRO_BATCH = -(-MANY // 20) if MANY else 100
JOBS = [pytest.param(job, marks=pytest.mark.slow) for job in JOINED]
"""Each takes more than a minute of CPU: what they compute is held against the oracles at rest in tests/unit/jobs."""
SESSIONS = "request_journeys"
ANSWERS = "request_answers"
WINDOWED = [each for each in JOBS if each.values[0] not in (SESSIONS, ANSWERS)]


def size_of(job: str) -> int:
    """Events in each log of a job: the large lane counts those of all its logs."""
    return MANY // len(entry_of(job).logs) if MANY else 600


class JoinedWorld(World):
    """A world whose jobs are the shipped ones; each runs when it is asked for, and once."""

    def job(self, name: str = "surge_prices") -> Job:
        return load_job(SHIPPED / f"{name}.py")

    @functools.cached_property
    def logs(self) -> dict[str, pl.DataFrame]:
        return {}

    @functools.cached_property
    def verdicts(self) -> dict[str, Verdict]:
        return {}

    def judged(self, job: str) -> Verdict:
        if job not in self.verdicts:
            entry = entry_of(job)
            for source in [source for source in entry.logs if source not in self.logs]:
                log = entry.logs[source](SEED, size_of(job))
                self.add_topic(source)
                self.produce(log_records(log), source)
                self.logs[source] = pl.from_pandas(log).with_row_index("offset")
            for name, table in entry.tables.items():
                path = str(self.root / "static" / name)
                write_static(self.spark, table, SEED, size_of(job), path)
                self.overrides[f"tables.{name}.path"] = path
            self.ingest(job)
            self.stream(job)
            self.batch(job)
            self.verdicts[job] = self.verify(job)
        return self.verdicts[job]


@pytest.fixture(scope="module")
def world(make_world: Any) -> JoinedWorld:
    settings = {"stream.max_offsets_per_trigger": PER_MICRO_BATCH, "verify.sample_rows": 5}
    return JoinedWorld(**vars(make_world(**settings)))


def tables_of(job: str) -> Tables:
    return {name: pl.from_pandas(table.make(SEED, size_of(job))) for name, table in entry_of(job).tables.items()}


def recorded(world: JoinedWorld, job: str) -> pl.DataFrame:
    """Each micro-batch with its watermark, and the one that it drops by: that of the micro-batch before it."""
    log = pl.read_delta(world.cfg().table("micro_batches")).filter(pl.col("job") == job).sort("micro_batch")
    assert log["micro_batch"].to_list() == list(range(log.height))
    log = log.with_columns(pl.col("watermark_ms").fill_null(0))
    return log.with_columns(dropped_by=pl.col("watermark_ms").shift(fill_value=0))


def events_of(world: JoinedWorld, job: str) -> pl.DataFrame:
    """The valid events of all logs with offset, micro-batch and the watermark that judges them."""
    world.judged(job)
    log = recorded(world, job)
    ends = (
        log.select("micro_batch", "dropped_by", "end_offsets")
        .explode("end_offsets", empty_as_null=True)
        .unnest("end_offsets")
    )
    found = []
    for source in JOINED[job].lateness_ms:
        valid = world.logs[source].filter(~pl.col("planted").is_in(RULES))
        events = typed(source, valid).with_columns(pl.lit(source).alias("source"), after=pl.col("offset") + 1)
        # A micro-batch ends before the offset that it names: an event is of the first that ends behind it.
        of = ends.filter(pl.col("topic") == world.more_topics[source]).sort("offset", "micro_batch")
        of = of.unique("offset", keep="first").sort("offset").select("micro_batch", "dropped_by", end="offset")
        found.append(events.sort("after").join_asof(of, left_on="after", right_on="end", strategy="forward"))
    events = pl.concat(found, how="diagonal_relaxed")
    assert events["micro_batch"].null_count() == 0
    return events


def worked_out(events: pl.DataFrame, oracle: Joined, micro_batches: int) -> list[int]:
    """The watermark of each micro-batch: what the slowest log had reached in those before it, less its lateness."""
    marks, reached = [0], dict.fromkeys(oracle.lateness_ms, 0)
    newest = events.group_by("micro_batch", "source").agg(pl.col("event_ms").max())
    by_batch: dict[int, dict[str, int]] = defaultdict(dict)
    for number, source, event_ms in newest.iter_rows():
        by_batch[number][source] = event_ms
    for number in range(1, micro_batches):
        reached |= {source: max(reached[source], at) for source, at in by_batch[number - 1].items()}
        known = min(max(0, reached[source] - lateness) for source, lateness in oracle.lateness_ms.items())
        marks.append(max(marks[-1], known))
    return marks


def test_every_job_has_the_logs_and_tables_that_its_entry_makes(world: JoinedWorld) -> None:
    for job, oracle in JOINED.items():
        entry, made = entry_of(job), world.job(job)
        assert list(entry.logs) == [source.name for source in made.sources] == list(oracle.lateness_ms)
        assert list(entry.tables) == [table.name for table in made.tables]
        assert made.job_name == job


@pytest.mark.parametrize("job", JOBS)
def test_the_recorded_watermark_is_that_of_the_slowest_log(world: JoinedWorld, job: str) -> None:
    events, log = events_of(world, job), recorded(world, job)
    marks = log["watermark_ms"].to_list()
    assert marks == worked_out(events, JOINED[job], log.height)
    assert len(set(marks)) > 4


@pytest.mark.parametrize("job", WINDOWED)
def test_a_joined_job_differs_by_exactly_the_events_that_came_too_late(world: JoinedWorld, job: str) -> None:
    verdict, oracle, tables = world.judged(job), JOINED[job], tables_of(job)
    watermark = recorded(world, job)["watermark_ms"].max()
    placed = oracle.place(events_of(world, job))
    late = placed.filter(pl.col("window_end") <= pl.col("dropped_by"))
    batch = oracle.tally(placed, tables)
    stream = oracle.tally(placed.filter(pl.col("window_end") > pl.col("dropped_by")), tables)
    compared = batch
    if oracle.final:
        stream = stream.filter(pl.col("window_end") <= watermark)
        compared = batch.filter(pl.col("window_end") <= watermark)
        assert verdict.windows_pending == batch.filter(pl.col("window_end") > watermark)["window_start"].n_unique()
    assert_same(held(world, "batch", job), batch, oracle.keys)
    assert_same(held(world, "stream", job), stream, oracle.keys)

    keys = list(oracle.keys)
    # A row that one of them lacks differs too.
    rows = pl.concat([compared, stream], how="diagonal_relaxed")
    once = rows.group_by(rows.columns).len().filter(pl.col("len") == 1)
    differing = once.select(keys).unique()
    blamed = late.join(differing, on=keys, how="semi")
    assert [(c.cause, c.rows, c.windows, c.events) for c in verdict.causes] == [
        ("late_dropped", differing.height, differing["window_start"].n_unique(), blamed.n_unique(["source", "offset"]))
    ]
    shown = set(blamed["source"])
    # Among very many events a late one may change no row: of a source then none is to blame.
    assert shown
    assert shown <= set(oracle.lateness_ms) if MANY else shown == set(oracle.lateness_ms)
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("explained", 0, 0)
    assert verdict.rows_explained == differing.height > 0
    with pytest.raises(AssertionError):
        assert_same(held(world, "stream", job), compared, oracle.keys)


def journeys_as_a_stream_keeps_them(events: pl.DataFrame, watermarks: list[int]) -> pl.DataFrame:
    """By micro-batch: late lines out, open sessions merged, those that end by the watermark given out."""
    opened: dict[str, list[list[dict[str, Any]]]] = defaultdict(list)
    given = []
    kept = events.filter(pl.col("event_ms") + 30_000 > pl.col("dropped_by"))
    for number, watermark in enumerate(watermarks):
        for line in kept.filter(pl.col("micro_batch") == number).to_dicts():
            opened[line["request_id"]].append([line])
        for request, sessions in opened.items():
            merged: list[list[dict[str, Any]]] = []
            for session in sorted(sessions, key=lambda lines: min(line["event_ms"] for line in lines)):
                first = min(line["event_ms"] for line in session)
                if merged and first <= max(line["event_ms"] for line in merged[-1]) + 30_000:
                    merged[-1] = merged[-1] + session
                else:
                    merged.append(session)
            journeys = [(session, journeys_of(session)) for session in merged]
            given += [journey for _, journey in journeys if journey["window_end"] <= watermark]
            opened[request] = [session for session, journey in journeys if journey["window_end"] > watermark]
    return pl.DataFrame(given, infer_schema_length=None)


@pytest.mark.slow
def test_no_journey_is_lost_where_a_service_is_missing_and_late_lines_are_all_that_differs(world: JoinedWorld) -> None:
    verdict, oracle = world.judged(SESSIONS), JOINED[SESSIONS]
    events, log = events_of(world, SESSIONS), recorded(world, SESSIONS)
    batch = oracle.tally(events, {})
    assert_same(held(world, "batch", SESSIONS), batch, oracle.keys)
    assert_same(
        held(world, "stream", SESSIONS), journeys_as_a_stream_keeps_them(events, log["watermark_ms"]), oracle.keys
    )
    assert set(batch["request_id"]) == set(events["request_id"])
    assert set(batch["complete"]) == {True, False}
    alone = {"gateway", "basket", "payment"} & set(batch["journey"])
    assert alone == {"gateway", "basket", "payment"}, "each of them has a request that no other has"

    late = events.filter(pl.col("event_ms") + 30_000 <= pl.col("dropped_by"))
    causes = {cause.cause: cause for cause in verdict.causes}
    assert {"late_dropped"} <= set(causes) <= {"late_dropped", "late_split", "pending"}
    assert causes["late_dropped"].events == late.height > 0
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("explained", 0, 0)


@pytest.mark.slow
def test_each_request_has_its_answer_or_none_and_only_late_ones_differ(world: JoinedWorld) -> None:
    verdict, oracle = world.judged(ANSWERS), JOINED[ANSWERS]
    events, watermark = events_of(world, ANSWERS), recorded(world, ANSWERS)["watermark_ms"].max()
    batch, kept = oracle.tally(events, {}), events.filter(pl.col("event_ms") > pl.col("dropped_by"))
    # A null row is certain once the last instant of an answer has passed; a row with its answer at once.
    answered, over = pl.col("status").is_not_null(), pl.col("sent_at") + 10_000 <= watermark
    stream = oracle.tally(kept, {}).filter(answered | over)
    assert_same(held(world, "batch", ANSWERS), batch, oracle.keys)
    assert_same(held(world, "stream", ANSWERS), stream, oracle.keys)
    assert {"answered", "failed", "unanswered"} == set(batch["outcome"])

    closed = batch.filter(over | pl.col("request_id").is_in(stream["request_id"].implode()))
    once = pl.concat([closed, stream]).group_by(batch.columns).len().filter(pl.col("len") == 1)
    differing = once.select("request_id").unique()
    blamed = events.filter(pl.col("event_ms") <= pl.col("dropped_by")).join(differing, on="request_id", how="semi")
    assert [(c.cause, c.rows, c.events) for c in verdict.causes] == [
        ("late_dropped", differing.height, blamed.n_unique(["source", "offset"])),
        ("pending", batch.height - closed.height, None),
    ]
    assert batch.height > closed.height
    assert set(blamed["source"]) == {"api_requests", "api_responses"}
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("explained", 0, 0)


@pytest.mark.parametrize("job", JOBS)
def test_what_was_planted_in_each_log_is_counted(world: JoinedWorld, job: str) -> None:
    verdict = world.judged(job)
    planted = {source: dict(world.logs[source]["planted"].value_counts().iter_rows()) for source in entry_of(job).logs}
    broken = {(source, rule): n for source, found in planted.items() for rule, n in found.items() if rule in RULES}
    assert {(each.source, each.rule): each.events for each in verdict.quarantine} == broken != {}
    assert {audit.source: audit.bronze_rows for audit in verdict.audits if audit.ok} == {
        source: world.logs[source].height for source in planted
    }
    twice = pl.read_delta(world.cfg().table("duplicate_events"))["source"].value_counts()
    assert {source: n for source, n in twice.iter_rows() if source in planted} == {
        source: found[COPIES] for source, found in planted.items()
    }
    assert verdict.expectations
    assert all(each.success for each in verdict.expectations)
    assert verdict.stream_lag_events == 0


CONTROLS: dict[str, Callable[[Any], Any]] = {
    "surge_prices": changed("drivers", "zone = 'centre'"),
    "fraud_detection": changed("payments", "reasons = 'velocity'"),
    ANSWERS: changed("waited_ms", "outcome = 'failed'"),
}
"""One that is proven by replay, one by the closed form, and a join."""


@pytest.mark.slow
@pytest.mark.parametrize("job", CONTROLS)
def test_rows_that_were_changed_by_hand_are_found_and_not_called_late(world: JoinedWorld, job: str) -> None:
    honest = world.judged(job)
    verdict = verify_with(world, job, CONTROLS[job])
    rows = {cause.cause: cause.rows for cause in verdict.causes}
    assert (verdict.outcome, verdict.exit_code) == ("differ", 1)
    assert rows.get("sink_changed", 0) + verdict.rows_unexplained > 0
    assert verdict.rows_equal < honest.rows_equal


@pytest.mark.slow
def test_another_version_of_the_model_is_told_as_that(world: JoinedWorld) -> None:
    job = "failure_prediction"
    honest = world.judged(job)
    [(table_name, table)] = entry_of(job).tables.items()
    models = [pl.from_pandas(table.make(seed, size_of(job))) for seed in (SEED, SEED + 1)]
    write_static(world.spark, table, SEED + 1, size_of(job), str(world.root / "static" / "risk_model"))
    world.batch(job)
    verdict = world.verify(job)
    causes = {cause.cause: cause.rows for cause in verdict.causes}
    oracle, placed = JOINED[job], JOINED[job].place(events_of(world, job))
    by_old, by_new = (oracle.tally(placed, {table_name: rows}) for rows in models)
    other = by_old.join(by_new, on=by_old.columns, how="anti", nulls_equal=True).height
    if MANY and not other:  # so many restarts in each window that the risk is 1 by either model
        assert (causes, verdict.rows_equal) == ({c.cause: c.rows for c in honest.causes}, honest.rows_equal)
        return
    assert causes["static_version"] > 0
    assert (verdict.outcome, verdict.exit_code, verdict.rows_unexplained) == ("differ", 1, 0)
    assert verdict.rows_equal < honest.rows_equal
