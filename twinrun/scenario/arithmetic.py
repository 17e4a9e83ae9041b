"""Which events a stream drops, worked out from the log alone: whole numbers, no Spark, none of the product's code.

The rules are Spark's, as tried: micro-batch b drops by the watermark that micro-batch b - 1 ran with, and that one
was set by the events up to micro-batch b - 2. A window is closed when its end is at or before that watermark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from twinrun.scenario.contract import Contract


@dataclass(frozen=True)
class Event:
    """One valid event of the log."""

    event_id: str
    key: str
    event_ms: int
    micro_batch: int


def dropping_watermarks(events: Iterable[Event], lateness_ms: int | None) -> Mapping[int, int]:
    """The watermark by which each micro-batch drops; 0 where there is none yet, and always without a lateness.

    Two more follow: the micro-batch without data that comes last drops by the one, and emits by the other.
    """
    newest: dict[int, int] = {}
    for event in events:
        newest[event.micro_batch] = max(newest.get(event.micro_batch, event.event_ms), event.event_ms)
    dropping, seen = {}, 0
    for micro_batch in range(max(newest, default=-1) + 3):
        seen = max(seen, newest.get(micro_batch - 2, 0))
        dropping[micro_batch] = max(0, seen - lateness_ms) if lateness_ms is not None else 0
    return dropping


def window_starts(event_ms: int, window_ms: int, slide_ms: int) -> list[int]:
    """Starts of all windows that hold an instant, oldest first."""
    last = event_ms // slide_ms * slide_ms
    return list(range(last, event_ms - window_ms, -slide_ms))[::-1]


def windows_of(event: Event, contract: Contract) -> list[int | None]:
    """The windows of the result that an event counts in; one null window where the job has none."""
    if not contract.windowed:
        return [None]
    return [*window_starts(event.event_ms, contract.window_ms or 1, contract.slide_ms or 1)]


@dataclass(frozen=True)
class Lost:
    """What the stream drops of one event.

    ``named`` are the windows that it came too late for, as the table ``late_events`` names them: those of the first
    operator, or one null window where that goes by the event time. ``rows`` are the windows of the result that lack it.
    """

    named: tuple[int | None, ...] = ()
    rows: tuple[int | None, ...] = ()


def lost(event: Event, dropping_ms: int, contract: Contract) -> Lost:
    """What is lost of an event that is read by a micro-batch with this watermark."""
    if not contract.drops_late:
        return Lost()
    if contract.late_by == "time":
        named: list[int | None] = [None] if event.event_ms <= dropping_ms else []
    elif contract.gap_ms is not None:
        # A session is named by the event that would begin it.
        named = [event.event_ms] if event.event_ms + contract.gap_ms <= dropping_ms else []
        return Lost(tuple(named), tuple(named))
    else:
        length_ms = contract.inner_ms or contract.window_ms or 1
        starts = window_starts(event.event_ms, length_ms, contract.inner_ms or contract.slide_ms or 1)
        named = [start for start in starts if start + length_ms <= dropping_ms]
    whole = contract.late_by == "time" or contract.inner_ms is not None
    rows = windows_of(event, contract) if named and whole else named
    return Lost(tuple(named), tuple(rows))


def late_before(dropping_ms: int, contract: Contract) -> int:
    """Events before this instant are late, for one window at least; those at it or after are in time.

    Of sessions those before it may come too late for a session that was emitted already: see `dropped_before`.
    """
    if not contract.drops_late:
        return dropping_ms
    if contract.late_by != "window":
        return dropping_ms + 1
    length_ms = contract.inner_ms or contract.window_ms or 1
    first_end_ms = length_ms % contract.step_ms
    return (dropping_ms - first_end_ms) // contract.step_ms * contract.step_ms + first_end_ms


def dropped_before(dropping_ms: int, contract: Contract) -> int:
    """Events before this instant are dropped, from one window at least."""
    before_ms = late_before(dropping_ms, contract)
    return before_ms - contract.gap_ms if contract.gap_ms is not None and contract.drops_late else before_ms
