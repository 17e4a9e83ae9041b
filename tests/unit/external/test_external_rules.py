"""Each engine's rule on logs by hand: own rows are explained, and by a rule a millisecond, a key or a mark off never.

The engines are imitated in plain Python, as they were seen to behave, and share nothing with twinrun.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun import Job, Source
from twinrun.comparator.tables import compare_frames
from twinrun.config.sections import ExternalBinding, LateRuleName
from twinrun.errors import InputError
from twinrun.explain.differing import Sides
from twinrun.explain.used import USED
from twinrun.external import explain
from twinrun.external.declared import need_marks_within
from twinrun.external.explain import Case, explain_external
from twinrun.external.mark import Rules, mark_declared
from twinrun.external.rules import RULES, restarts_problem, rule_named
from twinrun.job.dataflow import Dataflow, LateRule
from twinrun.job.passing import passages
from twinrun.results.cut import Committed, StreamCut

T0_MS, MINUTE_MS, GRACE_MS = 1_357_466_400_000, 60_000, 10_000
SOURCE = Source(
    "clicks", schema="id STRING, at BIGINT NOT NULL, page STRING", event_time="at", lateness="10 seconds", id=["id"]
)


def seen(clicks: DataFrame) -> DataFrame:
    """Clicks per page and minute, without those whose id begins with y."""
    per_minute = clicks.filter("id NOT LIKE 'y%'").groupBy("page", F.window("at", "1 minute"))
    rows = per_minute.agg(F.count(F.lit(1)).alias("n"))
    return rows.select("page", F.col("window.start").alias("window_start"), "n")


JOB = Job(seen, sources=[SOURCE], keys=["page", "window_start"], window="1 minute", name="seen")
FLOW = Dataflow(("Aggregate",), {"clicks": LateRule("none")}, closed_form=True)
Click = tuple[str, float]
"""Page and second; of a page in capitals the job filters the click away."""
Row = tuple[str, int, int]
"""Page, minute, n."""


@dataclass
class Engine:
    """One partition of an engine: whose clock, what moves it, the edge, and what a restart does.

    ``ahead_ms``: how much earlier it drops. ``by_event``: the event's own time must not lie behind the clock.
    """

    per_key: bool = False
    topic_clock: bool = False
    ahead_ms: int = 0
    by_event: bool = False
    flushes: bool = False
    restarts: tuple[int, ...] = ()
    clock_of: list[Click] | None = None
    retention_ms: int = MINUTE_MS + GRACE_MS

    def run(self, log: list[Click]) -> tuple[list[Row], set[int]]:
        """The rows in order of writing, and the offsets of the dropped events."""
        newest: dict[str, int] = {}
        open_, counted, rows, dropped = {}, defaultdict[tuple[str, int], int](int), list[Row](), set[int]()
        for offset, (page, second) in enumerate(log):
            if offset in self.restarts:
                # The store has segments of at least a minute, and has dropped those that end before its retention.
                segment = max(self.retention_ms // 2, MINUTE_MS)
                oldest = (T0_MS + newest.get("", 0)) // MINUTE_MS * MINUTE_MS - self.retention_ms
                for key in [k for k in counted if T0_MS + k[1] * MINUTE_MS < oldest // segment * segment]:
                    del counted[key]
                newest = {}
            at, filtered = round(second * 1000), page.isupper()
            whose = page if self.per_key else ""
            if filtered:
                if self.topic_clock:
                    newest[whose] = max(newest.get(whose, 0), at)
                continue
            before = max(newest.get(whose, -(10**9)), *(round(s * 1000) for _, s in self.clock_of or [("", -1e6)]))
            window = at // MINUTE_MS
            end = (window + 1) * MINUTE_MS
            late = at < before - GRACE_MS if self.by_event else end - self.ahead_ms + GRACE_MS <= before
            if late:
                dropped.add(offset)
            else:
                counted[page, window] += 1
                open_[page, window] = True
            newest[whose] = max(newest.get(whose, 0), at)
            if not self.by_event:
                for key, minute in sorted(open_):
                    clock = newest.get(key if self.per_key else "", 0)
                    if (minute + 1) * MINUTE_MS - self.ahead_ms + GRACE_MS <= clock:
                        rows.append((key, minute, counted[key, minute]))
                        del open_[key, minute]
                        # a window written again has all that was counted until then, if the store still had it
        if self.flushes or self.by_event:
            rows += [(key, minute, counted[key, minute]) for key, minute in sorted(open_)]
        return rows, dropped


KAFKA = Engine()
FLINK = Engine(topic_clock=True)
FLINK_SQL = Engine(topic_clock=True, ahead_ms=1)
QUIX_KEY = Engine(per_key=True)
BYTEWAX = Engine(per_key=True, by_event=True)
# Grace 10 s. The edges of minute 0 lie at 70 s: for Flink SQL one millisecond before. Pages e and f come once before
# 200 s, e on that edge and f a millisecond before it; page d comes once, and its own time never goes on. The click of
# page A is filtered away, and moves only a topic's clock.
LOG: list[Click] = [
    ("a", 5), ("b", 8), ("d", 30), ("a", 69.998), ("b", 20), ("f", 25), ("a", 69.999), ("b", 21), ("e", 24), ("a", 70),
    ("b", 22), ("a", 23), ("b", 70), ("b", 125), ("b", 114.999), ("b", 115), ("A", 140), ("a", 70.5), ("a", 200),
    ("b", 200), ("e", 200), ("f", 200),
]  # fmt: skip
Logs = dict[int, list[Click]]


def batch_of(logs: Logs) -> list[Row]:
    counts = defaultdict[tuple[str, int], int](int)
    for log in logs.values():
        for page, second in log:
            if not page.isupper():
                counts[page, int(second * 1000) // MINUTE_MS] += 1
    return [(page, minute, n) for (page, minute), n in sorted(counts.items())]


def frame(spark: SparkSession, rows: list[Row]) -> DataFrame:
    made = spark.createDataFrame(rows, "page STRING, minute BIGINT, n BIGINT")
    start = F.timestamp_millis(F.lit(T0_MS) + F.col("minute") * MINUTE_MS).alias("window_start")
    return made.select("page", start, "n")


def events(spark: SparkSession, logs: Logs) -> DataFrame:
    rows = [
        (f"{'y' if page.isupper() else 'x'}{p}.{offset}", T0_MS + round(second * 1000), page, "t", p, offset)
        for p, log in logs.items()
        for offset, (page, second) in enumerate(log)
    ]
    made = spark.createDataFrame(
        rows, "id STRING, ms BIGINT, page STRING, _topic STRING, _partition INT, _offset BIGINT"
    )
    at = F.timestamp_millis("ms")
    place = ["_topic", "_partition", "_offset"]
    return made.select(
        "id", at.alias("at"), "page", *place, at.alias("_kafka_timestamp"), F.to_date(at).alias("_event_date")
    )


UNKNOWN = cast("Any", None)
CFG = cast("Any", SimpleNamespace(table=lambda *_, **__: "/no/such/table", verify=SimpleNamespace(max_late_samples=50)))
Found = dict[tuple[str, int], dict[str, int] | str]


@pytest.fixture(autouse=True)
def kept_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judged rows are looked at, and not written to a table."""
    monkeypatch.setattr(explain, "keep", lambda *given: given[4])
    monkeypatch.setattr(explain, "requeued", lambda *_: None)


