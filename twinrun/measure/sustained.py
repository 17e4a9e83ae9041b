"""The highest rate that a stream keeps up with: by bisection, on whether its lag grows while the load lasts.

A stream reads micro-batch by micro-batch, so that its lag goes up and down like a saw even where it keeps up. What must
not grow are the tips: the largest lag of each part of the load, through which a line is drawn.
"""

from __future__ import annotations

import shutil
import threading
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from twinrun.explain.verify import verify
from twinrun.measure.arms import Arm
from twinrun.measure.bench import ArmTables, Bench, prepare, run_of
from twinrun.measure.load import SAFE_SHARE, Load, fastest, schedule
from twinrun.measure.results import Probe, Sustained
from twinrun.produce.records import Record
from twinrun.results.records import Progress, Say

PROBE_S = 20.0
"""A probe's load lasts so long, where there are events enough."""
LEAST_S = 8.0
"""A shorter one says nothing: it would be over after a few micro-batches."""
GROWTH = 0.05
"""A lag that grows by more than this share of the rate means that the stream does not keep up."""
CLOSE = 1.15
"""The search ends where the rate that failed is at most this many times the one that held."""
_PARTS, _WARM = 6, 0.25
_FIRST_RATE = 1_000.0


def growth(samples: Sequence[tuple[float, float]], seconds: float, rate: float) -> float:
    """By how much the tips of the lag grow per second, as a share of the rate.

    Parameters
    ----------
    samples : sequence of (float, float)
        Seconds from the start of the load, and the records that were due and not read then.
    seconds : float
        How long the load lasted; its first quarter does not count, nor what was sampled after it.
    """
    width = seconds * (1 - _WARM) / _PARTS
    tips: dict[int, float] = {}
    for at, lag in samples:
        part = int((at - seconds * _WARM) // width)
        if 0 <= part < _PARTS and at >= seconds * _WARM:
            tips[part] = max(tips.get(part, 0.0), lag)
    if len(tips) < 3:
        return float("inf")  # it read next to nothing: there is no line
    mean_x, mean_y = sum(tips) / len(tips), sum(tips.values()) / len(tips)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in tips.items()) / sum((x - mean_x) ** 2 for x in tips)
    return slope / width / rate


def next_rate(held: float | None, failed: float | None, most: float, first: float = _FIRST_RATE) -> float | None:
    """What to try next: twice as much until one fails, half as much until one holds, then between the two.

    None where they are close, where everything up to ``most`` held, or where not even a few a second did.
    """
    if held is None:
        rate = min(first, most) if failed is None else failed / 2
        return rate if rate >= 10 or failed is None else None
    if failed is None:
        return None if held >= most else min(held * 2, most)
    return None if failed / held <= CLOSE else (held * failed) ** 0.5


def sustained(bench: Bench, arm: Arm, records: Sequence[Record], say: Say) -> Sustained:
    """Search the highest rate of an arm, and verify the load that held. Half a minute or so for each rate.

    Parameters
    ----------
    records : sequence of Record
        As many as there are, in their order; a probe takes the first of them, none twice.
    """
    flat = bench.tables_of("flat-out")
    flat_out = fastest(bench.broker.bootstrap_servers, flat.topic, schedule(records[:1000], 1_000.0)[0])
    by_records, by_producer = len(records) / LEAST_S, flat_out * SAFE_SHARE
    most = min(by_records, by_producer)
    ended = (
        f"the topic has {len(records):,} events, which at a higher rate are over within {LEAST_S:.0f} s"
        if by_records < by_producer
        else f"the producer reaches {flat_out:,.0f}/s here, and half of it is what it keeps up beside the stream"
    )
    probes: list[Probe] = []
    best: ArmTables | None = None
    held: float | None = None
    failed: float | None = None
    while (rate := next_rate(held, failed, most)) is not None:
        say(f"{arm.name}: {rate:,.0f} events/s")
        probe, of_arm = _probe(bench, arm, records, rate, len(probes))
        probes.append(probe)
        if probe.held:
            held, gone, best = rate, best, of_arm
        else:
            failed, gone = rate, of_arm
        if gone is not None:
            shutil.rmtree(gone.folder, ignore_errors=True)
    if best is None or held is None:
        return Sustained(arm, "not verified", 2, None, failed, "no rate held", tuple(probes))
    say(f"{arm.name}: verifying {held:,.0f} events/s")
    best.ingest()
    best.batch()
    verdict = verify(bench.spark, best.cfg(), bench.job)
    told = Sustained(arm, verdict.outcome, verdict.exit_code, held, failed, "" if failed else ended, tuple(probes))
    return told if told.agreed else replace(told, rate_per_s=None)


@dataclass
class _Lag:
    """Samples the lag of a stream that stays up, and ends it once it has read all or clearly never will."""

    of_arm: ArmTables
    dues_s: Sequence[float]
    stop: threading.Event
    most_s: float
    load: Load | None = None
    start_s: float = 0.0
    read_all: bool = False
    samples: list[tuple[float, float]] = field(default_factory=list)

    def __call__(self, so_far: Progress) -> None:
        """Called twice a second by the run."""
        bench = self.of_arm.bench
        if bench.stop.is_set():
            self.stop.set()
        if self.load is None:
            if so_far.events >= len(bench.primer):
                self.load, self.start_s = self.of_arm.load()
            return
        at_s, read = time.time() - self.start_s, so_far.events - len(bench.primer)
        self.samples.append((at_s, bisect_right(self.dues_s, at_s) - read))
        self.read_all = read >= len(self.dues_s)
        if self.read_all or at_s > self.most_s:
            self.stop.set()


def _probe(bench: Bench, arm: Arm, records: Sequence[Record], rate: float, number: int) -> tuple[Probe, ArmTables]:
    dues, _ = schedule(records[: max(int(min(len(records), rate * PROBE_S)), 2)], rate)
    name = f"{arm.name.replace(' ', '-')}-rate-{number}"
    bench = replace(bench, dues=dues, folder=bench.folder / name)
    prepare(bench)
    of_arm = bench.tables_of(name)
    seconds, stop = dues[-1].due_s, threading.Event()
    watch = _Lag(of_arm, [due.due_s for due in dues], stop, 2 * seconds + 2 * arm.every_ms / 1000 + 10)
    try:
        cfg = of_arm.cfg("processing-time", arm.every_ms)
        run_of("streaming.runner")(bench.spark, cfg, bench.job, None, stop, watch)
        if bench.stop.is_set() or watch.load is None:
            raise KeyboardInterrupt
        kept_pace = watch.load.result().kept_pace if watch.load.over else False
    finally:
        if watch.load is not None:
            watch.load.stop()
    grown = growth(watch.samples, seconds, rate)
    return Probe(rate, seconds, grown, watch.read_all and kept_pace and grown <= GROWTH), of_arm
