"""A topic with its tables, worked on by real commands; what was acknowledged is known from the broker alone."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from tests.faults.command import Command, Ended
from tests.faults.disk import Sink

_JOBS = Path(__file__).parents[1] / "integration" / "jobs"
JOBS = {name: _JOBS / f"{name}.py" for name in ("per_minute", "page_totals")}
T0_MS = 1_357_466_400_000
STEP_MS = 4_000
WINDOW_MS, LATENESS_MS = 60_000, 10_000
PARTITIONS = 2
PER_MICRO_BATCH = 8
PAGES = "abc"
_ANSWER_S = 10
# A command lives for seconds: compiling costs more than running.
_QUICK = {
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m -XX:+UseSerialGC",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}


@dataclass
class Site:
    """One topic, one warehouse, and the commands on them."""

    root: Path
    servers: str
    topic: str
    acked: list[tuple[int, int]] = field(default_factory=list)
    sent: int = 0
    runs: int = 0

    def __post_init__(self) -> None:
        for folder in ("conf", "logs", "tmp"):
            (self.root / folder).mkdir()
        settings = {
            "kafka": {"bootstrap_servers": self.servers},
            "warehouse": str(self.root / "wh"),
            "checkpoints": str(self.root / "cp"),
            "report": {"folder": str(self.root / "reports")},
            "sources": {"clicks": {"topic": self.topic}},
            "jobs": {name: {"path": str(file)} for name, file in JOBS.items()},
            "stream": {"max_offsets_per_trigger": PER_MICRO_BATCH},
            "verify": {"max_lag_events": 0},
            # What a killed Java leaves behind goes with the test's folder.
            "spark": {"master": "local[2]", "conf": {**_QUICK, "spark.local.dir": str(self.root / "tmp")}},
        }
        self.conf.write_text(json.dumps(settings), encoding="utf-8")

    @property
    def conf(self) -> Path:
        return self.root / "conf" / "faults.yaml"

    @property
    def bronze(self) -> Path:
        return self.root / "wh" / "bronze" / self.topic

    def results(self, job: str) -> Path:
        return self.root / "wh" / "results" / job / "stream_v1"

    def sink(self, mode: str, job: str) -> Sink:
        """Checkpoint and table of ``ingest`` or of a job's ``stream``."""
        if mode == "ingest":
            return Sink(self.root / "cp" / "ingest" / self.topic / "v1", self.bronze)
        return Sink(self.root / "cp" / "stream" / job / "v1", self.results(job))

    def start(self, mode: str, name: str, *more: str, keep: bool = False) -> Command:
        """Start a command; with ``keep`` ingest and stream run until something ends them."""
        self.runs += 1
        trigger = ("--set", "stream.trigger=processing-time") if keep else ()
        arguments = [mode, name, "--conf", str(self.conf), *trigger, *more]
        return Command(arguments, self.root, self.root / "logs" / f"{self.runs:03d}_{mode}")

    def run(self, mode: str, name: str, *more: str, code: int = 0) -> Ended:
        """Run a command to its end and require its exit code."""
        with self.start(mode, name, *more) as command:
            return command.ended_with(code)

    def drain(self, mode: str, job: str) -> None:
        """Run to the end of the topic, in few micro-batches."""
        self.run(mode, job, "--set", f"stream.max_offsets_per_trigger={8 * PER_MICRO_BATCH}")

    def verify(self, job: str, code: int) -> dict[str, Any]:
        """The verdict of a real verify, which has to end with this exit code."""
        verdict: dict[str, Any] = json.loads(self.run("verify", job, "--json", code=code).stdout)
        return verdict

    def send(self, count: int) -> None:
        """Send the next clicks, in the order of their time and to the partitions in turn, and keep what was acked."""
        producer = Producer({"bootstrap.servers": self.servers, "acks": "all", "retries": 0})
        for number in range(self.sent, self.sent + count):
            producer.produce(
                self.topic,
                json.dumps(click(number)).encode(),
                str(number).encode(),
                partition=number % PARTITIONS,
                timestamp=click(number)["at"],
                on_delivery=self._delivered,
            )
        assert producer.flush(_ANSWER_S) == 0
        self.sent += count
        assert len(self.acked) == self.sent

    def _delivered(self, error: Any, message: Message) -> None:
        assert error is None, error
        self.acked.append((message.partition(), message.offset()))

    @contextmanager
    def sending(self, every_s: float = 0.5) -> Iterator[None]:
        """Send a few clicks again and again, so that an ingest always has a micro-batch to do."""
        ended = threading.Event()
        failed: list[BaseException] = []

        def keep_sending() -> None:
            try:
                while not ended.wait(every_s):
                    self.send(PARTITIONS)
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=keep_sending, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        assert not failed, failed

    def watermarks(self) -> list[tuple[int, int]]:
        """Every offset that the broker itself says it has."""
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": "faults"})
        try:
            ends = [consumer.get_watermark_offsets(TopicPartition(self.topic, p), _ANSWER_S) for p in range(PARTITIONS)]
        finally:
            consumer.close()
        return [(p, offset) for p, (first, end) in enumerate(ends) for offset in range(first, end)]