def verified(
    spark: SparkSession, logs: Logs, rows: list[Row], rule: str, lateness: str = "10 seconds", **more: Any
) -> tuple[Found, explain.Explained]:
    """What the rows of an engine, not in the batch, are put down to: causes, or a verdict; and how the rule fared."""
    ends = {p: len(log) for p, log in logs.items()}
    cut = StreamCut(UNKNOWN, "", Committed(0, -1), {"clicks": {}}, {"clicks": ends}, None, 0, UNKNOWN, 0, {}, False, 0)
    binding = ExternalBinding(topic="t", lateness=lateness, late_rule=cast("LateRuleName", rule), **more)
    flow = replace(FLOW, passages=passages(spark, JOB, {}))
    ready_ms = T0_MS + 3 * MINUTE_MS
    sides = Sides(*(frame(spark, [r for r in side if r[1] < 3]) for side in (batch_of(logs), rows)))
    _, found = compare_frames(
        sides.batch, sides.stream, keys=JOB.keys, window_column="window_start", every_key=True, materialise=True
    )
    known = {"clicks": events(spark, logs)}
    case = Case(JOB, flow, binding, cut, known, {}, sides, ready_ms, appended=True)
    told = explain_external(spark, CFG, case, "v", found, {})
    minute = ((F.unix_millis("window") - T0_MS) / MINUTE_MS).cast("int").alias("minute")
    judged = told.judged.rows.select("key.page", minute, "verdict", "causes").collect()
    assert all((row["verdict"] == "explained") == bool(row["causes"]) for row in judged)
    return {(r["page"], r["minute"]): dict(r["causes"]) or r["verdict"] for r in judged}, told


