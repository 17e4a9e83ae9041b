"""When things happen: the newest event time of every micro-batch, and with it every watermark, known in advance.

Seeds that stand together (a track) share one timeline. Their scenarios can then run in one log: each micro-batch has
the same newest event time whether it holds one of them or all, so that each is judged as it would be alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from twinrun.scenario.contract import Contract
from twinrun.scenario.counter import Draws

SEEDS_PER_TRACK = 100
FIRST_MS = 1_356_998_400_000
"""2013-01-01 00:00 UTC: where the first track begins."""
_SPAN_MS = 8 * 365 * 86_400_000  # all tracks end years before today: a broker refuses records from the future
_WINDOW_MS, _LATENESS_MS = 60_000, 10_000  # for jobs that have none of their own


@dataclass(frozen=True)
class Timeline:
    """The frame of one track.

    Parameters
    ----------
    base_ms : int
        All events in time lie after it.
    newest_ms : tuple of int
        Newest event time of each micro-batch, rising.
    window_ms, lateness_ms : int
        Of the job, or usual ones where it has none.
    lag_ms : int
        How far the newest event of the second source of a join is behind, in each micro-batch: it holds the watermark
        of both back.
    """

    track: int
    base_ms: int
    newest_ms: tuple[int, ...]
    window_ms: int
    lateness_ms: int
    lag_ms: int = 0

    @property
    def micro_batches(self) -> int:
        """How many micro-batches hold the track's records."""
        return len(self.newest_ms)

    def dropping_ms(self, micro_batch: int) -> int:
        """The watermark by which a micro-batch drops: set by the micro-batches up to the second last before it."""
        return self.newest_ms[micro_batch - 2] - self.lag_ms - self.lateness_ms if micro_batch >= 2 else 0

    def opens_ms(self, micro_batch: int) -> int:
        """Ordinary events of a micro-batch lie after this, up to its newest."""
        return self.newest_ms[micro_batch - 1] if micro_batch else self.base_ms

    def free_windows(self) -> tuple[int, ...]:
        """Starts of the windows inside the track that no micro-batch's newest event lies in."""
        taken = {newest // self.window_ms for newest in self.newest_ms}
        inside = range(self.base_ms // self.window_ms + 1, self.newest_ms[-1] // self.window_ms)
        return tuple(index * self.window_ms for index in inside if index not in taken)


def track_of(seed: int) -> int:
    """The track of a seed."""
    return seed // SEEDS_PER_TRACK


def timeline(contract: Contract, seed: int, micro_batches: int) -> Timeline:
    """The timeline of a seed's track.

    Each micro-batch moves the newest event one or two windows on, once two at least; the watermark that follows lies
    exactly on the end of a window, 1 ms before or after it, or anywhere in its first half.
    """
    window_ms = contract.window_ms or max(_WINDOW_MS, 2 * (contract.gap_ms or 0))
    lateness_ms = contract.lateness_ms if contract.lateness_ms is not None else _LATENESS_MS
    block = 2 * micro_batches + 3 + -(-lateness_ms // window_ms)
    track = track_of(seed)
    draws = Draws(track, "timeline")
    blocks = max(1, _SPAN_MS // (block * window_ms))
    first = -(-FIRST_MS // window_ms)
    base_ms = (first + track % blocks * block) * window_ms
    wide = 1 + draws.below(max(1, micro_batches - 1), "wide")
    newest, boundary = [], base_ms + window_ms
    for place in range(micro_batches):
        if place:
            boundary += window_ms * (2 if place == wide else 1 + draws.below(2, "step", place))
        ties = (0, 0, 1, -1, draws.below(max(1, window_ms // 2), "tie", place))
        newest.append(boundary + lateness_ms + draws.chosen(ties, "which", place))
    lag_ms = draws.below(window_ms // 2, "lag") if contract.joined else 0
    return Timeline(track, base_ms, tuple(newest), window_ms, lateness_ms, lag_ms)
