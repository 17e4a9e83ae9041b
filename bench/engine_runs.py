"""Run the programs below engines/ as processes of their own, and measure each: first row, CPU, memory, rows."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from bench.engine_log import GRACE_MS, PARTITIONS
from twinrun.broker.records import stored_records
from twinrun.broker.topics import create_topic, offset_ranges
from twinrun.errors import MachineError
from twinrun.session.jars import fetch_set, read_lock
from twinrun.session.java import find_java

HERE = Path(__file__).resolve().parent.parent / "engines"
ENVIRONMENTS = Path(sys.prefix) / "engines"
LIMIT_S = 240.0
_POLL_S = 0.1
_QUIET_S = 12.0


@dataclass(frozen=True)
class Engine:
    """A program, and by which rule its result is verified.

    Attributes
    ----------
    name, rule : str
        As shown, and as ``late_rule`` has it.
    needs : str
        Its set of jars, or its Python environment.
    program : str
        Class, or file below engines/python.
    arguments : tuple of str
        After servers, topic and result topic; ``GRACE_MS``, ``STATE`` and so on are put in.
    ends : {"group", "exit", "quiet"}
        When it has read all: its group has committed the end and it is stopped, it exits itself, or (after the group
        has) no row has come for a while.
    one_partition : bool
        Over the topic of one partition.
    restarted : bool
        Stopped after half of the log, and started again.
    version : str
        What ran.
    so_far : bool
        It hands on each row as often as it changes.
    live : tuple of str
        More arguments by which it does not end at the end of the topic, but waits for more.
    at_a_pace : bool
        The log alone decides what it drops, however slowly the records come.
    own_form : dict
        How the first of ``more_topics`` is declared, which holds the same rows as the engine itself writes them.
    """

    name: str
    rule: str
    needs: str
    program: str
    version: str
    arguments: tuple[str, ...] = ()
    ends: str = "exit"
    one_partition: bool = False
    restarted: bool = False
    group: str = "-group"
    more_topics: tuple[str, ...] = ()
    declared: dict[str, Any] = field(default_factory=dict)
    own_form: dict[str, Any] = field(default_factory=dict)
    so_far: bool = False
    live: tuple[str, ...] = ()
    at_a_pace: bool = True


_JAVA_KS, _JAVA_FLINK = "KafkaStreamsOrders", "FlinkOrders"
_FLINK: dict[str, Any] = {"needs": "flink", "program": _JAVA_FLINK, "one_partition": True, "live": ("forever",)}
_QUIX: dict[str, Any] = {
    "needs": "quix",
    "program": "quix_orders.py",
    "version": "quixstreams 3.28.1",
    "more_topics": ("-raw",),
    "live": ("LONG_S",),
    "own_form": {"format": "quix", "key": "plain", "key_schema": "shop STRING"},
}
ENGINES: tuple[Engine, ...] = (
    Engine(
        "Kafka Streams, suppress",
        "kafka-streams",
        "kafka-streams",
        _JAVA_KS,
        "Kafka Streams 4.3.1",
        ("BINARY", "GRACE_MS", "STATE"),
        ends="group",
        restarted=True,
        group="-app",
        more_topics=("-binary",),
        own_form={"key": "kafka-streams", "key_schema": "shop STRING"},
    ),
    Engine(
        "Flink DataStream, a watermark per event",
        "flink-datastream",
        arguments=("GRACE_MS", "datastream"),
        version="Flink 2.2.1, connector 5.0.0",
        **_FLINK,
    ),
    Engine(
        "Flink SQL, on-event watermark",
        "flink-sql",
        arguments=("GRACE_MS", "sql"),
        version="Flink 2.2.1, connector 5.0.0",
        declared={"time_format": "iso8601"},
        **_FLINK,
    ),
    Engine(
        "Flink DataStream as it comes (every 200 ms)",
        "none",
        arguments=("GRACE_MS", "default"),
        version="Flink 2.2.1, connector 5.0.0",
        **_FLINK,
    ),
    Engine(
        "quixstreams, closing strategy key", "quix-key", arguments=("key", "GRACE_MS", "STATE"), restarted=True, **_QUIX
    ),
    Engine(
        "quixstreams, closing strategy partition",
        "quix-partition",
        arguments=("partition", "GRACE_MS", "STATE"),
        restarted=True,
        **_QUIX,
    ),
    Engine(
        "bytewax, EventClock",
        "bytewax",
        "bytewax",
        "bytewax_orders.py",
        "bytewax 0.21.1",
        ("GRACE_MS",),
        live=("forever",),
        at_a_pace=False,
    ),
    Engine(
        "Faust",
        "none",
        "faust",
        "faust_orders.py",
        "faust-streaming 0.15.3",
        ("GRACE_S", "STATE", "PARTITIONS"),
        ends="quiet",
        group="-app",
    ),
    Engine(
        "Samza, a task of our own, rows so far",
        "none",
        "samza",
        "SamzaOrders",
        "Samza 1.8.0",
        so_far=True,
        live=("LONG_S",),
    ),
)


@dataclass
class Ran:
    """What a run of an engine cost; a restarted one's parts are added up."""

    out: str
    rows: int = 0
    seconds: float = 0.0
    first_row_s: float | None = None
    cpu_start_s: float = 0.0
    cpu_s: float = 0.0
    rss_bytes: int = 0
    said: str = ""


