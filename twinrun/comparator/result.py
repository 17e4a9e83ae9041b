"""The result of a comparison: plain numbers, ready to be stored and rendered elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from twinrun.comparator.schema import SchemaDifference, SchemaPlan

Verdict = Literal["equal", "different", "nothing_compared"]
Audit = Literal["not_run", "agrees", "disagrees"]
KeysCounted = Literal["all", "differing_windows"]


@dataclass(frozen=True)
class ColumnStats:
    """How one column differs, over the changed rows.

    Attributes
    ----------
    name : str
        The column.
    different : int
        Changed rows in which it differs.
    max_abs, max_rel : float or None
        The largest distance, in the column's unit and as a share of the larger magnitude, among the values that
        differ and are finite on both sides; None where there are none, or the column is no plain number.
    """

    name: str
    different: int
    max_abs: float | None
    max_rel: float | None


@dataclass(frozen=True)
class Sample:
    """One differing row.

    Attributes
    ----------
    kind : str
        ``changed``, ``only_batch``, ``only_stream``, ``duplicate_in_batch`` or ``duplicate_in_stream``.
    copy : int
        Which row of its key this is, from 1.
    columns : tuple of str
        The columns that differ; empty unless the row changed.
    key : str
        The key columns as a JSON object, nulls included, times in the session's time zone.
    window : str or None
        The window as a JSON value; None without a window column.
    batch, stream : str or None
        Each side's row as a JSON object; None where it has none.
    """

    kind: str
    copy: int
    columns: tuple[str, ...]
    key: str
    window: str | None
    batch: str | None
    stream: str | None


@dataclass(frozen=True)
class Comparison:
    """What comparing two tables found.

    Attributes
    ----------
    schema : SchemaPlan
        What was compared with what; its ``differences`` alone make the tables different.
    rows_batch, rows_stream : int
        Rows compared on each side.
    pending_batch, pending_stream : int
        Rows not compared, as not yet ready.
    windows_compared, windows_equal, windows_different : int
        Windows on either side, the null window included; all 0 without a window column.
    windows_suspected : int
        Windows (without a window column: buckets of keys) whose digests differ. Those that turned out equal hold
        numbers within their tolerance.
    keys_repeated_batch, keys_repeated_stream : int
        Keys with more than one row, where they were counted.
    counts : mapping of str to int
        Differing rows by kind; every kind is present.
    columns : tuple of ColumnStats
        The compared columns that differ somewhere, in table order.
    samples : tuple of Sample
        A few differing rows of each kind, the smallest keys first.
    audit : {"not_run", "agrees", "disagrees"}
        Whether looking at every row found what the digests had found.
    keys_counted : {"all", "differing_windows"}
        Where repeated keys were counted: among all rows compared, or in the windows (without a window column: buckets
        of keys) whose digests differ. In all others both sides hold the same rows, repeated keys included.
    """

    schema: SchemaPlan
    rows_batch: int
    rows_stream: int
    pending_batch: int
    pending_stream: int
    windows_compared: int
    windows_equal: int
    windows_different: int
    windows_suspected: int
    keys_repeated_batch: int
    keys_repeated_stream: int
    counts: Mapping[str, int]
    columns: tuple[ColumnStats, ...]
    samples: tuple[Sample, ...]
    audit: Audit
    keys_counted: KeysCounted = "all"

    @property
    def rows_different(self) -> int:
        """Differing rows of all kinds; a changed row counts once."""
        return sum(self.counts.values())

    @property
    def verdict(self) -> Verdict:
        """``nothing_compared`` when neither side has a row to compare and the schemas agree; never ``equal`` then."""
        if self.schema.differences or self.rows_different or self.rows_batch != self.rows_stream:
            return "different"
        if self.audit == "disagrees":
            return "different"
        return "equal" if self.rows_batch else "nothing_compared"

    @property
    def schema_differences(self) -> tuple[SchemaDifference, ...]:
        """The columns that only one table has or that have two types."""
        return self.schema.differences
