"""Another engine, imitated in plain Python: per-record stream time, grace, windows that close, records that it writes.

The rules are those of a Kafka Streams windowed count with a grace period: stream time is the newest event time seen
in the partition, a record is dropped once its window's end is at or before stream time less the grace, and a window
comes out when its end is. Nothing here is shared with twinrun.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars
import pyarrow
from confluent_kafka import Producer
from deltalake import write_deltalake

MINUTE_MS = 60_000
Row = dict[str, Any]


@dataclass
class Engine:
    """One task over one partition."""

    grace_ms: int
    drops: bool = True

    def run(self, values: Iterable[bytes]) -> list[Row]:
        """The rows of the windows that have closed, in order of page and window."""
        stream_time, windows = -1, {}
        for value in values:
            event = json.loads(value)
            stream_time = max(stream_time, event["at"])
            start = event["at"] - event["at"] % MINUTE_MS
            if self.drops and start + MINUTE_MS <= stream_time - self.grace_ms:
                continue
            windows.setdefault((event["page"], start), []).append(event)
        closed = {key: events for key, events in windows.items() if key[1] + MINUTE_MS <= stream_time - self.grace_ms}
        return [
            {
                "page": page,
                "window_start": start,
                "clicks": len(events),
                "amount": str(sum((Decimal(str(e["amount"])) for e in events), Decimal(0))),
                "weight": sum(e["weight"] for e in events) / len(events),
            }
            for (page, start), events in sorted(closed.items())
        ]


def changed(rows: list[Row], page: str, minute: int, t0_ms: int, change: Callable[[Row], Row | None]) -> list[Row]:
    """The rows with one of them replaced, or removed where the change gives None."""
    found = [change(r) if (r["page"], r["window_start"]) == (page, t0_ms + minute * MINUTE_MS) else r for r in rows]
    assert found != rows
    return [row for row in found if row is not None]


def write_delta(rows: list[Row], path: Path) -> None:
    """A Delta table by delta-rs, with 32-bit counts as another engine may have them."""
    schema = pyarrow.schema(
        [
            ("page", pyarrow.string()),
            ("window_start", pyarrow.timestamp("us", tz="UTC")),
            ("clicks", pyarrow.int32()),
            ("amount", pyarrow.decimal128(20, 2)),
            ("weight", pyarrow.float64()),
        ]
    )
    write_deltalake(str(path), pyarrow.Table.from_pylist([_typed(row) for row in rows], schema), mode="overwrite")


def write_parquet(rows: list[Row], path: Path) -> None:
    """A Parquet file by polars."""
    path.mkdir(parents=True)
    frame = polars.DataFrame([_typed(row) for row in rows])
    frame = frame.with_columns(
        polars.col("window_start").cast(polars.Datetime("us", "UTC")), polars.col("amount").cast(polars.Decimal(20, 2))
    )
    frame.write_parquet(path / "part.parquet")


def send(bootstrap: str, topic: str, records: Iterable[tuple[bytes | None, bytes | None]], **more: Any) -> None:
    """Write key and value pairs as they are, in one partition."""
    producer = Producer({"bootstrap.servers": bootstrap, **more})
    for key, value in records:
        producer.produce(topic, key=key, value=value, partition=0)
    assert producer.flush(20) == 0


def records_of(rows: Iterable[Row]) -> list[tuple[bytes | None, bytes | None]]:
    """Rows as JSON records, keyed by page."""
    return [(row["page"].encode(), json.dumps(row).encode()) for row in rows]


def _typed(row: Row) -> Row:
    at = datetime.fromtimestamp(row["window_start"] / 1000, UTC)
    return {**row, "window_start": at, "amount": Decimal(row["amount"])}
