"""What a maintenance would do and did: frozen, JSON-friendly. Instants are UTC epoch milliseconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pin:
    """A version of a table that somebody still reads, and who."""

    version: int
    why: str


@dataclass(frozen=True)
class TableTidy:
    """One table: what is stored, what a tidy would remove or has removed.

    Attributes
    ----------
    files, bytes_used : int
        Data files of the newest version.
    stored, stored_bytes : int
        Data files that lie in the table's folder, those of older versions included.
    removable : int
        Files that no kept version has and that are older than the table's own retention.
    pins : tuple of Pin
        Older versions whose files stay.
    lost : tuple of Pin
        Versions that somebody would read and that are no longer in the table's log: nothing can keep them.
    compacted : int or None
        Small files that were rewritten into larger ones; None where nothing was applied.
    removed, removed_bytes : int or None
        Files that were removed.
    left_alone : str
        Why nothing was, or would be, done to the table; empty otherwise.
    note : str
        Why it was, or would be, not compacted; empty otherwise.
    """

    table: str
    ref: str
    files: int
    bytes_used: int
    stored: int
    stored_bytes: int
    removable: int
    pins: tuple[Pin, ...]
    compacted: int | None = None
    removed: int | None = None
    removed_bytes: int | None = None
    left_alone: str = ""
    note: str = ""
    lost: tuple[Pin, ...] = ()


@dataclass(frozen=True)
class Tidied:
    """A tidy over all tables of a warehouse."""

    applied: bool
    tables: tuple[TableTidy, ...]


@dataclass(frozen=True)
class Removal:
    """Rows of one table that go or went. ``held`` says why none may go; empty otherwise."""

    table: str
    ref: str
    rows: int
    held: str = ""


@dataclass(frozen=True)
class Expired:
    """What is older than a limit. ``before_ms``: the beginning of the oldest day that is kept."""

    applied: bool
    keep_days: int
    before_ms: int
    removals: tuple[Removal, ...]


@dataclass(frozen=True)
class Erased:
    """Rows of one key, by table; never the value itself. ``id`` names the erasure on record; empty before it."""

    applied: bool
    source: str
    field: str
    id: str
    removals: tuple[Removal, ...]
