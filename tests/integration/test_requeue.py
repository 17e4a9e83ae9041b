"""Records that an old decoder refused, decoded again by a corrected one: they count, once, and the verdict says why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

from tests.integration.commands import on_session, run
from tests.integration.conftest import JOBS, T0_MS, World, click
from twinrun.produce.records import Record

OLD = [
    Record(b"x", f"{name};{T0_MS + second * 1000};a".encode(), T0_MS) for name, second in (("old1", 8), ("old2", 70))
]
BROKEN = Record(b"y", b"neither nor", T0_MS)
LOG = [*[click(second) for second in (5, 15, 65)], *OLD, BROKEN, *[click(second) for second in (300, 301)]]


@pytest.fixture(scope="module")
def world(make_world: Any) -> Iterator[World]:
    """Both modes have run with the first decoder over three clicks, two old records and one that is broken."""
    world = make_world(**{"stream.max_offsets_per_trigger": 20})
    job_file(world).write_text((JOBS / "legacy.py").read_text(encoding="utf-8"), encoding="utf-8")
    world.produce(LOG)
    with on_session(world.spark):
        assert call(world, "ingest")["events"] == len(LOG)
        for command in ("stream", "batch"):
            done = call(world, command)
            assert (done["events"], done["quarantined"]) == (5, {"not_json": 3})
        yield world


def job_file(world: World) -> Path:
    return world.root / "legacy.py"


def call(world: World, command: str, *options: str, code: int = 0) -> dict[str, Any]:
    """A command on the job's file that ends with this exit code; its JSON."""
    world.cfg()  # writes the file
    conf = world.root / "conf" / "test.yaml"
    usual = ("--json", "--conf", str(conf), "--set", "spark.master=local[2]")
    done = run(command, str(job_file(world)), *options, *usual)
    assert done.code == code, done.out + done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


def requeue(world: World) -> tuple[int, int, int]:
    (done,) = call(world, "requeue", "--rule", "not_json")["requeued"]
    return done["examined"], done["accepted"], done["refused"]


def rows(world: World, table: str) -> pl.DataFrame:
    found = pl.from_arrow(DeltaTable(world.root / "wh" / table).to_pyarrow_table())
    assert isinstance(found, pl.DataFrame)
    return found


def clicks_of(world: World, kind: str) -> list[int]:
    return rows(world, f"results/legacy/{kind}_v1").sort("window_start")["clicks"].to_list()


def test_the_decoder_that_refused_them_refuses_them_again(world: World) -> None:
    assert requeue(world) == (3, 0, 3)
    assert rows(world, "quarantine/clicks").filter(pl.col("_requeued_seq").is_not_null()).height == 0
    verdict = call(world, "verify")
    assert (verdict["outcome"], verdict["rows_explained"], verdict["rows_unexplained"]) == ("agree", 0, 0)


def test_a_corrected_decoder_accepts_them_once(world: World) -> None:
    text = job_file(world).read_text(encoding="utf-8")
    job_file(world).write_text(text.replace("KNOWS_OLD_RECORDS = False", "KNOWS_OLD_RECORDS = True"), encoding="utf-8")
    assert requeue(world) == (3, 2, 1)
    events = rows(world, "events/clicks")
    assert sorted(events.filter(pl.col("id").str.starts_with("old"))["id"]) == ["old1", "old2"]
    closed = rows(world, "quarantine/clicks").filter(pl.col("_requeued_seq").is_not_null())
    assert sorted(closed["_offset"]) == [3, 4]


def test_a_second_time_changes_nothing(world: World) -> None:
    before = rows(world, "events/clicks").sort("_offset"), rows(world, "quarantine/clicks").sort("_offset")
    assert requeue(world) == (1, 0, 1)
    after = rows(world, "events/clicks").sort("_offset"), rows(world, "quarantine/clicks").sort("_offset")
    assert [new.equals(old) for new, old in zip(after, before, strict=True)] == [True, True]


def test_the_next_batch_counts_them_and_the_verdict_names_the_cause(world: World) -> None:
    assert clicks_of(world, "batch") == [2, 1, 2]
    call(world, "batch")
    assert clicks_of(world, "batch") == [3, 2, 2]
    assert clicks_of(world, "stream") == [2, 1]
    verdict = call(world, "verify")
    assert (verdict["outcome"], verdict["rows_explained"], verdict["rows_unexplained"]) == ("explained", 2, 0)
    assert {cause["cause"]: cause["events"] for cause in verdict["causes"]} == {"quarantined": 2}
    blamed = [event for sample in verdict["samples"] for event in sample["events"]]
    assert [(event["cause"], event["late_ms"]) for event in blamed] == [("quarantined", None)] * 2


@pytest.mark.slow
def test_a_refused_record_is_never_called_late(make_world: Any) -> None:
    """Its first verify comes after the requeue; the watermark had passed the window when the record was refused."""
    world: World = make_world(**{"stream.max_offsets_per_trigger": 2})
    text = (JOBS / "legacy.py").read_text(encoding="utf-8")
    job_file(world).write_text(text, encoding="utf-8")
    world.produce([click(5), click(300), click(301), click(302), click(303), OLD[0], click(304), click(305)])
    with on_session(world.spark):
        for command in ("ingest", "stream", "batch"):
            call(world, command)
        job_file(world).write_text(text.replace("KNOWS_OLD_RECORDS = False", "KNOWS_OLD_RECORDS = True"), "utf-8")
        assert requeue(world) == (1, 1, 0)
        call(world, "batch")
        verdict = call(world, "verify")
    assert (verdict["outcome"], verdict["rows_unexplained"], verdict["late_events"]) == ("explained", 0, [])
    assert {cause["cause"]: cause["events"] for cause in verdict["causes"]} == {"quarantined": 1}
    assert rows(world, "twinrun/late_events").height == 0
