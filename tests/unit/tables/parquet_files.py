"""Parquet files of every odd kind, written by hand: no engine would write some of them."""

from __future__ import annotations

import decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def put(root: Path, name: str, /, *, int96: bool = False, **columns: Any) -> Path:
    """Write one file; a list becomes bigint or text, an array stays what it is."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, use_deprecated_int96_timestamps=int96)
    return path


def of(kind: pa.DataType, *values: Any) -> pa.Array:
    return pa.array(values, type=kind)


def money(scale: int, *values: str) -> pa.Array:
    return pa.array([decimal.Decimal(value) for value in values], type=pa.decimal128(10, scale))
