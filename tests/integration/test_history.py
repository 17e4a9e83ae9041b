"""The ledger asked after real verifies: counts, causes, thresholds; and a ledger that cannot answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from delta.tables import DeltaTable
from pyspark.sql import functions as F

from tests.integration.commands import Ran, on_session, run
from tests.integration.conftest import T0_MS, World, click
from twinrun.cli import repeat
from twinrun.cli.repeat import standing
from twinrun.config.load import load_config
from twinrun.explain.verify import verify
from twinrun.history.history import history, of_newest, with_history
from twinrun.report.history import history_section
from twinrun.results.ledger import VERIFIED, ledger_rows
from twinrun.tables.delta import append, read_table

LOG = [
    *[click(s, page) for s in (5, 65, 125, 200) for page in "ab"],
    *[click(s, "a") for s in range(201, 209)],
    click(30, "a", name="late"),  # in the third micro-batch: dropped by the watermark that the first one moved
    *[click(s, "a") for s in range(209, 216)],
]
LATER = [click(300, "a"), click(301, "b"), click(70, "b", name="later"), click(302, "a")]


@pytest.fixture(scope="module")
def world(make_world: Any) -> World:
    """Three verifies: one row explained, the same again, and two."""
    world = make_world(**{"stream.max_offsets_per_trigger": 8})
    assert world.run_all(LOG).rows_explained == 1
    assert world.verify().rows_explained == 1
    assert world.run_all(LATER).rows_explained == 2
    return world


def command(world: World, *words: str, **layout: str) -> Ran:
    world.cfg()  # writes the file
    conf = str(world.root / "conf" / "test.yaml")
    job = str(Path(__file__).parent / "jobs" / "per_minute.py")
    sets = [word for name, place in layout.items() for word in ("--set", f"layout.{name}={place}")]
    with on_session(world.spark):
        return run("history", job, *words, *sets, "--conf", conf, "--set", "spark.master=local[2]")


def verify_again(world: World, *words: str) -> tuple[int, list[str], int]:
    """The command: its exit code, the notes of its report, and how many Spark jobs it made."""
    world.cfg()
    conf = str(world.root / "conf" / "test.yaml")
    job = str(Path(__file__).parent / "jobs" / "per_minute.py")
    scheduler = world.spark.sparkContext._jsc.sc().dagScheduler()
    before = scheduler.nextJobId()
    with on_session(world.spark):
        done = run("verify", job, *words, "--json", "--conf", conf, "--set", "spark.master=local[2]")
    assert done.code in (0, 1), done.err
    return done.code, json.loads(done.out)["notes"], scheduler.nextJobId() - before


def said_again(notes: list[str]) -> bool:
    return notes[0].startswith("Nothing has moved since the verify of ")


def test_where_nothing_has_moved_the_verdict_is_said_again(make_world: Any) -> None:
    """And whatever moves makes it look again: each is a negative control of its own."""
    world = make_world(**{"stream.max_offsets_per_trigger": 8})
    world.run_all(LOG)
    code, notes, jobs = verify_again(world)
    assert not said_again(notes)
    assert verify_again(world)[0] == code
    again = verify_again(world)
    assert said_again(again[1])
    assert again[1][1:] == notes
    assert again[2] <= 5 < jobs <= 110, (again[2], jobs)
    report = next((world.root / "reports").rglob("report.json"))
    cfg = load_config(world.root / "conf" / "test.yaml", env={})  # as the command has it: settings count, too

    def known(*, strict: bool = False) -> bool:
        """Whether the next verify would say the verdict again."""
        return repeat.said_again(standing(world.spark, cfg, world.job(), strict), report) is not None

    assert known()
    assert not known(strict=True)
    text = report.read_text(encoding="utf-8")
    report.write_text(text.replace('"rows_equal": ', '"rows_equal": 1'), encoding="utf-8")
    assert not known()
    report.write_text(text, encoding="utf-8")
    assert known()

    table = DeltaTable.forPath(world.spark, cfg.table("stream_results", job="per_minute", version=1))
    table.update("page = 'b'", {"clicks": F.col("clicks") + 1})
    assert not known()
    changed = verify_again(world)
    assert (changed[0], said_again(changed[1])) == (1, False)
    assert known()
    world.produce(LATER[:1])
    assert not known()


def test_history_counts_verifies_rows_and_causes(world: World) -> None:
    found = history(world.spark, world.cfg(), "per_minute")
    assert (found.verifies_total, [point.rows_explained for point in found.verifies]) == (3, [1, 1, 2])
    # Nothing had changed for the second, so that it wrote nothing but itself.
    raw = read_table(world.spark, world.cfg().table("ledger")).filter(F.col("verify_id") == found.verifies[1].verify_id)
    assert [row["verdict"] for row in raw.collect()] == [VERIFIED]
    assert found.verifies[0].windows == {"equal": 2, "explained": 1, "pending": 1}
    newest = found.newest
    assert newest.completeness == newest.rows_equal / newest.rows_compared
    assert found.differs_since_ms == found.verifies[0].at_ms
    (cause,) = found.causes
    assert (cause.cause, cause.rows_now, cause.windows_now, cause.verifies) == ("late_dropped", 2, 2, 3)
    assert (cause.first_seen_ms, cause.last_seen_ms) == (found.verifies[0].at_ms, newest.at_ms)
    assert (cause.trend.direction, cause.trend.recent_mean, cause.trend.before_mean) == ("rising", 2.0, 1.0)
    windows = [(w.window_start_ms, w.verifies, w.first_seen_ms, w.verdict, w.still) for w in found.windows]
    assert windows == [
        (T0_MS, 3, found.verifies[0].at_ms, "explained", True),
        (T0_MS + 60_000, 1, newest.at_ms, "explained", True),
    ]


def test_since_leaves_older_verifies_out(world: World) -> None:
    whole = history(world.spark, world.cfg(), "per_minute")
    found = history(world.spark, world.cfg(), "per_minute", since_ms=whole.newest.at_ms)
    assert (found.verifies_total, found.differs_since_ms) == (1, whole.newest.at_ms)
    assert found.causes[0].trend.direction == "unknown"
    late = command(world, "--since", "2999-01-01")
    assert (late.code, "no verify of per_minute was made since then" in late.err) == (2, True)


def test_the_command_keeps_its_threshold_and_the_section_has_the_same_counts(world: World) -> None:
    page = world.root / "pages" / "history.html"
    done = command(world, "--min-completeness", "0.5", "--json", "--html", str(page))
    assert done.code == 0, done.err
    assert "The ledger holds 3 verifies of this job." in page.read_text(encoding="utf-8")
    document = json.loads(done.out)
    assert [check["success"] for check in document["checks"]] == [True, True]
    newest = document["verifies"][-1]
    assert (newest["rows_compared"], newest["rows_equal"], newest["completeness"]) == (8, 6, 0.75)
    section = history_section(history(world.spark, world.cfg(), "per_minute"), 60_000)
    assert [len(grid.rows) for grid in section.grids] == [3, 1, 2]


def test_a_broken_threshold_is_exit_code_1(world: World) -> None:
    done = command(world, "--min-completeness", "0.999")
    assert done.code == 1
    assert "FAILED completeness is at least 0.999" in done.out
    assert "late_dropped" in done.out


def test_a_ledger_that_lacks_columns_or_is_of_another_job_or_absent(world: World) -> None:
    cfg = world.cfg()
    rows = read_table(world.spark, cfg.table("ledger"))
    for name, frame in (("narrow", rows.drop("causes")), ("other", rows.withColumn("job", F.lit("another")))):
        append(frame, str(world.root / name))
    narrow, other = command(world, ledger=str(world.root / "narrow")), command(world, ledger=str(world.root / "other"))
    absent = command(world, ledger=str(world.root / "absent"))
    assert [done.code for done in (narrow, other, absent)] == [2, 2, 2]
    assert "it lacks causes" in narrow.err
    assert "holds no verify of per_minute" in other.err
    assert "there is no table at" in absent.err


def test_an_unexplained_row_breaks_the_threshold_even_if_enough_are_equal(world: World) -> None:
    """Planted in the ledger itself: the newest verify with one unexplained row."""
    rows = ledger_rows(world.spark, world.cfg(), "per_minute").localCheckpoint()
    later = F.col("verified_at_ms") + 1_000_000
    planted = of_newest(rows)
    one = F.when(F.col("window_start") == F.timestamp_millis(F.lit(T0_MS)), 1).otherwise(0).cast("bigint")
    planted = planted.withColumns({"verify_id": F.lit("planted"), "verified_at_ms": later, "rows_unexplained": one})
    append(rows.unionByName(planted), str(world.root / "planted"))
    done = command(world, ledger=str(world.root / "planted"))
    assert done.code == 1
    assert "FAILED rows_unexplained is 0" in done.out


def test_a_verify_asks_for_its_share_and_carries_its_history_and_the_events_of_each_row(world: World) -> None:
    cfg = world.cfg(**{"verify.min_completeness": 0.76})
    plain = verify(world.spark, cfg, world.job())
    assert (plain.outcome, plain.exit_code) == ("differ", 1)
    assert any("completeness" in problem and "observed 0.75" in problem for problem in plain.problems)
    named = [(event.id["id"], event.cause, each.events_of) for each in plain.samples for event in each.events]
    assert named == [("late", "late_dropped", "row"), ("later", "late_dropped", "row")]
    late = plain.samples[0].events[0]
    told = next(event for event in plain.late_events if event.id == {"id": "late"})
    assert (late.offset, late.micro_batch, late.watermark_ms) == (told.offset, told.micro_batch, told.watermark_ms)
    assert (late.end_ms, late.late_ms, late.known_at_ms) == (told.window_end_ms, told.late_ms, told.known_at_ms)
    found = with_history(world.spark, cfg, plain).history
    assert found is not None
    assert ([point.rows_explained for point in found.verifies], found.min_completeness) == ([1, 1, 2, 2], 0.76)
    assert found.causes[0].rows == (1, 1, 2, 2)
    newest = history(world.spark, cfg, "per_minute", newest=2)
    assert (newest.verifies_total, newest.verifies) == (2, found.verifies[-2:])


def test_without_a_ledger_a_verdict_has_no_history_and_a_damaged_one_is_a_note(world: World) -> None:
    verdict = verify(world.spark, world.cfg(), world.job())
    absent = world.cfg(**{"layout.ledger": str(world.root / "absent")})
    assert with_history(world.spark, absent, verdict) == verdict
    other = world.cfg(**{"layout.ledger": str(world.root / "other")})
    assert with_history(world.spark, other, verdict) == verdict
    narrow = with_history(world.spark, world.cfg(**{"layout.ledger": str(world.root / "narrow")}), verdict)
    assert (narrow.history, narrow.outcome, narrow.exit_code) == (None, verdict.outcome, verdict.exit_code)
    assert "The history could not be read" in narrow.notes[-1]
    assert "it lacks causes" in narrow.notes[-1]