LATE: Found = {("a", 0): {"late_dropped": 1}, ("b", 0): {"late_dropped": 1}}
OWN = {
    # rule: the engine, and what its rows are put down to
    "kafka-streams": (KAFKA, LATE),
    "quix-partition": (KAFKA, LATE),
    "partition-order": (FLINK, {**LATE, ("a", 1): {"late_dropped": 1}}),
    "flink-datastream": (FLINK, {**LATE, ("a", 1): {"late_dropped": 1}}),
    "flink-sql": (
        FLINK_SQL,
        {**LATE, ("a", 1): {"late_dropped": 1}, ("b", 0): {"late_dropped": 2}, ("e", 0): {"late_dropped": 1}},
    ),
    "quix-key": (QUIX_KEY, {("a", 0): {"late_dropped": 1}, ("d", 0): {"pending": 0}}),
    "bytewax": (BYTEWAX, {("a", 0): {"late_dropped": 1}, ("b", 1): {"late_dropped": 1}}),
}


SLOW = [pytest.mark.slow]


@pytest.mark.parametrize(
    "rule", [pytest.param(rule, marks=[] if rule in ("quix-key", "bytewax") else SLOW) for rule in OWN]
)
def test_the_rows_of_each_engine_are_explained_by_its_own_rule(spark_session: SparkSession, rule: str) -> None:
    engine, expected = OWN[rule]
    rows, dropped = engine.run(LOG)
    found, told = verified(spark_session, {0: LOG}, rows, rule)
    assert found == expected
    assert (told.refuted, told.unexpected) == (0, 0)
    # Every event that the engine dropped is named, and no other.
    assert {event.offset for event in told.late} == dropped


@pytest.mark.parametrize(
    ("engine", "rule", "lateness"),
    [
        pytest.param(FLINK, "flink-sql", "10 seconds", id="a millisecond"),
        pytest.param(FLINK_SQL, "flink-sql", "9999 ms", id="another millisecond", marks=SLOW),
        pytest.param(KAFKA, "kafka-streams", "9999 ms", id="the grace", marks=SLOW),
        pytest.param(QUIX_KEY, "quix-partition", "10 seconds", id="another key's clock", marks=SLOW),
        pytest.param(BYTEWAX, "kafka-streams", "10 seconds", id="windows for events", marks=SLOW),
    ],
)
def test_rows_that_agree_refute_another_rule_and_then_it_claims_nothing(
    spark_session: SparkSession, engine: Engine, rule: str, lateness: str
) -> None:
    found, told = verified(spark_session, {0: LOG}, engine.run(LOG)[0], rule, lateness)
    assert told.refuted > 0
    assert told.late == ()
    assert {verdict for verdict in found.values() if isinstance(verdict, str)} == {"unexplained"}
    assert not any(isinstance(causes, dict) for causes in found.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "rule", "expected"),
    [
        # By what it filters away the engine drops 70.5 s; by the keys' clocks it would have kept 22 s, and written d.
        (FLINK, "kafka-streams", {**LATE, ("a", 1): "unexplained"}),
        (KAFKA, "quix-key", {("a", 0): {"late_dropped": 1}, ("b", 0): "unexplained"}),
    ],
    ids=["what is filtered away", "another key's clock"],
)
def test_what_another_clock_dropped_is_unexplained(
    spark_session: SparkSession, engine: Engine, rule: str, expected: Found
) -> None:
    found, told = verified(spark_session, {0: LOG}, engine.run(LOG)[0], rule)
    assert (found, told.refuted) == (expected, 0)


