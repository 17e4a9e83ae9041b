"""The jobs that scenarios run over, and what a scenario must know of each that its definition does not say."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twinrun.job.ddl import read_ddl
from twinrun.scenario.contract import BUILT_IN, Contract, Joined, contract_of
from twinrun.scenario.generate import generate
from twinrun.scenario.plants import MIXED, Plant
from twinrun.scenario.suite import Suite, suite_of

if TYPE_CHECKING:
    from tests.integration.conftest import World

NUMBERS = {
    "per_minute": "clicks",
    "sliding_clicks": "clicks",
    "minutes_so_far": "clicks",
    "page_totals": "clicks",
    "priced_clicks": "price",
    "once_per_minute": "clicks",
    "peak_minutes": "clicks",
    "visits": "clicks",
    "counted_once": "clicks",
    "seen_once": "ms",
    "in_cents": "cents",
    "without_away": "clicks",
    "bought": "price",
    "bought_or_not": "price",
}
"""Every job by its file, and a column of each that a fault in the sink may change.

A job of another shape joins by its line here, once `twinrun.scenario.outcome` knows what both modes make of a log.
"""
PARTITIONS = {"clicks": 4, "joined": 3}
"""Of the topics of each log: one for the log, two that one scenario leaves idle, one that is read behind the first."""
JOINS = ("bought", "bought_or_not")
"""Those over two streams: they run over logs of their own."""
ONE_LOG = tuple(name for name in NUMBERS if name not in JOINS)
_NOT_DECLARED: dict[str, dict[str, Any]] = {
    "once_per_minute": {"late_by": "time"},
    "peak_minutes": {"inner_ms": 10_000},
    "seen_once": {"late_by": "time"},
    "without_away": {"away": ".away"},
    "bought": {"late_by": "time"},
    "bought_or_not": {"late_by": "time"},
}
"""What a job's definition does not say: which operator decides what is late, where it is not the job's window."""
_WITHIN_MS = 30_000


def contract_for(world: World, name: str) -> Contract:
    """The contract of a job of the tests, with its first operator and its join."""
    job, more = world.job(name), _NOT_DECLARED.get(name, {})
    if name in JOINS:
        second = job.sources[1]
        joined = Joined(read_ddl(second.schema), second.id[0], "id", _WITHIN_MS, outer=name == "bought_or_not")
        job, more = dataclasses.replace(job, sources=job.sources[:1]), {**more, "joined": joined}
    return dataclasses.replace(contract_of(job), **more)


def shape_of(contract: Contract) -> str:
    """The built-in shape that makes the same bytes: what a reproducer names."""
    return next(name for name, each in BUILT_IN.items() if dataclasses.replace(each, name=contract.name) == contract)


def log_of(seed: int) -> tuple[str, ...]:
    """The jobs that run over the log of a seed; the seed alone decides it."""
    return JOINS if list(NUMBERS)[seed % len(NUMBERS)] in JOINS else ONE_LOG


def mixed_suite(world: World, seeds: Sequence[int], jobs: Sequence[str], micro_batches: int, size: int) -> Suite | None:
    """A scenario per seed of these jobs' log, made for each job in turn; the first leaves partitions idle instead.

    None where no seed belongs to the log.
    """
    made = []
    for seed in (each for each in seeds if log_of(each) == tuple(jobs)):
        contract = contract_for(world, list(NUMBERS)[seed % len(NUMBERS)])
        plants = None if made else (Plant("idle_partitions", 2), Plant("disorder", 3))
        made.append(generate(MIXED, seed, contract, plants, size=size, micro_batches=micro_batches))
    return suite_of(made) if made else None
