"""Run a suite of scenarios through the real pipeline, and hold what the product's tables say against the plan."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl
from delta.tables import DeltaTable
from deltalake import write_deltalake
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from bench.scenario_jobs import JOINS, NUMBERS, ONE_LOG, contract_for
from twinrun.explain.arrival import READ
from twinrun.history.history import of_newest
from twinrun.results.ledger import ledger_rows
from twinrun.scenario.check import Checked, Observed, ObservedRow, check
from twinrun.scenario.contract import Contract
from twinrun.scenario.expect import MAY_BE_PROVEN, Expectation
from twinrun.scenario.faults import SinkFault, sink_faults
from twinrun.scenario.model import prefix_in
from twinrun.scenario.outcome import RowKey
from twinrun.scenario.suite import Suite
from twinrun.tables.delta import replace_rows

if TYPE_CHECKING:
    from tests.integration.conftest import World

PRICES = "prices"
ABOUT_EVENTS = ("late_dropped", "duplicate_event")


@dataclass(frozen=True)
class JobRun:
    """One job over one suite: every scenario held against its plan, and what the totals say."""

    job: str
    checked: tuple[Checked, ...]
    problems: tuple[str, ...]
    sink_planted: int
    sink_proven: int
    unexplained: int
    seconds: dict[str, float]
    causes: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every plan came true."""
        return not self.problems and all(each.ok for each in self.checked)


@dataclass
class Clock:
    """Seconds by step."""

    seconds: dict[str, float] = field(default_factory=dict)
    last: float = field(default_factory=time.monotonic)

    def tick(self, step: str) -> None:
        now = time.monotonic()
        self.seconds[step], self.last = round(now - self.last, 1), now


def land(world: World, suite: Suite) -> None:
    """Send the log, and the second one where there is one, and land them in bronze."""
    world.overrides["stream.max_offsets_per_trigger"] = suite.per_trigger
    world.produce(suite.records())
    if suite.second:
        world.produce(suite.second_records(), "orders")
    world.ingest(JOINS[0] if suite.second else ONE_LOG[0])


def run_job(world: World, suite: Suite, job: str) -> JobRun:
    """Run one job in both modes over a landed suite, plant the faults of the sink, verify, and check every scenario."""
    contract, clock = contract_for(world, job), Clock()
    expected = suite.expect(contract)
    if contract.table:
        write_prices(world, suite, frozenset())
    world.stream(job)
    clock.tick("stream")
    if contract.table:
        write_prices(world, suite, suite.static_changes())
    world.batch(job)
    clock.tick("batch")
    faults = [fault for scenario in suite.scenarios for fault in sink_faults(scenario, contract)]
    plant_in_sink(world, job, contract, faults)
    clock.tick("faults")
    verdict = world.verify(job)
    clock.tick("verify")
    seen = observe(world, suite, job, contract)
    # What belongs to no scenario (the filler, above all) must not be claimed either.
    empty = {prefix: Expectation(prefix, job) for prefix in sorted(set(seen) - set(expected))}
    checked = [check(plan, seen.get(prefix, Observed())) for prefix, plan in {**expected, **empty}.items()]
    return JobRun(
        job=job,
        checked=tuple(checked),
        problems=total_problems(world, job, list(expected.values()), verdict),
        sink_planted=len(faults),
        sink_proven=sum(cause.rows for cause in verdict.causes if cause.cause in MAY_BE_PROVEN.values()),
        unexplained=verdict.rows_unexplained,
        seconds=clock.seconds,
        causes={cause.cause: cause.events or 0 for cause in verdict.causes},
    )


def write_prices(world: World, suite: Suite, changed: frozenset[str]) -> None:
    """Write a version of the static table: a price per page, one more where it changed."""
    path = str(world.root / PRICES)
    world.overrides |= {f"tables.{PRICES}.path": path, f"tables.{PRICES}.format": "delta"}
    pages = suite.keys()
    prices = pl.DataFrame({"page": pages, "price": [10 + (page in changed) for page in pages]})
    write_deltalake(path, prices.to_arrow(), mode="overwrite")


def plant_in_sink(world: World, job: str, contract: Contract, faults: Sequence[SinkFault]) -> None:
    """Rewrite the stream's table behind the stream's back, in one commit."""
    if not faults:
        return
    ref = str(world.table("stream", job))
    version = DeltaTable.forPath(world.spark, ref).history(1).collect()[0]["version"]
    rows = world.spark.read.format("delta").option("versionAsOf", version).load(ref)
    replace_rows(_with_faults(rows, contract, faults, NUMBERS[job]), ref)