@pytest.mark.slow
def test_no_missing_row_is_called_pending_where_another_came_that_the_rule_had_not_written(
    spark_session: SparkSession,
) -> None:
    """Two pages whose own time never goes on: an engine with another clock wrote one of them, and lost the other."""
    log: list[Click] = [("a", 5), ("d", 6), ("g", 7), ("a", 200)]
    rows = [row for row in KAFKA.run(log)[0] if row[0] != "g"]
    found, told = verified(spark_session, {0: log}, rows, "quix-key")
    assert (found, told.unexpected) == ({("g", 0): "unexplained"}, 1)


def restarted(p: int) -> list[Click]:
    """The engine starts anew before offset 5: 8, 9 and 11 s count again, 7 s came before it and 10 s too late again."""
    return [
        (f"a{p}", 5), (f"b{p}", 6), (f"c{p}", 6), (f"a{p}", 75), (f"a{p}", 7), (f"a{p}", 8), (f"a{p}", 69.999),
        (f"b{p}", 9), (f"c{p}", 11), (f"a{p}", 70), (f"b{p}", 10), (f"a{p}", 200),
    ]  # fmt: skip


def forgotten(p: int) -> list[Click]:
    """At 185 s the store lets go of minute 0, and keeps minute 1; then the engine starts anew before offset 6."""
    return [
        (f"n{p}", 5), (f"o{p}", 6), (f"n{p}", 65), (f"n{p}", 131), (f"n{p}", 185), (f"o{p}", 7),
        (f"n{p}", 8), (f"n{p}", 9), (f"o{p}", 10), (f"n{p}", 66), (f"n{p}", 260),
    ]  # fmt: skip


TWICE = Engine(restarts=(5,))
THRICE = Engine(restarts=(5, 12))
PLANTS: list[Click] = [("j", 5), ("k", 5), ("l", 5), ("m", 5), ("j", 200)]
# Partition: its log, and the engine that ran over it; what is declared of restarts is below.
WORLD: dict[int, tuple[list[Click], Engine]] = {
    0: (restarted(0), TWICE),
    1: (restarted(1), TWICE),
    2: (restarted(2), TWICE),
    3: (restarted(3), TWICE),
    4: (restarted(4)[:9], TWICE),
    5: ([*restarted(5), ("a5", 12), ("a5", 80), ("a5", 140)], THRICE),
    6: ([("g", 5), ("g", 69.999), ("g", 6), ("g", 200)], Engine(ahead_ms=1)),
    7: ([("h", 5), ("h", 8), ("h", 6), ("h", 200)], Engine(clock_of=[("a", 80)])),
    8: ([("i", 5), ("I", 140), ("i", 6), ("i", 200)], FLINK),
    9: (PLANTS, KAFKA),
    10: (forgotten(10), Engine(restarts=(6,))),
    11: (forgotten(11), Engine(restarts=(6,), retention_ms=10 * MINUTE_MS)),
}
# Right in 0, 4 and 5; forgotten in 1; one too late in 2 and one too early in 3.
MARKS = [{0: 5, 2: 6, 3: 4, 4: 5, 5: 5, 10: 6, 11: 6}, {5: 12}]
AGAIN = {"emitted_again": 0}
WORLD_FOUND: Found = {
    ("a0", 0): {**AGAIN, "late_dropped": 1}, ("b0", 0): {**AGAIN, "late_dropped": 1}, ("c0", 0): AGAIN,
    **{(f"{page}{p}", 0): "unexplained" for page in "abc" for p in (1,)},
    ("a2", 0): "unexplained", ("b2", 0): {**AGAIN, "late_dropped": 1}, ("c2", 0): AGAIN,
    ("a3", 0): "unexplained", ("b3", 0): {**AGAIN, "late_dropped": 1}, ("c3", 0): AGAIN,
    ("a4", 0): {"pending": 0, "late_dropped": 1}, ("b4", 0): {"pending": 0}, ("c4", 0): {"pending": 0},
    ("a4", 1): {"pending": 0},
    ("a5", 0): {**AGAIN, "late_dropped": 1}, ("b5", 0): {**AGAIN, "late_dropped": 1}, ("c5", 0): AGAIN,
    ("a5", 1): AGAIN, ("a5", 2): {"pending": 0},
    # Minute 0 had been dropped from the store: it is written with what came since, minute 1 with all. A store that
    # keeps ten minutes had both, which is not what is declared.
    ("n10", 0): AGAIN, ("n10", 1): AGAIN, ("o10", 0): {**AGAIN, "late_dropped": 1},
    ("n11", 0): "unexplained", ("n11", 1): AGAIN, ("o11", 0): "unexplained",
    ("g", 0): "unexplained", ("h", 0): "unexplained", ("i", 0): "unexplained",
    ("j", 0): "unexplained", ("k", 0): "unexplained", ("l", 0): {"sink_duplicate": 0}, ("m", 0): "unexplained",
}  # fmt: skip


