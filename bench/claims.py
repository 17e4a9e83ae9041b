"""What textbooks say of batch and stream, measured on every job that there is.

``python -m bench.claims`` takes each job of conf/local.yaml with its own log, in one session, beside a broker of its
own: a history is landed and worked on in both modes; then the stream is up (trigger 1 s) while ``--more`` events come
at once; then the batch takes the same ones, and after that all of history from scratch; then both take records of 900
kB. CPU is that of Java and Python. Each job is verified at the end, and has no figures without agreement. What a
record of 1.5 MB does is asked once. Writes bench/results/claims.json.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pyspark import InheritableThread
from pyspark.sql import SparkSession

from bench.machine import commit, machine
from twinrun.broker.process import BrokerInfo, start_broker, stop_broker
from twinrun.broker.topics import create_topic
from twinrun.config.load import load_config
from twinrun.config.model import Config
from twinrun.config.sections import Kafka, SourceBinding, TableBinding
from twinrun.errors import TwinrunError
from twinrun.explain.verify import verify
from twinrun.gallery.entries import ENTRIES, Entry, write_static
from twinrun.gallery.log import log_records
from twinrun.job.job import Job
from twinrun.job.loader import find_job
from twinrun.measure.results import proven
from twinrun.measure.usage import cpu
from twinrun.produce.flights import FIRST_DAY, flight_events, flight_records, write_weather
from twinrun.produce.producer import produce
from twinrun.produce.records import Record
from twinrun.results.records import Progress
from twinrun.session.settings import Size, by_size
from twinrun.session.spark import build_session, stop_session
from twinrun.session.sparkconf import session_settings

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "claims.json"
HISTORY, MORE, LARGE, LARGE_BYTES = 20_000, 600, 10, 900_000
TOO_LARGE_BYTES = 1_500_000
IDLE_S, LIMIT_S = 10.0, 180.0
PARTITIONS, SEED = 3, 7


@dataclass
class Found:
    """What one job took; CPU seconds, and seconds. ``why``: no figures, and the reason."""

    job: str
    shape: str
    sources: int
    why: str = ""
    outcome: str = ""
    rows_late: int = 0
    history: int = 0
    more: int = 0
    idle_cpu_s_per_hour: float = 0.0
    stream_s: float = 0.0
    stream_cpu_s: float = 0.0
    batch_s: float = 0.0
    batch_cpu_s: float = 0.0
    scratch_s: float = 0.0
    scratch_cpu_s: float = 0.0
    large_stream_s: float = 0.0
    large_stream_cpu_s: float = 0.0
    large_batch_cpu_s: float = 0.0


@dataclass
class Site:
    """What all jobs share."""

    spark: SparkSession
    broker: BrokerInfo
    folder: Path
    base: Config
    sizes: argparse.Namespace
    made: dict[str, list[Record]] = field(default_factory=dict)
    topics: str = "warm-up"
    """What their names begin with."""

    @property
    def servers(self) -> str:
        return self.broker.bootstrap_servers

    def topic(self, job: Job, source: str) -> str:
        return f"{self.topics}-{job.job_name}-{source}"

    def cfg(self, job: Job, **stream: Any) -> Config:
        """Places of the job's own."""
        topics = {s.name: SourceBinding(topic=self.topic(job, s.name)) for s in job.sources}
        tables = {t.name: TableBinding(path=str(self.folder / "static" / t.name)) for t in job.tables}
        root = self.folder / job.job_name
        return self.base.model_copy(
            update={
                "kafka": Kafka(bootstrap_servers=self.servers),
                "warehouse": str(root / "wh"),
                "checkpoints": str(root / "cp"),
                "sources": {**self.base.sources, **topics},
                "tables": {**self.base.tables, **tables},
                "sinks": {},
                "stream": self.base.stream.model_copy(update={"max_offsets_per_trigger": None, **stream}),
            }
        )

    def send(self, job: Job, records: dict[str, Sequence[Record]]) -> None:
        """Into the topics of a job; all of them are there when it returns."""
        for name, each in records.items():
            produce(each, self.topic(job, name), {"bootstrap.servers": self.servers})

    def cpu_s(self) -> float:
        """Of Java and Python, without the broker."""
        used = cpu(self.broker.pid)
        return used.jvm_s + used.python_s

    def log(self, entry: Entry | None, source: str) -> list[Record]:
        """The log of a source; made once."""
        wanted = self.sizes.history + self.sizes.more + 4 * LARGE
        if source not in self.made:
            if entry is None:
                days = min(365, wanted // 800 + 2)
                self.made[source] = list(flight_events(flight_records(FIRST_DAY, days).head(wanted)))
            else:
                self.made[source] = list(log_records(entry.logs[source](SEED, wanted)))[:wanted]
        return self.made[source]


class Up:
    """A stream that stays up, in a thread; how many records it has read and committed."""

    def __init__(self, site: Site, job: Job) -> None:
        self.read, self.failed = 0, ""
        self.stop = threading.Event()

        def run() -> None:
            cfg = site.cfg(job, trigger="processing-time", interval_ms=1_000)
            try:
                importlib.import_module("twinrun.streaming.runner").run(
                    site.spark, cfg, job, None, self.stop, self._seen
                )
            except TwinrunError as error:
                self.failed = error.sentence()

        self.thread = InheritableThread(target=run, daemon=True)
        self.thread.start()

    def _seen(self, so_far: Progress) -> None:
        self.read = so_far.events

    def wait(self, records: int) -> None:
        """Until it has committed so many records."""
        until = time.monotonic() + LIMIT_S
        while self.read < records:
            if self.failed or time.monotonic() > until:
                raise TimeoutError(self.failed or f"{self.read} of {records} records after {LIMIT_S:.0f} s")
            time.sleep(0.05)

    def end(self) -> None:
        self.stop.set()
        self.thread.join()


def parts_of(log: Sequence[Record], sizes: argparse.Namespace) -> tuple[list[Record], list[Record], list[Record]]:
    """History, the events that come next, and the last ones whose JSON is filled up to 900 kB."""
    history, rest = list(log[: sizes.history]), log[sizes.history :]
    large = [record for record in rest[sizes.more :] if _is_object(record.value)][:LARGE]
    return history, list(rest[: sizes.more]), [padded(record, LARGE_BYTES) for record in large]


def padded(record: Record, size: int) -> Record:
    """The same JSON object in so many bytes, by one more field of random text, which no compression makes smaller."""
    value = record.value or b"{}"
    text = (value.encode() if isinstance(value, str) else value).rstrip()
    head = text[:-1] + b', "padding": "'
    filled = random.Random(SEED).randbytes(size // 2 + 1).hex().encode()
    return record._replace(value=head + filled[: size - len(head) - 2] + b'"}')


def _is_object(value: bytes | str | None) -> bool:
    try:
        return isinstance(json.loads(value or ""), dict)
    except ValueError:
        return False


def one(site: Site, job: Job, entry: Entry | None) -> Found:
    """All steps of one job."""
    found = Found(job.job_name, job.shape, len(job.sources))
    for source in job.sources:
        create_topic(site.servers, site.topic(job, source.name), PARTITIONS)
    for table in job.tables:
        _static(site, entry, table.name)
    parts = {source.name: parts_of(site.log(entry, source.name), site.sizes) for source in job.sources}
    history, more, large = ({name: part[number] for name, part in parts.items()} for number in range(3))
    found.history, found.more = (sum(len(each) for each in part.values()) for part in (history, more))
    site.send(job, history)
    _batch(site, job)

    with_history = Up(site, job)
    try:
        with_history.wait(found.history)
        time.sleep(3.0)
        before = site.cpu_s()
        time.sleep(IDLE_S)
        found.idle_cpu_s_per_hour = (site.cpu_s() - before) * 3600 / IDLE_S
        found.stream_s, found.stream_cpu_s = _while_up(site, job, with_history, more, found.history)
    finally:
        with_history.end()
    found.batch_s, found.batch_cpu_s = _taken(site, lambda: _batch(site, job))
    found.scratch_s, found.scratch_cpu_s = _taken(site, lambda: _run(site, job, "batch.runner", "full"))

    with_large = Up(site, job)
    try:
        time.sleep(8.0)  # its start is over
        found.large_stream_s, found.large_stream_cpu_s = _while_up(site, job, with_large, large, 0)
    finally:
        with_large.end()
    _, found.large_batch_cpu_s = _taken(site, lambda: _batch(site, job))

    verdict = verify(site.spark, site.cfg(job), job)
    found.outcome = verdict.outcome
    found.rows_late = sum(cause.rows for cause in verdict.causes if cause.cause == "late_dropped")
    if not proven(verdict.outcome, verdict.exit_code):
        found.why = "; ".join(verdict.problems) or verdict.outcome
    return found


def _while_up(site: Site, job: Job, up: Up, records: dict[str, list[Record]], before: int) -> tuple[float, float]:
    """Seconds from when the last of the records was sent until all are read and committed, and the CPU for them."""
    used = site.cpu_s()
    site.send(job, records)
    sent = time.monotonic()
    up.wait(before + sum(len(each) for each in records.values()))
    return time.monotonic() - sent, site.cpu_s() - used


def _taken(site: Site, work: Callable[[], Any]) -> tuple[float, float]:
    used, began = site.cpu_s(), time.monotonic()
    work()
    return time.monotonic() - began, site.cpu_s() - used


def _batch(site: Site, job: Job) -> None:
    for source in job.sources:
        importlib.import_module("twinrun.streaming.ingest").run(site.spark, site.cfg(job), source)
    _run(site, job, "batch.runner", None)


def _run(site: Site, job: Job, module: str, fresh: str | None) -> None:
    importlib.import_module(f"twinrun.{module}").run(site.spark, site.cfg(job), job, fresh)


def _static(site: Site, entry: Entry | None, name: str) -> None:
    path = site.folder / "static" / name
    if entry is None:
        write_weather(site.spark, str(path))
    else:
        write_static(site.spark, entry.tables[name], SEED, site.sizes.history, str(path))


def too_large(site: Site) -> dict[str, Any]:
    """What a record of 1.5 MB does on a topic as Kafka makes it, and on one that allows for it."""
    record, found = padded(Record(b"k", b'{"id":"1"}', None), TOO_LARGE_BYTES), {}
    for name, config in (("as Kafka makes it", {}), ("max.message.bytes 2 MB", {"max.message.bytes": "2000000"})):
        topic = f"claims-large-{len(config)}"
        create_topic(site.servers, topic, 1, config=config)
        options = {"bootstrap.servers": site.servers, "message.max.bytes": 2_000_000}
        for client, more in (
            ("its client as it is", {"bootstrap.servers": site.servers}),
            ("a client set to 2 MB", options),
        ):
            try:
                done = produce([record], topic, more)
                said = "delivered" if done.acked == 1 else f"not delivered: {done.first_error}"
            except TwinrunError as error:
                said = error.sentence()
            found[f"{name}, {client}"] = said
    return found


def run_all(site: Site, names: Iterable[str], write: Callable[[list[Found]], None]) -> list[Found]:
    """Each job in turn; the first is run twice, so that Java has met it all."""
    entries = {entry.job: entry for entry in ENTRIES}
    done: list[Found] = []
    for name in names:
        job, entry = find_job(site.base, name), entries.get(name)
        began = time.monotonic()
        if entry is not None and entry.lacking():
            done.append(Found(job.job_name, job.shape, len(job.sources), why=f"needs {entry.lacking()}"))
            continue
        try:
            done.append(one(site, job, entry))
        except (TwinrunError, TimeoutError) as error:
            said = error.sentence() if isinstance(error, TwinrunError) else str(error)
            done.append(Found(job.job_name, job.shape, len(job.sources), why=said))
        print(f"{time.strftime('%H:%M:%S')} {time.monotonic() - began:5.0f} s  {line(done[-1])}", flush=True)
        write(done)
    return done


def line(found: Found) -> str:
    """One job for a terminal."""
    if found.why:
        return f"{found.job:<22} {found.why}"
    pairs = [
        ("stream", found.stream_s, found.stream_cpu_s),
        ("batch", found.batch_s, found.batch_cpu_s),
        ("all", found.scratch_s, found.scratch_cpu_s),
    ]
    told = "  ".join(f"{name} {seconds:5.1f} s {cpu_s:5.1f} CPU s" for name, seconds, cpu_s in pairs)
    large = f"900 kB {found.large_stream_cpu_s:5.1f} and {found.large_batch_cpu_s:5.1f}"
    return f"{found.job:<22} {found.outcome:<9} {told}  idle {found.idle_cpu_s_per_hour:5.0f}/h  {large}"


def doc_table(result: dict[str, Any]) -> str:
    """The table of docs/claims.md, in Markdown."""
    lines = [
        "| job | verdict | stream, s | stream, CPU s | batch, s | batch, CPU s | all history, s | all history, CPU s "
        "| rows late | idle stream, CPU s an hour | 900 kB: stream, batch, CPU s each |",
        "|---" * 11 + "|",
    ]
    for each in result["jobs"]:
        if each["why"]:
            lines.append(f"| {each['job']} | {each['why']} |" + " |" * 9)
            continue
        figures = [f"{each[name]:.1f}" for name in ("stream_s", "stream_cpu_s", "batch_s", "batch_cpu_s")]
        figures += [f"{each[name]:.1f}" for name in ("scratch_s", "scratch_cpu_s")]
        records = LARGE * each["sources"]
        large = [f"{each[name] / records:.2f}" for name in ("large_stream_cpu_s", "large_batch_cpu_s")]
        counts = [f"{each['rows_late']:,}", f"{each['idle_cpu_s_per_hour']:,.0f}", ", ".join(large)]
        lines.append(f"| {each['job']} | {each['outcome']} | " + " | ".join([*figures, *counts]) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; 1 where a job has no figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", nargs="+", help="these alone; the figures of the others stay")
    parser.add_argument("--history", type=int, default=HISTORY)
    parser.add_argument("--more", type=int, default=MORE)
    parser.add_argument("--quick", action="store_true", help="three jobs on a short history: does it work?")
    asked = parser.parse_args(arguments)
    if asked.quick:
        asked.jobs, asked.history = ["delayed_departures", "page_visits_final", "session_durations"], 3_000
    logging.getLogger("twinrun").setLevel(logging.ERROR)
    base = load_config(ROOT / "conf" / "local.yaml")
    with tempfile.TemporaryDirectory(prefix="twinrun-claims-") as name:
        folder = Path(name)
        broker = start_broker(folder / "broker")
        settings = session_settings(base)
        master = settings["spark.master"]
        settings = by_size(settings, Size(0, asked.history), base.spark.small_data, master=master)
        spark = build_session("twinrun claims", settings, master=master)
        site = Site(spark, broker, folder, base, asked)
        try:
            large = too_large(site)

            def write(done: list[Found]) -> None:
                if asked.quick:
                    return
                about = {"commit": commit(), "machine": machine(), "history": asked.history, "more": asked.more}
                measured = {each.job: asdict(each) for each in done}
                before = json.loads(RESULTS.read_text(encoding="utf-8"))["jobs"] if asked.jobs else []
                measured = {**{each["job"]: each for each in before}, **measured}
                jobs = [measured[name] for name in base.jobs if name in measured]
                document = {**about, "large": large, "jobs": jobs}
                RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

            names = asked.jobs or list(base.jobs)
            run_all(site, names[:1], lambda _: None)  # Java learns
            site.folder, site.topics = folder / "measured", "claims"
            found = run_all(site, names, write)
            print(json.dumps(large, indent=1))
        finally:
            stop_session(spark)
            stop_broker(folder / "broker")
    return 1 if any(each.why for each in found) else 0


if __name__ == "__main__":
    sys.exit(main())
