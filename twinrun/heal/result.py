"""What a heal would change, and what it did: frozen, JSON-friendly. Instants are UTC epoch milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class HealCause:
    """Rows and windows that one proven cause would heal; a row with two causes counts under both."""

    cause: str
    rows: int
    windows: int


@dataclass(frozen=True)
class HealWindow:
    """Rows of one window that would change. ``window_start_ms`` is None for jobs without windows."""

    window_start_ms: int | None
    rows: int
    causes: tuple[str, ...]


@dataclass(frozen=True)
class LeftAlone:
    """Differing rows that a heal does not touch, by reason.

    Attributes
    ----------
    unexplained : int
        No proven cause: which side is right is not known.
    evidence_expired : int
        Their proof can no longer be made.
    not_final : int
        Proven, but the stream could still write them, or the cause leaves open which side is right.
    """

    unexplained: int = 0
    evidence_expired: int = 0
    not_final: int = 0


@dataclass(frozen=True)
class HealPlan:
    """What a heal would change, from the last verify.

    Attributes
    ----------
    rows, inserted, updated, deleted : int
        Rows of the stream's table that would change; the last three add up to the first.
    windows_total : int
        Windows that they belong to; ``windows`` holds the first of them.
    """

    job: str
    verify_id: str
    micro_batch: int
    watermark_ms: int | None
    stream_table: str
    stream_version: int
    batch_table: str
    batch_version: int
    rows: int = 0
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    windows_total: int = 0
    causes: tuple[HealCause, ...] = ()
    windows: tuple[HealWindow, ...] = ()
    left: LeftAlone = field(default_factory=LeftAlone)


@dataclass(frozen=True)
class Healed:
    """A heal that was committed. ``version`` is the stream table's version that holds it."""

    id: str
    plan: HealPlan
    version: int
    at_ms: int


@dataclass(frozen=True)
class Undone:
    """A heal that was taken back. ``still_standing`` counts the older ones that are still in the table."""

    id: str
    job: str
    table: str
    rows: int
    version: int
    at_ms: int
    still_standing: int
