"""What a verify carries on to the next: the same answers as a look at everything, whatever happens to the tables."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from twinrun.config.load import load_config
from twinrun.config.model import Config
from twinrun.events.source import Source
from twinrun.explain import tables
from twinrun.explain.tables import known_ids, repeated_events, repeated_ids
from twinrun.job.job import Job
from twinrun.results import audit
from twinrun.results.audit import Covered, Held, held_by
from twinrun.results.cut import Context
from twinrun.results.state import FACTS, NOTHING, BatchState, Facts, SourceFacts, facts_entry, facts_of
from twinrun.tables.control import add_record
from twinrun.tables.delta import append, read_table
from twinrun.tables.kafka import Gone
from twinrun.tables.listed import added_since, listed_once, mark_of

CLICKS = Source("clicks", schema="id STRING NOT NULL, at BIGINT NOT NULL", event_time="at", id=["id"])
JOB = Job(lambda clicks: clicks, sources=[CLICKS], keys=["id"], name="counted")
BRONZE = "partition INT, offset BIGINT"
EVENTS = "id STRING, at BIGINT, _topic STRING, _partition INT, _offset BIGINT, _decoded_seq BIGINT"
REFUSED = "_topic STRING, _partition INT, _offset BIGINT, _rule STRING, _reason STRING, _requeued_seq BIGINT"


@dataclass
class Log:
    """Bronze, events and quarantine of one topic, written as ingest, decode and maintenance do."""

    spark: SparkSession
    cfg: Config
    ends: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0})
    expired: dict[int, int] = field(default_factory=dict)
    erased: list[tuple[int, int]] = field(default_factory=list)
    seq: int = 0

    def ref(self, kind: str) -> str:
        return self.cfg.table(kind, topic="clicks") if kind == "bronze" else self.cfg.table(kind, source="clicks")

    def put(self, kind: str, rows: list[tuple[Any, ...]]) -> None:
        schema = {"bronze": BRONZE, "events": EVENTS, "quarantine": REFUSED}[kind]
        append(self.spark.createDataFrame(rows, schema), self.ref(kind))

    def land(self, count: int, *, ids: str = "") -> None:
        """So many records in each partition; the last of the second one is refused."""
        self.seq += 1
        at = [(p, self.ends[p] + n) for p in (0, 1) for n in range(count)]
        refused = (1, self.ends[1] + count - 1)
        self.put("bronze", at)
        self.put("events", [self.event(p, o, ids or f"{p}-{o}") for p, o in at if (p, o) != refused])
        self.put("quarantine", [("clicks", *refused, "not_json", "no JSON", None)])
        self.ends = {p: end + count for p, end in self.ends.items()}

    def event(self, partition: int, offset: int, name: str) -> tuple[Any, ...]:
        return (name, offset, "clicks", partition, offset, self.seq)

    def remove(self, condition: str) -> None:
        for kind, prefix in (("bronze", ""), ("events", "_")):
            DeltaTable.forPath(self.spark, self.ref(kind)).delete(condition.replace("@", prefix))

    def expire(self, count: int) -> None:
        self.expired = {0: self.expired.get(0, 0) + count}
        self.remove(f"@partition = 0 and @offset < {self.expired[0]}")

    def erase(self, partition: int, offset: int) -> None:
        self.erased.append((partition, offset))
        self.remove(f"@partition = {partition} and @offset = {offset}")

    def requeue(self, partition: int, offset: int) -> None:
        self.seq += 1
        self.put("events", [self.event(partition, offset, "requeued")])

    @property
    def tables(self) -> list[str]:
        return [self.ref(kind) for kind in ("bronze", "events", "quarantine")]

    @property
    def state(self) -> BatchState:
        """Of a batch run that has just read everything."""
        version = int(DeltaTable.forPath(self.spark, self.ref("events")).history(1).collect()[0]["version"])
        ends, seq, versions = {"clicks": self.ends}, {"clicks": self.seq}, {"clicks": version}
        return BatchState(1, "t", 0, {}, ends, seq, versions, {}, "r", 0)

    def covered(self) -> Covered:
        rows = self.spark.createDataFrame([(*at, None) for at in self.erased], f"{BRONZE}, event_time_ms BIGINT")
        gone = Gone(ends=self.expired, erased=rows if self.erased else None)
        # The stream began a little later, and has not read the last record of a partition yet.
        return Covered(self.ends, gone=gone, stream=({0: 1}, {0: self.ends[0], 1: self.ends[1] - 1}))


@pytest.fixture
def log(spark_session: SparkSession, tmp_path: Path) -> Log:
    (tmp_path / "conf").mkdir()
    file = tmp_path / "conf" / "c.yaml"
    file.write_text(
        f"kafka: {{bootstrap_servers: '127.0.0.1:9'}}\nwarehouse: {tmp_path}/wh\ncheckpoints: {tmp_path}/cp\n"
        "sources: {clicks: {topic: clicks}}\nreport: {folder: reports}\n"
    )
    made = Log(spark_session, load_config(file, [], env={}))
    made.land(3)
    return made


def _held(log: Log, known: SourceFacts) -> Held:
    held = held_by(log.spark, log.cfg, CLICKS, log.covered(), (), known).answer()
    return held if held.sound else held_by(log.spark, log.cfg, CLICKS, log.covered()).answer()


def _ids(log: Log, known: SourceFacts) -> tuple[Any, list[Any]]:
    not_asked: Any = None
    ctx = Context(log.spark, log.cfg, JOB, not_asked, not_asked, log.state)
    found = repeated_events(ctx, Facts({"clicks": known}))
    counts = repeated_ids(found).answer()
    return (counts["clicks"].ids, known_ids(found, counts).get("clicks")), sorted(found["clicks"].rows.collect())


def _looked(log: Log, known: SourceFacts) -> SourceFacts:
    """Look at the tables by what is known, hold it against a look at everything, and give what is known then."""
    with listed_once(log.tables):
        carried, whole = _held(log, known), _held(log, NOTHING)
        assert replace(carried, known=NOTHING) == replace(whole, known=NOTHING)
        assert carried.known == whole.known
        (ids, rows), (all_ids, all_rows) = _ids(log, known), _ids(log, NOTHING)
        assert (ids, rows) == (all_ids, all_rows)
        return replace(carried.known, ids=ids[1])


def _steps(log: Log, dice: random.Random) -> list[Callable[[], None]]:
    inside = (1, dice.randrange(log.ends[1] - 1))
    return [
        lambda: log.land(2),
        lambda: log.land(2),
        lambda: log.land(2),
        lambda: log.land(1 + dice.randrange(2), ids=f"again-{dice.randrange(2)}"),
        lambda: log.expire(1),
        lambda: log.erase(*inside),
        lambda: log.requeue(1, log.ends[1] - 1),
        # What must not happen: a record twice, an event that no record stands for, a record that vanished, a hole.
        lambda: log.put("bronze", [(0, log.ends[0] - 1)]),
        lambda: log.put("events", [log.event(0, 0, "0-0")]),
        lambda: log.remove(f"@partition = 1 and @offset = {inside[1]}"),
        lambda: log.ends.update({0: log.ends[0] + 3}),
        lambda: DeltaTable.forPath(log.spark, log.ref("events")).optimize().executeCompaction() and None,
    ]


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_what_is_carried_on_gives_what_a_look_at_everything_gives(
    log: Log, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "LARGE_BYTES", 0)
    dice, known = random.Random(seed), _looked(log, NOTHING)
    for _ in range(6):
        dice.choice(_steps(log, dice))()
        known = _looked(log, known)


def test_only_what_was_added_is_looked_at(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "LARGE_BYTES", 0)
    known = _looked(log, NOTHING)
    assert known.bronze
    assert known.events
    assert known.ids
    log.land(2)
    read: list[str] = []

    def reading(spark: SparkSession, ref: str, version: int | None = None) -> Any:
        read.append(ref)
        return read_table(spark, ref, version)

    monkeypatch.setattr(audit, "read_table", reading)
    with listed_once(log.tables):
        held = _held(log, known)
    # The list of what a job leaves out asks the events too, where there is any.
    assert log.ref("bronze") not in read
    assert (held.valid, held.quarantined, held.ends) == (8, 2, {0: 5, 1: 5})


@pytest.mark.parametrize(
    ("planted", "rows", "events"),
    [("a record twice", 6, 6), ("a record that vanished", 5, 4), ("an event twice", 6, 6)],
)
def test_what_is_wrong_below_what_is_known_is_seen(log: Log, planted: str, rows: int, events: int) -> None:
    known = _looked(log, NOTHING)
    if planted == "a record twice":
        log.put("bronze", [(0, 1)])
    elif planted == "an event twice":
        log.put("events", [log.event(0, 1, "0-1")])
    else:
        log.remove("@partition = 0 and @offset = 1")
    with listed_once(log.tables):
        held = _held(log, known)
    count = held.counted
    assert sum(each.repeated for each in count.values()) == (planted == "a record twice")
    assert sum(each.distinct for each in count.values()) == rows
    assert held.valid == (events if planted == "an event twice" else rows - 1)


def test_a_table_that_was_made_anew_is_not_taken_for_the_old_one(log: Log) -> None:
    with listed_once(log.tables):
        mark = mark_of(log.spark, log.ref("bronze"))
    assert mark is not None
    assert mark.version == 0
    read_table(log.spark, log.ref("bronze")).localCheckpoint().write.format("delta").save(log.ref("bronze") + "2")
    log.land(1)
    with listed_once([*log.tables, log.ref("bronze") + "2"]):
        added = added_since(log.spark, log.ref("bronze"), mark)
        assert added is not None
        assert sorted(tuple(row) for row in added.collect()) == [(0, 3), (1, 3)]
        assert added_since(log.spark, log.ref("bronze") + "2", mark) is None
        assert added_since(log.spark, log.ref("bronze"), replace(mark, commit="another")) is None
        assert added_since(log.spark, log.ref("bronze"), replace(mark, version=9)) is None
    assert added_since(log.spark, log.ref("bronze"), mark) is None  # nothing is pinned here


def test_facts_are_read_as_they_were_written_and_hold_no_values(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "LARGE_BYTES", 0)
    log.land(2, ids="anna@example.org")
    known = _looked(log, NOTHING)
    assert known.ids is not None
    assert len(known.ids.places) == 1
    entry = facts_entry(JOB, Facts({"clicks": known}))
    assert "anna" not in str(entry.payload)
    add_record(log.spark, log.cfg, FACTS, JOB.job_name, entry.payload)
    assert facts_of(log.spark, log.cfg, JOB).of("clicks") == known
    add_record(log.spark, log.cfg, FACTS, JOB.job_name, {**entry.payload, "form": 0})
    assert facts_of(log.spark, log.cfg, JOB).of("clicks") == NOTHING
