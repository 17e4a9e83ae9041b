"""What the ledger says about one job: frozen, JSON-friendly. Instants are UTC epoch milliseconds."""

from __future__ import annotations

from dataclasses import dataclass

from twinrun.results.trend import Trend

MOST_VERIFIES = 100
"""A history holds the newest so many verifies."""


@dataclass(frozen=True)
class VerifyPoint:
    """One verify: its cut, and windows and rows by verdict.

    Attributes
    ----------
    windows : dict
        Verdict to number of windows; verdicts that do not occur are left out.
    rows_compared : int
        Rows of closed windows; the sum of the next three.
    completeness : float or None
        ``rows_equal / rows_compared``, 0 to 1; None where nothing was compared.
    """

    verify_id: str
    at_ms: int
    micro_batch: int
    watermark_ms: int | None
    stream_version: int
    batch_version: int
    windows: dict[str, int]
    rows_compared: int
    rows_equal: int
    rows_explained: int
    rows_unexplained: int
    rows_pending: int

    @property
    def completeness(self) -> float | None:
        """Share of the compared rows that are equal."""
        return self.rows_equal / self.rows_compared if self.rows_compared else None

    @property
    def differs(self) -> bool:
        """Whether any compared row differs, proven or not."""
        return self.rows_equal < self.rows_compared


@dataclass(frozen=True)
class CauseHistory:
    """One proven cause over all verifies; a row with two causes counts under both.

    ``rows_now`` and ``windows_now`` are those of the newest verify: 0 where it no longer occurs. ``rows`` has its
    rows in each verify of the history, oldest first.
    """

    cause: str
    rows_now: int
    windows_now: int
    verifies: int
    first_seen_ms: int
    last_seen_ms: int
    trend: Trend
    rows: tuple[int, ...] = ()


@dataclass(frozen=True)
class WindowHistory:
    """One window that differed at least once. ``window_start_ms`` is None for jobs without windows.

    ``verdict``, ``rows`` (those that differ) and ``causes`` (blamed events) are of the last verify that saw it differ;
    ``still`` says whether that is the newest verify.
    """

    window_start_ms: int | None
    first_seen_ms: int
    last_seen_ms: int
    verifies: int
    verdict: str
    rows: int
    causes: dict[str, int]
    still: bool


@dataclass(frozen=True)
class History:
    """What the ledger has about a job.

    Attributes
    ----------
    since_ms : int or None
        Only verifies from then on were read; None: all.
    verifies_total, windows_total : int
        Verifies, and windows that differed in any of them; the tuples hold the newest and the most urgent ones.
    verifies : tuple of VerifyPoint
        Oldest first.
    differs_since_ms : int or None
        The first verify of the unbroken row of differing ones that the newest belongs to; None: it does not differ.
    min_completeness : float or None
        The least share of equal rows that is asked for, 0 to 1.
    """

    job: str
    since_ms: int | None
    verifies_total: int
    windows_total: int
    verifies: tuple[VerifyPoint, ...]
    causes: tuple[CauseHistory, ...]
    windows: tuple[WindowHistory, ...]
    differs_since_ms: int | None
    min_completeness: float | None = None

    @property
    def newest(self) -> VerifyPoint:
        """The last verify; a history has at least one."""
        return self.verifies[-1]


def differs_since(verifies: tuple[VerifyPoint, ...]) -> int | None:
    """When the unbroken row of differing verifies began that the newest belongs to; oldest first."""
    since = None
    for point in reversed(verifies):
        if not point.differs:
            break
        since = point.at_ms
    return since