@dataclass
class Live:
    """A run while records still come: ``ready`` once the program can read, ``laid`` once the last record stands."""

    laid: threading.Event
    ready: threading.Event = field(default_factory=threading.Event)


class Engines:
    """The programs, ready to run against one broker."""

    def __init__(self, bootstrap: str, root: Path, say: Callable[[str], None]) -> None:
        self.bootstrap, self.root, self.say = bootstrap, root, say
        self.admin = AdminClient({"bootstrap.servers": bootstrap})
        self.classes = root / "classes"
        self.classpath: dict[str, str] = {}

    def prepare(self, needs: str) -> None:
        """Fetch and verify the jars of a set and compile its program; for Python see that the environment is there."""
        sets = read_lock((HERE / "jars.lock").read_text(encoding="utf-8"))
        if needs not in sets:
            if not (ENVIRONMENTS / needs / "bin" / "python").exists():
                raise MachineError(f"The environment of {needs} is not there.", fix="run: make engines")
            return
        if needs in self.classpath:
            return
        jars = os.pathsep.join(str(path) for path in fetch_set(sets[needs], progress=self.say))
        javac = find_java().binary.resolve().parent / "javac"
        if not javac.exists():
            raise MachineError(f"{javac} is not there.", expected="a JDK, not only a JRE", fix="set JAVA_HOME to a JDK")
        program = next(each.program for each in ENGINES if each.needs == needs)
        made = [str(javac), "-cp", jars, "-d", str(self.classes), str(HERE / "java" / f"{program}.java")]
        subprocess.run(made, check=True, capture_output=True, text=True)
        self.classpath[needs] = os.pathsep.join([str(self.classes), jars])

    def topics(self, engine: Engine, out: str) -> None:
        """Make the topics for its results."""
        for name in (out, *(out + more for more in engine.more_topics)):
            create_topic(self.bootstrap, name, 1 if engine.one_partition else PARTITIONS)

    def run(self, engine: Engine, topic: str, out: str, ran: Ran, live: Live | None = None) -> Ran:
        """Run it once: to the end of the topic as it is, or, where records still come, until it has read the last."""
        log = self.root / f"{out}.log"
        began, base = time.monotonic(), self._size(out)
        with log.open("ab") as file:
            start = file.tell()
            process = subprocess.Popen(
                self.command(engine, topic, out, live is not None),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=self.root,
            )
        watch = psutil.Process(process.pid)
        ends = "quiet" if live is not None and engine.ends == "exit" else engine.ends
        ready_cpu: float | None = None
        first: float | None = None
        quiet_since, size = time.monotonic(), base
        stopped = False
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            now = time.monotonic()
            if now - began > LIMIT_S:
                process.kill()
            if ready_cpu is None and b"READY" in log.read_bytes()[start:]:
                times = watch.cpu_times()
                ready_cpu = times.user + times.system
                if live is not None:
                    live.ready.set()
            grown = self._size(out)
            if grown > size or (live is not None and not live.laid.is_set()):
                first = now - began if first is None and grown > size else first
                size, quiet_since = grown, now
            elif ends != "exit" and not stopped and (ends == "quiet" or self._has_read(engine, topic, out)):
                stopped = ends == "group" or now - quiet_since > _QUIET_S
                if stopped:
                    process.send_signal(signal.SIGTERM)
            time.sleep(_POLL_S)
        if live is not None:
            live.ready.set()
        process.returncode = os.waitstatus_to_exitcode(status)
        said = log.read_bytes()[start:].decode(errors="replace")
        ended_well = process.returncode in ((0, 143, -15) if stopped else (0,))
        if not ended_well:
            raise MachineError(f"{engine.name} ended with {process.returncode}: {said.strip()[-1500:]}")
        ran.rows = self._size(out)
        ran.seconds += time.monotonic() - began
        ran.first_row_s = first if ran.first_row_s is None else ran.first_row_s
        ran.cpu_s += usage.ru_utime + usage.ru_stime
        ran.cpu_start_s += ready_cpu or 0.0
        ran.rss_bytes = max(ran.rss_bytes, usage.ru_maxrss * 1024)
        ran.said += said
        return ran

    def command(self, engine: Engine, topic: str, out: str, live: bool = False) -> list[str]:
        """How its program is started."""
        put = {
            "GRACE_MS": str(GRACE_MS),
            "GRACE_S": str(GRACE_MS / 1000),
            "STATE": str(self.root / f"{out}.state"),
            "BINARY": f"{out}-binary",
            "PARTITIONS": str(PARTITIONS),
            "LONG_S": str(round(LIMIT_S)),
        }
        more = (*engine.arguments, *(engine.live if live else ()))
        arguments = [self.bootstrap, topic, out, *(put.get(each, each) for each in more)]
        if engine.program.endswith(".py"):
            return [
                str(ENVIRONMENTS / engine.needs / "bin" / "python"),
                str(HERE / "python" / engine.program),
                *arguments,
            ]
        java = [str(find_java().binary), "-Xmx512m", "-XX:+UseSerialGC", *_OPENED]
        return [*java, "-cp", self.classpath[engine.needs], engine.program, *arguments]

    def _size(self, topic: str) -> int:
        ranges = offset_ranges(self.bootstrap, topic, {})
        return sum(high - low for low, high in ranges.values())

    def _has_read(self, engine: Engine, topic: str, out: str) -> bool:
        ends = {p: high for p, (_, high) in offset_ranges(self.bootstrap, topic, {}).items()}
        asked = ConsumerGroupTopicPartitions(out + engine.group, [TopicPartition(topic, p) for p in ends])
        try:
            found = self.admin.list_consumer_group_offsets([asked])[out + engine.group].result(10)
        except Exception:
            return False  # the group is not there yet
        return all(each.offset >= ends[each.partition] for each in found.topic_partitions)


# What Flink's serializers read of the JDK by reflection.
_OPENED = [
    f"--add-opens=java.base/{package}=ALL-UNNAMED"
    for package in ("java.lang", "java.util", "java.time", "java.net", "java.util.concurrent")
]


def records_of(bootstrap: str, topic: str) -> list[tuple[int, bytes | None, bytes | None]]:
    """Partition, key and value of every record of a topic."""
    stored = stored_records(bootstrap, topic, offset_ranges(bootstrap, topic, {}))
    return [(each.partition, each.key, each.value) for each in stored]


def dropped_by_engine(said: str) -> int | None:
    """What Kafka Streams counted itself, over all its runs."""
    found = re.findall(r"^DROPPED (\d+)$", said, re.MULTILINE)
    return sum(int(each) for each in found) if found else None
