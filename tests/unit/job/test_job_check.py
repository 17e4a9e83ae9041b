"""Definition problems, each beside a sound definition that has none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pyspark.sql import DataFrame

from twinrun import Job, Source, Table, Tolerance, rel
from twinrun.errors import JobError
from twinrun.job.check import Problem, check_definition, definition_problems

DDL = "id STRING NOT NULL, ts BIGINT NOT NULL, origin STRING NOT NULL, delay INT, note STRING"


def per_hour(flights: DataFrame, weather: DataFrame) -> DataFrame:
    return flights.join(weather, "origin")


def per_event(flights: DataFrame) -> DataFrame:
    return flights


FLIGHTS = Source(
    "flights", schema=DDL, event_time="ts", lateness="1 hour", id=["id"], ranges={"delay": (-120, None)}, offsets="gaps"
)
WINDOWED = Job(
    per_hour,
    sources=[FLIGHTS],
    tables=[Table("weather", refresh="1 hour")],
    keys=["origin", "window_start"],
    window="1 hour",
    tolerances={"mean": 1e-9, "share": rel(1e-9), "exact": 0},
    max_late_share=0.5,
)
STATELESS = Job(per_event, sources=[replace(FLIGHTS, lateness=None)], keys=["id"], name="per-event")
SOUND = {
    "tumbling": WINDOWED,
    "sliding": replace(WINDOWED, slide="15 minutes"),
    "slide equal to window": replace(WINDOWED, slide="60 minutes"),
    "session": replace(WINDOWED, window=None, gap="10 minutes"),
    "windowed updates": replace(WINDOWED, emit="updates", sources=[replace(FLIGHTS, lateness=None)]),
    "stateless": STATELESS,
    "latest": replace(STATELESS, emit="updates", delete_when="delay IS NULL"),
    "iso text": replace(
        STATELESS,
        sources=[Source("flights", schema="id STRING, ts STRING", event_time="ts", event_time_format="iso8601")],
    ),
    "iso timestamp": replace(
        STATELESS,
        sources=[Source("flights", schema="id STRING, ts TIMESTAMP", event_time="ts", event_time_format="iso8601")],
    ),
    "expectations by function": replace(STATELESS, expect=list),
    "no limit ahead, shares at the ends": replace(
        STATELESS, sources=[replace(FLIGHTS, max_ahead=None)], max_late_share=0, max_quarantined_share=1
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_definition_has_no_problem(name: str) -> None:
    assert definition_problems(SOUND[name]) == []
    check_definition(SOUND[name])


def source(**changes: Any) -> Callable[[], Job]:
    return lambda: replace(WINDOWED, sources=[replace(FLIGHTS, **changes)])


def job(**changes: Any) -> Callable[[], Job]:
    return lambda: replace(WINDOWED, **changes)


def with_logic(logic: Any, **changes: Any) -> Callable[[], Job]:
    return lambda: replace(STATELESS, logic=logic, **changes)


def misnamed(fligts: DataFrame) -> DataFrame:
    return fligts


def open_ended(flights: DataFrame, *rest: DataFrame) -> DataFrame:
    return flights


async def later(flights: DataFrame) -> DataFrame:
    return flights


PROBLEMS: list[tuple[str, Callable[[], Job], str]] = [
    ("no keys", job(keys=[]), "the job has no keys"),
    ("key twice", job(keys=["origin", "origin", "window_start"]), "the key 'origin' stands twice"),
    ("keys is text", job(keys="origin"), "keys is of type str"),
    ("key is reserved", job(keys=["_x", "window_start"]), "named '_x'"),
    ("key is empty", job(keys=["", "window_start"]), "named ''"),
    ("window column is reserved", job(window_column="_w", keys=["_w"]), "named '_w'"),
    ("window column is no key", job(keys=["origin"]), "the window column 'window_start' is no key"),
    ("no source", job(sources=[]), "the job has no source"),
    ("source of another kind", job(sources=["flights"]), "sources holds something that is no Source"),
    ("table of another kind", job(tables=["weather"]), "tables holds something that is no Table"),
    ("id is text", source(id="id"), "the id of source 'flights' is no list"),
    ("ranges are no pairs", source(ranges={"delay": 3}), "no dict of pairs"),
    ("tolerances is a list", job(tolerances=["mean"]), "tolerances is no dict"),
    ("expect is text", job(expect="x"), "expect is no list"),
    ("logic is no function", with_logic(3), "the logic is of type int"),
    ("lambda", with_logic(lambda flights: flights), "the logic is a lambda"),
    ("coroutine", with_logic(later), "a coroutine or a generator"),
    ("open parameters", with_logic(open_ended), "the parameter 'rest' is not given by name"),
    ("misnamed parameter", with_logic(misnamed), "the parameter 'fligts' is no source or table"),
    ("unused source", with_logic(misnamed), "'flights' is declared, but no parameter takes it"),
    ("unused table", with_logic(per_event, tables=[Table("weather")]), "'weather' is declared, but no parameter"),
    ("missing table", job(tables=[]), "the parameter 'weather' is no source or table"),
    ("name of the job", job(name="a/b"), "the job's name is 'a/b'"),
    ("name of a source", job(sources=[replace(FLIGHTS, name="my flights")]), "named 'my flights'"),
    ("keyword as a name", job(tables=[Table("class")]), "named 'class'"),
    ("source twice", job(sources=[FLIGHTS, FLIGHTS]), "the name 'flights' stands for more than one"),
    ("source and table", job(tables=[Table("flights"), Table("weather")]), "the name 'flights' stands for more than"),
    ("bad DDL", source(schema="id STRIN"), "the schema cannot be read: the field id has no type"),
    ("no DDL", source(schema=None), "the schema cannot be read"),
    ("variant", source(schema=DDL + ", v VARIANT"), "the field 'v' has the type VARIANT, which is not read"),
    ("char inside", source(schema=DDL + ", v ARRAY<STRUCT<c: CHAR(3)>>"), "the field 'v' has the type CHAR"),
    ("interval", source(schema=DDL + ", v INTERVAL DAY TO SECOND"), "the field 'v' has the type INTERVAL"),
    ("key of a map", source(schema=DDL + ", v MAP<INT, STRING>"), "the field 'v' has a MAP whose key is INT"),
    ("reserved field", source(schema=DDL + ", _x INT"), "the field '_x' begins with '_'"),
    ("event time is no field", source(event_time="tss"), "event_time names 'tss', which is no field"),
    ("id is no field", source(id=["idd"]), "id names 'idd', which is no field"),
    ("distinct is no field", source(distinct=["idd"]), "distinct names 'idd', which is no field"),
    ("distinct is no list", source(distinct="id"), "distinct is no list"),
    ("distinct without lateness", source(distinct=["id"], lateness=None), "distinct stands without lateness"),
    ("range of no field", source(ranges={"dlay": (0, 1)}), "ranges names 'dlay', which is no field"),
    ("range of text", source(ranges={"note": (0, 1)}), "the range of note is on a field of type string"),
    ("range upside down", source(ranges={"delay": (2, 1)}), "the range of delay is 2 to 1"),
    ("range of NaN", source(ranges={"delay": (float("nan"), 1)}), "the range of delay is nan to 1"),
    ("epoch as text", source(event_time="origin"), "the event time origin is STRING with the format epoch_ms"),
    ("iso as number", source(event_time_format="iso8601"), "the event time ts is BIGINT with the format iso8601"),
    ("event time format", source(event_time_format="epoch"), "event_time_format is 'epoch'"),
    ("format", source(format="jsn"), "no decoder is registered for format 'jsn'"),
    ("offsets", source(offsets="gap"), "offsets is 'gap'"),
    ("lateness", source(lateness="soon"), "lateness is 'soon', which is no duration"),
    ("lateness as a number", source(lateness=3600), "lateness is 3600, which is no duration"),
    ("lateness in months", source(lateness="1 month"), "lateness is '1 month', which is no duration"),
    ("max_ahead", source(max_ahead="-1 hour"), "max_ahead is '-1 hour', which is no duration"),
    ("window", job(window="1 fortnight"), "window is '1 fortnight', which is no duration"),
    ("window of zero", job(window="0 hours"), "window is '0 hours'"),
    ("slide", job(slide="x"), "slide is 'x', which is no duration"),
    ("gap", job(window=None, gap="x"), "gap is 'x', which is no duration"),
    ("refresh", job(tables=[Table("weather", refresh="0 s")]), "table 'weather': refresh is '0 s'"),
    ("slide longer", job(slide="2 hours"), "slide (2 hours) is longer than window (1 hour)"),
    ("no multiple", job(slide="25 minutes"), "window (1 hour) is no multiple of slide (25 minutes)"),
    ("slide alone", job(window=None, slide="1 hour"), "slide stands without window"),
    ("window with gap", job(gap="1 hour"), "gap stands with window or slide"),
    ("slide with gap", job(window=None, gap="1 hour", slide="1 hour"), "gap stands with window or slide"),
    ("final without lateness", source(lateness=None), "emit='final' needs to know when a window is over"),
    ("updates of sessions", job(window=None, gap="1 hour", emit="updates"), "emit='updates' stands with gap"),
    ("emit", job(emit="finl"), "emit is 'finl'"),
    ("delete_when with final", job(delete_when="true"), "delete_when stands without emit='updates'"),
    ("empty delete_when", job(emit="updates", delete_when=" "), "delete_when holds no expression"),
    ("negative tolerance", job(tolerances={"m": -1}), "the tolerance -1 cannot be used"),
    ("NaN tolerance", job(tolerances={"m": float("nan")}), "the tolerance nan cannot be used"),
    ("infinite tolerance", job(tolerances={"m": float("inf")}), "the tolerance inf cannot be used"),
    ("made tolerance", job(tolerances={"m": Tolerance(-1.0, relative=True)}), "the tolerance -1.0 cannot be used"),
    ("tolerance of text", job(tolerances={"m": "1"}), "the tolerance '1' is not a number"),
    ("tolerance of a key", job(tolerances={"origin": 1}), "the key 'origin' has a tolerance"),
    ("late share", job(max_late_share=1.5), "max_late_share is 1.5"),
    ("NaN share", job(max_quarantined_share=float("nan")), "max_quarantined_share is nan"),
    ("share as text", job(max_late_share="1 %"), "max_late_share is '1 %'"),
]


@pytest.mark.parametrize(("make", "says"), [case[1:] for case in PROBLEMS], ids=[case[0] for case in PROBLEMS])
def test_a_problem_is_found(make: Callable[[], Job], says: str) -> None:
    found = [problem.found for problem in definition_problems(make())]
    assert any(says in text for text in found), found


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (with_logic(misnamed), "rename it to 'flights'"),
        (source(event_time="tss"), "write 'ts'"),
        (source(offsets="gap"), "write 'gaps'"),
        (job(emit="finl"), "write 'final'"),
    ],
)
def test_the_nearest_match_is_offered(make: Callable[[], Job], change: str) -> None:
    assert change in [problem.change for problem in definition_problems(make())]


def test_all_problems_come_in_one_error_with_what_is_allowed_and_what_to_change() -> None:
    broken = replace(
        WINDOWED,
        keys=["window_start"],
        slide="2 hours",
        emit="finl",
        sources=[replace(FLIGHTS, lateness="soon", event_time="tss")],
        tolerances={"m": -1},
        max_late_share=2,
    )
    with pytest.raises(JobError) as caught:
        check_definition(broken)
    message = str(caught.value)

    assert "per_hour cannot run; its definition has 6 problems" in message
    assert message.count("\n  - ") == 6
    assert "emit is 'finl'; allowed: one of final, updates; change: write 'final'" in message


def test_one_problem_uses_the_parts_of_the_error() -> None:
    with pytest.raises(JobError) as caught:
        check_definition(replace(WINDOWED, emit="finl"))
    assert (caught.value.found, caught.value.fix) == ("per_hour: emit is 'finl'", "write 'final'")


def test_a_problem_is_a_frozen_value() -> None:
    with pytest.raises(AttributeError):
        Problem("x").found = "y"  # type: ignore[misc]
