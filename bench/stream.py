"""How fast a stream is: fresh by how much, at which rate, at what CPU, beside the same by hand and other engines.

``python -m bench.stream`` sends orders at a fixed rate (bench/stream_load.py) through the development broker and runs
the job of engines/jobs/sales.py, orders and cents per shop and minute, in each engine at each rate, all on this
machine: twinrun's ``stream`` and the same query by hand in PySpark, both into Delta; Kafka Streams and Flink into a
topic; with rows as they change, twinrun and PySpark into a topic; and with each order as a row of its own the same two
and Spark's real-time trigger. Event time runs `SPEED` times as fast as the clock, so that a minute closes every two
seconds.

A row's delay: from when the order was due whose event time lets the window close to when the row could be read: the
time of the commit's file, or the broker's own time of the record. Windows that closed before the warm-up's end do not
count; rows that never came are told. For rows as they change: from when the last order was due that is in the row.
``--limit`` looks for the highest rate that an engine keeps up with.
Writes bench/results/stream.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from bench.engine_log import PARTITIONS, T0_MS
from bench.engine_runs import ENGINES, Engine, Engines
from bench.machine import commit, cpu_s, machine
from bench.stream_delays import (
    SPEED,
    Load,
    delays,
    is_sustained,
    quantile_ms,
    read_closed,
    read_delta,
    read_topic,
    row_delays,
    update_delays,
)
from bench.stream_load import SHOPS
from twinrun.broker.process import BrokerInfo, start_broker, stop_broker
from twinrun.broker.topics import create_topic, offset_ranges
from twinrun.measure.sustained import next_rate

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "stream.json"
LEAD_S, SETTLE_S, READY_LIMIT_S = 3.0, 20.0, 180.0
_QUIET_START_S = 8.0
_JOBS = {"delta": "sales", "updates": "sales_so_far", "rows": "single_orders"}
"""The job below engines/jobs by what twinrun writes."""


@dataclass(frozen=True)
class Arm:
    """An engine, and what it writes: closed windows (``delta``, ``kafka``), rows as they change (``updates``), or each
    order as a row of its own (``rows``)."""

    name: str
    out: str
    engine: Engine | None = None
    by_hand: bool = False
    real_time: bool = False


@dataclass
class Figures:
    """What one arm did at one rate; milliseconds, and CPU seconds per million orders of the engine alone."""

    engine: str
    out: str
    rate_per_s: float
    sustained: bool = False
    rows: int = 0
    missing: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None
    cpu_s_per_million: float | None = None
    broker_cpu_s: float | None = None
    producer: dict[str, float] = field(default_factory=dict)
    micro_batch_ms: float | None = None
    failed: str | None = None
    commit: str | None = None


def arms() -> list[Arm]:
    """All of them."""
    by_rule = {each.rule: each for each in ENGINES}
    return [
        Arm("twinrun", "delta"),
        Arm("PySpark by hand", "delta", by_hand=True),
        Arm("Kafka Streams", "kafka", by_rule["kafka-streams"]),
        Arm("Flink DataStream", "kafka", by_rule["flink-datastream"]),
        Arm("twinrun, topic as sink", "updates"),
        Arm("PySpark by hand, rows as they change", "updates", by_hand=True),
        Arm("twinrun, single rows, topic as sink", "rows"),
        Arm("PySpark by hand, single rows", "rows", by_hand=True),
        Arm("PySpark by hand, single rows, real-time trigger", "rows", by_hand=True, real_time=True),
    ]


class Site:
    """Broker, folder and the programs of the other engines."""

    def __init__(self, folder: Path, broker: BrokerInfo, say: Callable[[str], None]) -> None:
        self.folder, self.broker, self.servers = folder, broker, broker.bootstrap_servers
        (folder / "engines").mkdir()
        self.engines = Engines(self.servers, folder / "engines", say)
        self.say, self.number = say, 0

    def run(self, arm: Arm, load: Load) -> Figures:
        """One arm under one load."""
        self.number += 1
        folder = self.folder / f"{self.number:02d}"
        folder.mkdir()
        figures = Figures(arm.name, arm.out, load.rate, commit=commit())
        topic, out = f"orders-{self.number}", f"sales-{self.number}"
        create_topic(self.servers, topic, PARTITIONS)
        for name in (out, f"{out}-binary"):
            create_topic(self.servers, name, 1, config={"message.timestamp.type": "LogAppendTime"})
        try:
            with self._running(arm, topic, out, folder) as process:
                load = self._under_load(figures, process, topic, load)
            self._judge(figures, arm, out, folder, load)
        except Exception as error:  # of one arm: the others are measured all the same
            figures.failed = f"{type(error).__name__}: {error}"[:500]
            return figures
        shutil.rmtree(folder, ignore_errors=True)
        return figures

    def _under_load(self, figures: Figures, process: subprocess.Popen[bytes], topic: str, load: Load) -> Load:
        load = replace(load, start_s=time.time() + LEAD_S)
        numbers = [str(each) for each in (load.rate, load.seconds, load.start_s, SPEED)]
        command = [sys.executable, "-m", "bench.stream_load", self.servers, topic, *numbers]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as producer:
            time.sleep(LEAD_S + load.warm_s)
            engine, broker = cpu_s(process.pid), cpu_s(self.broker.pid)
            said, _ = producer.communicate(timeout=10 * load.seconds + 120)
        figures.producer = json.loads(said)
        # An engine that has kept up is done soon; one that has not works on what is left.
        time.sleep(SETTLE_S / 4)
        counted = load.rate * max(load.seconds - load.warm_s, 1e-9)
        figures.cpu_s_per_million = round((cpu_s(process.pid) - engine) / counted * 1e6, 2)
        figures.broker_cpu_s = round(cpu_s(self.broker.pid) - broker, 2)
        time.sleep(SETTLE_S * 3 / 4)
        if process.poll() is not None:
            raise RuntimeError(f"{figures.engine} ended by itself")
        return load

    def _judge(self, figures: Figures, arm: Arm, out: str, folder: Path, load: Load) -> None:
        if arm.out == "updates":
            found, missing = update_delays(self.servers, out, load), 0
        elif arm.out == "rows":
            found, missing = row_delays(read_topic(self.servers, out), load)
        else:
            table = folder / "results" if arm.by_hand else folder / "wh" / "results" / "sales" / "stream_v1"
            rows = read_delta(table) if arm.out == "delta" else read_closed(self.servers, out)
            found, missing = delays(rows, load)
        values = [delay for _, delay in found]
        figures.rows, figures.missing = len(found), missing
        figures.p50_ms, figures.p95_ms = quantile_ms(values, 0.5), quantile_ms(values, 0.95)
        figures.p99_ms, figures.max_ms = quantile_ms(values, 0.99), quantile_ms(values, 1.0)
        kept_pace = figures.producer["end_late_s"] < 1.0
        figures.sustained = kept_pace and is_sustained(found, missing)
        if arm.engine is None:
            figures.micro_batch_ms = micro_batch_ms(checkpoint_of(arm, folder), load)

    @contextmanager
    def _running(self, arm: Arm, topic: str, out: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
        """The engine, once it has read the first records and is ready for the load."""
        command = self._command(arm, topic, out, folder)
        # What makes tables and state is not part of the load: an order of before it, for each partition.
        prime(self.servers, topic)
        log = folder / "engine.log"
        with log.open("wb") as file:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=ROOT)
        try:
            self._wait_ready(arm, process, out, folder, log)
            yield process
            if process.poll() is not None:
                raise RuntimeError(log.read_text(encoding="utf-8", errors="replace")[-500:])
        finally:
            end_tree(process)

    def _wait_ready(self, arm: Arm, process: subprocess.Popen[bytes], out: str, folder: Path, log: Path) -> None:
        until = time.monotonic() + READY_LIMIT_S
        while time.monotonic() < until:
            if process.poll() is not None:
                raise RuntimeError(log.read_text(encoding="utf-8", errors="replace")[-500:])
            if self._is_ready(arm, out, folder, log):
                time.sleep(_QUIET_START_S)
                return
            time.sleep(0.2)
        raise RuntimeError(f"{arm.name} was not ready in {READY_LIMIT_S:.0f} s")

    def _is_ready(self, arm: Arm, out: str, folder: Path, log: Path) -> bool:
        """Whether it says so, has done its first micro-batch or, where one lasts minutes, has handed a row on."""
        if arm.engine is not None:
            return b"READY" in log.read_bytes()
        if arm.real_time:
            return any(end > 0 for _, end in offset_ranges(self.servers, out).values())
        return (checkpoint_of(arm, folder) / "commits" / "0").exists()

    def _command(self, arm: Arm, topic: str, out: str, folder: Path) -> list[str]:
        if arm.engine is not None:
            self.engines.prepare(arm.engine.needs)
            return [
                *self.engines.command(arm.engine, topic, out),
                *(["forever"] if arm.engine.needs == "flink" else []),
            ]
        if arm.by_hand:
            target = [str(folder / "results")] if arm.out == "delta" else [out]
            more = {"updates": ["--kafka"], "rows": ["--kafka", "--rows"]}.get(arm.out, [])
            more = [*more, "--real-time"] if arm.real_time else more
            run = [sys.executable, "-m", "bench.stream_by_hand", self.servers, topic, *target]
            return [*run, str(checkpoint_of(arm, folder)), *more]
        name = _JOBS[arm.out]
        settings: dict[str, Any] = {
            "kafka": {"bootstrap_servers": self.servers},
            "warehouse": str(folder / "wh"),
            "checkpoints": str(folder / "cp"),
            "report": {"folder": str(folder / "reports")},
            "sources": {"orders": {"topic": topic}},
            "jobs": {name: {"path": str(ROOT / "engines" / "jobs" / f"{name}.py")}},
            "stream": {"trigger": "processing-time", "interval_ms": 0},
            "spark": {"master": "local[2]", "conf": {"spark.driver.memory": "2g"}},
        }
        if arm.out != "delta":
            settings["sinks"] = {name: {"topic": out}}
        (folder / "conf").mkdir()
        conf = folder / "conf" / "stream.yaml"
        conf.write_text(json.dumps(settings), encoding="utf-8")
        return [str(Path(sys.executable).parent / "twinrun"), "stream", name, "--conf", str(conf)]


def checkpoint_of(arm: Arm, folder: Path) -> Path:
    """Where a Spark arm keeps its offsets."""
    name = _JOBS[arm.out]
    return folder / "checkpoint" if arm.by_hand else folder / "cp" / "stream" / name / "v1"


def micro_batch_ms(checkpoint: Path, load: Load) -> float | None:
    """The median time from one micro-batch's end to the next one's, by Spark's own commit files."""
    if not (checkpoint / "commits").is_dir():
        return None
    ends = sorted(each.stat().st_mtime for each in (checkpoint / "commits").iterdir() if each.name.isdigit())
    counted = (load.start_s + load.warm_s, load.start_s + load.seconds)
    gaps = [after - before for before, after in pairwise(ends) if counted[0] <= before < counted[1]]
    return round(statistics.median(gaps) * 1000, 1) if gaps else None


