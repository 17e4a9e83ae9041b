"""The same rules, written a second time in plain Python over the hand-made log; shares no code with the product."""

from __future__ import annotations

from collections import Counter

from tests.unit.explain.explain_log import END, EVENTS, LATENESS_MS, MICRO_BATCHES, START, T0_MS, Event, watermark_ms


def micro_batch(event: Event) -> int | None:
    """The first micro-batch whose end lies behind the event; None outside the cut."""
    if event.offset < START[event.partition] or event.offset >= END[event.partition]:
        return None
    return next(n for n, (ends, _) in enumerate(MICRO_BATCHES) if event.offset < ends[event.partition])


def judged_by_ms(event: Event) -> int:
    number = micro_batch(event)
    assert number is not None
    return watermark_ms(number - 1) if number else 0


def windows(event: Event, length_ms: int, slide_ms: int) -> list[int]:
    """Starts of the windows that hold the event, counted from 1970."""
    found = []
    start = event.at_us // (slide_ms * 1000) * slide_ms
    while (start + length_ms) * 1000 > event.at_us:
        found.append(start)
        start -= slide_ms
    return found


def used() -> list[Event]:
    return [event for event in EVENTS if micro_batch(event) is not None]


def late_pairs(length_ms: int, slide_ms: int) -> set[tuple[str, int, int]]:
    """(id, offset, window start) of what the stream dropped."""
    return {
        (event.id, event.offset, start)
        for event in used()
        for start in windows(event, length_ms, slide_ms)
        if start + length_ms <= judged_by_ms(event)
    }


def stream_counts(length_ms: int, slide_ms: int) -> Counter[tuple[str, int]]:
    """Events per page and window that the stream kept."""
    return Counter(
        (event.page, start)
        for event in used()
        for start in windows(event, length_ms, slide_ms)
        if start + length_ms > judged_by_ms(event)
    )


def dropped_by_time(margin_ms: int) -> set[tuple[int, int]]:
    """Coordinates of events whose time + margin has passed: 0 for de-duplication and joins, the gap for sessions."""
    return {(e.partition, e.offset) for e in used() if e.at_us + margin_ms * 1000 <= judged_by_ms(e) * 1000}


def copies_kept() -> set[tuple[int, int]]:
    """Coordinates of further copies that dropDuplicatesWithinWatermark lets through."""
    last: dict[str, tuple[int, int]] = {}
    found = set()
    for event in sorted(used(), key=lambda e: (micro_batch(e), e.partition, e.offset)):
        number = micro_batch(event)
        assert number is not None
        if event.at_us <= judged_by_ms(event) * 1000:
            continue
        known = last.get(event.id)
        if known and (known[0] == number or known[1] + LATENESS_MS * 1000 > judged_by_ms(event) * 1000):
            continue
        if known:
            found.add((event.partition, event.offset))
        last[event.id] = (number, event.at_us)
    return found


def needs_ms(length_ms: int) -> dict[tuple[int, int], int | None]:
    """By coordinates: newest event time seen before the event was judged, less the end of its window."""
    return {
        (e.partition, e.offset): judged_by_ms(e) + LATENESS_MS - (e.at_us // (length_ms * 1000) + 1) * length_ms
        if judged_by_ms(e)
        else None
        for e in used()
    }


def before_or_beyond() -> Counter[str]:
    outside = Counter(
        "before_start" if e.offset < START[e.partition] else "beyond_cut" for e in EVENTS if micro_batch(e) is None
    )
    assert T0_MS
    return outside