def test_windows_written_again_and_windows_that_wait_are_told_by_the_mark_of_the_restart_and_never_without(
    spark_session: SparkSession,
) -> None:
    logs = {p: log for p, (log, _) in WORLD.items()}
    rows = [row for log, engine in WORLD.values() for row in engine.run(log)[0]]
    rows.remove(("j", 0, 1))
    rows[rows.index(("k", 0, 1))] = ("k", 0, 2)
    rows += [("l", 0, 1), ("m", 0, 2)]
    found, told = verified(spark_session, logs, rows, "kafka-streams", restarts={"clicks": MARKS})
    assert {
        key: (found.get(key), WORLD_FOUND.get(key))
        for key in {*found, *WORLD_FOUND}
        if found.get(key) != WORLD_FOUND.get(key)
    } == {}
    assert (told.refuted, told.unexpected) == (0, 0)
    assert {(e.partition, e.offset) for e in told.late if e.partition in (0, 4, 5)} == {
        (0, 4), (0, 10), (4, 4), (5, 4), (5, 10)
    }  # fmt: skip


def test_a_store_that_keeps_windows_longer_writes_them_again_with_all_that_was_counted(
    spark_session: SparkSession,
) -> None:
    engine = Engine(restarts=(6,), retention_ms=10 * MINUTE_MS)
    rows = engine.run(forgotten(0))[0]
    marks = {"clicks": [{0: 6}]}
    found, _ = verified(spark_session, {0: forgotten(0)}, rows, "kafka-streams", restarts=marks, retention="10 minutes")
    assert found == {("n0", 0): AGAIN, ("n0", 1): AGAIN, ("o0", 0): {**AGAIN, "late_dropped": 1}}


@pytest.mark.slow
def test_without_marks_nothing_is_written_again(spark_session: SparkSession) -> None:
    found, _ = verified(spark_session, {0: restarted(0)}, TWICE.run(restarted(0))[0], "kafka-streams")
    assert {str(causes) for causes in found.values()} == {"unexplained"}


ENGINES = {
    "kafka-streams": Engine(restarts=(17, 40)), "quix-partition": KAFKA, "partition-order": FLINK,
    "flink-datastream": FLINK, "flink-sql": FLINK_SQL, "quix-key": QUIX_KEY, "bytewax": BYTEWAX,
}  # fmt: skip