def prime(servers: str, topic: str) -> None:
    """An order for each partition, of an hour before the load."""
    from confluent_kafka import Producer

    client = Producer({"bootstrap.servers": servers})
    for partition in range(PARTITIONS):
        value = {"id": f"p{partition}", "at": T0_MS - 3_600_000, "shop": f"shop-{partition}", "cents": 1}
        client.produce(topic, json.dumps(value).encode(), f"shop-{partition}".encode(), partition)
    client.flush(30)


def end_tree(process: subprocess.Popen[bytes]) -> None:
    """End a process by SIGTERM, and what is left of its children."""
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in children:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue


def lines(found: Sequence[Figures]) -> list[str]:
    """The figures as a table."""
    titles = ("rate/s", "p50 ms", "p99 ms", "kept up", "missing", "CPU s/M")
    shown = [f"{'engine':<38} {'out':<8} " + " ".join(f"{title:>8}" for title in titles)]
    for each in found:
        name = f"{each.engine:<38} {each.out:<8} {each.rate_per_s:>8,.0f}"
        if each.failed:
            shown.append(f"{name} failed: {each.failed.splitlines()[-1][:60]}")
            continue
        delay = f"{each.p50_ms or 0:>8,.0f} {each.p99_ms or 0:>8,.0f}"
        kept = "yes" if each.sustained else "NO"
        shown.append(f"{name} {delay} {kept:>8} {each.missing:>8,} {each.cpu_s_per_million or 0:>8.1f}")
    return shown


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; 1 where an arm failed."""
    asked = _arguments(arguments)
    found: list[Figures] = []
    with tempfile.TemporaryDirectory(prefix="twinrun-stream-") as name:
        folder = Path(name)
        broker = start_broker(folder / "broker")
        try:
            site = Site(folder, broker, _say)
            limits = [] if not asked.limit else [_limit(site, arm, asked) for arm in arms() if arm.name in asked.limit]
            for rate in asked.rates:
                for arm in arms():
                    if asked.only and arm.name not in asked.only:
                        continue
                    if arm.out in ("updates", "rows") and rate > asked.updates_up_to:
                        continue
                    _say(f"{arm.name} into {arm.out}, {rate:,.0f} orders/s")
                    found.append(site.run(arm, Load(rate, asked.seconds, asked.warm)))
                    _say(lines(found[-1:])[-1])
                    _write(asked, found, limits)
        finally:
            stop_broker(folder / "broker")
    print("\n".join(lines(found)))
    return 1 if any(each.failed for each in found) else 0


def _limit(site: Site, arm: Arm, asked: argparse.Namespace) -> dict[str, Any]:
    """The highest rate that an arm keeps up with, and the lowest that it does not, by doubling and bisection."""
    held: float | None = None
    failed: float | None = None
    while (rate := next_rate(held, failed, asked.limit_most, first=asked.limit_first)) is not None:
        _say(f"{arm.name} into {arm.out}, {rate:,.0f} orders/s: does it hold?")
        figures = site.run(arm, Load(rate, asked.seconds, asked.warm))
        _say(lines([figures])[-1])
        held, failed = (rate, failed) if figures.sustained else (held, rate)
    return {"engine": arm.name, "out": arm.out, "held_per_s": held, "failed_per_s": failed}


def doc_table(result: dict[str, Any]) -> str:
    """The table of docs/measure.md, in Markdown."""
    lines = [
        "| engine | writes | orders/s | p50 ms | p99 ms | kept up | rows missing | CPU s per million |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in result["figures"]:
        delay = ["failed" if each[name] is None else f"{each[name]:,.0f}" for name in ("p50_ms", "p99_ms")]
        kept = "yes" if each["sustained"] else "no"
        counts = [f"{each[name] or 0:,.0f}" for name in ("missing", "cpu_s_per_million")]
        cells = [each["engine"], each["out"], f"{each['rate_per_s']:,.0f}", *delay, kept, *counts]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rates", type=float, nargs="+", help="orders per second (1000 10000 50000; quick: 1000)")
    parser.add_argument("--seconds", type=float, help="length of each load (60; quick: 24)")
    parser.add_argument("--warm", type=float, help="of it not counted (20; quick: 8)")
    parser.add_argument("--updates-up-to", type=float, default=10_000, help="changed and single rows up to this rate")
    parser.add_argument(
        "--only", nargs="+", choices=[arm.name for arm in arms()], help="these engines; the figures of the others stay"
    )
    parser.add_argument(
        "--limit", nargs="+", choices=[arm.name for arm in arms()], default=[], help="their highest rate"
    )
    parser.add_argument("--limit-first", type=float, default=25_000, help="the first rate to try for it")
    parser.add_argument("--limit-most", type=float, default=120_000, help="the highest one: what the producer can do")
    parser.add_argument("--quick", action="store_true", help="one low rate, short: does it work?")
    parser.add_argument("--out", type=Path, help="where the result goes; quick: nowhere unless said")
    asked = parser.parse_args(arguments)
    asked.rates = asked.rates or ([1000.0] if asked.quick else [1000.0, 10_000.0, 50_000.0])
    asked.seconds = asked.seconds or (24.0 if asked.quick else 60.0)
    asked.warm = asked.warm if asked.warm is not None else (8.0 if asked.quick else 20.0)
    if asked.out is None and not asked.quick:
        asked.out = RESULTS
    return asked


def _write(asked: argparse.Namespace, found: Sequence[Figures], limits: Sequence[dict[str, Any]]) -> None:
    if asked.out is None:
        return
    order = {arm.name: number for number, arm in enumerate(arms())}
    measured = [asdict(each) for each in found]
    done = {(each.engine, each.rate_per_s) for each in found}
    others = [each for each in _kept(asked, "figures") if (each["engine"], each["rate_per_s"]) not in done]
    document = {
        "commit": commit(),
        "machine": machine(),
        "load_before": os.getloadavg()[0],
        "settings": {"seconds": asked.seconds, "warm_s": asked.warm, "speed": SPEED, "shops": SHOPS},
        "limits": list(limits) or _kept(asked, "limits"),
        "figures": sorted([*others, *measured], key=lambda each: (each["rate_per_s"], order[each["engine"]])),
    }
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _kept(asked: argparse.Namespace, part: str) -> list[Any]:
    """What a run of some arms alone leaves as it is."""
    if not asked.only or not asked.out.exists():
        return []
    return list(json.loads(asked.out.read_text(encoding="utf-8"))[part])


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
