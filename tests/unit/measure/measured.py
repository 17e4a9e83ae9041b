"""Measurements made by hand: what a machine would do whose laws are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from twinrun.measure.arms import Arm
from twinrun.measure.freshness import Freshness, Quantiles
from twinrun.measure.results import Measurement, MicroBatches, Result, Unit

RATE = 100.0
SECONDS = 60.0
SESSION_S = 12.0
# A run of a batch takes 2 s, 1 ms per event and 1 CPU s, 2 ms per event; a micro-batch 0.4 s and 0.5 ms per event.
BATCH, STREAM = (2.0, 0.001, 1.0, 0.002), (0.4, 0.0005, 0.3, 0.001)


def spread(low: float, high: float) -> Quantiles:
    """The quantiles of what is spread evenly."""
    return Quantiles(*[low + (high - low) * at for at in (0.5, 0.95, 0.99, 1.0)], mean=(low + high) / 2)


def freshness(wait_s: float, run_s: float, watermark_s: float = 0.0, lost: int = 0, alone: int = 0) -> Freshness:
    events = int(RATE * SECONDS)
    return Freshness(
        events=events,
        shown=events - lost,
        waiting=0,
        lost=lost,
        lost_at_own_pace=alone,
        total=spread(watermark_s + run_s, watermark_s + wait_s + run_s),
        watermark=spread(watermark_s, watermark_s),
        trigger=spread(0.0, wait_s),
        run=spread(run_s, run_s),
        machinery=spread(run_s, wait_s + run_s),
        over_time=((1.0, run_s, wait_s + run_s), (31.0, run_s, wait_s + run_s)),
    )


def result(arm: Arm, repeat: int = 0, watermark_s: float = 0.0, alone: int = 0, **changed: Any) -> Result:
    """What the arm does by the laws above."""
    every_s = arm.every_ms / 1000
    fixed, per_event, cpu_fixed, cpu_per_event = STREAM if arm.mode == "stream" else BATCH
    period_s = max(every_s, fixed / (1 - per_event * RATE))
    run_s, number = fixed + per_event * RATE * period_s, round(SECONDS / period_s)
    cpu_s = number * (cpu_fixed + cpu_per_event * RATE * period_s)
    units = tuple(Unit(int(RATE * period_s), 10, run_s, cpu_s / number) for _ in range(number))
    stays = arm.mode == "stream"
    found = Result(
        arm=arm,
        repeat=repeat,
        outcome="explained",
        exit_code=0,
        problems=(),
        rate_per_s=RATE,
        sent=int(RATE * SECONDS),
        end_late_s=0.0,
        kept_up=True,
        freshness=freshness(period_s, run_s, watermark_s if arm.mode != "batch" else 0.0, alone=alone),
        cpu_s={"jvm": cpu_s * 0.9, "python": cpu_s * 0.1, "broker": 1.0, "producer": 0.5},
        seconds=SECONDS,
        peak_memory_bytes=2**30,
        others_share=0.05,
        units=() if stays else units,
        micro_batches=MicroBatches(number, fixed, per_event, {"addBatch": 300.0}, number) if stays else None,
        sizes={"table_files": 4, "checkpoint_files": 9, "all_bytes": 1000, "checkpoint_bytes": 10},
    )
    return replace(found, **changed)


ARMS = (
    *(Arm("stream", ms) for ms in (0, 1_000, 10_000)),
    Arm("available-now", 10_000),
    *(Arm("batch", ms) for ms in (5_000, 10_000, 20_000)),
)


def measurement(results: Sequence[Result] | None = None, **changed: Any) -> Measurement:
    found = Measurement(
        measurement="abc",
        job="departures_per_hour",
        at_ms=1_700_000_000_000,
        rate_per_s=RATE,
        speed=0.0,
        events_from="the topic flights",
        windowed_stream=False,
        session_s=SESSION_S,
        cores=2,
        machine={"cores": 2, "memory_gib": 16, "processor": "a processor"},
        versions={"twinrun": "0.1.0", "pyspark": "4.2.0", "job": "f00"},
        settings={"events": 6_000, "noise_share": 0.2},
        commit="0123456789abcdef",
        results=tuple(result(arm) for arm in ARMS) if results is None else tuple(results),
    )
    return replace(found, **changed)