def test_the_dropped_events_are_those_that_the_engine_drops(spark_session: SparkSession) -> None:
    """Events at random about the edges, in two partitions, for every rule, in one plan."""
    dice = random.Random(5)
    logs: Logs = {
        p: [
            (
                dice.choice("abcA"),
                max(0, second * 4 + dice.choice([-70, -50, -10, 0, 0, 10]) + dice.choice([-0.001, 0, 0.001])),
            )
            for second in range(100)
        ]
        for p in (0, 1)
    }
    passage = passages(spark_session, JOB, {})["clicks"]
    ends = {p: len(log) for p, log in logs.items()}
    cut = StreamCut(UNKNOWN, "", Committed(0, -1), {"clicks": {}}, {"clicks": ends}, None, 0, UNKNOWN, 0, {}, False, 0)
    parts, expected = [], set()
    for name, engine in ENGINES.items():
        rule = RULES[name]
        marks = ({0: 17, 1: 17}, {0: 40, 1: 40}) if engine.restarts else ()
        rules = Rules(GRACE_MS, False, rule, ("page",) if rule.clock == "key" else (), marks, passage)
        marked = mark_declared(events(spark_session, logs), None, SOURCE, cut, rules)
        end = F.floor(F.unix_millis("at") / MINUTE_MS) * MINUTE_MS + MINUTE_MS
        late = ~F.col(USED) if rule.by_event else end <= F.col("_late_ms")
        parts.append(marked.filter(late & ~F.col("id").startswith("y")).select(F.lit(name), "_partition", "_offset"))
        expected |= {(name, p, offset) for p, log in logs.items() for offset in engine.run(log)[1]}
    found = parts[0]
    for part in parts[1:]:
        found = found.union(part)
    assert {tuple(row) for row in found.collect()} == expected
    assert min(sum(1 for each in expected if each[0] == name) for name in ENGINES) > 10


def test_the_registry_has_what_can_be_declared() -> None:
    assert {"none", *RULES} == set(LateRuleName.__args__)
    assert rule_named("none") is None


@pytest.mark.parametrize(
    ("rule", "partitions", "carried", "told", "says"),
    [
        ("kafka-streams", {0, 1}, [], True, ""),
        ("kafka-streams", {0}, [], False, "which do cannot be told from the job's plan"),
        ("partition-order", {0, 1}, [], False, ""),
        ("flink-sql", {0}, [], False, ""),
        ("flink-sql", {0, 1}, [], True, "the least clock of the 2 partitions"),
        ("flink-datastream", {0, 1, 2}, [], True, "the least clock of the 3 partitions"),
        ("quix-key", {0, 1}, ["page"], True, ""),
        ("quix-key", {0}, [], True, "page of the result is no field of the events"),
        ("bytewax", {0}, [], True, "page of the result is no field of the events"),
        ("pathway-minibatch", {0}, ["page"], True, "depends on the clock on the wall"),
    ],
)
def test_a_rule_says_where_it_proves_nothing(
    rule: str, partitions: set[int], carried: list[str], told: bool, says: str
) -> None:
    problem = RULES[rule].problem(JOB, partitions, carried, told)
    assert (says in problem) if says else problem == ""


def test_only_a_clock_in_memory_has_restarts() -> None:
    assert restarts_problem("kafka-streams") == ""
    assert "keeps its clock over a restart" in restarts_problem("quix-key")
    assert "has not been tried" in restarts_problem("flink-sql")
    assert "none is declared" in restarts_problem("none")


@pytest.mark.parametrize(
    ("mark", "says"),
    [({0: 20}, ""), ({0: 21}, "topic t ends at offset 20 there"), ({7: 1}, "topic t has the partitions 0, 1")],
)
def test_a_mark_outside_the_topic_is_refused(mark: dict[int, int], says: str) -> None:
    binding = ExternalBinding(topic="t", lateness="1 s", late_rule="kafka-streams", restarts={"clicks": [mark]})
    if not says:
        need_marks_within(JOB, binding, "clicks", {0: 20, 1: 3}, "topic t")
        return
    with pytest.raises(InputError) as error:
        need_marks_within(JOB, binding, "clicks", {0: 20, 1: 3}, "topic t")
    assert says in str(error.value)
    assert "external.seen.restarts.clicks" in str(error.value)
