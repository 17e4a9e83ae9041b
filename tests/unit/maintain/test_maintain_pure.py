"""Who pins what, which tables wait for whom, what may not expire, and what stands on record of an erasure. No Spark."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from twinrun import Job, Source
from twinrun.cli.maintain import erase_lines, expire_lines, tidy_lines
from twinrun.maintain.erase import hash_of
from twinrun.maintain.expire import DAY_MS, next_steps, why_not
from twinrun.maintain.files import Detail
from twinrun.maintain.result import Erased, Expired, Pin, Removal, TableTidy, Tidied
from twinrun.maintain.tidy import needed_leases
from twinrun.maintain.warehouse import KeptTable, Known, gathered, of_heals, places, still_allowed
from twinrun.results.records import APPLIED, UNDONE, HealRecord
from twinrun.tables.kafka import Gone

CLICKS = Source("clicks", schema="id STRING NOT NULL, at BIGINT NOT NULL", event_time="at", lateness="1 minute")
HEAL = HealRecord("h1", "v1", "q1", "/t/v1", 0, 3, 4, 2, {"late_dropped": 2}, 0, APPLIED, version=4)
DETAIL = Detail("/t", 1, 1, 7 * DAY_MS, 30 * DAY_MS, False)
STATE = {"table": "/wh/t", "static": {}, "query_id": "q1", "ends": {"clicks": {}}, "decoded_seq": {"clicks": 4}}


def logic(clicks: Any) -> Any:
    return clicks


def job(**more: Any) -> Job:
    return Job(logic, **{"sources": [CLICKS], "keys": ["id"], **more})


def stream(emit: str) -> dict[str, Any]:
    return {**STATE, "fingerprint": {"emit": json.dumps([emit, None])}}


def test_a_heal_that_stands_pins_its_version_and_the_one_before() -> None:
    undone = replace(HEAL, id="h2", state=UNDONE, version=9)
    assert of_heals([HEAL, undone]) == [("/t/v1", 3, "heal h1"), ("/t/v1", 4, "heal h1")]


def test_a_version_that_several_pin_counts_once() -> None:
    pins = gathered([("/t", 7, "batch of j"), ("/t", 3, "heal h1"), ("/t", 7, "verify of j"), ("/t", 7, "batch of j")])
    assert pins == {"/t": (Pin(3, "heal h1"), Pin(7, "batch of j, verify of j"))}


def test_no_pin_keeps_a_version_that_still_holds_what_was_erased() -> None:
    pinned = [("/t", 3, "a"), ("/t", 5, "b"), ("/u", 1, "c")]
    assert still_allowed(pinned, {"/t": 5}) == [("/t", 5, "b"), ("/u", 1, "c")]


@pytest.mark.parametrize(
    ("retention_ms", "needed"),
    [
        (7 * DAY_MS, ("decode:x",)),
        (DAY_MS, ("decode:x",)),
        (DAY_MS - 1, ("decode:x", "ingest:y")),
        (0, ("decode:x", "ingest:y")),
    ],
)
def test_appending_is_no_reason_to_wait_unless_removed_files_go_at_once(
    retention_ms: int, needed: tuple[str, ...]
) -> None:
    place = KeptTable("events", "/t", writers=("ingest:y",), rewriters=("decode:x",))
    assert needed_leases(place, replace(DETAIL, deleted_files_ms=retention_ms)) == needed


@pytest.mark.parametrize(("emit", "lease"), [("final", False), ("updates", True)])
def test_only_a_stream_that_replaces_rows_is_waited_for(emit: str, lease: bool) -> None:
    cfg = SimpleNamespace(tables={}, table=lambda name, **_: f"/wh/{name}")
    found = Known({"j": stream(emit)}, {}, {"j": ("/wh/t",)}, ("clicks",), ("topic",))
    (place,) = [each for each in places(cfg, found) if each.table == "stream_results"]  # type: ignore[arg-type]
    assert ("stream:j" in place.rewriters, "verify:j" in place.rewriters) == (lease, True)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"window": "1 hour"}, ""),
        ({"window": "1 hour", "slide": "10 minutes"}, ""),
        ({}, ""),
        ({"emit": "updates"}, "the job logic needs all events"),
        ({"gap": "5 minutes"}, "the job logic needs all events"),
        ({"sources": [CLICKS, replace(CLICKS, name="views")]}, "the job logic needs all events"),
        ({"name": "other"}, "the job logic has run here and is not in the configuration"),
    ],
)
def test_what_a_job_cannot_do_without_does_not_expire(more: dict[str, Any], said: str) -> None:
    found = Known({}, {"logic": STATE}, {}, ("clicks",), ("topic",))
    made = job(**more)
    assert why_not(found, {made.job_name: made}, {"clicks": 4}).startswith(said)
    assert bool(why_not(found, {made.job_name: made}, {"clicks": 4})) == bool(said)
    assert "needs all events" in why_not(found, {"logic": job()}, {"clicks": 4}, frozenset({"logic"}))
    assert why_not(found, {}, {"views": 1}) == ""
    # An event that expires before a job has counted it would be in no result, and nobody would know.
    assert "logic has not seen all decoded events" in why_not(found, {made.job_name: made}, {"clicks": 5})


def test_each_expiry_is_remembered_as_long_as_something_can_be_too_late_for_it() -> None:
    now = 100 * DAY_MS
    steps = next_steps([], now - 10 * DAY_MS, {"clicks": 3}, now)
    assert steps == [{"before_ms": 90 * DAY_MS, "seqs": {"clicks": 3}, "at_ms": now}]
    assert next_steps(steps, 90 * DAY_MS, {"clicks": 9}, now) == steps  # what came since is too late, too
    later = next_steps(steps, 91 * DAY_MS, {"clicks": 9}, now + DAY_MS)
    assert [step["seqs"]["clicks"] for step in later] == [3, 9]
    last = next_steps(later, 120 * DAY_MS, {"clicks": 20}, now + 30 * DAY_MS)
    assert [step["seqs"]["clicks"] for step in last] == [20]
    assert Gone(steps=((90, 3), (91, 9))).before_ms == 91


def test_the_record_of_an_erasure_does_not_hold_the_value_and_tells_fields_apart() -> None:
    hashes = {hash_of("s", "a", "bc"), hash_of("s", "ab", "c"), hash_of("sa", "b", "c")}
    assert len(hashes) == 3
    assert not any("somebody" in text for text in (hash_of("s", "a", "somebody"), *hashes))


def test_lines_say_what_would_happen_and_how_to_do_it() -> None:
    one = TableTidy("events", "/e", 3, 900, 7, 2_100, 4, (Pin(2, "batch of j"),), note="why")
    lines = tidy_lines(Tidied(False, (one, replace(one, left_alone="held"))))
    assert any("7 (2.1 kB)" in line and "version 2: batch of j" in line for line in lines)
    assert [line.strip().split("  ")[0] for line in lines[-4:]] == [
        "left alone",
        "no compaction of /e: why",
        "no compaction of /e: why",
        "nothing was changed; to do it: twinrun maintain tidy --apply",
    ]
    done = expire_lines(Expired(False, 5, DAY_MS, (Removal("bronze", "/b", 1_200), Removal("events", "/e", 0, "why"))))
    assert any("1,200" in line for line in done)
    assert any("kept  /e: why" in line for line in done)
    assert "--keep-days 5 --apply" in done[-1]
    assert "give --apply" in erase_lines(Erased(False, "clicks", "id", "", (Removal("bronze", "/b", 2),)))[-1]