def _with_faults(rows: DataFrame, contract: Contract, faults: Sequence[SinkFault], number: str) -> DataFrame:
    listed = [(fault.row[0], fault.row[1], fault.kind) for fault in faults]
    planted = rows.sparkSession.createDataFrame(listed, "_row string, _window_ms bigint, _fault string")
    key = F.col(contract.id_field if contract.row_per_event else contract.key_field)
    same = key == F.col("_row")
    if contract.starts:
        same = same & (F.unix_millis("window_start") == F.col("_window_ms"))
    marked = rows.join(F.broadcast(planted), same, "left")
    times = F.when(F.col("_fault") == "sink_delete", 0).when(F.col("_fault") == "sink_double", 2).otherwise(1)
    changed = F.when(F.col("_fault") == "sink_change", F.col(number) + 1).otherwise(F.col(number))
    copied = marked.withColumn(number, changed.cast(rows.schema[number].dataType))
    return copied.select(*rows.columns, F.explode(F.array_repeat(F.lit(1), times))).select(*rows.columns)


def observe(world: World, suite: Suite, job: str, contract: Contract) -> dict[str, Observed]:
    """What the tables of the newest verify say, by the prefix of the scenario that a row or record belongs to."""
    rows: dict[str, dict[RowKey, ObservedRow]] = defaultdict(dict)
    for row in _newest(world, job, "differences").iter_rows(named=True):
        key = json.loads(row["key_id"])
        name = key[contract.id_field if contract.row_per_event else contract.key_field]
        start = _start_ms(key["window_start"]) if contract.starts else None
        mine = rows[prefix_in(name)]
        verdict = row["verdict"] if (name, start) not in mine else "repeated"
        mine[name, start] = ObservedRow(row["kind"], verdict, dict(row["causes"]))
    late: dict[str, set[tuple[str, int | None]]] = defaultdict(set)
    slow: dict[str, set[str]] = defaultdict(set)
    for row in _rows(world, "late_events", job).iter_rows(named=True):
        name = next(iter(json.loads(row["id"]).values()))
        late[prefix_in(name)].add((name, row["window_start_ms"]))
        if row["arrival"] == READ:
            slow[prefix_in(name)].add(name)
    copies: dict[str, dict[str, int]] = defaultdict(dict)
    for row in _rows(world, "duplicate_events").iter_rows(named=True):
        name = next(iter(json.loads(row["id"]).values()))
        copies[prefix_in(name)][name] = row["copies"]
    quarantined = _quarantined(world, suite)
    return {
        prefix: Observed(
            rows[prefix], frozenset(late[prefix]), quarantined[prefix], copies[prefix], frozenset(slow[prefix])
        )
        for prefix in {*rows, *late, *copies, *quarantined}
    }


def _quarantined(world: World, suite: Suite) -> dict[str, dict[int, str]]:
    """By offset: one partition holds the whole log, so that an offset is a place in the plan."""
    found: dict[str, dict[int, str]] = defaultdict(dict)
    table = _rows(world, "quarantine", source="clicks")
    for row in table.iter_rows(named=True):
        found[suite.lines[row["_offset"]].scenario][row["_offset"]] = row["_rule"]
    return found


def _newest(world: World, job: str, kind: str) -> pl.DataFrame:
    """The rows that the newest verify of a job wrote."""
    newest = _rows(world, "ledger", job).sort("verified_at_ms")["verify_id"].to_list()[-1]
    rows = _rows(world, kind, job)
    return rows.filter(pl.col("verify_id") == newest) if rows.height else rows


def _rows(world: World, kind: str, job: str | None = None, **where: str) -> pl.DataFrame:
    try:
        table = pl.read_delta(world.cfg().table(kind, **where))
    except Exception as error:
        if not isinstance(error, FileNotFoundError) and "not" not in str(error).lower():
            raise
        return pl.DataFrame()  # no verify has had anything to write there
    return table if job is None else table.filter(pl.col("job") == job)


def _start_ms(text: str) -> int:
    """Of a start in a row's key."""
    return _ms(datetime.fromisoformat(text))


def _ms(instant: Any) -> int:
    return round(instant.timestamp() * 1000)


def total_problems(world: World, job: str, plans: list[Expectation], verdict: Any) -> tuple[str, ...]:
    """Where the totals of the verdict and the windows of the ledger do not add up to the plans."""
    rows = [row for plan in plans for row in plan.rows.values()]
    problems = []
    if len(rows) != verdict.rows_explained + verdict.rows_unexplained:
        found = verdict.rows_explained + verdict.rows_unexplained
        problems.append(f"{job}: {len(rows)} differing rows planned, the verdict counts {found}")
    planned = sum((Counter(plan.blamed) for plan in plans), Counter())
    named = {cause.cause: cause.events or 0 for cause in verdict.causes if cause.cause in ABOUT_EVENTS}
    if planned != Counter(named):
        problems.append(f"{job}: events by cause planned {dict(planned)}, the verdict counts {named}")
    windowed = contract_for(world, job).windowed
    windows = {key[1] if windowed else None for plan in plans for key in plan.rows}
    seen = of_newest(ledger_rows(world.spark, world.cfg(), job)).filter("verdict IN ('explained', 'unexplained')")
    starts = {row[0] for row in seen.select(F.unix_millis("window_start")).collect()}
    if starts != windows:
        problems.append(f"{job}: the ledger has {len(starts)} windows that differ, {len(windows)} were planned")
    return tuple(problems)