def click(number: int) -> dict[str, Any]:
    """The click of this number: a fixed time step after the one before, pages in turn."""
    at_ms = T0_MS + number * STEP_MS
    return {"id": f"c{number}", "at": at_ms, "page": PAGES[number % len(PAGES)], "amount": 1.25, "weight": 0.5}


def require_each_acked_offset_once(site: Site, bronze: Path) -> None:
    """Bronze has what the broker acknowledged: nothing is missing, nothing stands twice."""
    landed = Counter(pl.read_delta(str(bronze)).select("partition", "offset").rows())
    known = sorted(site.acked)
    assert known == site.watermarks()
    assert len(set(known)) == site.sent
    repeated = {place: times for place, times in landed.items() if times > 1}
    missing = sorted(set(known) - set(landed))
    assert (repeated, missing, sorted(set(landed) - set(known))) == ({}, [], [])


def require_closed_minutes(site: Site, job: str = "per_minute") -> None:
    """The stream's rows are those that the clicks give when counted by hand: each closed minute of a page once."""
    watermark_ms = click(site.sent - 1)["at"] - LATENESS_MS
    counted: Counter[tuple[str, int]] = Counter()
    for each in map(click, range(site.sent)):
        start_ms = each["at"] // WINDOW_MS * WINDOW_MS
        if start_ms + WINDOW_MS <= watermark_ms:
            counted[each["page"], start_ms] += 1
    table = pl.read_delta(str(site.results(job)))
    rows = table.select("page", pl.col("window_start").dt.epoch("ms"), "clicks").rows()
    assert sorted(rows) == sorted((page, start_ms, clicks) for (page, start_ms), clicks in counted.items())


def require_totals(site: Site, job: str = "page_totals") -> None:
    """One row per page, with all clicks of the page."""
    counted = Counter(click(number)["page"] for number in range(site.sent))
    rows = pl.read_delta(str(site.results(job))).select("page", "clicks").rows()
    assert sorted(rows) == sorted(counted.items())


def require_clean(verdict: dict[str, Any]) -> None:
    """No row that is not proven, and nothing lost on the way."""
    assert (verdict["exit_code"], verdict["rows_unexplained"], verdict["problems"]) == (0, 0, [])
    assert verdict["rows_compared"] > 0
    assert [audit["ok"] for audit in verdict["audits"]] == [True]


def wait_until(true: Callable[[], bool], command: Command | None, limit_s: float = 90) -> None:
    """Poll until something holds, while the command runs."""
    deadline = time.monotonic() + limit_s
    while not true():
        if command is not None:
            command.still_runs()
        assert time.monotonic() < deadline, f"not within {limit_s} s"
        time.sleep(0.005)
