"""The records of the engines' topics as they came, kept in files and laid again: real output without its engine."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import Producer

from bench.engine_log import PARTITIONS
from bench.engine_runs import ENGINES, Engine, Ran, records_of
from twinrun.broker.topics import create_topic

# Any byte is one letter of it, so that JSON stays readable and a binary key comes back as it was.
_BYTES = "latin-1"


def file_of(engine: Engine, more: str = "") -> str:
    """The name of the file of an engine's topic; ``more`` is one of its ``more_topics``."""
    return re.sub(r"[^a-z0-9]+", "-", engine.name.lower()).strip("-") + more + ".jsonl"


def keep_records(bootstrap: str, ran: Mapping[str, Ran], folder: Path) -> None:
    """A line per record, in the order of each partition: partition, key, value."""
    folder.mkdir(parents=True, exist_ok=True)
    for engine in ENGINES:
        if engine.name not in ran:
            continue
        for more in ("", *engine.more_topics):
            found = sorted(records_of(bootstrap, ran[engine.name].out + more), key=lambda record: record[0])
            lines = [json.dumps([partition, _text(key), _text(value)]) + "\n" for partition, key, value in found]
            (folder / file_of(engine, more)).write_text("".join(lines), encoding="utf-8")


def lay_again(bootstrap: str, engine: Engine, out: str, folder: Path) -> Ran:
    """Make the engine's topics again, under other names."""
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    rows = 0
    for more in ("", *engine.more_topics):
        create_topic(bootstrap, out + more, 1 if engine.one_partition else PARTITIONS)
        lines = (folder / file_of(engine, more)).read_text(encoding="utf-8").splitlines()
        for partition, key, value in map(json.loads, lines):
            producer.produce(out + more, key=_raw(key), value=_raw(value), partition=partition)
            producer.poll(0)
        rows = len(lines) if not more else rows
    assert producer.flush(30) == 0
    return Ran(out, rows)


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode(_BYTES)


def _raw(text: str | None) -> bytes | None:
    return None if text is None else text.encode(_BYTES)
